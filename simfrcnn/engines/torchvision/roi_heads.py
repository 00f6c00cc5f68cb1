"""What do torchvision's ROI heads learn from pairs of images?

Shapes: R sampled regions of a batch, D features of a region, C = 1 + K classes, background first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

from simfrcnn.engines.common.labelled import Choice, Judge, are_of, loss_of_bags
from simfrcnn.engines.contract import LABEL_KEY, MASK_KEY
from simfrcnn.engines.torchvision.masks import loss_of_masks, rows_with_outline
from simfrcnn.engines.torchvision.regions import Res5BoxHead
from simfrcnn.label_settings import LabelSettings
from simfrcnn.losses import are_partners, similarity_loss
from simfrcnn.sampling.proposals import likeliest_targets, target_scores, top_proposals
from simfrcnn.sampling.regions import NO_BAGS, Bags, EmptyBags
from simfrcnn.sampling.replay import firing_scores
from simfrcnn.second_look import Regions
from simfrcnn.settings import RoiNormalSampling, SimilaritySettings


class SimRoIHeads(RoIHeads):
    """ROI heads that take the top proposals of normal images and add the similarity loss.

    ``forward`` is overridden in training, because the library offers no seam for a loss there; the
    losses of class and box are the library's function over all sampled regions.
    """

    def __init__(
        self,
        *,
        roi_normal_sampling: RoiNormalSampling,
        similarity: SimilaritySettings,
        labels: LabelSettings | None,
        target_labels: Sequence[int],
        box_loss_weight: float,
        **of_the_library: Any,
    ) -> None:
        super().__init__(**of_the_library)
        self.roi_normal_sampling = roi_normal_sampling
        self.similarity = similarity
        self.labels = labels
        """How labelled images teach; None where none train."""
        self.empty_bags = EmptyBags()
        self.target_labels = tuple(target_labels)
        self.box_loss_weight = box_loss_weight
        # Of the batch under way: subsample is not given the targets.
        self._is_normal: list[bool] = []
        self._n_boxes: list[int] = []
        self._ranks: list[Tensor] = []
        self._is_partner: tuple[bool, ...] = ()
        self._bags = NO_BAGS
        self.judge: Judge | None = None
        """The second look, where it has a say in the choice of a step's regions."""
        self.firing_scores = torch.zeros(0)
        """(N,) how hard the last training step fired on each image."""
        self.regions: list[Regions] = []
        """Of each image of the last training step, for the second look."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Any]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections or, in training, the losses, weighted.

        Args:
            features: Feature maps by level.
            proposals: Per image, by falling objectness, as the RPN gives them.
            image_shapes: (height, width) without padding.
            targets: Per image ``boxes``, ``labels``, ``is_normal`` and ``of_image``, the
                :class:`~simfrcnn.structures.ImageTargets`, and with a mask head those of
                :func:`~simfrcnn.engines.torchvision.masks.mask_targets`; in training.
        """
        if not self.training or targets is None:
            return super().forward(features, proposals, image_shapes, targets)
        self._is_normal = [bool(target["is_normal"]) for target in targets]
        self._n_boxes = [len(target["boxes"]) for target in targets]
        self._is_partner = are_partners(
            [target["labels"] for target in targets], self._is_normal, self.target_labels
        )
        self._bags = Bags.of([target["of_image"] for target in targets])
        if self._bags.images:
            proposals = self._with_chosen(features, proposals, image_shapes)
        try:
            regions, matched, labels, box_targets = self.select_training_samples(proposals, targets)
            pooled = self.box_roi_pool(features, regions, image_shapes)
            maps = self.box_head.maps(pooled) if isinstance(self.box_head, Res5BoxHead) else None
            vectors = self.box_head(pooled) if maps is None else maps.mean(dim=(2, 3))
            class_logits, box_deltas = self.box_predictor(vectors)
            self.regions = self._regions(regions, labels, class_logits, box_deltas)
            losses = self._losses(vectors, class_logits, box_deltas, labels, box_targets)
            if self.has_mask():
                rows = rows_with_outline(labels, matched, targets)
                chosen = [of_image[row] for of_image, row in zip(regions, rows, strict=True)]
                if maps is None:
                    shown = self.mask_roi_pool(features, chosen, image_shapes)
                else:  # shared with the box head
                    shown = maps[_rows_of_batch(rows, regions)]
                losses[MASK_KEY] = loss_of_masks(
                    self.mask_predictor(self.mask_head(shown)),
                    chosen,
                    [finding[row] for finding, row in zip(matched, rows, strict=True)],
                    targets,
                )
            return [], losses
        finally:
            self._is_normal, self._is_partner, self._bags = [], (), NO_BAGS
            self._n_boxes, self._ranks = [], []

    @torch.no_grad()
    def _with_chosen(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[Tensor]:
        """The proposals, of labelled images only the chosen one, or none.

        They are scored in parts of the size of an ROI batch, so that memory stays that of an image.
        """
        assert self.labels is not None, "labelled images train with DATASETS.LABELS_PER_ITEM alone"
        candidates, logits, boxes = [], [], []
        for place in self._bags.images:
            of_image = proposals[place][: self.labels.proposals or None]
            own = {name: level[place : place + 1] for name, level in features.items()}
            of_parts = [of_image[:0]]
            for part in of_image.split(self.fg_bg_sampler.batch_size_per_image):
                if len(part):
                    regions = self.box_roi_pool(own, [part], image_shapes[place : place + 1])
                    class_logits, box_deltas = self.box_predictor(self.box_head(regions))
                    logits.append(class_logits)
                    of_parts.append(self._refined([part], class_logits, box_deltas))
            candidates.append(of_image)
            boxes.append(torch.cat(of_parts))
        nothing = boxes[0].new_zeros(0, self.box_predictor.cls_score.out_features)
        choice = Choice(self.labels, self.target_labels, self.empty_bags, self.judge)
        chosen = choice.of(self._bags, torch.cat([nothing, *logits]), boxes)
        kept = list(proposals)
        for place, of_image, own_choice in zip(self._bags.images, candidates, chosen, strict=True):
            kept[place] = of_image[own_choice]
        return kept

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        """Regions per image: the library's draw, the top proposals of a normal image, or the one
        of a labelled image. Their ranks are kept for the similarity loss.
        """
        sampled = []
        ranks = [
            _rank(of_image, n_boxes)
            for of_image, n_boxes in zip(labels, self._n_boxes, strict=True)
        ]
        for index, (of_image, is_normal) in enumerate(zip(labels, self._is_normal, strict=True)):
            if index in self._bags.images:
                sampled.append(torch.arange(len(of_image), device=of_image.device))
            elif is_normal and self.roi_normal_sampling == "top":
                n_regions = self.fg_bg_sampler.batch_size_per_image
                sampled.append(top_proposals(ranks[index], n_regions))
            else:
                sampled += super().subsample([of_image])
        self._ranks = [rank[chosen] for rank, chosen in zip(ranks, sampled, strict=True)]
        return sampled

    @torch.no_grad()
    def _regions(
        self,
        sampled: list[Tensor],
        labels: list[Tensor],
        class_logits: Tensor,
        box_deltas: Tensor,
    ) -> list[Regions]:
        """The sampled regions of each image, refined for the likeliest target class."""
        boxes = self._refined(sampled, class_logits, box_deltas)
        suspicion = target_scores(class_logits, self.target_labels)
        counts = [len(of_image) for of_image in labels]
        of_images = zip(boxes.split(counts), labels, suspicion.split(counts), strict=True)
        return [Regions(*of_image) for of_image in of_images]

    def _refined(self, sampled: list[Tensor], class_logits: Tensor, box_deltas: Tensor) -> Tensor:
        """The boxes of regions (R, 4), refined for the likeliest target class."""
        likeliest = likeliest_targets(class_logits, self.target_labels)
        refined = self.box_coder.decode(box_deltas, sampled)
        boxes: Tensor = refined[torch.arange(len(refined), device=refined.device), likeliest]
        return boxes.reshape(-1, 4)  # of no region the library makes no boxes

    def _losses(
        self,
        vectors: Tensor,
        class_logits: Tensor,
        box_deltas: Tensor,
        labels: list[Tensor],
        box_targets: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The losses of a batch; labelled images have that of their labels alone, and are left out
        of the others.
        """
        image_index = torch.cat([torch.full_like(each, i) for i, each in enumerate(labels)])
        self.firing_scores = firing_scores(
            class_logits, image_index, n_images=len(labels), target_labels=self.target_labels
        )
        if not self._bags.images:
            losses = self._losses_of_boxes(
                vectors,
                class_logits,
                box_deltas,
                labels,
                box_targets,
                self._ranks,
                self._is_partner,
            )
        else:
            others = self._bags.others(len(labels))
            rows = are_of(others, image_index)
            losses = self._losses_of_boxes(
                vectors[rows],
                class_logits[rows],
                box_deltas[rows],
                [labels[place] for place in others],
                [box_targets[place] for place in others],
                [self._ranks[place] for place in others],
                [self._is_partner[place] for place in others],
            )
        if self.labels is not None:
            losses[LABEL_KEY] = loss_of_bags(class_logits, image_index, self._bags)
        return losses

    def _losses_of_boxes(
        self,
        vectors: Tensor,
        class_logits: Tensor,
        box_deltas: Tensor,
        labels: list[Tensor],
        box_targets: Sequence[Tensor],
        ranks: Sequence[Tensor],
        is_partner: Sequence[bool],
    ) -> dict[str, Tensor]:
        """The library's losses and the similarity loss of boxed and normal images."""
        if not labels:  # labelled images alone
            return {
                "loss_cls": class_logits.sum(),
                "loss_box_reg": box_deltas.sum(),
                "loss_similarity": vectors.sum(),
            }
        if len(class_logits):
            loss_cls, loss_box_reg = fastrcnn_loss(class_logits, box_deltas, labels, box_targets)
        else:  # a mean over no region is NaN in the library
            loss_cls, loss_box_reg = class_logits.sum(), box_deltas.sum()
        loss_similarity = similarity_loss(
            features=vectors,
            labels=torch.cat(labels),
            image_index=torch.cat([torch.full_like(each, i) for i, each in enumerate(labels)]),
            objectness=torch.cat(list(ranks)),
            class_logits=class_logits,
            is_partner=is_partner,
            target_labels=self.target_labels,
            settings=self.similarity,
        )
        return {
            "loss_cls": loss_cls,
            "loss_box_reg": loss_box_reg * self.box_loss_weight,
            "loss_similarity": loss_similarity * self.similarity.weight,
        }


class Float32Predictor(FastRCNNPredictor):
    """The library's predictor with float32 outputs, initialised as in Detectron2."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes + 1)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, C) and box deltas (R, 4 C)."""
        class_logits, box_deltas = super().forward(x)
        return class_logits.float(), box_deltas.float()


def _rows_of_batch(rows: Sequence[Tensor], regions: Sequence[Tensor]) -> Tensor:
    """Places in the list of each image -> places in that of the batch."""
    first, places = 0, []
    for own, of_image in zip(rows, regions, strict=True):
        places.append(own + first)
        first += len(of_image)
    return torch.cat(places)


def _rank(of_image: Tensor, n_boxes: int) -> Tensor:
    """A stand-in for objectness, which the library's RPN drops: the order it left.

    The library appends the image's own boxes to its proposals; they come first, as Detectron2 gives
    them an objectness above all others.
    """
    rank = -torch.arange(len(of_image), device=of_image.device)
    rank[len(of_image) - n_boxes :] += len(of_image)
    return rank
