"""Which square of a picture is looked at again, and what are its pixels?

Shapes: R regions of one picture, h x w its pixels, S the side that squares are brought to. Boxes
and squares are XYXY, half open, in pixels of the picture. Squares may reach beyond it: there is
black.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simfrcnn.errors import DataError
from simfrcnn.second_look_settings import Source
from simfrcnn.structures import Frame, Sample


@dataclass(frozen=True)
class Picture:
    """What squares are cut from.

    ``pixels`` (h, w), grey 0..255 of any type, on the CPU. ``frame`` is the map from these pixels
    to the detector's input pixels. ``spacing_mm`` is (row, column), None where it is not known.
    """

    pixels: Tensor
    frame: Frame
    spacing_mm: tuple[float, float] | None = None


def picture_of(sample: Sample, source: Source) -> Picture:
    """The stored pixels of a sample, or the detector's own input.

    Raises:
        DataError: The stored pixels are asked for and were not loaded.
    """
    spacing = sample.record.pixel_spacing_mm
    if source == "input":
        return Picture(
            sample.image[0],
            identity_of(sample.image),
            spacing
            and (spacing[0] / abs(sample.frame.scale_y), spacing[1] / abs(sample.frame.scale_x)),
        )
    if sample.native is None:
        raise DataError(
            f"{sample.record.path} was loaded without its stored pixels, which the second look "
            "cuts from: load it with native=True (config.needs_native_pixels says when), or set "
            "MODEL.SECOND_LOOK.SOURCE to input"
        )
    return Picture(sample.native.pixels, sample.native.frame, spacing)


def identity_of(image: Tensor) -> Frame:
    """The map of an input (..., H, W) to itself."""
    height, width = image.shape[-2:]
    return Frame(1.0, 0.0, 1.0, 0.0, height, width)


def least_sides(
    spacing_mm: tuple[float, float] | None, *, min_mm: float, size: int
) -> tuple[float, float]:
    """The least (width, height) of a square in pixels.

    Without a spacing it is S, the side that squares are brought to: nothing is magnified.
    """
    if spacing_mm is None:
        return float(size), float(size)
    return min_mm / spacing_mm[1], min_mm / spacing_mm[0]


def squares_around(boxes: Tensor, *, context: float, least: tuple[float, float]) -> Tensor:
    """Squares (R, 4) with the centres of the boxes (R, 4).

    Args:
        boxes: In pixels of the picture.
        context: The side as a multiple of the longer side of the box.
        least: Least width and height in pixels; where pixels are not square they differ.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) * context
    sides = torch.maximum(longest, longest.new_tensor(least))
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=1)


def cut(pixels: Tensor, squares: Tensor, size: int) -> Tensor:
    """The pixels of squares, brought to S x S: (R, S, S) float32, grey 0..255.

    Every output pixel is a mean with triangular weights, twice as wide as the output pixel but at
    least two pixels of the picture: so reducing skips none, and enlarging interpolates. Beyond the
    picture there is 0.

    Args:
        pixels: (h, w) of any type.
        squares: (R, 4).
        size: S.
    """
    height, width = pixels.shape
    out = torch.zeros(len(squares), size, size)
    with torch.autocast("cpu", enabled=False):  # half precision would round grey levels
        for number, (x1, y1, x2, y2) in enumerate(squares.double().tolist()):
            columns, across = _weights(x1, x2, width, size)
            rows, down = _weights(y1, y2, height, size)
            out[number] = down @ pixels[rows, columns].float() @ across.T
    return out


def _weights(start: float, end: float, length: int, size: int) -> tuple[slice, Tensor]:
    """The pixels of one axis that matter, and their weights (S, n) in every output pixel."""
    step = (end - start) / size
    reach = max(step, 1.0)
    first, last = math.floor(start + step / 2 - reach), math.ceil(end - step / 2 + reach)
    inside = slice(min(max(first, 0), length), min(max(last, 0), length))
    places = torch.arange(inside.start, inside.stop, dtype=torch.float64) + 0.5
    centres = (start + (torch.arange(size, dtype=torch.float64) + 0.5) * step)[:, None]
    weights = (1 - (places - centres).abs() / reach).clamp(min=0)
    return inside, (weights / _sums(centres, reach)).float()


def _sums(centres: Tensor, reach: float) -> Tensor:
    """The sum of the triangular weights of all pixels, those beyond the picture too."""
    to_left = torch.remainder(centres - 0.5, 1)  # the distance to the nearest pixel on that side
    return _side(to_left, reach) + _side(1 - to_left, reach)


def _side(nearest: Tensor, reach: float) -> Tensor:
    """The same of the pixels on one side: of those at ``nearest``, ``nearest`` + 1 and so on."""
    count = torch.ceil(reach - nearest).clamp(min=0)
    return count - (count * nearest + count * (count - 1) / 2) / reach


def normalised(squares: Tensor) -> Tensor:
    """Every square (..., S, S) less its mean, divided by its deviation (of at least one level)."""
    centred = squares - squares.mean(dim=(-2, -1), keepdim=True)
    deviation = centred.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    return centred / deviation.clamp(min=1.0)


def turned(squares: Tensor, turns: Tensor) -> Tensor:
    """Squares (R, S, S) in one of their eight positions.

    Args:
        squares: The squares.
        turns: (R,) int64 in 0..7; the bits say: mirrored, upside down, transposed.
    """
    bit = turns.reshape(-1, 1, 1)
    squares = torch.where((bit & 1).bool(), squares.flip(-1), squares)
    squares = torch.where((bit & 2).bool(), squares.flip(-2), squares)
    return torch.where((bit & 4).bool(), squares.transpose(-2, -1), squares)
