"""What must differ for Detectron2 to train on a CPU, and to keep boxes exact in 16 bits?"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from detectron2.engine import create_ddp_model, defaults
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from torch import Tensor, nn

from simfrcnn.engines.common.region_align import align_regions
from simfrcnn.training.precision import Precision


class ExactROIAlign(ROIAlign):
    """The library's layer, which rounds boxes to the features' precision, with float32 boxes."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W) and (R, 5) -> (R, C, bins, bins), in the precision of the features."""
        return align_regions(
            input,
            rois,
            output_size=self.output_size,
            spatial_scale=self.spatial_scale,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )


def keep_boxes_exact(roi_heads: nn.Module) -> None:
    """Have the poolers of the heads take boxes in float32, whatever the features are."""
    for pooler in [part for part in roi_heads.modules() if isinstance(part, ROIPooler)]:
        for place, layer in enumerate(pooler.level_poolers):
            if type(layer) is ROIAlign:
                pooler.level_poolers[place] = ExactROIAlign(
                    layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
                )


def autocast_training(model: nn.Module, precision: Precision) -> None:
    """Run the training passes of a model on a CPU in mixed precision, and no others.

    For CPUs alone: on a GPU the library's own AMP trainer does it.
    """
    context = precision.autocast("cpu")

    def enter(model: nn.Module, _inputs: Any) -> None:
        if model.training:
            context.__enter__()

    def leave(model: nn.Module, _inputs: Any, _outputs: Any) -> None:
        if model.training:
            context.__exit__(None, None, None)

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)


@contextlib.contextmanager
def library_on(device: str) -> Iterator[None]:
    """Have the library build a trainer that runs on a CPU.

    It would wrap the model with ``device_ids``, which torch refuses there, and take its AMP trainer
    for GPUs if ``SOLVER.AMP.ENABLED`` is set.
    """
    if device != "cpu":
        yield
        return
    original = defaults.create_ddp_model, defaults.AMPTrainer
    defaults.create_ddp_model = functools.partial(create_ddp_model, device_ids=None)
    defaults.AMPTrainer = defaults.SimpleTrainer
    try:
        yield
    finally:
        defaults.create_ddp_model, defaults.AMPTrainer = original
