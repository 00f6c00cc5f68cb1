"""How does a config become simFaster R-CNN on torchvision, and how is it called?

Shapes: N images of a batch, B boxes of an image, D detections of an image.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from simfrcnn import config
from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.checkpoints import (
    Identity,
    load_model_strictly,
    read_checkpoint,
)
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.labelled import (
    judge_of,
    label_settings_of,
    require_separate_regions,
)
from simfrcnn.engines.common.second_look import build_second_look
from simfrcnn.engines.common.stages import adapt_stages, stages_by_layer
from simfrcnn.engines.common.teacher import Teacher, teacher_of
from simfrcnn.engines.contract import (
    SECOND_LOOK_KEY,
    TEACHER_KEY,
    Deviation,
    as_contracted,
    loss_keys,
)
from simfrcnn.engines.torchvision import backbone as backbones
from simfrcnn.engines.torchvision.roi_heads import (
    AlignedPooler,
    FcBoxHead,
    Float32Predictor,
    Res5BoxHead,
    SimRoIHeads,
)
from simfrcnn.engines.torchvision.rpn import Float32RPNHead, FloatAnchors, TopLikelihoodRPN
from simfrcnn.errors import ConfigError
from simfrcnn.second_look import Found, SecondLook, picture_of
from simfrcnn.structures import BOTH_SCORES, Detections, Sample

NAME = "torchvision"

DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        key="MODEL.RPN.BATCH_SIZE_PER_IMAGE",
        asked="RPN losses divided by BATCH_SIZE_PER_IMAGE x images",
        used="divided by the number of anchors sampled",
        why="torchvision's normaliser; the two differ only where an image has too few anchors",
    ),
    Deviation(
        key="MODEL.ROI_HEADS.NUM_CLASSES",
        asked="boxes regressed for the foreground classes",
        used="boxes regressed for background as well",
        why="torchvision's predictor has such outputs; nothing reads or trains them",
    ),
    Deviation(
        key="MODEL.PROPOSAL_GENERATOR.NAME",
        asked="proposals and detections of any size above 0 pixels",
        used="proposals of at least 0.001 and detections of at least 0.01 pixels a side",
        why="fixed in torchvision",
    ),
)

_SMOOTH_L1_BETA = 1 / 9
_C4, _FPN = "SimRes5ROIHeads", "SimStandardROIHeads"
_STAGES = ["res2", "res3", "res4", "res5"]
# What each of the two heads needs the other keys to be.
_LEGAL_WITH_HEADS: dict[str, dict[str, tuple[Any, ...]]] = {
    _C4: {
        "MODEL.BACKBONE.NAME": ("build_resnet_backbone", timm_backbones.C4_NAME),
        "MODEL.RESNETS.OUT_FEATURES": (["res4"],),
        "MODEL.RPN.IN_FEATURES": (["res4"],),
        "MODEL.ROI_HEADS.IN_FEATURES": (["res4"],),
        "MODEL.ROI_BOX_HEAD.NAME": ("",),
    },
    _FPN: {
        "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone", timm_backbones.FPN_NAME),
        "MODEL.RESNETS.OUT_FEATURES": (_STAGES,),
        "MODEL.FPN.IN_FEATURES": (_STAGES,),
        "MODEL.FPN.NORM": ("", "BN", "GN"),
        "MODEL.RPN.IN_FEATURES": (["p2", "p3", "p4", "p5", "p6"],),
        "MODEL.ROI_HEADS.IN_FEATURES": (["p2", "p3", "p4", "p5"],),
        "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    },
}
_LEGAL: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": (config.DETECTOR, config.CLASSIFIER),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("TopLikelihoodRPN",),
    "MODEL.ROI_HEADS.NAME": (_C4, _FPN),
    "MODEL.BACKBONE.FREEZE_AT": (0, 1, 2, 3, 4, 5),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
}
# Of torchvision's own ResNets; timm's models are checked where they are built.
_LEGAL_RESNETS: dict[str, tuple[Any, ...]] = {
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.RESNETS.NORM": tuple(backbones.NORMS),
}


class SimFasterRCNN(GeneralizedRCNN):
    """torchvision's generalised R-CNN on samples; in training it returns our losses."""

    def __init__(
        self,
        *,
        identity: Identity,
        loss_names: Sequence[str],
        **parts: nn.Module,
    ) -> None:
        super().__init__(**parts)
        self.second_look: SecondLook | None = None
        self.teacher: Teacher | None = None
        self.identity = identity
        self._loss_names = tuple(loss_names)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the ResNet by name (stem, res2 ... res5); empty for another backbone."""
        return stages_by_layer(self.backbone.body, getattr(self.roi_heads.box_head, "layer4", None))

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.parameters()).device

    @property
    def firing_scores(self) -> Tensor:
        """(N,) how hard the last training step fired on each image of its batch."""
        scores: Tensor = self.roi_heads.firing_scores
        return scores

    def forward(self, samples: Sequence[Sample]) -> Any:
        """In training the losses of the contract, else detections in input pixels.

        Raises:
            EngineError: A head returns a loss that the contract does not know, or lacks one.
        """
        if not self.training:
            images = [sample.image.to(self.device) for sample in samples]
            return self._looked_at_again(samples, super().forward(images))
        # The teacher first: what a step leaves behind is that of the batch.
        taught = {}
        if self.teacher is not None:
            taught[TEACHER_KEY] = self.teacher.loss(samples, self._losses).to(self.device)
        return as_contracted({**self._losses(samples), **taught}, self._loss_names)

    def _losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The losses of a batch, but for the teacher's."""
        images = [sample.image.to(self.device) for sample in samples]
        look, pictures = self.second_look, []
        if look is not None:
            pictures = [picture_of(sample, look.settings.source) for sample in samples]
        self.roi_heads.judge = judge_of(look, self.roi_heads.labels, pictures)
        try:
            losses: dict[str, Tensor] = super().forward(
                images, [self._target(sample) for sample in samples]
            )
        finally:
            self.roi_heads.judge = None
        if look is not None:
            losses[SECOND_LOOK_KEY] = look.training_loss(
                pictures,
                [sample.targets for sample in samples if sample.targets is not None],
                self.roi_heads.regions,
            )
        return losses

    def _looked_at_again(
        self, samples: Sequence[Sample], found: list[dict[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        """Detections with the scores and the order that a second look gives them."""
        if self.second_look is None:
            return found
        pictures = [picture_of(sample, self.second_look.settings.source) for sample in samples]
        rescored = self.second_look.rescored(pictures, [Found(**one) for one in found])
        return [
            {
                "boxes": before["boxes"][after.order],
                "labels": before["labels"][after.order],
                "scores": after.scores,
                "first_scores": after.first_scores,
                "second_scores": after.second_scores,
            }
            for before, after in zip(found, rescored, strict=True)
        ]

    def _target(self, sample: Sample) -> dict[str, Any]:
        targets = sample.targets
        if targets is None:
            raise ValueError(f"{sample.record.file_name} was loaded without targets; train on it?")
        return {
            "boxes": targets.boxes.to(self.device),
            "labels": targets.labels.to(self.device),
            "is_normal": targets.is_normal,
            "of_image": targets,
        }


class NormaliseOnly(GeneralizedRCNNTransform):
    """The library's transform without its resizing: the loader has made the input's size."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return the input."""
        return image, target


def build_model(cfg: Any) -> SimFasterRCNN:
    """Build the detector of a config, with random weights, on ``MODEL.DEVICE``, in training mode.

    Raises:
        ConfigError: A key has a value that this engine cannot honour; says which are legal.
    """
    model = _without_teacher(cfg)
    model.teacher = teacher_of(cfg, functools.partial(_without_teacher, cfg), detect)
    return model


def _without_teacher(cfg: Any) -> SimFasterRCNN:
    check_supported(cfg)
    device = check_device(cfg)
    is_fpn = cfg.MODEL.ROI_HEADS.NAME == _FPN
    backbone, res5 = _backbone(cfg, is_fpn)
    strides = backbones.FPN_STRIDES if is_fpn else backbones.C4_STRIDES
    model = SimFasterRCNN(
        identity=Identity.of(NAME, cfg),
        loss_names=loss_keys(cfg),
        backbone=backbone,
        rpn=_rpn(cfg, backbone.out_channels, tuple(strides.values())),
        roi_heads=_roi_heads(cfg, backbone.out_channels, res5),
        transform=NormaliseOnly(
            min_size=1,
            max_size=1,
            image_mean=list(cfg.MODEL.PIXEL_MEAN),
            image_std=list(cfg.MODEL.PIXEL_STD),
            size_divisible=32 if is_fpn else 1,
        ),
    )
    adapt_stages(cfg, model.stages, backbones.statistics_freezer(cfg))
    model.second_look = build_second_look(cfg)  # last: the other weights are those without it
    require_separate_regions(cfg, model.roi_heads, model.second_look)
    return model.to(device).train()


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a checkpoint of simfrcnn, strictly.

    Raises:
        CheckpointError: Another engine, architecture, name or shape; a damaged or unsafe file.
    """
    assert isinstance(model, SimFasterRCNN)
    content = read_checkpoint(path, model.identity)
    load_model_strictly(model, content["model"], path)


def training_losses(model: nn.Module, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The losses of one batch, weighted, keys exactly :func:`simfrcnn.engines.loss_keys`."""
    losses: dict[str, Tensor] = model(samples)
    return losses


def detect(model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
    """Detections in original pixels by falling score, one entry per sample; the mode is restored.

    A box that lies in the padding, beyond the stored image, vanishes in the way back.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            found = model(samples)
    finally:
        model.train(was_training)
    return [_detections(one, sample) for one, sample in zip(found, samples, strict=True)]


def check_supported(cfg: Any) -> None:
    """Refuse what this engine cannot honour.

    Raises:
        ConfigError: Names the key, its value and what is legal.
    """
    for key, legal in _LEGAL.items():
        _require_one_of(cfg, key, legal)
    for key, legal in _LEGAL_WITH_HEADS[cfg.MODEL.ROI_HEADS.NAME].items():
        _require_one_of(cfg, key, legal, f" with {cfg.MODEL.ROI_HEADS.NAME}")
    for key in ("MODEL.RPN.SMOOTH_L1_BETA", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA"):
        if abs(_get(cfg, key) - _SMOOTH_L1_BETA) > 1e-6:
            raise _refusal(cfg, key, "1/9 (0.1111111), which torchvision has fixed")
    if not timm_backbones.is_timm(cfg):
        for key, legal in _LEGAL_RESNETS.items():
            _require_one_of(cfg, key, legal)
        depth = cfg.MODEL.RESNETS.DEPTH
        _require_one_of(
            cfg,
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            (64,) if depth in (18, 34) else (256,),
            f" with MODEL.RESNETS.DEPTH {depth}",
        )
    _require_length(cfg, "MODEL.RPN.IOU_THRESHOLDS", (2,))
    _require_length(cfg, "MODEL.ROI_HEADS.IOU_THRESHOLDS", (1,))
    n_levels = len(cfg.MODEL.RPN.IN_FEATURES)
    for key in ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"):
        _require_length(cfg, key, (1, n_levels))
    _require_one_head_for_all_levels(cfg, n_levels)
    if cfg.MODEL.ROI_HEADS.NAME == _FPN and cfg.MODEL.ROI_BOX_HEAD.NUM_FC < 1:
        raise _refusal(cfg, "MODEL.ROI_BOX_HEAD.NUM_FC", f"at least 1 with {_FPN}")


def _backbone(cfg: Any, is_fpn: bool) -> tuple[Any, Res5BoxHead | None]:
    """The backbone and, of a C4 detector, the box head."""
    if timm_backbones.is_timm(cfg):
        if is_fpn:
            return backbones.TimmFpnBackbone(cfg), None
        body, layer4, n_features = timm_backbones.build_c4(cfg)
        return backbones.TimmC4Backbone(body), Res5BoxHead(layer4, n_features)
    resnet = backbones.build_resnet(cfg)
    if is_fpn:
        return backbones.fpn_backbone(cfg, resnet), None
    n_features = 512 if cfg.MODEL.RESNETS.DEPTH in (18, 34) else 2048
    backbone = backbones.C4Backbone(resnet, cfg.MODEL.BACKBONE.FREEZE_AT)
    return backbone, Res5BoxHead(resnet.layer4, n_features)


def _rpn(cfg: Any, n_channels: int, strides: tuple[int, ...]) -> TopLikelihoodRPN:
    node, method = cfg.MODEL.RPN, config.method_settings(cfg)
    anchors = FloatAnchors(
        sizes=_per_level(cfg.MODEL.ANCHOR_GENERATOR.SIZES, len(strides)),
        aspect_ratios=_per_level(cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS, len(strides)),
        strides=strides,
    )
    return TopLikelihoodRPN(
        rpn_normals=method.rpn_normals,
        top_likelihood=method.top_likelihood,
        box_loss_weight=node.BBOX_REG_LOSS_WEIGHT,
        anchor_generator=anchors,
        head=Float32RPNHead(n_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=node.IOU_THRESHOLDS[1],
        bg_iou_thresh=node.IOU_THRESHOLDS[0],
        batch_size_per_image=node.BATCH_SIZE_PER_IMAGE,
        positive_fraction=node.POSITIVE_FRACTION,
        pre_nms_top_n={"training": node.PRE_NMS_TOPK_TRAIN, "testing": node.PRE_NMS_TOPK_TEST},
        post_nms_top_n={"training": node.POST_NMS_TOPK_TRAIN, "testing": node.POST_NMS_TOPK_TEST},
        nms_thresh=node.NMS_THRESH,
    )


def _roi_heads(cfg: Any, n_channels: int, res5: Res5BoxHead | None) -> SimRoIHeads:
    node, box, method = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD, config.method_settings(cfg)
    data = config.data_settings(cfg)
    if res5 is not None:
        box_head: nn.Module = res5
        n_features = res5.n_features
        strides = backbones.C4_STRIDES
    else:
        box_head = FcBoxHead(n_channels * box.POOLER_RESOLUTION**2, box.NUM_FC, box.FC_DIM)
        n_features = box.FC_DIM
        strides = {name: backbones.FPN_STRIDES[name] for name in node.IN_FEATURES}
    return SimRoIHeads(
        roi_normal_sampling=method.roi_normal_sampling,
        similarity=method.similarity,
        labels=label_settings_of(cfg),
        target_labels=[data.classes.index(name) + 1 for name in data.target_classes],
        box_loss_weight=box.BBOX_REG_LOSS_WEIGHT,
        box_roi_pool=AlignedPooler(
            strides=strides,
            resolution=box.POOLER_RESOLUTION,
            sampling_ratio=box.POOLER_SAMPLING_RATIO,
            aligned=box.POOLER_TYPE == "ROIAlignV2",
        ),
        box_head=box_head,
        box_predictor=Float32Predictor(n_features, node.NUM_CLASSES),
        fg_iou_thresh=node.IOU_THRESHOLDS[0],
        bg_iou_thresh=node.IOU_THRESHOLDS[0],
        batch_size_per_image=node.BATCH_SIZE_PER_IMAGE,
        positive_fraction=node.POSITIVE_FRACTION,
        bbox_reg_weights=None,
        score_thresh=node.SCORE_THRESH_TEST,
        nms_thresh=node.NMS_THRESH_TEST,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _detections(found: dict[str, Tensor], sample: Sample) -> Detections:
    boxes = sample.frame.to_original(found["boxes"].cpu())
    is_there = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return Detections(
        image_id=sample.record.image_id,
        boxes=boxes[is_there],
        scores=found["scores"].cpu()[is_there],
        labels=found["labels"].cpu()[is_there],
        **{name: found[name].cpu()[is_there] for name in BOTH_SCORES if name in found},
    )


def _per_level(values: Sequence[Any], n_levels: int) -> list[Any]:
    """One entry serves all levels, as in Detectron2."""
    return list(values) * n_levels if len(values) == 1 else list(values)


def _require_one_of(cfg: Any, key: str, legal: Sequence[Any], condition: str = "") -> None:
    value = _get(cfg, key)
    value = list(value) if isinstance(value, (list, tuple)) else value
    if value not in legal:
        raise _refusal(cfg, key, " | ".join(map(repr, legal)) + condition)


def _require_length(cfg: Any, key: str, legal: Sequence[int]) -> None:
    if len(_get(cfg, key)) not in legal:
        raise _refusal(cfg, key, f"a list of {' or '.join(map(str, sorted(set(legal))))}")


def _require_one_head_for_all_levels(cfg: Any, n_levels: int) -> None:
    node = cfg.MODEL.ANCHOR_GENERATOR
    sizes, ratios = _per_level(node.SIZES, n_levels), _per_level(node.ASPECT_RATIOS, n_levels)
    n_anchors = {len(s) * len(r) for s, r in zip(sizes, ratios, strict=True)}
    if len(n_anchors) > 1:
        legal = "as many anchors per location (SIZES x ASPECT_RATIOS) on every level"
        raise _refusal(cfg, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", legal)


def _refusal(cfg: Any, key: str, legal: str) -> ConfigError:
    return ConfigError(f"{key} is {_get(cfg, key)!r}; the engine {NAME} takes {legal}")


def _get(cfg: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        cfg = cfg[part]
    return cfg
