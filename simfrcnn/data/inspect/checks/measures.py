"""What do the pixels of one image say about it?

Everything that the checks need is measured in one pass per file, in any process, and is small.
Shapes: H x W the stored image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import DataError
from simfrcnn.images.breast import breast_mask, chest_wall_side
from simfrcnn.images.preprocess import crop_of, cut_and_resize
from simfrcnn.images.reading import Greys, read_greys
from simfrcnn.records import Box, Laterality, Prepared
from simfrcnn.settings import InputSettings

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

_SAMPLE_PX = 512
"""Grey values are measured on a grid of at most this many pixels a side."""
_AIR_TOLERANCE = 0.1
"""Part of the grey range that counts as its darkest, or brightest, end."""
_EDGE_SHARE = 0.02
"""Width of a picture's edge, in parts of its longer side."""
_RAW = DicomOptions(allow_for_processing=True)


@dataclass(frozen=True)
class Task:
    """An image to measure.

    Attributes:
        path: The file.
        boxes: All boxes that annotation files draw on it, in its pixels.
        input: How it becomes the network's input.
        prepared: How it was made, where it is not the source's own file.
    """

    path: Path
    boxes: tuple[Box, ...]
    input: InputSettings
    prepared: Prepared | None = None


@dataclass(frozen=True)
class Unreadable:
    """Why an image cannot be read, in the reader's words, without its path."""

    reason: str


@dataclass(frozen=True)
class BoxMeasures:
    """A box as the network sees it: its sides in input pixels, and the share that is breast."""

    width_px: float
    height_px: float
    breast_share: float


@dataclass(frozen=True)
class ImageMeasures:
    """What one image's pixels say.

    Attributes:
        shape: (H, W).
        digest: Of the pixels; an image and its mirror image have the same.
        is_raw: A FOR PROCESSING image, which training refuses.
        chest_wall: The side on which the breast is widest, of the picture as it hangs for the
            network; None if not clear.
        median_grey: Of the breast, 0..255.
        grey_range: From the 0.5th to the 99.5th percentile of the image.
        saturated_share: Of the breast's pixels, those at 255.
        air_balance: Share of pixels at the dark end of the range less that at its bright end: the
            air round a breast is the largest even area, so this is below 0 in a negative.
        edge_balance: The same along the edges of the picture, which air reaches and an implant, or
            a dense breast that fills the picture, leaves for the most part.
        boxes: By the box in stored pixels.
    """

    shape: tuple[int, int]
    digest: str
    is_raw: bool
    chest_wall: Laterality | None
    median_grey: float
    grey_range: float
    saturated_share: float
    air_balance: float
    edge_balance: float
    boxes: Mapping[Box, BoxMeasures]


def measure(task: Task) -> ImageMeasures | Unreadable:
    """Read one image and measure it; what cannot be read is a result, not an exception."""
    try:
        greys, is_raw = _read(task.path)
    except DataError as error:
        return Unreadable(_without_path(error, task.path))
    pixels = greys.as_uint8()
    grid, mask = _grid(pixels), _grid(breast_mask(pixels))
    breast = grid[mask] if mask.any() else grid.reshape(-1)
    low, high = np.percentile(grid, (0.5, 99.5)).tolist()
    margin = _AIR_TOLERANCE * (high - low)
    dark, bright = low + margin, high - margin
    return ImageMeasures(
        shape=(pixels.shape[0], pixels.shape[1]),
        digest=_digest(pixels),
        is_raw=is_raw,
        chest_wall=chest_wall_side(mask[:, ::-1] if greys.flips.horizontal else mask),
        median_grey=float(np.median(breast)),
        grey_range=high - low,
        saturated_share=float(np.mean(breast == 255)),
        air_balance=_balance(grid, dark, bright),
        edge_balance=_balance(_edges(grid), dark, bright),
        boxes=_box_measures(task, pixels, mask),
    )


def _read(path: Path) -> tuple[Greys, bool]:
    """The pixels, and whether they are a raw image: refused by default, read on demand."""
    try:
        return read_greys(path, STRICT), False
    except DataError:
        return read_greys(path, _RAW), True


def _without_path(error: DataError, path: Path) -> str:
    return str(error).replace(str(path), "").lstrip(": ")


def _grid(pixels: NDArray[Pixel]) -> NDArray[Pixel]:
    """Every n-th pixel of both axes: unlike an average, it keeps what is saturated."""
    step = max(1, max(pixels.shape) // _SAMPLE_PX)
    return pixels[::step, ::step]


def _edges(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The outermost pixels of all four sides, in a row."""
    n = max(1, round(_EDGE_SHARE * max(grid.shape)))
    return np.concatenate(
        [part.ravel() for part in (grid[:n], grid[-n:], grid[:, :n], grid[:, -n:])]
    )


def _balance(pixels: NDArray[np.uint8], dark: float, bright: float) -> float:
    """The share of pixels that are dark less the share that are bright."""
    return float(np.mean(pixels <= dark) - np.mean(pixels >= bright))


def _digest(pixels: NDArray[np.uint8]) -> str:
    """Of the size and the pixels, the same for the mirror image."""
    size = f"{pixels.shape}".encode()
    views = (np.ascontiguousarray(pixels), np.ascontiguousarray(pixels[:, ::-1]))
    return min(hashlib.blake2b(size + view.tobytes(), digest_size=16).hexdigest() for view in views)


def _box_measures(
    task: Task, pixels: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> dict[Box, BoxMeasures]:
    if not task.boxes:
        return {}
    scale_x, scale_y = _scales(task, pixels)
    to_mask = mask.shape[0] / pixels.shape[0], mask.shape[1] / pixels.shape[1]
    return {
        box: BoxMeasures(
            width_px=(box[2] - box[0]) * scale_x,
            height_px=(box[3] - box[1]) * scale_y,
            breast_share=_share(mask, box, to_mask),
        )
        for box in task.boxes
    }


def _scales(task: Task, pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Input pixels per stored pixel, along x and y."""
    if task.prepared is not None and task.prepared.as_input is not None:
        return 1.0, 1.0
    crop = crop_of(pixels, task.input, task.boxes)
    _, frame = cut_and_resize(pixels, crop, task.input)
    return frame.scale_x, frame.scale_y


def _share(mask: NDArray[np.bool_], box: Box, to_mask: tuple[float, float]) -> float:
    """The share of a box's area that is breast; a box of less than a pixel counts as one."""
    scale_y, scale_x = to_mask
    height, width = mask.shape
    left, top = min(int(box[0] * scale_x), width - 1), min(int(box[1] * scale_y), height - 1)
    right, bottom = max(left + 1, round(box[2] * scale_x)), max(top + 1, round(box[3] * scale_y))
    return float(mask[max(0, top) : bottom, max(0, left) : right].mean())
