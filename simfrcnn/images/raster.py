"""What are the pixels of a PNG, PGM, JPEG or TIFF file, and which value of them is white?

Decoders fill what is missing of a truncated file without a word, so the file is walked through
first: the chunks of a PNG, the markers of a JPEG. What follows the end of the picture is ignored.

Reference:
    W3C (2025), "Portable Network Graphics (PNG) Specification", 5 (chunks), 11.3.2.7 (sBIT); ITU-T
    T.81, B.1 (markers of JPEG); TIFF 6.0 (1992), section 8; pgm(5) of Netpbm.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.view import AS_STORED, Flips
from simfrcnn.errors import DataError
from simfrcnn.images.png import PREPARED_KEYWORD, text_of

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_PGM = re.compile(rb"P([25])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""Of a segment; in the coded data of a scan, FF is followed by 0 or by a restart marker."""
_START_OF_IMAGE, _END_OF_IMAGE = 0xD8, 0xD9
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE = 258, 262, 281
_DEPTHS = (8, 10, 12, 14, 16)
_WHITE_16 = 65535


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
        if self.values.dtype == np.uint8 and self.white == 255:
            return self.values
        scaled: NDArray[np.uint8] = cv2.convertScaleAbs(self.values, alpha=255 / self.white)
        return scaled

    def as_uint16(self) -> NDArray[np.uint16]:
        """(H, W) in 0..65535, rounded."""
        scaled = np.rint(self.values * np.float32(_WHITE_16 / self.white))
        return scaled.clip(0, _WHITE_16).astype(np.uint16)


def raster_greys(path: Path, content: bytes) -> RasterGreys:
    """Decode the bytes of a raster file.

    Args:
        path: For errors.
        content: The whole file.

    Raises:
        DataError: Damaged, truncated, colour or multi-page file, or samples of not 8 or 16 bits.
    """
    pixels = _one_channel(_decoded(path, content), path)
    return RasterGreys(pixels, _white(pixels, content, path))


