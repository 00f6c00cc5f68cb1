"""Which breast and view is it, how does it lie in the picture, and how large are its pixels?

Every fact has one proper place and several where files hide it instead; they are asked in that
order, and a note says so when it was not a proper one. Texts are searched for codes only: nothing
else of them is kept, for they may name the patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from simfrcnn.dicom.header import Header, tag_name
from simfrcnn.records import Box, Laterality, Point, ViewPosition

Fact = TypeVar("Fact")
Grey = TypeVar("Grey", np.uint8, np.uint16)

_TEXTS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
"""Texts of one image or series; those of the study speak of four views."""

_LEFT_OR_RIGHT = {  # Anatomic Region Modifier, SNOMED RT and SNOMED CT
    "G-A101": Laterality.LEFT,
    "7771000": Laterality.LEFT,
    "G-A100": Laterality.RIGHT,
    "24028007": Laterality.RIGHT,
}
_VIEW_CODES = {  # View Code Sequence (0054,0220), SNOMED RT and SNOMED CT
    "R-10242": ViewPosition.CC,
    "399162004": ViewPosition.CC,
    "R-10226": ViewPosition.MLO,
    "399368009": ViewPosition.MLO,
}
_VIEW_IN_TEXT = re.compile(r"(?<![A-Z])[LR]?(CC|MLO)(?![A-Z])")
_SIDE_IN_TEXT = re.compile(r"(?<![A-Z])(?:([LR])(?=X?CC|ML|LM)|(L|R|LEFT|RIGHT)(?![A-Z]))")


@dataclass(frozen=True)
class Flips:
    """What turns the stored picture into the standard hanging; nothing in most files.

    ``is_stated`` is whether the file says how the picture lies; then its pixels are not asked.
    """

    horizontal: bool = False
    vertical: bool = False
    is_stated: bool = field(default=False, compare=False)

    def turned(self, pixels: NDArray[Grey]) -> NDArray[Grey]:
        """An image (H, W), mirrored so."""
        down, across = (-1 if mirrored else 1 for mirrored in (self.vertical, self.horizontal))
        return np.ascontiguousarray(pixels[::down, ::across])

    def moved(self, point: Point, shape: tuple[int, ...]) -> Point:
        """Where a point (x, y) of an image (H, W) comes to lie; 0 and W are the outer edges."""
        x, y = point
        return (shape[1] - x if self.horizontal else x), (shape[0] - y if self.vertical else y)

    def moved_box(self, box: Box, shape: tuple[int, ...]) -> Box:
        """Where a box of an image (H, W) comes to lie."""
        (x1, y1), (x2, y2) = self.moved(box[:2], shape), self.moved(box[2:], shape)
        return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


AS_STORED = Flips()


def laterality_of(header: Header, notes: list[str]) -> Laterality | None:
    """Left or right, None where no element says it or it shows both.

    Image Laterality, Frame Laterality (of an enhanced object), Laterality (of the series), the
    modifier of the anatomic region, then codes such as L, RCC or LEFT in texts. A note says so
    where a later one of the elements contradicts the first.
    """
    stated = [*_stated_sides(header)]
    if not stated:
        return _from_texts(header, "laterality", ("ViewPosition", *_TEXTS), _side_in, notes)
    (keyword, side), *others = stated
    if side is not None:
        notes += (
            f"{tag_name(keyword)} says {side.value} and was followed; {tag_name(other)} says "
            f"{its_side.value}"
            for other, its_side in others
            if its_side not in (None, side)
        )
    return side


def view_position_of(header: Header, notes: list[str]) -> ViewPosition | None:
    """CC, MLO or another view; None where no element says it.

    View Position, View Code Sequence, then codes such as CC or LMLO in texts. A note says so where
    the first two contradict each other.
    """
    position = header.code("ViewPosition")
    codes = header.items("ViewCodeSequence")
    by_position = None if position is None else _view_in(position)
    by_code = _VIEW_CODES.get(_code_value(codes[0])) if codes else None
    if position is not None and by_code is not None and by_position != by_code:
        followed = by_position or by_code
        notes.append(
            f"{tag_name('ViewPosition')} and {tag_name('ViewCodeSequence')} differ: "
            f"{followed.value} was followed"
        )
    if by_position or by_code:
        return by_position or by_code
    if position is not None or codes:
        return ViewPosition.OTHER
    # CBIS-DDSM writes the view into Patient Orientation.
    return _from_texts(header, "view position", ("PatientOrientation", *_TEXTS), _view_in, notes)


def pixel_spacing_of(header: Header, notes: list[str]) -> tuple[float, float] | None:
    """(row, column) spacing in mm: Imager Pixel Spacing, at the detector, else Pixel Spacing."""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        spacing = header.numbers(keyword)
        if not spacing:
            continue
        if len(spacing) != 2 or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
            notes.append(f"{tag_name(keyword)} is not two positive numbers: ignored")
            continue
        if keyword == "PixelSpacing":
            notes.append("pixel spacing is Pixel Spacing (0028,0030), which may be calibrated")
        return spacing[0], spacing[1]
    return None


def has_burned_in_text(header: Header) -> bool:
    """Whether the file says that text in its pixels may tell who the patient is."""
    return header.code("BurnedInAnnotation") == "YES"


def orientation_of(header: Header) -> tuple[str, str] | None:
    """Patient Orientation (0020,0020): where rows run to, and columns; None if it is not legal."""
    stated = (header.code("PatientOrientation") or "").split("\\")
    if len(stated) != 2 or not all(re.fullmatch(r"[APLRHF]{1,3}", one) for one in stated):
        return None
    return stated[0], stated[1]


def flips_of(header: Header, laterality: Laterality | None, notes: list[str]) -> Flips:
    """What the standard hanging asks for, by Patient Orientation (0020,0020) alone.

    The rule: the chest wall of a left breast is at the left of the picture, of a right breast at
    the right; the feet (MLO and lateral views) or the medial side (CC) are at the bottom. In terms
    of the element, rows run to A in a left breast and to P in a right one; columns run to F, or, if
    they have no such component, to the patient's R in a left breast and L in a right one.

    Where the element is absent, is no legal value, speaks of a rotated picture, or the laterality
    is unknown, the picture stays as it is stored; a note says so unless the element is absent. The
    pixels alone never decide: a breast on the unexpected side may be a wrong laterality as well,
    and is for a person to look at.

    Reference:
        DICOM PS3.3 C.7.6.1.1.1 (Patient Orientation); PS3.17 annex on mammography hanging.
    """
    if header.code("PatientOrientation") is None:
        return Flips()
    orientation = orientation_of(header)
    if orientation is None:
        notes.append("Patient Orientation (0020,0020): no legal value, left as stored")
        return Flips()
    rows, columns = orientation
    if laterality is None or rows[0] not in "AP" or columns[0] in "AP":
        why = "no laterality goes with it" if laterality is None else "the picture is rotated"
        notes.append(f"Patient Orientation (0020,0020): {why}, left as stored")
        return Flips()
    is_left = laterality is Laterality.LEFT
    horizontal = rows[0] != ("A" if is_left else "P")
    feet_or_head = next((letter for letter in columns if letter in "FH"), None)
    if feet_or_head is not None:
        vertical = feet_or_head == "H"
    else:
        vertical = columns[0] != ("R" if is_left else "L")
    if horizontal or vertical:
        how = " and ".join(["left-right"] * horizontal + ["top-bottom"] * vertical)
        notes.append(f"Patient Orientation (0020,0020): hangs mirrored {how}")
    return Flips(horizontal, vertical, is_stated=True)


def _stated_sides(header: Header) -> Iterator[tuple[str, Laterality | None]]:
    """The elements that say a side, the proper one first; None is for both sides."""
    for keyword in ("ImageLaterality", "FrameLaterality", "Laterality"):
        value = header.code(keyword)
        if value in {"L", "R", "B"}:
            yield keyword, None if value == "B" else Laterality(value)
    for region in header.items("AnatomicRegionSequence")[:1]:
        for modifier in region.get("AnatomicRegionModifierSequence") or ():
            if side := _LEFT_OR_RIGHT.get(_code_value(modifier)):
                yield "AnatomicRegionModifierSequence", side


def _from_texts(
    header: Header,
    what: str,
    keywords: Sequence[str],
    search: Callable[[str], Fact | None],
    notes: list[str],
) -> Fact | None:
    for keyword in keywords:
        text = header.code(keyword)
        found = search(text) if text is not None else None
        if found is not None:
            notes.append(f"{what} was read from {tag_name(keyword)}")
            return found
    return None


def _view_in(text: str) -> ViewPosition | None:
    views = set(_VIEW_IN_TEXT.findall(text))
    return ViewPosition(views.pop()) if len(views) == 1 else None


def _side_in(text: str) -> Laterality | None:
    sides = {(joined or alone)[0] for joined, alone in _SIDE_IN_TEXT.findall(text)}
    return Laterality(sides.pop()) if len(sides) == 1 else None


def _code_value(item: Dataset) -> str:
    return str(item.get("CodeValue", "")).strip()
