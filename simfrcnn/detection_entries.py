"""What does one entry of a list of detections say, and what is written of one image?

Shapes: D detections of one image; boxes (D, 4) XYXY float64, half open, origin top left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
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
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        is_fine = np.isfinite(self.boxes).all(axis=1) & (sides >= 0).all(axis=1)
        is_fine &= (self.scores >= 0) & (self.scores <= 1)
        for index in np.flatnonzero(~is_fine):
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


def strictly(covered: Collection[int]) -> ImageOf:
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


def by_image(
    entries: list[Any],
    covered: set[int],
    names: Mapping[int, str],
    path: Path,
    image_of: ImageOf,
    *,
    has_masks: bool = False,
) -> dict[int, ImageDetections]:
    boxes: dict[int, list[list[float]]] = {image_id: [] for image_id in sorted(covered)}
    scores: dict[int, list[float]] = {image_id: [] for image_id in covered}
    categories: dict[int, list[str]] = {image_id: [] for image_id in covered}
    looks: dict[int, list[list[float]]] = {image_id: [] for image_id in covered}
    masks: dict[int, list[Rle | None]] = {image_id: [] for image_id in covered}
    squares: dict[int, list[list[float]]] = {image_id: [] for image_id in covered}
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
        boxes[image_id].append(box)
        scores[image_id].append(score)
        categories[image_id].append(names[category_id])
        looks[image_id].append([_look(entry, key, where) for key in _LOOKS])
        masks[image_id].append(_mask(entry, where))
        squares[image_id].append(_square(entry, where))
    has_masks |= any(mask is not None for of_image in masks.values() for mask in of_image)
    return {
        image_id: ImageDetections(
            image_id=image_id,
            boxes=np.asarray(boxes[image_id], dtype=np.float64).reshape(-1, 4),
            scores=np.asarray(scores[image_id], dtype=np.float64),
            categories=tuple(categories[image_id]),
            looks=_known(looks[image_id], 2),
            squares=_known(squares[image_id], 4),
            masks=tuple(masks[image_id]) if has_masks else None,
        )
        for image_id in boxes
    }


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


def _known(rows: list[list[float]], n_columns: int) -> NDArray[np.float64] | None:
    values = np.asarray(rows, dtype=np.float64).reshape(-1, n_columns)
    return None if np.isnan(values).all() else values


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
