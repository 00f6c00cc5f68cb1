"""What does one entry of a list of detections say, and what is written of one image?

Shapes: D detections of one image; boxes (D, 4) XYXY float64, half open, origin top left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.errors import ArtifactError
from simfrcnn.fields import is_whole, shown
from simfrcnn.outlines import Rle

_ENTRY_KEYS = ("image_id", "category_id", "bbox", "score")
_LOOKS = ("first_score", "second_score")
SQUARE = "second_look_bbox"
"""Of an entry: the square that the second look saw, XYWH; it may reach beyond the image."""
ImageOf = Callable[[Mapping[str, Any], str], int]


@dataclass(frozen=True)
class ImageDetections:
    """What was found in one image, in no particular order.

    ``boxes`` (D, 4) in original pixels, ``scores`` (D,) in [0, 1], ``categories`` D class names.
    ``looks`` (D, 2) are the two scores that made the one, the detector's and the second look's, NaN
    where they are not known; None of a model without a second look. ``masks`` (D,) are those of a
    model with a mask head, None for detections below the score from which it makes them.
    ``squares`` (D, 4) XYXY are what the second look saw, in original pixels and perhaps beyond the
    image, NaN where it did not look.
    """

    image_id: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    categories: tuple[str, ...]
    looks: NDArray[np.float64] | None = None
    masks: tuple[Rle | None, ...] | None = None
    squares: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that would spoil a figure silently.

        Raises:
            ArtifactError: A score that is NaN or outside [0, 1], a box that is not finite or has a
                negative side, or arrays of different lengths.
        """
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or len(self.categories) != n:
            raise ArtifactError(
                f"image {self.image_id}: boxes {self.boxes.shape}, scores {self.scores.shape} and "
                f"{len(self.categories)} categories do not belong together; (D, 4), (D,) and D are "
                "legal"
            )
        if _are_boxes(self.boxes) and _are_probabilities(self.scores):
            return
        for index in range(n):
            _check_numbers(
                self.boxes[index].tolist(),
                float(self.scores[index]),
                f"image {self.image_id}, detection {index}",
            )


def entries_of(image: ImageDetections, ids: Mapping[str, int], path: Path) -> list[dict[str, Any]]:
    unknown = sorted(set(image.categories) - set(ids))
    if unknown:
        raise ArtifactError(
            f"image {image.image_id} has a detection of class {unknown[0]!r}, which the "
            f"categories for {path} lack; legal: {sorted(ids)}"
        )
    entries = []
    for box, score, category in zip(image.boxes, image.scores, image.categories, strict=True):
        x1, y1, x2, y2 = (float(value) for value in box)
        entries.append(
            {
                "image_id": image.image_id,
                "category_id": ids[category],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(score),
            }
        )
    for entry, looks in zip(entries, [] if image.looks is None else image.looks, strict=False):
        known = zip(_LOOKS, looks.tolist(), strict=True)
        entry.update({key: value for key, value in known if not math.isnan(value)})
    for entry, square in zip(entries, [] if image.squares is None else image.squares, strict=False):
        if not np.isnan(square).any():
            x1, y1, x2, y2 = square.tolist()
            entry[SQUARE] = [x1, y1, x2 - x1, y2 - y1]
    for entry, mask in zip(entries, image.masks or (), strict=False):
        if mask is not None:
            entry["segmentation"] = mask.to_json()
    return entries


@dataclass(frozen=True)
class _Columns:
    """The N entries of a list: whose they are, and what they say.

    ``images`` and ``categories`` (N,) are ids; ``looks`` (N, 2) and ``squares`` (N, 4) NaN where an
    entry has none, or None where none has any.
    """

    images: NDArray[np.int64]
    categories: list[int]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    looks: NDArray[np.float64] | None
    squares: NDArray[np.float64] | None
    masks: list[Rle | None] | None


def by_image(
    entries: list[Any],
    covered: Collection[int],
    names: Mapping[int, str],
    path: Path,
    image_of: ImageOf | None,
    *,
    has_masks: bool = False,
) -> dict[int, ImageDetections]:
    """The entries of a list by image; every covered image is there.

    Args:
        entries: Of the file.
        covered: Ids of the images that were run.
        names: Category id -> class name.
        path: The file, for messages.
        image_of: Which image an entry means; None: the one of its ``image_id``.
        has_masks: Whether masks were looked for.

    Raises:
        ArtifactError: Names the first entry that is wrong, and what is legal.
    """
    find = image_of or _strictly(covered)
    columns = _taken_together(entries, covered, names, find, is_strict=image_of is None)
    if columns is None:
        columns = _one_by_one(entries, names, path, find)
    order = np.argsort(columns.images, kind="stable")
    own = columns.images[order]
    boxes, scores = columns.boxes[order], columns.scores[order]
    rows = order.tolist()
    categories = [names[columns.categories[row]] for row in rows]
    looks = None if columns.looks is None else columns.looks[order]
    squares = None if columns.squares is None else columns.squares[order]
    masks = [None] * len(rows) if columns.masks is None else [columns.masks[row] for row in rows]
    has_masks |= columns.masks is not None
    ids = sorted(covered)
    starts, ends = (np.searchsorted(own, ids, side).tolist() for side in ("left", "right"))
    return {
        image_id: ImageDetections(
            image_id=image_id,
            boxes=boxes[start:end],
            scores=scores[start:end],
            categories=tuple(categories[start:end]),
            looks=_known(looks, start, end),
            squares=_known(squares, start, end),
            masks=tuple(masks[start:end]) if has_masks else None,
        )
        for image_id, start, end in zip(ids, starts, ends, strict=True)
    }


