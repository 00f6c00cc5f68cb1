"""What lies inside an outline, what outlines a mask, and how are masks kept small?

An outline is rings of points (x, y) at pixel *edges*: the ring (0, 0), (2, 0), (2, 1), (0, 1) holds
the two first pixels of the upper row. Its inside is the union of its rings; there are no holes.
Masks travel as run lengths (COCO's RLE): those of a hundred findings of one film are a few hundred
kilobytes, as pictures more than a gigabyte.

Shapes: H x W an image, h x w a part of it.

Reference:
    pycocotools, which also rasterises the polygons that are trained and judged on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from simfrcnn import fields
from simfrcnn.errors import AnnotationError
from simfrcnn.records import Box, Outline, Point, Ring

BoolArray = NDArray[np.bool_]

TOLERANCE_PX = 1.0
"""By how much an outline may leave its image, or its box differ from the stated one: rounding."""
_NEARLY = 1e-6
_DIGITS = 2
_FEWEST_POINTS = 3
_END_OF_RUNS = 2**32
"""The library keeps run lengths in 32 bits."""


@dataclass(frozen=True)
class Rle:
    """A mask (H, W) as run lengths down its columns, compressed as in COCO files."""

    height: int
    width: int
    counts: str

    @property
    def area(self) -> int:
        """The pixels inside."""
        return int(coco_mask.area(self._of_library()))

    @property
    def box(self) -> Box:
        """Round the pixels inside, half open; all 0 of an empty mask."""
        x, y, width, height = map(float, coco_mask.toBbox(self._of_library()))
        return x, y, x + width, y + height

    def to_array(self) -> BoolArray:
        """(H, W)."""
        pixels: BoolArray = coco_mask.decode(self._of_library()).astype(bool)
        return pixels

    def to_json(self) -> dict[str, Any]:
        """As in a COCO file."""
        return {"size": [self.height, self.width], "counts": self.counts}

    @classmethod
    def from_json(cls, value: Any) -> Rle:
        """Of a COCO file, compressed or as a list.

        Raises:
            ValueError: It is no such mask; says why.
        """
        if not isinstance(value, Mapping) or not {"size", "counts"} <= set(value):
            raise ValueError("a mask has 'size' [height, width] and 'counts'")
        size, counts = value["size"], value["counts"]
        is_size = isinstance(size, Sequence) and len(size) == 2
        if not is_size or not all(type(side) is int and side > 0 for side in size):
            raise ValueError(f"'size' is {size!r}; [height, width] in pixels is legal")
        height, width = size
        if height * width >= _END_OF_RUNS:
            raise ValueError(f"'size' is {size!r}; fewer than {_END_OF_RUNS} pixels are legal")
        if isinstance(counts, list):
            is_legal = all(type(count) is int and count >= 0 for count in counts)
            if not is_legal or sum(counts) != height * width:
                raise ValueError("'counts' must be run lengths that add up to height x width")
            return _compressed(counts, height, width)
        if not isinstance(counts, str):
            raise ValueError("'counts' must be a text or a list of run lengths")
        _require_length(counts, height * width)
        return cls(height, width, counts)

    def _of_library(self) -> dict[str, Any]:
        return {"size": [self.height, self.width], "counts": self.counts.encode("ascii")}


def _require_length(counts: str, n_pixels: int) -> None:
    """Refuse compressed run lengths of another size: the library would read beyond its memory."""
    runs: list[int] = []
    value = shift = 0
    for letter in counts:
        number = ord(letter) - 48
        if not 0 <= number < 64:
            raise ValueError(f"'counts' holds {letter!r}, which no run length has")
        value |= (number & 0x1F) << (5 * shift)
        shift += 1
        if number & 0x20:
            continue
        if number & 0x10:
            value |= -1 << (5 * shift)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift or any(run < 0 for run in runs) or sum(runs) != n_pixels:
        raise ValueError("'counts' is damaged: its runs do not add up to height x width")


# Masks


def rle_of(outline: Outline, height: int, width: int) -> Rle:
    """What lies inside an outline, in an image of a size.

    >>> rle_of((((0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)),), 4, 3).to_array().astype(int)
    array([[1, 1, 0],
           [0, 0, 0],
           [0, 0, 0],
           [0, 0, 0]])
    """
    if not outline:
        return rle_of_window(np.zeros((0, 0), dtype=bool), (0, 0), height, width)
    rings = [[float(side) for point in ring for side in point] for ring in outline]
    return _from_library(coco_mask.merge(coco_mask.frPyObjects(rings, height, width)))


def rle_of_box(box: Box, height: int, width: int) -> Rle:
    """The pixels of a box, which is cut at the image's edges."""
    x1, x2 = (min(max(0.0, x), float(width)) for x in box[::2])
    y1, y2 = (min(max(0.0, y), float(height)) for y in box[1::2])
    return rle_of((((x1, y1), (x2, y1), (x2, y2), (x1, y2)),), height, width)


