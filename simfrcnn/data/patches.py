"""Which squares of an image teach what a finding looks like, at the scale of a detector's input?

Squares lie in the *input frame* of a detector (its crop, size and aspect), on whole pixels. A patch
of a finding holds nearly all of its box; background meets no box and is mostly breast; a hard
normal is what a detector wrongly found on a normal image. A quarter turn is drawn with each patch,
since an axis swap is not a :class:`~simfrcnn.structures.Frame`; with the two flips of training that
makes the eight positions of a square, each once.

Everything is a pure function of (seed, image) and the pixels. Boxes and squares are XYXY, half
open, in input pixels; h x w is the input without its padding.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simfrcnn import outlines
from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.records import Box, ImageRecord, Outline, Point, Supervision

PatchKind = Literal["finding", "background", "hard"]
VISIBLE = 0.9
"""Which part of a finding's box a patch holds at least."""
TISSUE = 0.5
"""Which part of a background patch is breast at least."""
LARGEST_SHARE_BEYOND = 0.2
LEAST_SIDE = 1.0
"""Of a box in input pixels: smaller ones are not in the files of patches."""
_COVERED = 0.95
_TRIES = 200
_SAME_PLACE_IOU = 0.3


@dataclass(frozen=True)
class PatchSettings(Options):
    """How patches are cut."""

    side: int = described(
        64, "side of a patch in pixels of the detector's input", legal="[8, inf)", metavar="PX"
    )
    per_finding: int = described(10, "patches of each finding", legal="[1, inf)", metavar="N")
    seed: int = described(0, "another seed draws other places and turns", metavar="S")


@dataclass(frozen=True)
class PatchSources(Options):
    """What else patches are made from, and by how many processes."""

    detections: Path | None = described(
        None,
        "what a detector found in these images: up to half of the background are its highest wrong "
        "detections on normal ones",
        parse=Path,
        metavar="FILE",
    )
    workers: int | None = described(
        None, "processes (default: one per core, at most 8)", metavar="N", parse=int
    )


