"""Where are the images, and what are their pixels, whatever the file format?

Every reader gives (H, W) uint8, 0..255, white = dense.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.mammogram import STRICT, DicomOptions, read_mammogram
from simfrcnn.dicom.view import AS_STORED, Flips
from simfrcnn.errors import DataError
from simfrcnn.fields import read_prepared
from simfrcnn.files import sha256_of
from simfrcnn.images.png import text_of
from simfrcnn.records import ImageRecord, Prepared, Supervision

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
RASTER_SUFFIXES = frozenset({".png", ".pgm", ".jpg", ".jpeg", ".tif", ".tiff"})
PREPARED_KEYWORD = "simfrcnn prepared"
"""Of the text in pictures that `prepare-data` made, see :mod:`simfrcnn.data.prepared`."""
START_BYTES = 4096
"""Enough to hold the header and the text of such a picture."""
_N_SHOWN = 20


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


@dataclass(frozen=True)
class RasterGreys:
    """Values (H, W), uint8 or uint16, and the one that is white; 0 is black."""

    values: NDArray[Any]
    white: int
    flips: Flips = AS_STORED

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.values.shape[0], self.values.shape[1]

    def as_uint8(self) -> NDArray[np.uint8]:
        """(H, W) in 0..255, rounded."""
        if self.values.dtype == np.uint8:
            return self.values
        return _scaled(self.values, 255 / self.white)

    def as_uint16(self) -> NDArray[np.uint16]:
        """(H, W) in 0..65535, rounded."""
        scaled = np.rint(self.values * np.float32(65535 / self.white))
        return scaled.clip(0, 65535).astype(np.uint16)


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

    8-bit files are taken as they are. 16-bit files are scaled by the smallest of 8, 10, 12, 14 and
    16 bits that holds their largest value: 12-bit values are often stored in 16-bit files, and
    reading those on a 16-bit scale gives a nearly black image. Pictures that `prepare-data` made
    use all 16 bits, however dark they are.

    Raises:
        DataError: Missing, damaged, colour or multi-page file, or samples of not 8 or 16 bits.
    """
    return read_greys(path, options).as_uint8()


def read_greys(path: Path, options: DicomOptions = STRICT) -> Greys:
    """Like :func:`read_image`, before the values are rounded to 8 bits."""
    path = Path(path)
    if is_dicom(path):
        return read_mammogram(path, options).display
    content = _bytes_of(path)
    pixels = _one_channel(_decode_raster(path, content), path)
    return RasterGreys(pixels, _white(pixels, content, path))


def prepared_of(path: Path) -> Prepared | None:
    """How a picture was made, if `prepare-data` made it: it must not be cropped once more.

    Raises:
        DataError: What it says about itself is damaged.
    """
    with open(path, "rb") as stream:
        text = text_of(stream.read(START_BYTES), PREPARED_KEYWORD)
    if text is None:
        return None
    try:
        return read_prepared(str(path), json.loads(text), "prepared")
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: its text '{PREPARED_KEYWORD}' is damaged") from error


def is_dicom(path: Path) -> bool:
    """Whether a file is read as DICOM: by its suffix, else by the 'DICM' after the preamble."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if suffix in RASTER_SUFFIXES:
        return False
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_images(folder: Path) -> list[Path]:
    """All images below a folder, sorted by path.

    Taken are files with a known suffix, and files with any other name that begin like DICOM
    (archives often write `IM0001` or bare identifiers). Hidden files and DICOMDIR are left out.
    Linked folders are followed, each once.

    Raises:
        DataError: The folder is missing, is not a folder, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {problem}: give the folder that holds the mammograms")
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in files if _is_image(Path(parent, name))]
    if not found:
        suffixes = ", ".join(sorted(DICOM_SUFFIXES | RASTER_SUFFIXES))
        raise DataError(f"{folder} holds no image: no DICOM file and none named {suffixes}")
    return sorted(found)


def record_of_file(path: Path, image_id: int, options: DicomOptions = STRICT) -> ImageRecord:
    """What a single file says about itself, as an unlabelled record.

    The pixels are decoded as well, so that a damaged file is found before a long run, not in it. A
    DICOM file without Patient ID counts as a patient of its own by its study, one without a study
    by its content; a file of another format is patient, exam and image in one, named by its stem
    and content (`patient1/lcc.png` and `patient2/lcc.png` are not one patient).

    Raises:
        DataError: The file cannot be read.
    """
    path = Path(path).absolute()
    if not is_dicom(path):
        height, width = read_image(path, options).shape
        own_id = f"{path.stem}-{_content_hash(path)}"
        prepared = prepared_of(path)
        return _unlabelled(path, image_id, height, width, own_id, own_id, prepared=prepared)
    mammogram = read_mammogram(path, options)
    height, width = mammogram.display.shape
    exam_id = mammogram.exam_id or f"file-{_content_hash(path)}"
    facts = {
        "manufacturer": mammogram.manufacturer,
        "model": mammogram.model_name,
        "notes": "; ".join(mammogram.notes),
    }
    return _unlabelled(
        path,
        image_id,
        height,
        width,
        mammogram.patient_id or exam_id,
        exam_id,
        laterality=mammogram.laterality,
        view_position=mammogram.view_position,
        pixel_spacing_mm=mammogram.pixel_spacing_mm,
        attributes={key: value for key, value in facts.items() if value},
    )


