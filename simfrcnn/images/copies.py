"""Are two DICOM files with one SOP Instance UID the same picture, as they should be?

Files that are equal byte for byte are not decoded. Others are: a copy may have another header or
another lossless compression, and is a copy all the same.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.errors import DataError
from simfrcnn.images.reading import Greys, record_and_greys
from simfrcnn.records import ImageRecord

_EVERYTHING = DicomOptions(allow_for_processing=True, any_modality=True)


@dataclass(frozen=True)
class Decoded:
    """A file that has been read: its path, what it says, and its greys."""

    path: Path
    record: ImageRecord
    greys: Greys

    @classmethod
    def of(cls, path: Path, options: DicomOptions = _EVERYTHING) -> Decoded:
        """Read a file.

        Raises:
            DataError: It cannot be read.
        """
        return cls(path, *record_and_greys(path, 0, options))


def contradiction(one: Decoded, path: Path, options: DicomOptions) -> str | None:
    """What another file with the SOP Instance UID of ``one`` differs in, None for a true copy.

    Compared is what a detector sees: the grey values on 8 bits, side, view and orientation.

    Args:
        one: The file that is used.
        path: The other file; it is decoded where its bytes differ.
        options: Which DICOM files are accepted.

    Returns:
        Such as ``"other pixels, another side"``.

    Raises:
        DataError: The other file cannot be read.
    """
    if filecmp.cmp(one.path, path, shallow=False):
        return None
    return _difference(one, Decoded.of(path, options))


def contradiction_of_files(paths: tuple[Path, Path]) -> str | None:
    """Like :func:`contradiction` for two files; what cannot be decoded is no true copy either."""
    one, other = paths
    if filecmp.cmp(one, other, shallow=False):
        return None
    try:
        return _difference(Decoded.of(one), Decoded.of(other))
    except DataError as error:
        return f"they cannot be compared, because one cannot be read ({error})"


def _difference(one: Decoded, other: Decoded) -> str | None:
    return ", ".join(_differences(one, other)) or None


def _differences(one: Decoded, other: Decoded) -> Iterator[str]:
    if not np.array_equal(one.greys.as_uint8(), other.greys.as_uint8()):
        yield "other pixels"
    if one.record.laterality is not other.record.laterality:
        yield "another side"
    if one.record.view_position is not other.record.view_position:
        yield "another view"
    if one.greys.flips != other.greys.flips:
        yield "another orientation"
