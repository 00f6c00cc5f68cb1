"""Which regions of a pair train Detectron2's box head, and what pushes them apart?

Shapes: N images of a batch, R sampled regions of a batch, D features, K classes. Detectron2 numbers
foreground classes 0..K-1 and background K; the core has background 0 and classes 1..K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicBlock, ResNet
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    FastRCNNOutputLayers,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
)
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from simfrcnn.config import data_settings, method_settings
from simfrcnn.engines.common import timm_backbones
from simfrcnn.losses import similarity_loss
from simfrcnn.sampling.proposals import likeliest_targets, target_scores, top_proposals
from simfrcnn.sampling.replay import firing_scores
from simfrcnn.second_look import Regions
from simfrcnn.settings import RoiNormalSampling, SimilaritySettings

_BASIC_BLOCKS_OF_RES5 = {18: 2, 34: 3}


def core_labels(gt_classes: Tensor, n_classes: int) -> Tensor:
    """Detectron2's class ids (0..K-1, background K, ignore -1) -> the core's (1..K, 0, -1)."""
    ignored, background = gt_classes < 0, gt_classes == n_classes
    return (gt_classes + 1).masked_fill(background, 0).masked_fill(ignored, -1)


def background_first(scores: Tensor) -> Tensor:
    """Class logits (R, K + 1) with background last -> background first."""
    return scores.roll(1, dims=1)


class SimFastRCNNOutputLayers(FastRCNNOutputLayers):
    """The library's box predictor with the similarity loss on the vectors that it sees."""

    @configurable
    def __init__(
        self, *, similarity: SimilaritySettings, target_labels: tuple[int, ...], **kwargs: Any
    ) -> None:
        """Take the library's arguments, the loss, and which labels (1..K) are targets."""
        super().__init__(**kwargs)
        self.similarity = similarity
        self.target_labels = target_labels
        self.is_normal: tuple[bool, ...] = ()
        """For each image of the batch; set by the ROI heads while a training step runs."""
        self.firing_scores = torch.zeros(0)
        """(N,) how hard the last training step fired on each image."""
        self.regions: list[Regions] = []
        """Of each image of the last training step, for the second look."""

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the library's arguments and ``MODEL.SIMFRCNN.SIMILARITY``."""
        data = data_settings(cfg)
        return {
            **super().from_config(cfg, input_shape),
            "similarity": method_settings(cfg).similarity,
            "target_labels": tuple(data.classes.index(name) + 1 for name in data.target_classes),
        }

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Class logits and box deltas, float32; in training the (R, D) vectors as well."""
        vectors = x.flatten(start_dim=1)
        scores, deltas = (output.float() for output in super().forward(vectors))
        return (scores, deltas, vectors) if self.training else (scores, deltas)

    def losses(
        self, predictions: tuple[Tensor, ...], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """The library's own losses over all sampled regions, and the similarity loss."""
        scores, deltas, vectors = predictions
        losses: dict[str, Tensor] = super().losses((scores, deltas), proposals)
        class_logits, image_index = background_first(scores), _image_index(proposals)
        self.firing_scores = firing_scores(
            class_logits, image_index, n_images=len(proposals), target_labels=self.target_labels
        )
        self.regions = self._regions(class_logits, deltas, proposals)
        losses["loss_similarity"] = self.similarity.weight * similarity_loss(
            features=vectors,
            labels=core_labels(_joined(proposals, "gt_classes"), self.num_classes),
            image_index=image_index,
            objectness=_joined(proposals, "objectness_logits"),
            class_logits=class_logits,
            is_normal=self.is_normal,
            target_labels=self.target_labels,
            settings=self.similarity,
        )
        return losses

    @torch.no_grad()
    def _regions(
        self, class_logits: Tensor, deltas: Tensor, proposals: list[Instances]
    ) -> list[Regions]:
        """The sampled regions of each image, refined for the likeliest target class."""
        classes = likeliest_targets(class_logits, self.target_labels) - 1  # the library's 0..K-1
        counts = [len(of_image) for of_image in proposals]
        suspicion = target_scores(class_logits, self.target_labels).split(counts)
        refined = self.predict_boxes((class_logits, deltas), proposals)
        regions = []
        for boxes, of_class, of_image, own in zip(
            refined, classes.split(counts), proposals, suspicion, strict=True
        ):
            of_classes = boxes.reshape(-1, boxes.shape[1] // 4, 4)
            column = of_class.clamp(max=of_classes.shape[1] - 1)  # one box serves all classes
            chosen = of_classes[torch.arange(len(boxes), device=boxes.device), column]
            regions.append(Regions(chosen, core_labels(of_image.gt_classes, self.num_classes), own))
        return regions

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[Tensor, ...], proposals: list[Instances]
    ) -> list[Tensor]:
        """The library's, which knows two predictions (``ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES``)."""
        return super().predict_boxes_for_gt_classes(predictions[:2], proposals)


