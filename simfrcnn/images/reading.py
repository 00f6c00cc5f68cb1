"""What are the pixels of an image, whatever its file format, and what does the file say of itself?

Every reader gives (H, W) uint8, 0..255, white = dense. A file is decoded once, also where both its
record and its pixels are asked for.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.mammogram import STRICT, DicomOptions, Mammogram, read_mammogram
from simfrcnn.dicom.view import Flips
from simfrcnn.errors import DataError
from simfrcnn.fields import read_prepared
from simfrcnn.files import sha256_of
from simfrcnn.images.finding import is_dicom
from simfrcnn.images.png import PREPARED_KEYWORD, START_BYTES, text_of
from simfrcnn.images.raster import raster_greys
from simfrcnn.records import ImageRecord, Prepared, Supervision


class Greys(Protocol):
    """The pixels of one image before they are rounded to a depth."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""

    @property
    def flips(self) -> Flips:
        """What turns them into the standard hanging; not done yet."""

    def as_uint8(self) -> NDArray[np.uint8]:
        """(H, W) in 0..255, rounded."""

    def as_uint16(self) -> NDArray[np.uint16]:
        """(H, W) in 0..65535, rounded."""


def load_pixels(record: ImageRecord, options: DicomOptions = STRICT) -> NDArray[np.uint8]:
    """The pixels of one record, (H, W) uint8, checked against the size that the record states.

    Boxes are in pixels of the stated size; an image of another size would move every box unnoticed.

    Raises:
        DataError: The file cannot be read, or has another size than the record says.
    """
    return load_greys(record, options).as_uint8()


def load_greys(record: ImageRecord, options: DicomOptions = STRICT) -> Greys:
    """Like :func:`load_pixels`, before the values are rounded to 8 bits."""
    greys = read_greys(record.path, options)
    height, width = greys.shape
    if (height, width) != (record.height, record.width):
        raise DataError(
            f"{record.path}: the file has {height} x {width} pixels (height x "
            f"width), image {record.image_id} of the annotation file states {record.height} x "
            f"{record.width}: the boxes belong to another version of the image; prepare the data "
            "set again"
        )
    return greys


def read_image(path: Path, options: DicomOptions = STRICT) -> NDArray[np.uint8]:
    """Read a DICOM, PNG, PGM, JPEG or TIFF file as (H, W) uint8.

    8-bit files are taken as they are. Of 16-bit files, white is the maximum that the file states
    (the header of a PGM, Bits Per Sample and Max Sample Value of a TIFF, the significant bits of a
    PNG), else the largest value of the smallest of 8, 10, 12, 14 and 16 bits that hold all: 12-bit
    values are often stored in 16-bit files, and reading those on a 16-bit scale gives a nearly
    black image. Pictures that `prepare-data` made use all 16 bits, however dark they are.

    Raises:
        DataError: Missing, damaged, colour or multi-page file, or samples of not 8 or 16 bits.
    """
    return read_greys(path, options).as_uint8()


def read_greys(path: Path, options: DicomOptions = STRICT) -> Greys:
    """Like :func:`read_image`, before the values are rounded to 8 bits."""
    path = Path(path)
    if is_dicom(path):
        return read_mammogram(path, options).display
    return raster_greys(path, _bytes_of(path))


def prepared_of(path: Path) -> Prepared | None:
    """How a picture was made, if `prepare-data` made it: it must not be cropped once more.

    Raises:
        DataError: What it says about itself is damaged.
    """
    with open(path, "rb") as stream:
        return _prepared_in(path, stream.read(START_BYTES))


def record_of_file(path: Path, image_id: int, options: DicomOptions = STRICT) -> ImageRecord:
    """What a single file says about itself, as an unlabelled record.

    The pixels are decoded as well, so that a damaged file is found before a long run, not in it;
    :func:`record_and_greys` gives them too.

    Raises:
        DataError: The file cannot be read.
    """
    return record_and_greys(path, image_id, options)[0]


def record_and_greys(
    path: Path, image_id: int, options: DicomOptions = STRICT
) -> tuple[ImageRecord, Greys]:
    """The record of a single file and its pixels, from one decode.

    A DICOM file without Patient ID counts as a patient of its own by its study, one without a study
    by its content; a file of another format is patient, exam and image in one, named by its stem
    and content (`patient1/lcc.png` and `patient2/lcc.png` are not one patient).

    Raises:
        DataError: The file cannot be read.
    """
    path = Path(path).absolute()
    if is_dicom(path):
        mammogram = read_mammogram(path, options)
        return _record_of_mammogram(path, image_id, mammogram), mammogram.display
    content = _bytes_of(path)
    greys = raster_greys(path, content)
    own_id = f"{path.stem}-{_short(hashlib.sha256(content).hexdigest())}"
    prepared = _prepared_in(path, content[:START_BYTES])
    return _unlabelled(path, image_id, greys, own_id, own_id, prepared=prepared), greys


def _record_of_mammogram(path: Path, image_id: int, mammogram: Mammogram) -> ImageRecord:
    exam_id = mammogram.exam_id or f"file-{_short(sha256_of(path))}"
    facts = {
        "manufacturer": mammogram.manufacturer,
        "model": mammogram.model_name,
        "notes": "; ".join(mammogram.notes),
    }
    return _unlabelled(
        path,
        image_id,
        mammogram.display,
        mammogram.patient_id or exam_id,
        exam_id,
        laterality=mammogram.laterality,
        view_position=mammogram.view_position,
        pixel_spacing_mm=mammogram.pixel_spacing_mm,
        attributes={key: value for key, value in facts.items() if value},
    )


def _unlabelled(
    path: Path,
    image_id: int,
    greys: Greys,
    patient_id: str,
    exam_id: str,
    **facts: Any,
) -> ImageRecord:
    height, width = greys.shape
    return ImageRecord(
        image_id=image_id,
        file_name=path.name,
        path=path,
        height=height,
        width=width,
        patient_id=patient_id,
        exam_id=exam_id,
        supervision=Supervision.UNLABELLED,
        **facts,
    )


def _prepared_in(path: Path, start: bytes) -> Prepared | None:
    text = text_of(start, PREPARED_KEYWORD)
    if text is None:
        return None
    try:
        return read_prepared(str(path), json.loads(text), "prepared")
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: its text '{PREPARED_KEYWORD}' is damaged") from error


def _short(sha256: str) -> str:
    return sha256[:16]


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
