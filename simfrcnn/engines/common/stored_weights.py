"""How are weights stored in fewer bits, and read again as float32?

Only tensors of two and more dimensions, which are nearly all of a model: statistics of norm layers
and biases can have too wide a range, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "half", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SCALE = ".int8_scale"
"""What follows the name of an int8 tensor in that of its scales."""
_LARGEST = 127


def stored(state: Mapping[str, Tensor], precision: Precision) -> dict[str, Tensor]:
    """A state dict as it goes into a file.

    ``half``: two bytes for each weight; a tensor with a weight beyond their range stays as it is.
    ``int8``: one byte for each, in steps of 1/127 of the largest weight of its output channel
    (dimension 0), and that step in a tensor of its own.
    """
    if precision == "float32":
        return dict(state)
    result = {}
    for name, tensor in state.items():
        if tensor.dtype != torch.float32 or tensor.ndim < 2:
            result[name] = tensor
        elif precision == "half":
            half = tensor.half()
            result[name] = half if bool(half.isfinite().all()) else tensor
        else:
            steps = _steps_of(tensor)
            result[name] = (tensor / _as_columns(steps, tensor)).round().to(torch.int8)
            result[name + SCALE] = steps
    return result


def restored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of a file as float32, whatever :func:`stored` made of it.

    Raises:
        KeyError: The steps of an int8 tensor are missing.
    """
    return {
        name: _restored(name, tensor, state)
        for name, tensor in state.items()
        if not name.endswith(SCALE)
    }


def _restored(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    if tensor.dtype == torch.int8:
        return tensor.float() * _as_columns(state[name + SCALE], tensor)
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _steps_of(tensor: Tensor) -> Tensor:
    """One step for each output channel; 1 where all of its weights are 0."""
    largest = tensor.abs().amax(dim=tuple(range(1, tensor.ndim)))
    return torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))


def _as_columns(steps: Tensor, tensor: Tensor) -> Tensor:
    return steps.reshape(-1, *(1 for _ in tensor.shape[1:]))
