"""What judges a square? A body that makes a vector of it, and a layer that classifies the vector.

Shapes: R squares, S their side, D features, C = 1 + K classes, background first.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

_CHANNELS = (16, 32, 64, 128)
_N_GROUPS = 8
_GREY = 1


class SmallBody(nn.Sequential):
    """Four blocks of two 3 x 3 convolutions with GroupNorm, each halved: .3 M parameters."""

    n_features = _CHANNELS[-1]

    def __init__(self) -> None:
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        before = _GREY
        for number, channels in enumerate(_CHANNELS, 1):
            blocks[f"block{number}"] = nn.Sequential(
                *_convolution(before, channels), *_convolution(channels, channels)
            )
            blocks[f"pool{number}"] = (
                nn.MaxPool2d(2) if number < len(_CHANNELS) else nn.AdaptiveAvgPool2d(1)
            )
            before = channels
        super().__init__(OrderedDict(**blocks, flatten=nn.Flatten()))


class Judge(nn.Module):
    """Squares -> vectors and class logits."""

    def __init__(
        self, body: nn.Module, *, n_features: int, n_channels: int, n_classes: int
    ) -> None:
        """Take a body.

        Args:
            body: (R, ``n_channels``, S, S) -> (R, D).
            n_features: D.
            n_channels: How often the grey square is repeated, as a body made for colours needs it.
            n_classes: K.
        """
        super().__init__()
        self.body = body
        self.n_channels = n_channels
        self.classifier = nn.Linear(n_features, n_classes + 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised squares (R, S, S) -> vectors (R, D), logits (R, C); both float32."""
        vectors = self.body(squares[:, None].expand(-1, self.n_channels, -1, -1))
        return vectors.float(), self.classifier(vectors).float()


def small_judge(n_classes: int) -> Judge:
    """The network of ``MODEL.SECOND_LOOK.BACKBONE`` ''."""
    return Judge(
        SmallBody(), n_features=SmallBody.n_features, n_channels=_GREY, n_classes=n_classes
    )


def _convolution(n_inputs: int, n_outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    layer = nn.Conv2d(n_inputs, n_outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer, nn.GroupNorm(_N_GROUPS, n_outputs), nn.ReLU(inplace=True)