def _known(values: NDArray[np.float64] | None, start: int, end: int) -> NDArray[np.float64] | None:
    """The rows of an image; None where it has none."""
    if values is None or np.isnan(values[start:end]).all():
        return None
    return values[start:end]


def _strictly(covered: Collection[int]) -> ImageOf:
    """What an entry means where ids alone count."""

    def image_of(entry: Mapping[str, Any], where: str) -> int:
        image_id = _whole(entry, "image_id", where)
        if image_id not in covered:
            raise ArtifactError(
                f"{where}: unknown image id {image_id}; the detections must be of the images in "
                "the sidecar or the annotation file"
            )
        return image_id

    return image_of


def _taken_together(
    entries: list[Any],
    covered: Collection[int],
    names: Mapping[int, str],
    image_of: ImageOf,
    *,
    is_strict: bool,
) -> _Columns | None:
    """All entries at once, which is many times as fast; None where any of them needs a look."""
    try:
        images = [entry["image_id"] for entry in entries] if is_strict else None
        if images is None:
            images = [image_of(entry, "") for entry in entries]
        categories = [entry["category_id"] for entry in entries]
        boxes = _numbers(itertools.chain.from_iterable(_quadruples(entries, "bbox")))
        scores = _numbers(entry["score"] for entry in entries)
        looks = [_optional(entries, key, 1) for key in _LOOKS]
        squares = _optional(entries, SQUARE, 4)
        has_masks = any("segmentation" in entry for entry in entries)
        masks = [_mask(entry, "") for entry in entries] if has_masks else None
    except (ArtifactError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if not set(map(type, images)) | set(map(type, categories)) <= {int}:
        return None
    if not (set(images) <= set(covered) and set(categories) <= set(names)):
        return None
    corners = _corners(boxes.reshape(-1, 4))
    known = [each for each in looks if each is not None]
    is_legal = [
        _are_boxes(corners),
        _are_probabilities(scores),
        *(_are_probabilities(each[~np.isnan(each)]) for each in known),
        squares is None or _are_boxes(_corners(squares[~np.isnan(squares).any(axis=1)])),
    ]
    if not all(is_legal):
        return None
    both = [np.full((len(entries), 1), math.nan) if each is None else each for each in looks]
    return _Columns(
        images=np.array(images, dtype=np.int64),
        categories=categories,
        boxes=corners,
        scores=scores,
        looks=np.concatenate(both, axis=1) if known else None,
        squares=None if squares is None else _corners(squares),
        masks=masks if masks and any(mask is not None for mask in masks) else None,
    )


def _one_by_one(
    entries: list[Any], names: Mapping[int, str], path: Path, image_of: ImageOf
) -> _Columns:
    """The entries in their order: the first wrong one is named, unusual but legal ones are read."""
    images, categories, boxes, scores, looks, squares = [], [], [], [], [], []
    masks: list[Rle | None] = []
    for index, entry in enumerate(entries):
        where = f"{path}, entry {index}"
        image_id, category_id, (x, y, width, height), score = _fields(entry, where, image_of)
        if category_id not in names:
            raise ArtifactError(
                f"{where}: unknown category id {category_id}; legal: "
                + ", ".join(f"{number} ({name})" for number, name in sorted(names.items()))
            )
        box = [x, y, x + width, y + height]
        _check_numbers(box, score, where)
        images.append(image_id)
        categories.append(category_id)
        boxes.append(box)
        scores.append(score)
        looks.append([_look(entry, key, where) for key in _LOOKS])
        masks.append(_mask(entry, where))
        squares.append(_square(entry, where))
    return _Columns(
        images=np.array(images, dtype=np.int64),
        categories=categories,
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
        looks=np.array(looks, dtype=np.float64).reshape(-1, 2),
        squares=np.array(squares, dtype=np.float64).reshape(-1, 4),
        masks=masks if any(mask is not None for mask in masks) else None,
    )


def _quadruples(entries: Iterable[Mapping[str, Any]], key: str) -> list[list[Any]]:
    """The lists of four under a key.

    Raises:
        TypeError: One is no list of four.
    """
    lists = [entry[key] for entry in entries]
    if not (set(map(type, lists)) <= {list} and set(map(len, lists)) <= {4}):
        raise TypeError(key)
    return lists


def _numbers(values: Iterable[Any]) -> NDArray[np.float64]:
    """JSON numbers as an array.

    Raises:
        TypeError: One is none.
        OverflowError: One is too large for a float.
    """
    listed = list(values)
    if not set(map(type, listed)) <= {int, float}:
        raise TypeError("no number")
    return np.array(listed, dtype=np.float64)


def _optional(
    entries: Sequence[Mapping[str, Any]], key: str, n_columns: int
) -> NDArray[np.float64] | None:
    """What some entries have, (N, n_columns), NaN where one has none; None where none has it.

    Raises:
        TypeError: One has something else there.
    """
    rows = [row for row, entry in enumerate(entries) if key in entry]
    if not rows:
        return None
    having = [entries[row] for row in rows]
    if n_columns == 1:
        own = _numbers(entry[key] for entry in having)
    else:
        own = _numbers(itertools.chain.from_iterable(_quadruples(having, key)))
    if not np.isfinite(own).all():
        raise TypeError(key)
    values = np.full((len(entries), n_columns), math.nan)
    values[rows] = own.reshape(-1, n_columns)
    return values


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """XYWH -> XYXY."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _are_boxes(corners: NDArray[np.float64]) -> bool:
    """Whether all of them are finite and none has a negative side."""
    return bool(np.isfinite(corners).all() and (corners[:, 2:] >= corners[:, :2]).all())


def _are_probabilities(scores: NDArray[np.float64]) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())  # false for NaN as well


def _look(entry: Mapping[str, Any], key: str, where: str) -> float:
    """One of the two scores of an entry; NaN where it has none, as lists without a second look."""
    value = entry.get(key, math.nan)
    if key in entry and not (_is_number(value) and 0 <= value <= 1):
        raise ArtifactError(f"{where}: {key} is {value!r}; a number in [0, 1] is legal, or none")
    return float(value)


def _mask(entry: Mapping[str, Any], where: str) -> Rle | None:
    """The mask of an entry; polygons and boxes of another tool's list are none."""
    value = entry.get("segmentation")
    if not isinstance(value, Mapping):
        return None
    try:
        return Rle.from_json(value)
    except ValueError as error:
        raise ArtifactError(f"{where}: segmentation is no mask: {error}") from None


def _square(entry: Mapping[str, Any], where: str) -> list[float]:
    """XYXY; NaN where the second look did not look."""
    if SQUARE not in entry:
        return [math.nan] * 4
    x, y, width, height = _sides(entry, SQUARE, where)
    square = [x, y, x + width, y + height]
    if not all(map(math.isfinite, square)) or min(width, height) < 0:
        raise ArtifactError(
            f"{where}: {SQUARE} is {entry[SQUARE]!r}; finite numbers, and sides of 0 or more, are "
            "legal"
        )
    return square


def _fields(entry: Any, where: str, image_of: ImageOf) -> tuple[int, int, list[float], float]:
    has_name = isinstance(entry, dict) and entry.get("file_name") is not None
    needed = set(_ENTRY_KEYS) - ({"image_id"} if has_name else set())
    if not isinstance(entry, dict) or not needed <= set(entry):
        raise ArtifactError(f"{where}: an object with the keys {', '.join(_ENTRY_KEYS)} is legal")
    image_id, category_id = image_of(entry, where), _whole(entry, "category_id", where)
    bbox, score = _sides(entry, "bbox", where), entry["score"]
    if not _is_number(score):
        raise ArtifactError(f"{where}: score is {score!r}; a number in [0, 1] is legal")
    return image_id, category_id, bbox, float(score)


def _sides(entry: Mapping[str, Any], key: str, where: str) -> list[float]:
    bbox = entry[key]
    is_box = isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(side) for side in bbox)
    if not is_box:
        raise ArtifactError(f"{where}: {key} is {bbox!r}; [x, y, width, height] is legal")
    return [float(side) for side in bbox]


def _whole(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if not is_whole(value):
        raise ArtifactError(f"{where}: {key} is {shown(value)}; an integer is legal")
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_numbers(box: list[float], score: float, where: str) -> None:
    """``where`` begins the message: it names the file and entry, or the image and detection."""
    if not 0.0 <= score <= 1.0:  # false for NaN as well
        raise ArtifactError(
            f"{where}: score {score} is not in [0, 1]; scores are probabilities, not logits or "
            "percent"
        )
    if not all(math.isfinite(side) for side in box):
        raise ArtifactError(f"{where}: the box {box} is not finite")
    if box[2] < box[0] or box[3] < box[1]:
        raise ArtifactError(
            f"{where}: the box has a negative size ({box[2] - box[0]} x {box[3] - box[1]} pixels)"
        )
