"""How does a plain convolution of a ResNet become a deformable one, on either engine?

torchvision's ``deform_conv2d`` needs no extension to be compiled, and runs on CPUs too.

Shapes: N images (or regions), C channels, O output channels, k x k kernel, H' x W' output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from simfrcnn.errors import ConfigError

KEY = "MODEL.SIMFRCNN.DEFORM_STAGES"
_REPLACED = "conv2"


class DeformableConv(nn.Module):
    """A convolution whose sampling points a second, new convolution moves.

    It takes over the weight of a plain convolution under the same names, and what Detectron2's
    convolution carries inside (``norm``, ``activation``). The offsets start at 0, so that it starts
    as the plain convolution: pretrained weights keep their meaning. It works in float32, because
    offsets of half precision miss by parts of a pixel.

    Reference:
        Dai 2017 (Deformable Convolutional Networks), section 2.1; one group of offsets, no
        modulation.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.placement: dict[str, Any] = {
            "stride": plain.stride,
            "padding": plain.padding,
            "dilation": plain.dilation,
        }
        kernel: Any = plain.kernel_size
        n_offsets = 2 * kernel[0] * kernel[1]
        self.offset = nn.Conv2d(plain.in_channels, n_offsets, kernel, **self.placement)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)
        self.norm: nn.Module | None = getattr(plain, "norm", None)
        self.activation: Any = getattr(plain, "activation", None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        with torch.autocast(x.device.type, enabled=False):
            exact = x.float()
            moved: Tensor = deform_conv2d(
                exact, self.offset(exact), self.weight, self.bias, **self.placement
            )
        moved = moved.to(x.dtype)
        if self.norm is not None:
            moved = self.norm(moved)
        return moved if self.activation is None else self.activation(moved)


def is_offset(name: str) -> bool:
    """Whether a tensor of a state dict belongs to the offsets: no file of weights has it."""
    return f".{_REPLACED}.offset." in name


def make_deformable(stage: nn.Module, name: str) -> None:
    """Replace the 3x3 ``conv2`` of every block of a stage, in place.

    In a bottleneck that is its only 3x3 convolution; in a basic block it is the second of the two.

    Args:
        stage: A sequence of blocks of a ResNet, of whichever library.
        name: Of the stage, for the message.

    Raises:
        ConfigError: A block has no plain 3x3 convolution of that name.
    """
    for block in stage.children():
        plain = getattr(block, _REPLACED, None)
        if not isinstance(plain, nn.Conv2d) or plain.kernel_size != (3, 3):
            found = type(plain).__name__ if isinstance(plain, nn.Module) else "nothing"
            raise ConfigError(
                f"{KEY} names {name}, whose {type(block).__name__} has {found} where a plain 3x3 "
                f"convolution {_REPLACED} is needed; leave the stage out or take another backbone"
            )
        setattr(block, _REPLACED, DeformableConv(plain))