def rle_of_window(window: BoolArray, place: tuple[int, int], height: int, width: int) -> Rle:
    """A mask that is empty but for a part.

    Only the columns of the part are ever laid out: of a film of 4,000 x 3,000 pixels that is a few
    hundred kilobytes.

    Args:
        window: (h, w).
        place: (x, y) of its first pixel.
        height: H.
        width: W.
    """
    (x, y), (n_rows, n_columns) = place, window.shape
    if not window.any():
        return _compressed([height * width], height, width)
    columns = np.zeros((n_columns, height), dtype=bool)
    columns[:, y : y + n_rows] = window.T
    flat = columns.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first, end = x * height, (x + n_columns) * height
    edges = [*([first] if flat[0] else []), *(first + changes).tolist()]
    edges += [end] if flat[-1] and end < height * width else []
    runs = np.diff([0, *edges, height * width]).tolist()
    return _compressed(runs, height, width)


def union_of(masks: Sequence[Rle], height: int, width: int) -> Rle:
    """The pixels that lie in any of some masks of one size."""
    if not masks:
        return rle_of((), height, width)
    return _from_library(coco_mask.merge([mask._of_library() for mask in masks]))


def shared_by(*masks: Rle) -> Rle:
    """The pixels that lie in all of some masks of one size, at least one."""
    return _from_library(coco_mask.merge([m._of_library() for m in masks], intersect=True))


def _compressed(runs: list[int], height: int, width: int) -> Rle:
    return _from_library(
        coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    )


def _from_library(rle: Mapping[str, Any]) -> Rle:
    height, width = rle["size"]
    return Rle(int(height), int(width), rle["counts"].decode("ascii"))


# Outlines


@dataclass(frozen=True)
class Traced:
    """The outline of a mask, and how many holes were filled for it."""

    outline: Outline
    n_holes: int = 0


