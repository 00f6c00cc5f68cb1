"""What lies inside a finding's outline: torchvision's mask head, where outlines are known.

Shapes: B boxes of an image, H x W the input, K foreground classes, m x m the grid of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss

from simfrcnn.engines.torchvision import backbone as backbones
from simfrcnn.engines.torchvision.regions import AlignedPooler, Res5BoxHead
from simfrcnn.outlines import rle_of
from simfrcnn.structures import ImageTargets

_N_GROUPS = 32
_NORMS = {"": None, "GN": partial(nn.GroupNorm, _N_GROUPS)}


class Res5Pool(nn.Module):
    """The region features of a C4 detector's mask head: those of its box head, which owns them."""

    def __init__(self, pooler: AlignedPooler, box_head: Res5BoxHead) -> None:
        super().__init__()
        self._of_boxes = (pooler, box_head)  # in a tuple: a part of another part of the model

    def forward(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Regions (R, channels, h, w), in the order of the boxes."""
        pooler, box_head = self._of_boxes
        return box_head.maps(pooler(features, boxes, image_shapes))


class MaskPredictor(MaskRCNNPredictor):
    """The library's predictor with float32 outputs, initialised as in Detectron2.

    A class-agnostic one says the same of every class.
    """

    def __init__(self, n_channels: int, n_hidden: int, n_classes: int, *, is_agnostic: bool):
        super().__init__(n_channels, n_hidden, 1 if is_agnostic else n_classes + 1)
        self.n_outputs = n_classes + 1
        nn.init.zeros_(self.conv5_mask.bias)
        nn.init.normal_(self.mask_fcn_logits.weight, std=0.001)
        nn.init.zeros_(self.mask_fcn_logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (R, K + 1, m, m), background first."""
        logits: Tensor = super().forward(x).float()
        return logits.expand(-1, self.n_outputs, -1, -1)


def mask_parts(
    cfg: Any, n_channels: int, box_pooler: AlignedPooler, box_head: nn.Module
) -> dict[str, nn.Module]:
    """The library's three parts of a mask head; none with ``MODEL.MASK_ON`` off.

    Args:
        cfg: ``MODEL.ROI_MASK_HEAD``.
        n_channels: Of the feature maps.
        box_pooler: Shared in a C4 detector.
        box_head: Likewise.
    """
    if not cfg.MODEL.MASK_ON:
        return {}
    node, heads = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_HEADS
    pooler: nn.Module
    if isinstance(box_head, Res5BoxHead):
        pooler, n_channels = Res5Pool(box_pooler, box_head), box_head.n_features
    else:
        pooler = AlignedPooler(
            strides={name: backbones.FPN_STRIDES[name] for name in heads.IN_FEATURES},
            resolution=node.POOLER_RESOLUTION,
            sampling_ratio=node.POOLER_SAMPLING_RATIO,
            aligned=node.POOLER_TYPE == "ROIAlignV2",
        )
    hidden = [node.CONV_DIM] * node.NUM_CONV
    return {
        "mask_roi_pool": pooler,
        "mask_head": MaskRCNNHeads(n_channels, hidden, 1, norm_layer=_NORMS[node.NORM]),
        "mask_predictor": MaskPredictor(
            hidden[-1] if hidden else n_channels,
            node.CONV_DIM,
            heads.NUM_CLASSES,
            is_agnostic=node.CLS_AGNOSTIC_MASK,
        ),
    }


def mask_targets(
    targets: ImageTargets, size: tuple[int, int], device: torch.device
) -> dict[str, Tensor]:
    """What the library's heads need to know of an image's outlines: ``masks`` (B, H, W) of 0 and 1,
    and ``has_outline`` (B,).
    """
    outlines = targets.outlines or ((),) * len(targets.boxes)
    masks = torch.zeros(len(outlines), *size)
    for place, outline in enumerate(outlines):
        if outline:
            masks[place] = torch.from_numpy(rle_of(outline, *size).to_array())
    has_outline = torch.tensor([bool(outline) for outline in outlines], dtype=torch.bool)
    return {"masks": masks.to(device), "has_outline": has_outline.to(device)}


def rows_with_outline(
    labels: Sequence[Tensor], matched: Sequence[Tensor], targets: Sequence[dict[str, Any]]
) -> list[Tensor]:
    """The foreground regions of each image whose finding has an outline, as places in its list."""
    return [
        torch.nonzero((own > 0) & target["has_outline"][finding]).flatten()
        if len(target["boxes"])
        else torch.zeros(0, dtype=torch.int64, device=own.device)
        for own, finding, target in zip(labels, matched, targets, strict=True)
    ]


def loss_of_masks(
    logits: Tensor,
    regions: Sequence[Tensor],
    matched: Sequence[Tensor],
    targets: Sequence[dict[str, Any]],
) -> Tensor:
    """The library's loss of regions with an outline; 0, connected, where there is none.

    Args:
        logits: (R, K + 1, m, m).
        regions: Of each image (n, 4), in input pixels.
        matched: Of each image (n,), the finding of each region.
        targets: Of each image; see :func:`mask_targets`.
    """
    if not len(logits):
        return logits.sum()
    masks, labels = ([target[key] for target in targets] for key in ("masks", "labels"))
    loss: Tensor = maskrcnn_loss(logits, list(regions), masks, labels, list(matched))
    return loss
