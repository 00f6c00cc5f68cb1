"""What does torchvision's region proposal network learn from normal images?

Shapes: N images of the batch, A anchors of an image (all locations of all levels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

from simfrcnn.losses import top_likelihood_loss
from simfrcnn.sampling.regions import Bags
from simfrcnn.settings import RpnNormals, TopLikelihoodSettings


class TopLikelihoodRPN(RegionProposalNetwork):
    """A region proposal network with the top likelihood loss for normal images.

    The seam is ``compute_loss``: the library's own, called on the images that have an ordinary RPN
    loss. The others are left out of the call, not masked, because it divides by what it sees.
    """

    def __init__(
        self,
        *,
        rpn_normals: RpnNormals,
        top_likelihood: TopLikelihoodSettings,
        box_loss_weight: float,
        **of_the_library: Any,
    ) -> None:
        super().__init__(**of_the_library)
        self.rpn_normals = rpn_normals
        self.top_likelihood = top_likelihood
        self.box_loss_weight = box_loss_weight
        # Of the batch under way: compute_loss is not given the targets and returns two losses only.
        self._is_normal: list[bool] = []
        self._normal_weights: list[float] = []
        self._labelled: tuple[int, ...] = ()
        self._top_likelihood_loss: Tensor | None = None

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        targets: list[dict[str, Any]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals by falling objectness and, in training, the three losses, weighted."""
        if not self.training or targets is None:
            return super().forward(images, features, targets)
        self._is_normal = [bool(target["is_normal"]) for target in targets]
        self._normal_weights = [target["of_image"].normal_weight for target in targets]
        self._labelled = Bags.of([target["of_image"] for target in targets]).images
        try:
            proposals, losses = super().forward(images, features, targets)
            return proposals, {
                "loss_rpn_cls": losses["loss_objectness"],
                "loss_rpn_loc": losses["loss_rpn_box_reg"] * self.box_loss_weight,
                "loss_rpn_top_likelihood": self._top_likelihood_loss,
            }
        finally:
            self._is_normal, self._labelled, self._top_likelihood_loss = [], (), None
            self._normal_weights = []

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The library's two losses over the images that have them; ours over the normal ones.

        Images with a label and no box have neither: nothing is known of their anchors.
        """
        n_images = len(labels)
        logits = objectness.reshape(n_images, -1)
        deltas = pred_bbox_deltas.reshape(n_images, -1, 4)
        normals = [index for index, normal in enumerate(self._is_normal) if normal]
        self._top_likelihood_loss = self._loss_of_normals(logits, normals)

        taken = [index for index in range(n_images) if index not in self._labelled]
        if self.rpn_normals != "ordinary":
            taken = [index for index in taken if index not in normals]
        if not taken:
            return logits[:0].sum(), deltas[:0].sum()
        losses: tuple[Tensor, Tensor] = super().compute_loss(
            logits[taken].reshape(-1, 1),
            deltas[taken].reshape(-1, 4),
            [labels[index] for index in taken],
            [regression_targets[index] for index in taken],
        )
        return losses

    def _loss_of_normals(self, logits: Tensor, normals: list[int]) -> Tensor:
        ranked = normals if self.rpn_normals == "top_likelihood" else []
        weights = None  # of 1 each
        if any(weight != 1 for weight in self._normal_weights):
            weights = torch.tensor([self._normal_weights[index] for index in ranked])
        loss = top_likelihood_loss(logits[ranked], self.top_likelihood.top_k, weights)
        return loss * self.top_likelihood.weight


class Float32RPNHead(RPNHead):
    """The library's head with float32 outputs: boxes decoded in half precision lose pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and deltas of every level."""
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class FloatAnchors(AnchorGenerator):
    """Anchors as Detectron2 makes them: not rounded, float32, and at the strides of the network.

    The library rounds the cells, takes the features' precision, and guesses a stride from the sizes
    of image and feature map, which is wrong where they do not divide.
    """

    def __init__(
        self, *, sizes: Sequence[Any], aspect_ratios: Sequence[Any], strides: Sequence[int]
    ) -> None:
        super().__init__(tuple(map(tuple, sizes)), tuple(map(tuple, aspect_ratios)))
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - the library's signature
    ) -> Tensor:
        """Cells centred at 0, of area size^2 and height / width = ratio, in Detectron2's order."""
        cells = []
        for size in scales:
            for ratio in aspect_ratios:
                width = (size**2 / ratio) ** 0.5
                height = ratio * width
                cells.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(cells, dtype=dtype, device=device)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Keep float32, whatever mixed precision makes of the features."""
        super().set_cell_anchors(torch.float32, device)

    def grid_anchors(
        self, grid_sizes: list[list[int]], strides: list[list[Tensor]]
    ) -> list[Tensor]:
        """Anchors of every level at the network's own strides."""
        own = [
            [torch.full_like(guess, s) for guess in g]
            for g, s in zip(strides, self.strides, strict=True)
        ]
        anchors: list[Tensor] = super().grid_anchors(grid_sizes, own)
        return anchors
