"""What lies inside a finding's outline: Detectron2's mask head, on findings whose outline is known.

Shapes: R foreground regions of a batch, m x m the grid of a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.roi_heads.mask_head import (
    ROI_MASK_HEAD_REGISTRY,
    MaskRCNNConvUpsampleHead,
)
from detectron2.structures import Instances, PolygonMasks
from torch import Tensor

from simfrcnn.engines.contract import MASK_KEY
from simfrcnn.structures import ImageTargets

_HAS_OUTLINE = "gt_has_outline"
"""Field of the regions; their names begin so that the library hands them on with the boxes."""


def outline_fields(targets: ImageTargets) -> dict[str, Any]:
    """What an image's instances say of outlines; nothing where none is known."""
    if not targets.outlines:
        return {}
    polygons = [
        [[side for point in ring for side in point] for ring in outline]
        for outline in targets.outlines
    ]
    has_outline = torch.tensor([bool(outline) for outline in targets.outlines])
    return {"gt_masks": PolygonMasks(polygons), _HAS_OUTLINE: has_outline}


@ROI_MASK_HEAD_REGISTRY.register()
class SimMaskHead(MaskRCNNConvUpsampleHead):
    """The library's head; in training on the foreground regions whose finding has an outline."""

    def layers(self, x: Tensor) -> Tensor:
        """Logits (R, K, m, m) in float32."""
        logits: Tensor = super().layers(x)
        return logits.float()

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """The loss in training, else the instances with their grids.

        Args:
            x: (R, channels, h, w), in the order of the instances.
            instances: Foreground regions, or detections, by image.
        """
        if not self.training:
            return super().forward(x, instances)
        rows = [_with_outline(of_image) for of_image in instances]
        x = x[torch.cat([row.to(x.device) for row in rows])]
        if not len(x):  # the library's own loss would keep a NaN
            return {MASK_KEY: self.layers(x).sum()}
        return super().forward(x, [of[row] for of, row in zip(instances, rows, strict=True)])


def _with_outline(of_image: Instances) -> Tensor:
    """Which regions of an image have one."""
    if of_image.has(_HAS_OUTLINE):
        has_outline: Tensor = of_image.get(_HAS_OUTLINE)
        return has_outline
    return torch.zeros(len(of_image), dtype=torch.bool)
