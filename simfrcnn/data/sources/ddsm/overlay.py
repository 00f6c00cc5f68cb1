"""What did the radiologist mark on one film of DDSM?

An `.OVERLAY` file has one block per abnormality: what it is, how it was judged, and its outline as
the first pixel and a chain of steps to the next, each one of eight directions:

    7 0 1
    6   2      0 is up, then clockwise
    5 4 3

Shapes: N the points of an outline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simfrcnn.data.sources.malignancy import PATHOLOGIES
from simfrcnn.errors import AnnotationError
from simfrcnn.records import Box

STEPS = np.array([(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)])
"""(8, 2) the x and y of each direction's step; y counts downwards."""
_BLOCK = re.compile(r"^\s*ABNORMALITY\s+(\d+)\s*$", re.MULTILINE)
_TOTAL = re.compile(r"^\s*TOTAL_ABNORMALITIES\s+(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Abnormality:
    """One block of an `.OVERLAY` file.

    Attributes:
        number: As the file counts, from 1.
        lesion_types: Its descriptions, such as ``MASS SHAPE OVAL MARGINS SPICULATED``; some have
            one as a mass and another as a calcification.
        assessment: BI-RADS category, 0 where it is incomplete.
        pathology: One of :data:`~simfrcnn.data.sources.malignancy.PATHOLOGIES`.
        subtlety: 1 (subtle) to 5 (obvious), as text; None where it is not given.
        outline: The points (x, y) of its boundary, in pixels of the film.
    """

    number: int
    lesion_types: tuple[str, ...]
    assessment: int
    pathology: str
    subtlety: str | None
    outline: tuple[tuple[int, int], ...]

    @property
    def box(self) -> Box:
        """Round the outline's pixels, half open; can leave the film."""
        points = np.array(self.outline)
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0) + 1
        return float(x1), float(y1), float(x2), float(y2)


def read_overlay(path: Path) -> tuple[Abnormality, ...]:
    """The abnormalities of an `.OVERLAY` file, in its order.

    Outlines called `CORE`, which lie inside the boundary, are not read; neither is TOTAL_OUTLINES,
    which is wrong in some of the published files.

    Raises:
        AnnotationError: The file cannot be opened, a block lacks an entry, or an outline is no
            chain code; names the file, the abnormality and what is legal.
    """
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be opened ({error.strerror})") from error
    total = _TOTAL.search(text)
    if total is None:
        raise AnnotationError(f"{path}: no TOTAL_ABNORMALITIES: not an OVERLAY file of DDSM")
    _, *parts = _BLOCK.split(text)
    blocks = list(zip(parts[::2], parts[1::2], strict=True))
    if len(blocks) != int(total[1]) or not blocks:
        raise AnnotationError(
            f"{path}: TOTAL_ABNORMALITIES is {total[1]}, but {len(blocks)} follow: the file is cut "
            "off or damaged; fetch it again"
        )
    return tuple(_abnormality(f"{path}: ABNORMALITY {n}", int(n), block) for n, block in blocks)


def _abnormality(where: str, number: int, block: str) -> Abnormality:
    head, *boundaries = re.split(r"^\s*BOUNDARY\s*$", block, flags=re.MULTILINE)
    if len(boundaries) != 1:
        raise AnnotationError(f"{where}: {len(boundaries)} entries BOUNDARY; it must have one")
    entries: dict[str, list[str]] = {}
    for line in head.splitlines():
        key, _, value = line.strip().partition(" ")
        entries.setdefault(key, []).append(value.strip())
    pathology = _entry(where, entries, "PATHOLOGY", "|".join(PATHOLOGIES))
    return Abnormality(
        number=number,
        lesion_types=tuple(entries.get("LESION_TYPE", ())),
        assessment=int(_entry(where, entries, "ASSESSMENT", "[0-6]")),
        pathology=pathology,
        subtlety=next(iter(entries.get("SUBTLETY", ())), None),
        outline=tuple(map(tuple, _outline(where, boundaries[0]).tolist())),
    )


def _entry(where: str, entries: dict[str, list[str]], key: str, legal: str) -> str:
    found = entries.get(key, [])
    if len(found) != 1 or not re.fullmatch(legal, found[0]):
        shown = ", ".join(map(repr, found)) or "missing"
        raise AnnotationError(f"{where}: {key} is {shown}; legal is {legal.replace('|', ', ')}")
    return found[0]


def _outline(where: str, text: str) -> NDArray[np.int64]:
    """(N, 2) the points of a chain `x y d d d ... #`."""
    chain, end, _ = text.partition("#")
    numbers = chain.split()
    if not end:
        raise AnnotationError(f"{where}: the BOUNDARY has no '#' at its end: the file is cut off")
    if len(numbers) < 3 or not all(number.isdecimal() for number in numbers):
        raise AnnotationError(
            f"{where}: the BOUNDARY must be 'x y d d d ... #', whole numbers from 0"
        )
    start, directions = np.array(numbers[:2], dtype=np.int64), np.array(numbers[2:], dtype=np.int64)
    if directions.max() >= len(STEPS):
        raise AnnotationError(
            f"{where}: the BOUNDARY has the direction {directions.max()}; legal are 0 to 7"
        )
    walked = np.cumsum(STEPS[directions], axis=0)
    points: NDArray[np.int64] = np.concatenate([start[None], start + walked])
    return points