@dataclass(frozen=True)
class Patch:
    """One square: its left upper corner and side, what it shows, and its quarter turns (0 or 1).

    ``is_beyond`` is whether it is of a finding that is larger than the side.
    """

    x: int
    y: int
    side: int
    kind: PatchKind
    turns: int
    is_beyond: bool = False

    @property
    def square(self) -> Box:
        """As a box."""
        return (
            float(self.x),
            float(self.y),
            float(self.x + self.side),
            float(self.y + self.side),
        )

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Its pixels (side, side), turned."""
        part = pixels[self.y : self.y + self.side, self.x : self.x + self.side]
        return np.ascontiguousarray(np.rot90(part, self.turns))

    def moved(self, box: Box) -> Box | None:
        """A box in pixels of the patch, clipped to it; None where less than a pixel is left."""
        x1, x2 = (min(max(x - self.x, 0.0), float(self.side)) for x in box[::2])
        y1, y2 = (min(max(y - self.y, 0.0), float(self.side)) for y in box[1::2])
        if min(x2 - x1, y2 - y1) < LEAST_SIDE:
            return None
        for _ in range(self.turns):  # counter-clockwise, as numpy.rot90
            x1, y1, x2, y2 = y1, self.side - x2, y2, self.side - x1
        return x1, y1, x2, y2

    def moved_outline(self, outline: Outline) -> Outline:
        """An outline in pixels of the patch, cut at its edges."""

        def moved(point: Point) -> Point:
            x, y = point[0] - self.x, point[1] - self.y
            return (y, self.side - x) if self.turns else (x, y)

        return outlines.clean(outlines.moved(outline, moved), self.side, self.side)


def is_large_enough(box: Box) -> bool:
    """Whether of a box a pixel is left, in width and height, where a patch holds nine tenths of it:
    a patch of a smaller one would not have it in its file, and pass for one that shows nothing.
    """
    return VISIBLE * min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE


def without(patches: Sequence[Patch], boxes: Sequence[Box]) -> list[Patch]:
    """The patches that meet none of these boxes."""
    return [patch for patch in patches if not _meets(patch.square, boxes)]


def gives_patches(record: ImageRecord) -> bool:
    """Whether enough is known of an image: its boxes are complete, or it is normal."""
    return record.supervision in (Supervision.BOXES, Supervision.NORMAL)


def finding_patches(
    boxes: Sequence[Box], size: tuple[int, int], settings: PatchSettings, key: str
) -> list[Patch]:
    """The patches of an image's findings.

    The place is drawn so that at least :data:`VISIBLE` of the box lies inside. A box larger than
    the side gives patches in its centre, one for each turn.

    Args:
        boxes: Of the findings.
        size: (h, w).
        settings: Side, number, seed.
        key: Of the image, for the draw.
    """
    patches: list[Patch] = []
    for number, box in enumerate(boxes):
        draw = random.Random(f"{settings.seed}/patches/finding/{key}/{number}")
        if is_beyond(box, settings.side):
            x, y = _centred(box, size, settings.side)
            n_turned = range(min(2, settings.per_finding))
            patches += [Patch(x, y, settings.side, "finding", turn, True) for turn in n_turned]
            continue
        for _ in range(settings.per_finding):
            x, y = _place_with(box, size, settings.side, draw)
            patches.append(Patch(x, y, settings.side, "finding", draw.randrange(2)))
    return patches


def background_patches(
    n: int,
    boxes: Sequence[Box],
    is_breast: NDArray[np.bool_],
    settings: PatchSettings,
    key: str,
) -> list[Patch]:
    """Up to n squares that meet no box and are mostly breast; fewer where no place is found.

    Args:
        n: How many.
        boxes: Of everything that is marked, of whatever class.
        is_breast: (h, w).
        settings: Side and seed.
        key: Of the image, for the draw.
    """
    draw = random.Random(f"{settings.seed}/patches/background/{key}")
    height, width = is_breast.shape
    side = settings.side
    if height < side or width < side:
        return []
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = is_breast.cumsum(axis=0).cumsum(axis=1)
    patches: list[Patch] = []
    for _ in range(_TRIES * n):
        if len(patches) == n:
            break
        x, y = draw.randint(0, width - side), draw.randint(0, height - side)
        patch = Patch(x, y, side, "background", draw.randrange(2))
        tissue = sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]
        if tissue >= TISSUE * side * side and not _meets(patch.square, boxes):
            patches.append(patch)
    return patches


def hard_patches(
    found: Sequence[Box],
    boxes: Sequence[Box],
    size: tuple[int, int],
    settings: PatchSettings,
    key: str,
) -> list[Patch]:
    """Squares centred on what a detector wrongly found.

    Args:
        found: From :func:`worst_places`, in input pixels.
        boxes: Of everything that is marked: what meets one is no background.
        size: (h, w).
        settings: Side and seed.
        key: Of the image, for the draw of turns.
    """
    draw = random.Random(f"{settings.seed}/patches/hard/{key}")
    patches: list[Patch] = []
    for box in found:
        x, y = _centred(box, size, settings.side)
        patch = Patch(x, y, settings.side, "hard", draw.randrange(2))
        if not _meets(patch.square, boxes):
            patches.append(patch)
    return patches


def worst_places(found: Mapping[str, Sequence[tuple[float, Box]]], n: int) -> dict[str, list[Box]]:
    """The n detections of the highest score over all images, each place of an image once.

    Args:
        found: Of each image (score, box), in any order and any pixels.
        n: How many; fewer where there are fewer.
    """
    ranked = sorted((-score, key, box) for key, each in found.items() for score, box in each)
    chosen: dict[str, list[Box]] = {}
    n_left = n
    for _, key, box in ranked:
        if n_left == 0:
            break
        if all(_iou(box, other) <= _SAME_PLACE_IOU for other in chosen.get(key, [])):
            chosen.setdefault(key, []).append(box)
            n_left -= 1
    return chosen


def shares(n: int, keys: Sequence[str], seed: int) -> dict[str, int]:
    """How many of n patches each image gives: as equal as may be, the rest by lot."""
    if not keys:
        return {}
    even, left = divmod(n, len(keys))
    lucky = sorted(keys)
    random.Random(f"{seed}/patches/shares").shuffle(lucky)
    more = set(lucky[:left])
    return {key: even + (key in more) for key in keys}


def is_beyond(box: Box, side: int) -> bool:
    """Whether a box is longer than the side of a patch."""
    return max(box[2] - box[0], box[3] - box[1]) > side


def require_fitting_side(boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], side: int) -> None:
    """Refuse a side that does not suit a data set.

    Args:
        boxes: Of all findings, in input pixels.
        sizes: (h, w) of all inputs.
        side: Of the patches.

    Raises:
        ConfigError: The side is longer than an input, or too many boxes exceed it.
        DataError: There are no boxes.
    """
    if not boxes:
        raise DataError(
            "no image has a box that gives a patch; patches need images with supervision boxes"
        )
    least = min(min(size) for size in sizes)
    if side > least:
        raise ConfigError(
            f"--side is {side}, but an input of the detector is {least} pixels on its shorter side "
            f"without its padding; legal here is 8 to {least}"
        )
    n_beyond = sum(is_beyond(box, side) for box in boxes)
    if n_beyond > LARGEST_SHARE_BEYOND * len(boxes):
        longest = sorted(max(box[2] - box[0], box[3] - box[1]) for box in boxes)
        fitting = math.ceil(longest[math.ceil(_COVERED * len(longest)) - 1])
        raise ConfigError(
            f"--side is {side}, and {n_beyond} of {len(boxes)} boxes are longer in the detector's "
            f"input; at most {LARGEST_SHARE_BEYOND:.0%} may be. A side of {fitting} holds 95%"
        )


def _place_with(box: Box, size: tuple[int, int], side: int, draw: random.Random) -> tuple[int, int]:
    """A left upper corner with which a square holds nearly all of a box."""
    height, width = size
    slack_x, slack_y = ((1 - VISIBLE) * (box[i + 2] - box[i]) for i in (0, 1))
    low_x, high_x = _range(box[2] - side - slack_x, box[0] + slack_x, width - side)
    low_y, high_y = _range(box[3] - side - slack_y, box[1] + slack_y, height - side)
    for _ in range(_TRIES):
        x, y = draw.randint(low_x, high_x), draw.randint(low_y, high_y)
        if _covered(box, (x, y, x + side, y + side)) >= VISIBLE:
            return x, y
    return _centred(box, size, side)


def _range(low: float, high: float, last: int) -> tuple[int, int]:
    """Whole numbers from ``low`` to ``high`` in 0..last; the nearest one where there is none."""
    first, end = max(0, math.ceil(low)), min(last, math.floor(high))
    return (first, end) if first <= end else (min(first, last), min(first, last))


def _centred(box: Box, size: tuple[int, int], side: int) -> tuple[int, int]:
    height, width = size
    x = round((box[0] + box[2] - side) / 2)
    y = round((box[1] + box[3] - side) / 2)
    return min(max(x, 0), width - side), min(max(y, 0), height - side)


def _overlap(one: Box, other: Box) -> float:
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    return max(sides[0], 0.0) * max(sides[1], 0.0)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _covered(box: Box, square: Box) -> float:
    """The part of a box that lies in a square; 1 of a box without area."""
    return _overlap(box, square) / area if (area := _area(box)) > 0 else 1.0


def _iou(one: Box, other: Box) -> float:
    common = _overlap(one, other)
    return common / union if (union := _area(one) + _area(other) - common) > 0 else 0.0


def _meets(square: Box, boxes: Sequence[Box]) -> bool:
    return any(_overlap(square, box) > 0 for box in boxes)
