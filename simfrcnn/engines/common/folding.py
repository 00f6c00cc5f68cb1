"""How is batch normalisation with frozen statistics spared its passes over the feature maps?

Frozen, it is a factor and a shift for each channel. The convolution before it takes them into its
own weights and bias, where there are thousands of numbers in place of millions. The results are the
same but for rounding, and so are the gradients, as neither factor nor shift learns. Saving and
loading know nothing of it. What it gains: docs/benchmarks.md.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

logger = logging.getLogger("simfrcnn")

_TOLERANCE = 1e-3
"""Of the largest value of a feature map; rounding is far below."""
_FROZEN = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")
"""Classes of torchvision, and of timm with an activation."""
_SAME = "Conv2dSame"
"""A class of timm whose padding depends on the input."""
_NORM = "folded_norm"


def fold_frozen_norms(body: nn.Module, size_px: tuple[int, int]) -> int:
    """Fold the frozen norms of a network of timm into the convolutions whose results they take.

    Which those are is seen by running it once. Then it is run as folded, and left as it was where
    the two differ by more than rounding, as where a result goes elsewhere, too.

    Args:
        body: (1, 3, H, W) -> feature maps or a vector.
        size_px: H and W of the input that it is run on.

    Returns:
        How many were folded.
    """
    if not any(True for _ in _frozen_norms(body)):
        return 0
    was_training = body.training
    body.train()
    pairs, before = _run(body, size_px)
    for convolution, norm in pairs:
        _fold(convolution, norm)
    if pairs and not _are_close(before, _run(body, size_px)[1]):
        logger.info(
            f"the frozen norms of {type(body).__name__} stay as they are: folded, it computes "
            "something else"
        )
        for pair in pairs:
            _unfold(*pair)
        pairs = []
    body.train(was_training)
    return len(pairs)


def convolve(layer: Any, x: Tensor) -> Tensor:
    """What a convolution makes of (N, C, H, W), with its norm, if that is folded."""
    result: Tensor
    norm = layer.__dict__.get(_NORM)
    if norm is None:
        result = type(layer).forward(layer, x)
        return result
    scale, shift = _scale_and_shift(norm)
    weight = layer.weight * scale.reshape(-1, 1, 1, 1)
    bias = shift if layer.bias is None else shift + scale * layer.bias
    if type(layer) is nn.Conv2d:
        result = layer._conv_forward(x, weight, bias)
        return result
    of_layer = layer.stride, (0, 0), layer.dilation, layer.groups
    result = functional.conv2d(_padded_as_same(layer, x), weight, bias, *of_layer)
    return result


def _padded_as_same(layer: Any, x: Tensor) -> Tensor:
    """As many results as inputs by stride, rounded up; where the margin is odd, more at the end."""
    pads: list[int] = []
    settings = zip(x.shape[-2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for size, kernel, stride, dilation in settings:
        n_results = -(-size // stride)
        total = max((n_results - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # the last dimension comes first
    return functional.pad(x, pads)


def _run(
    body: nn.Module, size_px: tuple[int, int]
) -> tuple[list[tuple[nn.Conv2d, nn.Module]], list[Tensor]]:
    """Convolutions with the frozen norms that take their results, and what the body returns."""
    made: list[tuple[Tensor, int, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []

    def note_result(layer: nn.Conv2d, _: Any, result: Tensor) -> None:
        made.append((result, result._version, layer))

    def note_use(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        for result, version, layer in made:
            if result is arguments[0] and result._version == version:
                pairs.append((layer, norm))

    hooks = [
        *(each.register_forward_hook(note_result) for each in _convolutions(body)),
        *(each.register_forward_pre_hook(note_use) for each in _frozen_norms(body)),
    ]
    height, width = size_px
    picture = torch.linspace(-2, 2, 3 * height * width).sin().reshape(1, 3, height, width)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # layers that are dropped are the same in both runs
            returned = body(picture)
    finally:
        for hook in hooks:
            hook.remove()
    maps = returned.values() if isinstance(returned, dict) else [returned]
    return _used_once(pairs), list(maps)


def _used_once(
    pairs: Sequence[tuple[nn.Conv2d, nn.Module]],
) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Those pairs of which neither layer stands in another pair."""
    seen = [id(layer) for pair in pairs for layer in pair]
    return [pair for pair in pairs if all(seen.count(id(layer)) == 1 for layer in pair)]


def _convolutions(body: nn.Module) -> Iterator[nn.Conv2d]:
    """Those whose weights are used as they are."""
    for layer in body.modules():
        is_known = type(layer) is nn.Conv2d or type(layer).__name__ == _SAME
        if isinstance(layer, nn.Conv2d) and is_known:
            yield layer


def _frozen_norms(body: nn.Module) -> Iterator[nn.Module]:
    """Those that are not folded yet."""
    for layer in body.modules():
        if type(layer).__name__ in _FROZEN and "forward" not in layer.__dict__:
            yield layer


def _fold(convolution: nn.Conv2d, norm: nn.Module) -> None:
    # No attribute of the module: what is one would be saved with it.
    convolution.__dict__[_NORM] = norm
    norm.__dict__["forward"] = types.MethodType(_activated, norm)
    # One that computes in float32 has a forward already, which calls `convolve`.
    convolution.__dict__.setdefault("forward", types.MethodType(convolve, convolution))


def _unfold(convolution: nn.Conv2d, norm: nn.Module) -> None:
    del convolution.__dict__[_NORM], norm.__dict__["forward"]


def _activated(norm: Any, x: Tensor) -> Tensor:
    """What is left of a norm: the activation of timm's, if it has one."""
    return norm.act(norm.drop(x)) if hasattr(norm, "act") else x


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """(C,), (C,)."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def _are_close(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(
        bool((a - b).abs().max() <= _TOLERANCE * a.abs().max())
        for a, b in zip(one, other, strict=True)
    )
