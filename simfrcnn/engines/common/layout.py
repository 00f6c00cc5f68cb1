"""In which memory layout, and which layers in which precision, is a CPU fastest?

With channels last a CPU detects faster, and most networks train faster in bfloat16. Two kinds of
layer are exceptions. The gradient of group normalisation is slower there. That of a depthwise
convolution is up to ten times slower in bfloat16 than in float32 with channels last. Frozen norms
are folded (see :mod:`.folding`). What was measured: docs/benchmarks.md.
"""

from __future__ import annotations

import types
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from simfrcnn.engines.common.folding import convolve, fold_frozen_norms
from simfrcnn.training.precision import Precision

_Model = TypeVar("_Model", bound=nn.Module)
_PROBE_PX = (96, 128)
"""Height and width that networks for feature maps take."""


def lay_out_for_detection(cfg: Any, model: nn.Module) -> nn.Module:
    """The model itself, in evaluation mode; on a CPU folded, with channels last."""
    if _is_on_cpu(cfg):
        _fold(model)
        model.to(memory_format=torch.channels_last)
    return model.eval()


def lay_out_for_training(cfg: Any, model: _Model, precision: Precision) -> _Model:
    """The model itself, laid out as a CPU trains it fastest.

    With channels last if it has depthwise convolutions or trains in bfloat16, and has no group
    normalisation; depthwise convolutions compute in float32, and frozen norms of timm's networks
    are folded. Losses change in their last digits.
    The network of a second look is judged by itself.

    Args:
        cfg: The config, for the device.
        model: Of either engine, before its optimiser and its data-parallel shell are made.
        precision: In which it trains.
    """
    if not _is_on_cpu(cfg):
        return model
    second_look = getattr(model, "second_look", None)
    rest = nn.ModuleList(each for each in model.children() if each is not second_look)
    for part in (rest, second_look):  # each by itself: a second look leaves its detector as it is
        if part is not None:
            _lay_out(part, precision)
    return model


def _lay_out(part: nn.Module, precision: Precision) -> None:
    depthwise = [layer for layer in part.modules() if is_depthwise(layer)]
    for layer in depthwise:
        layer.forward = types.MethodType(_in_float32, layer)
    _fold(part)
    gains = bool(depthwise) or precision.used == "bfloat16"
    if gains and not any(isinstance(layer, nn.GroupNorm) for layer in part.modules()):
        part.to(memory_format=torch.channels_last)


def _fold(part: nn.Module) -> None:
    """Fold the frozen norms of timm's networks."""
    # These load torchvision, as every engine does; this module can be imported without.
    from simfrcnn.engines.common.timm_backbones import TimmBody
    from simfrcnn.second_look import SecondLook
    from simfrcnn.second_look.network import Judge

    for each in list(part.modules()):
        if isinstance(each, TimmBody):
            fold_frozen_norms(each, _PROBE_PX)
        elif isinstance(each, SecondLook) and isinstance(each.judge, Judge):
            fold_frozen_norms(each.judge.body, (each.settings.size,) * 2)


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel is convolved alone."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def _in_float32(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W') float32 on a CPU, whatever autocast says; else as ever."""
    if not (x.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
        return convolve(layer, x)
    with torch.autocast("cpu", enabled=False):
        return convolve(layer, x.float())


def _is_on_cpu(cfg: Any) -> bool:
    return torch.device(cfg.MODEL.DEVICE).type == "cpu"
