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
from simfrcnn.engines.common.labelled import (
    Choice,
    Judge,
    are_of,
    label_settings_of,
    loss_of_bags,
)
from simfrcnn.engines.contract import LABEL_KEY
from simfrcnn.label_settings import LabelSettings
from simfrcnn.losses import are_partners, similarity_loss
from simfrcnn.sampling.proposals import likeliest_targets, target_scores, top_proposals
from simfrcnn.sampling.regions import NO_BAGS, Bags, EmptyBags
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
        self.is_partner: tuple[bool, ...] = ()
        """For each image of the batch, whether it is the normal one of its pair; set by the ROI
        heads while a training step runs."""
        self.bags: Bags | None = None
        """The labelled images of the batch, set likewise; None where labels do not train."""
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
        """The library's own losses, the similarity loss and that of labels.

        The regions of labelled images have the last one alone. They are left out of the others,
        not marked: the library counts every row.
        """
        scores, deltas, _ = predictions
        class_logits, image_index = background_first(scores), _image_index(proposals)
        self.firing_scores = firing_scores(
            class_logits, image_index, n_images=len(proposals), target_labels=self.target_labels
        )
        self.regions = self._regions(class_logits, deltas, proposals)
        if self.bags is None or not self.bags.images:
            losses = self._losses_of_boxes(predictions, proposals, self.is_partner)
        else:
            others = self.bags.others(len(proposals))
            rows = are_of(others, image_index)
            losses = self._losses_of_boxes(
                tuple(each[rows] for each in predictions),
                [proposals[place] for place in others],
                [self.is_partner[place] for place in others],
            )
        if self.bags is not None:
            losses[LABEL_KEY] = loss_of_bags(class_logits, image_index, self.bags)
        return losses

    def _losses_of_boxes(
        self,
        predictions: tuple[Tensor, ...],
        proposals: list[Instances],
        is_partner: Sequence[bool],
    ) -> dict[str, Tensor]:
        """The library's losses and the similarity loss of boxed and normal images."""
        scores, deltas, vectors = predictions
        if not proposals:  # labelled images alone
            return {
                "loss_cls": scores[:0].sum(),
                "loss_box_reg": deltas[:0].sum(),
                "loss_similarity": vectors[:0].sum(),
            }
        losses: dict[str, Tensor] = super().losses((scores, deltas), proposals)
        losses["loss_similarity"] = self.similarity.weight * similarity_loss(
            features=vectors,
            labels=core_labels(_joined(proposals, "gt_classes"), self.num_classes),
            image_index=_image_index(proposals),
            objectness=_joined(proposals, "objectness_logits"),
            class_logits=background_first(scores),
            is_partner=is_partner,
            target_labels=self.target_labels,
            settings=self.similarity,
        )
        return losses

    @torch.no_grad()
    def _regions(
        self, class_logits: Tensor, deltas: Tensor, proposals: list[Instances]
    ) -> list[Regions]:
        """The sampled regions of each image, refined for the likeliest target class."""
        counts = [len(of_image) for of_image in proposals]
        suspicion = target_scores(class_logits, self.target_labels).split(counts)
        refined = self.refined(class_logits, deltas, proposals)
        return [
            Regions(boxes, core_labels(of_image.gt_classes, self.num_classes), own)
            for boxes, of_image, own in zip(refined, proposals, suspicion, strict=True)
        ]

    @torch.no_grad()
    def refined(
        self, class_logits: Tensor, deltas: Tensor, proposals: list[Instances]
    ) -> list[Tensor]:
        """The boxes of each image's regions, refined for the likeliest target class."""
        classes = likeliest_targets(class_logits, self.target_labels) - 1  # the library's 0..K-1
        counts = [len(of_image) for of_image in proposals]
        refined = []
        for boxes, of_class in zip(
            self.predict_boxes((class_logits, deltas), proposals),
            classes.split(counts),
            strict=True,
        ):
            of_classes = boxes.reshape(-1, boxes.shape[1] // 4, 4)
            column = of_class.clamp(max=of_classes.shape[1] - 1)  # one box serves all classes
            refined.append(of_classes[torch.arange(len(boxes), device=boxes.device), column])
        return refined

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[Tensor, ...], proposals: list[Instances]
    ) -> list[Tensor]:
        """The library's, which knows two predictions (``ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES``)."""
        return super().predict_boxes_for_gt_classes(predictions[:2], proposals)


