"""Does each row of the table make sense by itself, and do the rows of an image agree?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from simfrcnn import outlines
from simfrcnn.data.sources.folder.columns import (
    CATEGORIES,
    CORNERS,
    IDENTIFYING,
    LABELS,
    LEGAL,
    NAMES,
    OF_IMAGE,
    VISIBLE,
)
from simfrcnn.data.sources.split_words import LEGAL as SPLITS
from simfrcnn.data.sources.split_words import part_of
from simfrcnn.data.sources.table import Row
from simfrcnn.data.spelling import problem_of_name
from simfrcnn.errors import AnnotationError
from simfrcnn.images.names import normal_place
from simfrcnn.records import Box, Outline

_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
_POINT = r"[-+]?\d+(?:,\d+)?\s+[-+]?\d+(?:,\d+)?"
_POINTS = re.compile(rf"\s*{_POINT}(?:,\s+{_POINT})*,?\s*")
"""Such as ``1,5 2, 3 2, 2,5 4``, where a comma can be read in one way alone."""


@dataclass(frozen=True)
class Label:
    """One row that makes sense by itself; ``file`` is the image's path below the root."""

    row: Row
    file: str
    label: str
    box: Box | None
    visible: Mapping[str, bool]
    """By category, whether a finding of it is visible in the image, where column `labels` says."""
    outline: Outline = ()
    """In pixels of the image, where column `outline` says it."""

    @property
    def has_finding(self) -> bool:
        """Whether it speaks of something malignant or benign."""
        return self.label in CATEGORIES.values()


def label_of(row: Row, file: str) -> Label:
    """What a row says of a file.

    Raises:
        AnnotationError: A word, number or box is not legal.
    """
    label = row.one_of("label", LABELS)
    _require_names(row)
    for column, legal in LEGAL.items():
        if row.get(column):
            row.one_of(column, legal)
    split = row.get("split")
    if split and part_of(split) is None:
        raise row.error(
            "split",
            f"legal are {SPLITS}, and names such as test_site2; `values: split:` of a mapping file "
            "(--mapping) says what other words mean",
        )
    outline = _outline(row, label)
    box = _box(row, label) or (outlines.box_of(outline) if outline else None)
    if outline and box is not None and not outlines.fits(outline, box):
        raise row.error("outline", f"its box is {outlines.box_of(outline)}, not that of x1 to y2")
    return Label(row, file, label, box, _visible(row, label), outline)


def _require_names(row: Row) -> None:
    """Refuse what several patients, exams or lesions may be called; the text is not shown."""
    for column in NAMES:
        if problem := problem_of_name(row.get(column)):
            raise AnnotationError(f"{row.where}: column '{column}' {problem}")


def _outline(row: Row, label: str) -> Outline:
    """What column `outline` says, such as ``10 20, 30 20, 25 40``; rings are parted by `;`."""
    text = row.get("outline")
    if not text:
        return ()
    if label not in CATEGORIES.values():
        raise row.error("label", f"only {' and '.join(CATEGORIES.values())} findings are outlined")
    if row.decimal == "," and _DECIMAL_COMMA.search(text):
        if not all(map(_POINTS.fullmatch, text.split(";"))):
            raise row.error(
                "outline",
                "decimals stand behind a comma here (`decimal: ','`), so points must be parted by "
                "a comma and a blank, and x and y by a blank, as in `1,5 2, 3 2, 2,5 4`",
            )
        text = _DECIMAL_COMMA.sub(".", text)
    try:
        numbers = [
            [float(side) for side in ring.replace(",", " ").split()] for ring in text.split(";")
        ]
        return outlines.read_segmentation(numbers, None, None).outline
    except (ValueError, AnnotationError):
        raise row.error(
            "outline",
            "legal are x and y of three or more points, such as `10 20, 30 20, 25 40`; further "
            "rings behind a `;`",
        ) from None


def _visible(row: Row, label: str) -> dict[str, bool]:
    """What column `labels` says, such as ``malignant=1;benign=0``."""
    visible: dict[str, bool] = {}
    for entry in filter(None, map(str.strip, row.get("labels").split(";"))):
        name, _, word = (part.strip().casefold() for part in entry.partition("="))
        if name not in CATEGORIES.values() or word not in VISIBLE or name in visible:
            raise row.error(
                "labels",
                "legal is malignant=1;benign=0, or one of the two: 1 if such a finding is visible "
                "in this image, 0 if none is, and nothing where that is not known",
            )
        visible[name] = VISIBLE[word]
    if label == "normal" and visible.get("malignant"):
        raise row.error("labels", "an image that is normal shows nothing malignant")
    return visible


def place_of(row: Row) -> str:
    """The image's path below the root, in one spelling.

    Raises:
        AnnotationError: It is no path below the root.
    """
    place = normal_place(row.text("file"))
    if place is None:
        raise row.error("file", "it must be a path below the root, without '..'")
    return str(place)


def _box(row: Row, label: str) -> Box | None:
    given = [name for name in CORNERS if row.get(name)]
    if not given:
        return None
    if len(given) < len(CORNERS):
        missing = next(name for name in CORNERS if name not in given)
        raise row.error(
            missing, "a box needs x1, y1, x2 and y2; an image without one, none of them"
        )
    if label not in CATEGORIES.values():
        raise row.error("label", f"only {' and '.join(CATEGORIES.values())} findings have a box")
    x1, y1, x2, y2 = (row.number(name) for name in CORNERS)
    if x2 <= x1:
        raise row.error("x2", f"it must be above x1, which is {x1:g}")
    if y2 <= y1:
        raise row.error("y2", f"it must be above y1, which is {y1:g}")
    return x1, y1, x2, y2


def require_agreement(labels: Sequence[Label]) -> None:
    """Refuse rows of one image that contradict or repeat each other."""
    first_with: dict[str, Row] = {}
    seen: dict[tuple[str, Box | None], Row] = {}
    for one in labels:
        for column in OF_IMAGE:
            if not (text := one.row.get(column)):
                continue
            first = first_with.setdefault(column, one.row)
            if first.get(column) != text:
                if column in IDENTIFYING:
                    raise AnnotationError(
                        f"{one.row.where}: column '{column}' contradicts line {first.line}, of the "
                        "same image: they must agree"
                    )
                raise one.row.error(
                    column, f"line {first.line}, of the same image, says {first.get(column)!r}"
                )
        if not one.has_finding and len(labels) > 1:
            raise one.row.error("label", f"an image that is {one.label} has one row, not more")
        again = seen.setdefault((one.label, one.box), one.row)
        if again is not one.row:
            raise one.row.error("file", f"line {again.line} says the same; keep one")


def names_of_nobody(images: Iterable[Sequence[Label]]) -> list[str]:
    """What is wrong with patients, exams and lesions of several images, if it is nobody's name."""
    errors: list[str] = []
    groups = list(images)
    for column in NAMES:
        named: dict[str, list[Row]] = {}
        for labels in groups:
            for name, row in {one.row.get(column): one.row for one in reversed(labels)}.items():
                named.setdefault(name, []).append(row)
        for name, rows in named.items():
            if problem := problem_of_name(name, len(rows)):
                errors.append(f"{rows[0].where}: column '{column}' {problem}")
    return errors


def require_split(images: Iterable[Sequence[Label]]) -> None:
    """Refuse a split that only some images have."""
    with_split = [any(one.row.get("split") for one in labels) for labels in images]
    if any(with_split) and not all(with_split):
        without = next(g for g, has_one in zip(images, with_split, strict=True) if not has_one)
        row = without[0].row
        raise row.error("split", "some images have one: give it for all images, or for none")