class SimROIHeads(ROIHeads):
    """What both heads share: the ROI batch of normal images, and who is normal."""

    box_predictor: SimFastRCNNOutputLayers

    @configurable
    def __init__(self, *, normal_sampling: RoiNormalSampling, **kwargs: Any) -> None:
        """Take the library's arguments, and how regions of normal images are chosen."""
        super().__init__(**kwargs)
        self.normal_sampling = normal_sampling
        self._is_normal: tuple[bool, ...] = ()

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the library's arguments and ``MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING``."""
        return {
            **super().from_config(cfg, input_shape),
            "normal_sampling": method_settings(cfg).roi_normal_sampling,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
        is_normal: Sequence[bool] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Classify and refine proposals and, in training, return the losses.

        Args:
            images: The batch.
            features: By level.
            proposals: One per image.
            targets: In training, one per image.
            is_normal: In training, for each image whether it is trained as a normal one.

        Raises:
            ValueError: In training without ``is_normal``.
        """
        if self.training and is_normal is None:
            raise ValueError(
                f"{type(self).__name__} needs is_normal in training; SimFasterRCNN gives it"
            )
        self._is_normal = self.box_predictor.is_normal = tuple(is_normal or ())
        try:
            return super().forward(images, features, proposals, targets)
        finally:
            self._is_normal = self.box_predictor.is_normal = ()

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """The library's random draw, but the most likely proposals of normal images (``top``)."""
        take_top = [normal and self.normal_sampling == "top" for normal in self._is_normal]
        drawn = [index for index, top in enumerate(take_top) if not top]
        sampled = {
            index: self._most_likely(proposals[index]) for index, top in enumerate(take_top) if top
        }
        if drawn:
            ordinary = super().label_and_sample_proposals(
                [proposals[index] for index in drawn], [targets[index] for index in drawn]
            )
            sampled.update(zip(drawn, ordinary, strict=True))
        return [sampled[index] for index in range(len(proposals))]

    def _most_likely(self, proposals: Instances) -> Instances:
        """The ROI batch of a normal image: background, so it needs no boxes to regress to."""
        best = top_proposals(proposals.objectness_logits, self.batch_size_per_image)
        chosen = proposals[best]
        chosen.gt_classes = torch.full_like(best, self.num_classes)
        return chosen


@ROI_HEADS_REGISTRY.register()
class SimRes5ROIHeads(SimROIHeads, Res5ROIHeads):
    """simFaster R-CNN's head for a C4 backbone: conv5 on every region."""

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Replace the box predictor, which the library sets without a seam."""
        arguments = super().from_config(cfg, input_shape)
        n_features = arguments["box_predictor"].cls_score.in_features
        shape = ShapeSpec(channels=n_features, height=1, width=1)
        return {**arguments, "box_predictor": SimFastRCNNOutputLayers(cfg, shape)}

    @classmethod
    def _build_res5_block(cls, cfg: Any) -> tuple[nn.Module, int]:
        """The last stage of the configured depth; the library builds three bottlenecks for all."""
        if timm_backbones.is_timm(cfg):
            _, layer4, out_channels = timm_backbones.build_c4(cfg)
            return layer4, out_channels
        resnet = cfg.MODEL.RESNETS
        if resnet.DEPTH not in _BASIC_BLOCKS_OF_RES5:
            return super()._build_res5_block(cfg)
        n_blocks = _BASIC_BLOCKS_OF_RES5[resnet.DEPTH]
        out_channels = resnet.RES2_OUT_CHANNELS * 8
        blocks = ResNet.make_stage(
            BasicBlock,
            n_blocks,
            stride_per_block=[2] + [1] * (n_blocks - 1),
            in_channels=out_channels // 2,
            out_channels=out_channels,
            norm=resnet.NORM,
        )
        return nn.Sequential(*blocks), out_channels


@ROI_HEADS_REGISTRY.register()
class SimStandardROIHeads(SimROIHeads, StandardROIHeads):
    """simFaster R-CNN's head for a feature pyramid: fully connected layers on every region."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Replace the box predictor by ours."""
        arguments = super()._init_box_head(cfg, input_shape)
        predictor = SimFastRCNNOutputLayers(cfg, arguments["box_head"].output_shape)
        return {**arguments, "box_predictor": predictor}


def _joined(proposals: list[Instances], field: str) -> Tensor:
    """One field of all images, (R,)."""
    return torch.cat([instances.get(field) for instances in proposals])


def _image_index(proposals: list[Instances]) -> Tensor:
    """The image of every region, (R,)."""
    return torch.cat(
        [torch.full_like(instances.gt_classes, index) for index, instances in enumerate(proposals)]
    )