class SimROIHeads(ROIHeads):
    """What both heads share: the ROI batch of normal images, and who is normal."""

    box_predictor: SimFastRCNNOutputLayers

    @configurable
    def __init__(
        self, *, normal_sampling: RoiNormalSampling, labels: LabelSettings | None, **kwargs: Any
    ) -> None:
        """Take the library's arguments, and how regions of other images are chosen.

        Args:
            normal_sampling: Of normal images.
            labels: Of labelled images; None where none train.
            **kwargs: The library's.
        """
        super().__init__(**kwargs)
        self.normal_sampling = normal_sampling
        self.labels = labels
        self.empty_bags = EmptyBags()
        self._is_normal: tuple[bool, ...] = ()
        self._bags = NO_BAGS

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the library's arguments, ``ROI_NORMAL_SAMPLING`` and ``LABELS`` of
        ``MODEL.SIMFRCNN``.
        """
        return {
            **super().from_config(cfg, input_shape),
            "normal_sampling": method_settings(cfg).roi_normal_sampling,
            "labels": label_settings_of(cfg),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
        is_normal: Sequence[bool] | None = None,
        bags: Bags = NO_BAGS,
        judge: Judge | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Classify and refine proposals and, in training, return the losses.

        Args:
            images: The batch.
            features: By level.
            proposals: One per image.
            targets: In training, one per image.
            is_normal: In training, for each image whether it is trained as a normal one.
            bags: In training, the labelled images.
            judge: The second look, where it has a say in which of their regions are chosen.

        Raises:
            ValueError: In training without ``is_normal``.
        """
        if self.training and is_normal is None:
            raise ValueError(
                f"{type(self).__name__} needs is_normal in training; SimFasterRCNN gives it"
            )
        if bags.images:
            proposals = self._with_chosen(features, proposals, bags, judge)
        self._is_normal = tuple(is_normal or ())
        self.box_predictor.is_partner = self._partners(targets or [])
        self._bags = bags
        self.box_predictor.bags = None if self.labels is None else bags
        try:
            return super().forward(images, features, proposals, targets)
        finally:
            self._is_normal = self.box_predictor.is_partner = ()
            self._bags, self.box_predictor.bags = NO_BAGS, None

    def _partners(self, targets: list[Instances]) -> tuple[bool, ...]:
        """For each image of the batch, whether it is the normal one of its pair."""
        classes = [core_labels(of_image.gt_classes, self.num_classes) for of_image in targets]
        return are_partners(classes, self._is_normal, self.box_predictor.target_labels)

    @torch.no_grad()
    def _with_chosen(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        bags: Bags,
        judge: Judge | None,
    ) -> list[Instances]:
        """The proposals, of labelled images only the chosen one, or none.

        They are scored in parts of the size of an ROI batch, so that memory stays that of an image.
        """
        assert self.labels is not None, "labelled images train with DATASETS.LABELS_PER_ITEM alone"
        candidates, logits, boxes = [], [], []
        for place in bags.images:
            of_image = proposals[place]
            n_candidates = self.labels.proposals or len(of_image)
            of_image = of_image[top_proposals(of_image.objectness_logits, n_candidates)]
            own = {name: level[place : place + 1] for name, level in features.items()}
            of_parts = [of_image.objectness_logits.new_zeros(0, 4)]
            for first in range(0, len(of_image), self.batch_size_per_image):
                part = of_image[first : first + self.batch_size_per_image]
                scores, deltas = self._predicted(own, part)[:2]
                logits.append(background_first(scores))
                of_parts += self.box_predictor.refined(logits[-1], deltas, [part])
            candidates.append(of_image)
            boxes.append(torch.cat(of_parts))
        nothing = boxes[0].new_zeros(0, self.num_classes + 1)
        choice = Choice(self.labels, self.box_predictor.target_labels, self.empty_bags, judge)
        chosen = choice.of(bags, torch.cat([nothing, *logits]), boxes)
        kept = list(proposals)
        for place, of_image, own_choice in zip(bags.images, candidates, chosen, strict=True):
            kept[place] = of_image[own_choice]
        return kept

    def _predicted(self, features: dict[str, Tensor], proposals: Instances) -> tuple[Tensor, ...]:
        """What the box predictor says of one image's regions."""
        raise NotImplementedError

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """The library's random draw, but the most likely proposals of normal images (``top``), and
        the one of a labelled image.
        """
        take_top = [normal and self.normal_sampling == "top" for normal in self._is_normal]
        labelled = set(self._bags.images)
        drawn = [i for i, top in enumerate(take_top) if not top and i not in labelled]
        sampled = {
            index: self._most_likely(proposals[index])
            for index, top in enumerate(take_top)
            if top or index in labelled
        }
        if drawn:
            ordinary = super().label_and_sample_proposals(
                [proposals[index] for index in drawn], [targets[index] for index in drawn]
            )
            sampled.update(zip(drawn, ordinary, strict=True))
        return [sampled[index] for index in range(len(proposals))]

    def _most_likely(self, proposals: Instances) -> Instances:
        """The ROI batch of an image without boxes: background to the library, so that no box is
        regressed.
        """
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

    def _predicted(self, features: dict[str, Tensor], proposals: Instances) -> tuple[Tensor, ...]:
        levels = [features[name] for name in self.in_features]
        vectors = self._shared_roi_transform(levels, [proposals.proposal_boxes]).mean(dim=[2, 3])
        predictions: tuple[Tensor, ...] = self.box_predictor(vectors)
        return predictions

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

    def _predicted(self, features: dict[str, Tensor], proposals: Instances) -> tuple[Tensor, ...]:
        levels = [features[name] for name in self.box_in_features]
        regions = self.box_pooler(levels, [proposals.proposal_boxes])
        predictions: tuple[Tensor, ...] = self.box_predictor(self.box_head(regions))
        return predictions


def _joined(proposals: list[Instances], field: str) -> Tensor:
    """One field of all images, (R,)."""
    return torch.cat([instances.get(field) for instances in proposals])


def _image_index(proposals: list[Instances]) -> Tensor:
    """The image of every region, (R,)."""
    return torch.cat(
        [torch.full_like(instances.gt_classes, index) for index, instances in enumerate(proposals)]
    )