def records_of_files(
    paths: Sequence[Path], *, skip_unreadable: bool = False, options: DicomOptions = STRICT
) -> tuple[list[ImageRecord], list[tuple[Path, str]]]:
    """Records of many files, numbered from 1 in the given order, and what was skipped and why.

    All files are looked at before any is refused, so that one run names all that are wrong.

    Args:
        paths: Files, for instance from :func:`find_images`.
        skip_unreadable: Leave out what cannot be read instead of refusing the whole list.
        options: What is accepted beyond For Presentation mammograms.

    Returns:
        The records, and (path, message) of each file skipped; the message begins with the path.

    Raises:
        DataError: Files cannot be read (without ``skip_unreadable``), or none can.
    """
    records: list[ImageRecord] = []
    skipped: list[tuple[Path, str]] = []
    for path in paths:
        try:
            records.append(record_of_file(path, len(records) + 1, options))
        except DataError as error:
            skipped.append((Path(path), str(error)))
    if skipped and not (skip_unreadable and records):
        shown = "".join(f"\n  {message}" for _, message in skipped[:_N_SHOWN])
        more = f"\n  and {len(skipped) - _N_SHOWN} more" if len(skipped) > _N_SHOWN else ""
        remedy = "; leave them out, or ask to skip them (--skip-unreadable)" if records else ""
        raise DataError(
            f"{len(skipped)} of {len(paths)} files cannot be read{remedy}:{shown}{more}"
        )
    return records, skipped


def _is_image(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    return path.suffix.lower() in RASTER_SUFFIXES or is_dicom(path)


def _unlabelled(
    path: Path,
    image_id: int,
    height: int,
    width: int,
    patient_id: str,
    exam_id: str,
    **facts: Any,
) -> ImageRecord:
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


def _content_hash(path: Path) -> str:
    return sha256_of(path)[:16]


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error


def _decode_raster(path: Path, content: bytes) -> NDArray[Any]:
    damaged = DataError(
        f"{path}: not a readable PNG, PGM, JPEG or TIFF image: damaged, truncated or another format"
    )
    if not _is_whole(content):
        raise damaged
    try:
        done, pages = cv2.imdecodemulti(
            np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED
        )
    except cv2.error as error:
        raise damaged from error
    if not done or not pages:
        raise damaged
    if len(pages) > 1:
        raise DataError(f"{path}: holds {len(pages)} pages; an image file must hold one view")
    if pages[0].dtype == np.uint16 and _tiff_shows_zero_white(content):
        raise DataError(
            f"{path}: a 16-bit TIFF in which 0 is white (WhiteIsZero), which the decoder shows as "
            "a negative: save it with 0 as black"
        )
    return np.asarray(pages[0])


def _tiff_shows_zero_white(content: bytes) -> bool:
    """Whether PhotometricInterpretation (tag 262) of the first page of a TIFF is 0, WhiteIsZero."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return False
    (directory,) = struct.unpack_from(f"{order}I", content, 4)
    (n_entries,) = struct.unpack_from(f"{order}H", content, directory)
    for entry in range(n_entries):
        offset = directory + 2 + 12 * entry
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", content, offset)
        if tag == 262:
            return bool(value == 0)
    return False


def _is_whole(content: bytes) -> bool:
    """Whether the end of a PNG or JPEG is there: decoders fill what is missing without a word."""
    if content.startswith(b"\x89PNG"):
        return b"IEND" in content[-64:]
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in content[-1024:]
    return len(content) > 0


def _one_channel(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    if pixels.ndim == 2:
        return pixels
    grey = pixels[..., 0]
    has_alpha = pixels.shape[-1] in {2, 4}
    colours = pixels[..., :-1] if has_alpha else pixels
    if has_alpha and (pixels[..., -1] != np.iinfo(pixels.dtype).max).any():
        raise DataError(f"{path}: has transparent pixels; save it as an opaque grey image")
    if (colours != grey[..., None]).any():
        raise DataError(f"{path}: is a colour image; a mammogram is grey (equal channels)")
    return np.ascontiguousarray(grey)


def _white(pixels: NDArray[Any], content: bytes, path: Path) -> int:
    if pixels.dtype == np.uint8:
        return 255
    if pixels.dtype != np.uint16:
        raise DataError(f"{path}: has {pixels.dtype} samples; 8 and 16 bit unsigned are read")
    if text_of(content, PREPARED_KEYWORD) is not None:
        return 65535
    n_bits = next(bits for bits in (8, 10, 12, 14, 16) if int(pixels.max()) < 2**bits)
    return int(2**n_bits - 1)


def _scaled(pixels: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    """pixels x factor, rounded and saturated to 0..255."""
    scaled: NDArray[np.uint8] = cv2.convertScaleAbs(pixels, alpha=factor)
    return scaled