def _decoded(path: Path, content: bytes) -> NDArray[Any]:
    damaged = DataError(
        f"{path}: not a readable PNG, PGM, JPEG or TIFF image: damaged, truncated or another format"
    )
    end = _end_of_picture(content)
    if end is None:
        raise damaged
    try:
        whole = np.frombuffer(content, dtype=np.uint8, count=end)
        done, pages = cv2.imdecodemulti(whole, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged from error
    if not done or not pages:
        raise damaged
    if len(pages) > 1:
        raise DataError(f"{path}: holds {len(pages)} pages; an image file must hold one view")
    if pages[0].dtype == np.uint16 and _tiff_numbers(content).get(_PHOTOMETRIC) == 0:
        raise DataError(
            f"{path}: a 16-bit TIFF in which 0 is white (WhiteIsZero), which the decoder shows as "
            "a negative: save it with 0 as black"
        )
    return np.asarray(pages[0])


def _end_of_picture(content: bytes) -> int | None:
    """How many bytes the picture has; None where its end is not there."""
    if content.startswith(_PNG):
        ends = (end for kind, _, end in _chunks_of(content) if kind == b"IEND")
        return next(ends, None)
    if content.startswith(_JPEG):
        return _end_of_jpeg(content)
    return len(content) or None


def _chunks_of(content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(type, data, where it ends) of each whole chunk of a PNG file up to IEND; none of others.

    The data of pixels (IDAT) is given as empty, so that it is not copied.
    """
    if not content.startswith(_PNG):
        return
    place, kind = len(_PNG), b""
    while kind != b"IEND" and place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            return
        yield kind, content[place + 8 : end - 4] if kind != b"IDAT" else b"", end
        place = end


def _end_of_jpeg(content: bytes) -> int | None:
    """Where the end-of-image marker ends; segments are skipped by their length, not searched."""
    place = len(_JPEG)
    while (marker := _MARKER.search(content, place)) is not None:
        place, kind = marker.end(), marker[1][0]
        if kind == _END_OF_IMAGE:
            return place
        if kind == _START_OF_IMAGE or place + 2 > len(content):
            return None  # the next picture begins where this one should have ended
        place += int.from_bytes(content[place : place + 2], "big")
    return None


def _tiff_numbers(content: bytes) -> dict[int, int]:
    """The single numbers in the first directory of a TIFF by their tag; empty for other files."""
    order = _TIFF.get(content[:4])
    if order is None:
        return {}
    found: dict[int, int] = {}
    try:
        (directory,) = struct.unpack_from(f"{order}I", content, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", content, directory)
        for entry in range(n_entries):
            offset = directory + 2 + 12 * entry
            tag, kind, n_values = struct.unpack_from(f"{order}HHI", content, offset)
            layout = {1: "B", 3: "H", 4: "I"}.get(kind)
            if layout is not None and n_values == 1:
                (found[tag],) = struct.unpack_from(f"{order}{layout}", content, offset + 8)
    except struct.error:  # the decoder has judged the file; a directory cut short says less
        return found
    return found


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
    """The value that is white: the maximum that the file states, else a guess from its values.

    A maximum of all 16 bits is what most writers put there whatever they store, so it states
    nothing. Without another, the smallest usual depth that holds the largest value is taken.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: has {pixels.dtype} samples; 8 and 16 bit unsigned are read")
    if (stated := _pgm_white(pixels, content, path)) is not None:
        return stated
    if pixels.dtype == np.uint8:
        return 255
    if text_of(content, PREPARED_KEYWORD) is not None:
        return _WHITE_16
    if (stated := _png_white(pixels, content)) is not None:
        return stated
    tiff = _tiff_numbers(content)
    n_bits = tiff.get(_BITS_PER_SAMPLE, 16)
    if 8 < n_bits < 16:  # the decoder has moved them to the upper end of the 16
        return int((2**n_bits - 1) << (16 - n_bits))
    return _white_of(max(int(pixels.max()), tiff.get(_MAX_SAMPLE_VALUE, 0) % _WHITE_16))


def _white_of(largest: int) -> int:
    return int(2 ** next(bits for bits in _DEPTHS if largest < 2**bits) - 1)


def _pgm_white(pixels: NDArray[Any], content: bytes, path: Path) -> int | None:
    """The maximum in the header of a PGM; None for other files and where it states nothing."""
    header = _PGM.match(content)
    if header is None or int(header[4]) == _WHITE_16:
        return None
    is_text, stated = header[1] == b"2", int(header[4])
    if is_text and stated < 256:  # the decoder has scaled it
        return 255
    if pixels.max() > stated:
        raise DataError(
            f"{path}: holds the value {pixels.max()}, its header states {stated} as the largest: "
            "write the file again"
        )
    return stated


def _png_white(pixels: NDArray[Any], content: bytes) -> int | None:
    """The scale of a PNG that states its significant bits (sBIT); None without it.

    Samples are stored scaled to all 16 bits, so 65535 is white. Some programs state the bits and
    store the values as they are; those are known by low bits that no scaled value has.
    """
    stated = next((data for kind, data, _ in _chunks_of(content) if kind == b"sBIT"), b"")
    n_bits = stated[0] if stated else 16
    if not 8 <= n_bits < 16:
        return None
    if int(pixels.max()) >= 2**n_bits:
        return _WHITE_16
    original = pixels >> (16 - n_bits)
    padded = original << (16 - n_bits)
    replicated = padded | (original >> max(0, 2 * n_bits - 16))
    is_scaled = (pixels == padded) | (pixels == replicated)
    return _WHITE_16 if is_scaled.all() else 2**n_bits - 1


def greys_of_array(values: NDArray[Any], white: float | None) -> RasterGreys:
    """The greys of an array, on 8 bits.

    Raises:
        DataError: It is no grey picture, or has values outside 0 to white.
    """
    if values.ndim != 2 or not values.size:
        raise DataError(f"an array of shape {values.shape}; (H, W), one grey value each, is legal")
    is_float = np.issubdtype(values.dtype, np.floating)
    if not is_float and values.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"an array of {values.dtype}; uint8, uint16 and floating point from 0 to 1 are legal"
        )
    lowest, highest = float(values.min()), float(values.max())
    if white is None:
        white = 1.0 if is_float else 255.0
        if values.dtype == np.uint16:
            white = next(2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if highest < 2**bits)
    if not (lowest >= 0 and highest <= white and 0 < white < np.inf):  # false for NaN as well
        raise DataError(
            f"an array of values from {lowest:g} to {highest:g}; from 0, black, to {white:g}, "
            "white, is legal: say which value is white (white=...)"
        )
    if values.dtype == np.uint8 and white == 255:
        return RasterGreys(values, 255)
    return RasterGreys(np.rint(values * (255.0 / white)).astype(np.uint8), 255)
