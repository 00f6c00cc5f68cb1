"""Which file holds a digitised film, and how large is it?

For the readers of data sets in which one view can lie in several files, of several formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.sources.facts import facts_of
from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.errors import DataError
from simfrcnn.files import sha256_of
from simfrcnn.images.finding import DICOM_SUFFIXES, RASTER_SUFFIXES, is_dicom

ANY_IMAGE = DicomOptions(allow_for_processing=True, any_modality=True)
_SAME_SHAPE = 0.02
"""The ratio of height to width of a scaled copy differs by rounding, and by a few cut-off lines."""


@dataclass(frozen=True)
class Film:
    """A full mammogram and its size in pixels."""

    path: Path
    height: int
    width: int


def is_image(path: Path) -> bool:
    """Whether a file is one of those that are read, by its suffix or, without one, as DICOM."""
    if path.suffix.lower() in DICOM_SUFFIXES | RASTER_SUFFIXES:
        return True
    return not path.suffix and path.name != "DICOMDIR" and is_dicom(path)


def dicom_first(paths: Sequence[Path]) -> tuple[Path, ...]:
    """DICOM files before converted copies, each by path."""
    return tuple(sorted(paths, key=lambda path: (path.suffix.lower() in RASTER_SUFFIXES, path)))


def find_film(paths: Sequence[Path]) -> Film | str:
    """The one film among the files of a view, or why there is none; equal copies are one.

    Args:
        paths: As :func:`dicom_first` orders them: converted copies count only without DICOM.
    """
    if not paths:
        return "missing"
    of_its_format = [path for path in paths if is_dicom(path) == is_dicom(paths[0])]
    if len(of_its_format) > 1 and len({sha256_of(path) for path in of_its_format}) > 1:
        return "several files that differ"
    try:
        facts = facts_of(of_its_format[0])
    except DataError:
        return "unreadable"
    return Film(of_its_format[0], facts.height, facts.width)


def has_shape_of(shape: tuple[int, ...], height: int, width: int) -> bool:
    """Whether pixels (H, W) can be a scaled copy of a film, by the ratio of their sides."""
    return abs((shape[0] * width) / (shape[1] * height) - 1) <= _SAME_SHAPE