def traced(mask: BoolArray, place: Point = (0.0, 0.0)) -> Traced:
    """The outer edges of a mask's parts, along the edges of its pixels; holes are filled.

    The area of the outline is the number of pixels, those of the holes included. Pixels that touch
    at a corner alone are two parts.

    Args:
        mask: (h, w).
        place: (x, y) of its first pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Traced(())
    top, left = int(rows[0]), int(columns[0])
    part = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    _, outside = cv2.connectedComponents((~part).astype(np.uint8), connectivity=8)
    holes = np.unique(outside[~part & (outside != outside[0, 0])])
    filled = part | np.isin(outside, holes) if len(holes) else part
    x, y = place[0] + left - 1, place[1] + top - 1
    rings = [tuple((column + x, row + y) for column, row in ring) for ring in _loops(filled)]
    return Traced(tuple(rings), len(holes))


def _loops(filled: BoolArray) -> list[list[tuple[int, int]]]:
    """The corners of closed ways round the parts of a mask with an empty margin, inside right."""
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # A pixel's sides that meet the outside: (row, column of the start), then the step (x, y).
    for shift, start, step in (
        ((1, 0), (0, 0), (1, 0)),
        ((0, -1), (0, 1), (0, 1)),
        ((-1, 0), (1, 1), (-1, 0)),
        ((0, 1), (1, 0), (0, -1)),
    ):
        is_edge = filled & ~np.roll(filled, shift, axis=(0, 1))
        for row, column in np.argwhere(is_edge).tolist():
            steps.setdefault((column + start[1], row + start[0]), []).append(step)
    loops = []
    while steps:
        first = place = next(iter(steps))
        loop: list[tuple[int, int]] = []
        before = (0, 0)
        while True:
            ways = steps[place]
            # At a corner where two parts touch: on round the same pixel, to the right.
            step = next((s for s in ways if before[0] * s[1] - before[1] * s[0] > 0), ways[0])
            ways.remove(step)
            if not ways:
                del steps[place]
            if step != before:
                loop.append(place)
            place, before = (place[0] + step[0], place[1] + step[1]), step
            if place == first:
                break
        loops.append(loop)
    return loops


def of_pixels(points: Sequence[tuple[int, int]]) -> Traced:
    """The outline of a region whose boundary *pixels* are given in order, as chain codes give them.

    The boundary belongs to the region. Spurs and crossings of the way are no matter.
    """
    way = np.array(points, dtype=np.int32)
    least = way.min(axis=0)
    width, height = (int(side) for side in way.max(axis=0) - least + 1)
    filled = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(filled, [(way - least)[:, None]], 1)
    return traced(filled.astype(bool), (float(least[0]), float(least[1])))


def clean(outline: Outline, height: int, width: int) -> Outline:
    """An outline that is legal in an image: cut at its edges, and free of crossings.

    Rings that cross themselves are replaced by the edges of the pixels inside them; rings of fewer
    than three points, or without a pixel, are left out.
    """
    rings: list[Ring] = []
    for ring in outline:
        inside = _within(ring, height, width)
        if len(set(inside)) < _FEWEST_POINTS:
            continue
        mask = rle_of((inside,), height, width)
        if crosses_itself(inside):
            rings += traced(mask.to_array()).outline
        elif mask.area:
            rings.append(inside)
    return tuple(rings)


def _within(ring: Ring, height: int, width: int) -> Ring:
    """The part of a ring within an image; several parts stay joined along the image's edge.

    Reference:
        Sutherland and Hodgman 1974.
    """
    x1, y1, x2, y2 = box_of((ring,))
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return ring
    for axis, edge, side in (
        (0, 0.0, 1),
        (0, float(width), -1),
        (1, 0.0, 1),
        (1, float(height), -1),
    ):
        kept: list[Point] = []
        for start, end in zip(ring[-1:] + ring[:-1], ring, strict=True):
            is_in = [side * (point[axis] - edge) >= 0 for point in (start, end)]
            if is_in[0] != is_in[1]:
                part = (edge - start[axis]) / (end[axis] - start[axis])
                along = start[1 - axis] + part * (end[1 - axis] - start[1 - axis])
                kept.append((edge, along) if axis == 0 else (along, edge))
            if is_in[1]:
                kept.append(end)
        ring = tuple(kept)
    return ring


def simplified(outline: Outline, tolerance_px: float) -> Outline:
    """An outline of fewer points, none of whose edges moves by more than so many pixels.

    Rings that would cross themselves, or become lines, stay as they are. Coordinates are rounded to
    hundredths.

    Reference:
        Douglas and Peucker 1973.
    """
    return tuple(_simplified(ring, tolerance_px) for ring in outline)


def _simplified(ring: Ring, tolerance_px: float) -> Ring:
    fewer = np.array(ring, dtype=np.float32)
    if tolerance_px > 0:
        fewer = cv2.approxPolyDP(fewer[:, None], tolerance_px, True)[:, 0]
    rounded = tuple((round(float(x), _DIGITS), round(float(y), _DIGITS)) for x, y in fewer)
    return ring if len(set(rounded)) < _FEWEST_POINTS or crosses_itself(rounded) else rounded


def moved(outline: Outline, move: Callable[[Point], Point]) -> Outline:
    """Each point where a map takes it."""
    return tuple(tuple(move(point) for point in ring) for ring in outline)


def box_of(outline: Outline) -> Box:
    """Round all points."""
    xs, ys = zip(*(point for ring in outline for point in ring), strict=True)
    return float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))


def fits(outline: Outline, box: Box) -> bool:
    """Whether an outline's box is the stated one, but for rounding."""
    differences = (abs(a - b) for a, b in zip(box_of(outline), box, strict=True))
    return max(differences) <= TOLERANCE_PX


