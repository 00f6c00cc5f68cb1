"""How does a config become simFaster R-CNN on torchvision, and how is it called?

Shapes: N images of a batch, B boxes of an image, D detections of an image.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from simfrcnn import config
from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.checkpoints import Identity
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.inference import evaluating
from simfrcnn.engines.common.labelled import (
    judge_of,
    label_settings_of,
    require_separate_regions,
)
from simfrcnn.engines.common.masks import masks_of
from simfrcnn.engines.common.second_look import build_second_look
from simfrcnn.engines.common.stages import adapt_stages, stages_by_layer
from simfrcnn.engines.common.teacher import Teacher, require_use, teacher_of
from simfrcnn.engines.contract import (
    SECOND_LOOK_KEY,
    TEACHER_KEY,
    Deviation,
    as_contracted,
    loss_keys,
)
from simfrcnn.engines.torchvision import backbone as backbones
from simfrcnn.engines.torchvision.masks import mask_parts, mask_targets
from simfrcnn.engines.torchvision.regions import AlignedPooler, FcBoxHead, Res5BoxHead
from simfrcnn.engines.torchvision.roi_heads import Float32Predictor, SimRoIHeads
from simfrcnn.engines.torchvision.rpn import Float32RPNHead, FloatAnchors, TopLikelihoodRPN
from simfrcnn.engines.torchvision.supported import FPN, NAME, check_supported, per_level
from simfrcnn.second_look import Found, SecondLook, picture_of
from simfrcnn.structures import OF_SECOND_LOOK, Detections, ImageTargets, Sample

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
    Deviation(
        key="MODEL.MASK_ON",
        asked="outlines rasterised inside each region",
        used="outlines rasterised in the input's pixels, and those averaged in each region",
        why="torchvision's loss takes masks of the whole input",
    ),
)


class SimFasterRCNN(GeneralizedRCNN):
    """torchvision's generalised R-CNN on samples; in training it returns our losses."""

    def __init__(
        self,
        *,
        identity: Identity,
        loss_names: Sequence[str],
        mask_min_score: float,
        **parts: nn.Module,
    ) -> None:
        super().__init__(**parts)
        self.second_look: SecondLook | None = None
        self.teacher: Teacher | None = None
        self.identity = identity
        self._loss_names = tuple(loss_names)
        self.mask_min_score = mask_min_score
        """From which score on detections get a mask, with a mask head."""

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
        """(N,) how hard the last training step fired on each known image of its batch."""
        scores: Tensor = self.roi_heads.firing_scores
        return scores

    def forward(self, samples: Sequence[Sample]) -> Any:
        """In training the losses of the contract, else detections in input pixels.

        Raises:
            EngineError: A head returns a loss that the contract does not know, or lacks one.
            DataError: Nothing is known of an image, and there is no teacher.
        """
        if not self.training:
            images = [sample.image.to(self.device) for sample in samples]
            return self._looked_at_again(samples, super().forward(images))
        known = [sample for sample in samples if not sample.is_unknown]
        require_use(len(samples) - len(known), self.teacher)
        # The teacher first: what a step leaves behind is that of the batch.
        taught = {}
        if self.teacher is not None:
            taught[TEACHER_KEY] = self.teacher.loss(samples, self._losses).to(self.device)
        return as_contracted({**self._losses(known), **taught}, self._loss_names)

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
        first = [Found(one["boxes"], one["scores"], one["labels"]) for one in found]
        rescored = self.second_look.rescored(pictures, first)
        return [
            {
                **({"masks": before["masks"][after.order]} if "masks" in before else {}),
                "boxes": before["boxes"][after.order],
                "labels": before["labels"][after.order],
                "scores": after.scores,
                "first_scores": after.first_scores,
                "second_scores": after.second_scores,
                "squares": after.squares,
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
            **self._outlines(sample, targets),
        }

    def _outlines(self, sample: Sample, targets: ImageTargets) -> dict[str, Tensor]:
        """What the mask head is to know of the outlines; nothing without one."""
        if not self.roi_heads.has_mask():
            return {}
        height, width = sample.image.shape[-2:]
        return mask_targets(targets, (height, width), self.device)


class NormaliseOnly(GeneralizedRCNNTransform):
    """The library's transform without its resizing: the loader has made the input's size."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return the input."""
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """The library's, but masks stay grids: it would make pictures of all of them at once."""
        grids = [one.pop("masks", None) for one in result]
        done = super().postprocess(result, image_shapes, original_image_sizes)
        return [
            one if own is None else {**one, "masks": own[:, 0]}
            for one, own in zip(done, grids, strict=True)
        ]


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
    is_fpn = cfg.MODEL.ROI_HEADS.NAME == FPN
    backbone, res5 = _backbone(cfg, is_fpn)
    strides = backbones.FPN_STRIDES if is_fpn else backbones.C4_STRIDES
    model = SimFasterRCNN(
        identity=Identity.of(NAME, cfg),
        loss_names=loss_keys(cfg),
        mask_min_score=config.evaluation_settings(cfg).score_threshold,
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


def detect(model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
    """Detections in original pixels by falling score, one entry per sample; the mode is restored.

    A box that lies in the padding, beyond the stored image, vanishes in the way back.
    """
    with evaluating(model):
        found = model(samples)
    assert isinstance(model, SimFasterRCNN)
    min_score = model.mask_min_score
    return [_detections(one, sample, min_score) for one, sample in zip(found, samples, strict=True)]


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
        sizes=per_level(cfg.MODEL.ANCHOR_GENERATOR.SIZES, len(strides)),
        aspect_ratios=per_level(cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS, len(strides)),
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
    box_pooler = AlignedPooler(
        strides=strides,
        resolution=box.POOLER_RESOLUTION,
        sampling_ratio=box.POOLER_SAMPLING_RATIO,
        aligned=box.POOLER_TYPE == "ROIAlignV2",
    )
    box_predictor = Float32Predictor(n_features, node.NUM_CLASSES)
    return SimRoIHeads(
        roi_normal_sampling=method.roi_normal_sampling,
        similarity=method.similarity,
        labels=label_settings_of(cfg),
        target_labels=[data.classes.index(name) + 1 for name in data.target_classes],
        box_loss_weight=box.BBOX_REG_LOSS_WEIGHT,
        box_roi_pool=box_pooler,
        box_head=box_head,
        box_predictor=box_predictor,
        **mask_parts(cfg, n_channels, box_pooler, box_head),  # last: the others are as without
        fg_iou_thresh=node.IOU_THRESHOLDS[0],
        bg_iou_thresh=node.IOU_THRESHOLDS[0],
        batch_size_per_image=node.BATCH_SIZE_PER_IMAGE,
        positive_fraction=node.POSITIVE_FRACTION,
        bbox_reg_weights=None,
        score_thresh=node.SCORE_THRESH_TEST,
        nms_thresh=node.NMS_THRESH_TEST,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _detections(found: dict[str, Tensor], sample: Sample, mask_min_score: float) -> Detections:
    boxes = sample.frame.to_original(found["boxes"].cpu())
    is_there = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    of_look = {name: found[name].cpu()[is_there] for name in OF_SECOND_LOOK if name in found}
    if "squares" in of_look:
        of_look["squares"] = sample.frame.to_original_unclipped(of_look["squares"])
    masks = None
    if "masks" in found:
        grids, in_input, scores = (
            found[name].cpu()[is_there] for name in ("masks", "boxes", "scores")
        )
        masks = masks_of(grids, in_input, scores, sample.frame, min_score=mask_min_score)
    return Detections(
        image_id=sample.record.image_id,
        boxes=boxes[is_there],
        scores=found["scores"].cpu()[is_there],
        labels=found["labels"].cpu()[is_there],
        **of_look,
        masks=masks,
    )
