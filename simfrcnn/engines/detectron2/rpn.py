"""What do positive and normal images teach Detectron2's region proposal network?

Shapes: N images of a batch, L levels, A anchors of one image and level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from simfrcnn.config import method_settings
from simfrcnn.losses import top_likelihood_loss
from simfrcnn.settings import MethodSettings


@PROPOSAL_GENERATOR_REGISTRY.register()
class TopLikelihoodRPN(RPN):
    """Detectron2's RPN with the top likelihood loss on normal images.

    Which images are normal is kept on the module while the library's ``forward`` runs: its
    ``losses`` sees logits and labels, but no facts about images.
    """

    @configurable
    def __init__(self, *, method: MethodSettings, **kwargs: Any) -> None:
        """Take the library's arguments, and which loss normal images get."""
        super().__init__(**kwargs)
        self.rpn_head.register_forward_hook(_in_float32)
        self.method = method
        self._is_normal: tuple[bool, ...] = ()
        self._labelled: tuple[int, ...] = ()
        self._normal_weights: tuple[float, ...] = ()

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        """Read the library's arguments and ``MODEL.SIMFRCNN``."""
        return {**super().from_config(cfg, input_shape), "method": method_settings(cfg)}

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
        is_normal: Sequence[bool] | None = None,
        labelled: Sequence[int] = (),
        normal_weights: Sequence[float] = (),
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Propose regions and, in training, return the losses.

        Args:
            images: The batch.
            features: By level.
            gt_instances: In training, one per image.
            is_normal: In training, for each image whether it is trained as a normal one.
            labelled: In training, the places of images with a label and no box. They have no loss
                here: nothing is known of their anchors.
            normal_weights: In training, of the N images, see
                :class:`~simfrcnn.structures.ImageTargets`; empty for 1 each.

        Raises:
            ValueError: In training without ``is_normal``.
        """
        if self.training and is_normal is None:
            raise ValueError("TopLikelihoodRPN needs is_normal in training; SimFasterRCNN gives it")
        self._is_normal, self._labelled = tuple(is_normal or ()), tuple(labelled)
        self._normal_weights = tuple(normal_weights)
        try:
            return super().forward(images, features, gt_instances)
        finally:
            self._is_normal = self._labelled = self._normal_weights = ()

    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors of the images with ordinary losses; nothing is drawn for the others."""
        return super().label_and_sample_anchors(
            anchors, [gt_instances[index] for index in self._ordinary()]
        )

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """The library's losses on the images that have them, and the top likelihood loss.

        Images are selected, not masked: the library divides by the number of images that it is
        given, so normal images leave ``loss_rpn_cls`` and ``loss_rpn_loc`` as they are.

        Args:
            anchors: L levels.
            pred_objectness_logits: L tensors (N, A).
            gt_labels: For the images with ordinary losses alone, as labelled above.
            pred_anchor_deltas: L tensors (N, A, 4).
            gt_boxes: As ``gt_labels``.
        """
        ordinary = self._ordinary()
        if ordinary:
            losses = super().losses(
                anchors,
                [logits[ordinary] for logits in pred_objectness_logits],
                gt_labels,
                [deltas[ordinary] for deltas in pred_anchor_deltas],
                gt_boxes,
            )
        else:
            losses = {
                "loss_rpn_cls": _connected_zero(pred_objectness_logits),
                "loss_rpn_loc": _connected_zero(pred_anchor_deltas),
            }
        pushed_down = self.method.rpn_normals == "top_likelihood"
        normals = [i for i, normal in enumerate(self._is_normal) if normal and pushed_down]
        settings = self.method.top_likelihood
        logits = torch.cat([logits[normals] for logits in pred_objectness_logits], dim=1)
        losses["loss_rpn_top_likelihood"] = settings.weight * top_likelihood_loss(
            logits, settings.top_k, self._weights_of(normals)
        )
        return losses

    def _weights_of(self, normals: list[int]) -> Tensor | None:
        """Those of the normal images; None where all are 1."""
        graded = any(weight != 1 for weight in self._normal_weights)
        return torch.tensor([self._normal_weights[i] for i in normals]) if graded else None

    def _ordinary(self) -> list[int]:
        """The images that get the library's own losses."""
        everywhere = self.method.rpn_normals == "ordinary"
        return [
            i
            for i, normal in enumerate(self._is_normal)
            if i not in self._labelled and (everywhere or not normal)
        ]


def _in_float32(
    _head: nn.Module, _inputs: Any, outputs: tuple[list[Tensor], list[Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """What the head gives out, for ranking and decoding, whatever precision it computed in."""
    logits, deltas = outputs
    return [level.float() for level in logits], [level.float() for level in deltas]


def _connected_zero(levels: list[Tensor]) -> Tensor:
    """A zero with a (zero) gradient to every level: the sum of empty slices."""
    return torch.stack([level[:0].float().sum() for level in levels]).sum()