def crosses_itself(ring: Ring) -> bool:
    """Whether two sides of a ring cross; to touch is no crossing."""
    starts = np.array(ring, dtype=np.float64)
    ends = np.roll(starts, -1, axis=0)
    n_points = len(starts)
    parts_ends = np.empty((n_points, n_points), dtype=bool)
    for first in range(0, n_points, 512):
        rows = slice(first, first + 512)
        along = (ends - starts)[rows, None]
        to_start = starts[None] - starts[rows, None]
        side = along[..., 0] * to_start[..., 1] - along[..., 1] * to_start[..., 0]
        side[np.abs(side) < _NEARLY] = 0
        parts_ends[rows] = side * np.roll(side, -1, axis=1) < 0
    return bool((parts_ends & parts_ends.T).any())


def problem_of(outline: Outline, height: int, width: int) -> str | None:
    """Why an outline cannot be used in an image of a size, None if it can."""
    for ring in outline:
        if len(set(ring)) < _FEWEST_POINTS:
            return f"has a ring of {len(set(ring))} points; three or more are legal"
        x1, y1, x2, y2 = box_of((ring,))
        slack = TOLERANCE_PX
        if x1 < -slack or y1 < -slack or x2 > width + slack or y2 > height + slack:
            return (
                f"reaches from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}) and leaves its image, which is "
                f"{width} wide and {height} high"
            )
        if crosses_itself(ring):
            return "crosses itself"
    return None


# COCO's segmentation


def as_segmentation(outline: Outline) -> list[list[float]]:
    """Polygons as in a COCO file: x, y, x, y ... of each ring."""
    return [[side for point in ring for side in point] for ring in outline]


def read_segmentation(value: Any, height: int | None, width: int | None) -> Traced:
    """What a COCO file says: polygons, or a mask as run lengths; nothing is an unknown outline.

    Args:
        value: Of the key ``segmentation``.
        height: Of the image; None if it is not known.
        width: Likewise.

    Raises:
        AnnotationError: It is neither, or a mask of another size; says why, without the place.
    """
    if not value or value == [[]]:
        return Traced(())
    if isinstance(value, Mapping):
        try:
            mask = Rle.from_json(value)
        except ValueError as error:
            raise AnnotationError(f"'segmentation' is no mask: {error}") from error
        if None not in (height, width) and (mask.height, mask.width) != (height, width):
            raise AnnotationError(
                f"'segmentation' is a mask of {mask.height} x {mask.width} pixels (height x "
                f"width), its image has {height} x {width}"
            )
        found = traced(mask.to_array())
        if not found.outline:
            raise AnnotationError("'segmentation' is a mask without a pixel")
        return found
    if not isinstance(value, list) or not all(isinstance(ring, list) for ring in value):
        raise AnnotationError(
            "'segmentation' must be polygons, [[x, y, x, y, ...], ...], or a mask with 'size' and "
            "'counts'"
        )
    return Traced(tuple(_ring(ring) for ring in value))


def _ring(numbers: list[Any]) -> Ring:
    is_number = all(map(fields.is_finite, numbers))
    if not is_number or len(numbers) % 2 or len(numbers) < 2 * _FEWEST_POINTS:
        raise AnnotationError(
            f"'segmentation' has a polygon of {len(numbers)} numbers; x, y of three or more points "
            "are legal, all finite"
        )
    sides = iter(map(float, numbers))
    return tuple(zip(sides, sides, strict=True))


def n_outlined(outlines: Iterable[Outline]) -> int:
    """How many are known."""
    return sum(bool(outline) for outline in outlines)
