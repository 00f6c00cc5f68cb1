"""What grey does a display show for each stored value?

The standard fixes the path of a value: bits, modality transform (rescale or table), VOI transform
(table or window), polarity. A value has at most 16 bits, so the whole path is computed once per
possible *code* (the 8 or 16 bits as they lie in the file) in double precision, and looked up per
pixel at full resolution: exact, and as fast as a copy.

Shapes: H x W the pixels; C = 256 or 65,536 codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from simfrcnn.dicom.header import Header
from simfrcnn.dicom.pixels import photometric_of
from simfrcnn.dicom.transforms import Table, UnusableError, voi_greys
from simfrcnn.dicom.view import AS_STORED, Flips
from simfrcnn.errors import DicomError

FOR_PROCESSING_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1.2.1",  # Digital Mammography X-Ray
    "1.2.840.10008.5.1.4.1.1.13.1.5",  # Breast Projection X-Ray
}

_ROWS_PER_STEP = 64
_OVERLAY_BIT_POSITION = 0x0102


@dataclass(frozen=True)
class Display:
    """Codes (H, W) uint8 or uint16 and what each is shown as: ``greys`` (C,) float64 in 0..1.

    Pixels are given as they lie in the file; ``flips`` turns them into the standard hanging.
    ``before_voi`` (C,) are the values that a window is laid over, white = dense: those that occur
    fill 0..1, others may lie outside, and padding is NaN.
    """

    codes: NDArray[Any]
    greys: NDArray[np.float64]
    flips: Flips = AS_STORED
    before_voi: NDArray[np.float64] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.codes.shape[0], self.codes.shape[1]

    def as_float32(self) -> NDArray[np.float32]:
        """(H, W) in 0..255, not rounded."""
        return np.asarray((255 * self.greys).astype(np.float32)[self.codes])

    def as_uint8(self) -> NDArray[np.uint8]:
        """(H, W) in 0..255, rounded."""
        return _look_up(np.rint(255 * self.greys).astype(np.uint8), self.codes)

    def as_uint16(self) -> NDArray[np.uint16]:
        """(H, W) in 0..65535, rounded."""
        return _look_up(np.rint(65535 * self.greys).astype(np.uint16), self.codes)

    def as_source(self) -> NDArray[Any]:
        """(H, W) before the VOI transform, filling uint8 or uint16; padding is 0.

        Raises:
            ValueError: ``before_voi`` is not there.
        """
        if self.before_voi is None:
            raise ValueError("this display does not know its values before the VOI transform")
        dtype = np.uint8 if self.codes.itemsize == 1 else np.uint16
        values = np.nan_to_num(self.before_voi, nan=0.0).clip(0, 1) * np.iinfo(dtype).max
        return _look_up(np.rint(values).astype(dtype), self.codes)


def make_display(header: Header, stored: NDArray[Any], notes: list[str]) -> Display:
    """Follow the path of every stored value to the display.

    Polarity is one decision: inverted once, after the VOI transform, when Photometric
    Interpretation is MONOCHROME1. Presentation LUT Shape only restates it; if the two disagree,
    Photometric Interpretation is followed and a note says so. Of a raw image, which is not meant
    for a display, Pixel Intensity Relationship Sign decides where it is given: 1 says that larger
    values are more radiation, which is air. A VOI LUT goes before a window; of several, the first
    that can be applied is taken, see :func:`simfrcnn.dicom.transforms.voi_greys`. With none, the
    values from the smallest to the largest that occur fill the scale: Bits Stored is often larger
    than what the detector delivers, and a nearly black image would go unnoticed. Pixel Padding
    becomes black. A decoder gives values, and those beyond what Bits Stored can hold are set to the
    nearest that it can; in a file that is not compressed, bits above Bits Stored are no part of the
    value, and are ignored.

    Args:
        header: Of the file.
        stored: (H, W) as :func:`simfrcnn.dicom.pixels.stored_values` gives them.
        notes: Gets what was decided where the file leaves a choice.

    Raises:
        DicomError: An element of the path contradicts itself or shows nothing.

    Reference:
        DICOM PS3.5 8.1.1 (bits), PS3.3 C.11.1 (modality), C.11.2 (VOI), C.7.6.3.1.2 (polarity),
            C.8.11.3.1.2 (of raw values).
    """
    codes = stored.view(f"u{stored.dtype.itemsize}")
    occurs = _occurring(header, stored)
    values = _values_of_codes(header, stored.dtype, occurs, notes)
    padding = _padding(header, values)
    seen = occurs & ~padding
    if not seen.any():
        raise header.error("PixelPaddingValue", "covers every pixel: the image is empty")
    modality = _modality(header, values)
    greys = voi_greys(header, modality, seen, notes)
    if greys is None:
        greys = _fill_scale(header, modality, seen, notes)
    low, high = modality[seen].min(), modality[seen].max()
    before_voi = (modality - low) / max(high - low, 1e-12)
    if is_inverted(header, notes):
        greys, before_voi = 1 - greys, 1 - before_voi
    before_voi = np.where(padding, np.nan, before_voi)
    return Display(codes, np.where(padding, 0, greys), before_voi=before_voi)


def is_raw(header: Header) -> bool:
    """Whether the image is FOR PROCESSING."""
    return (
        header.code("PresentationIntentType") == "FOR PROCESSING"
        or header.text("SOPClassUID") in FOR_PROCESSING_CLASSES
    )


def _look_up(table: NDArray[Any], codes: NDArray[Any]) -> NDArray[Any]:
    """``table[codes]``, several times faster than numpy's indexing."""
    if codes.dtype == np.uint8 or _HAS_WIDE_TABLES:
        return np.asarray(cv2.LUT(codes, table))
    found = np.empty(codes.shape, dtype=table.dtype)
    for row in range(0, len(codes), _ROWS_PER_STEP):
        part = slice(row, row + _ROWS_PER_STEP)
        np.take(table, codes[part], out=found[part], mode="clip")
    return found


def _opencv_has_wide_tables() -> bool:
    """Whether ``cv2.LUT`` takes 16-bit codes: OpenCV 5 does."""
    try:
        cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros(65536, np.uint8))
    except cv2.error:
        return False
    return True


_HAS_WIDE_TABLES = _opencv_has_wide_tables()


def _occurring(header: Header, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the C codes occur; only the extremes of them where the others decide nothing.

    Rescale and windows are monotone, so what the smallest and the largest value become says it all.
    Counting every pixel costs more than all the rest.
    """
    codes = stored.view(f"u{stored.dtype.itemsize}")
    n_codes = 2 ** (8 * stored.itemsize)
    low, high = stored.min(), stored.max()
    n_bits = header.whole_number("BitsStored", default=8 * stored.itemsize)
    half = 2 ** (n_bits - 1)
    smallest, largest = (-half, half - 1) if stored.dtype.kind == "i" else (0, 2 * half - 1)
    is_inside = smallest <= low <= high <= largest
    if _has_tables(header) or header.numbers("PixelPaddingValue") or not is_inside:
        counts = cv2.calcHist([codes], [0], None, [n_codes], [0, n_codes])
        return np.asarray(counts.ravel() > 0)
    occurs = np.zeros(n_codes, dtype=bool)
    occurs[[int(low) % n_codes, int(high) % n_codes]] = True
    return occurs


def _has_tables(header: Header) -> bool:
    try:
        return bool(header.items("ModalityLUTSequence") or header.items("VOILUTSequence"))
    except DicomError:  # whether it matters is found out where it is applied
        return True


def _values_of_codes(
    header: Header, stored_type: np.dtype[Any], occurs: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.int64]:
    """The value that each code (C,) means: Bits Stored bits up to High Bit, signed or not."""
    n_codes = len(occurs)
    allocated = n_codes.bit_length() - 1
    n_bits = header.whole_number("BitsStored", default=allocated)
    highest = header.whole_number("HighBit", default=n_bits - 1)
    syntax = header.dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:  # a decoder gives values, not words with the bits of the file
        highest = n_bits - 1
    if not n_bits - 1 <= highest < allocated:
        raise header.error(
            "HighBit",
            f"is {highest}; with {n_bits} of {allocated} bits stored it must be {n_bits - 1}: "
            "repair the file or leave it out",
        )
    if highest > n_bits - 1:
        notes.append(f"the {n_bits} stored bits lie below High Bit (0028,0102) {highest}")
    codes = np.arange(n_codes)
    values = (codes >> (highest - n_bits + 1)) & (2**n_bits - 1)
    plain = codes
    if stored_type.kind == "i":
        values = np.where(values >= 2 ** (n_bits - 1), values - 2**n_bits, values)
        plain = np.where(codes >= n_codes // 2, codes - n_codes, codes)
    if syntax.is_encapsulated and syntax != RLELossless and not _has_overlay_bits(header):
        clamped = _clamped(plain, n_bits, occurs, is_signed=stored_type.kind == "i")
        if clamped is not None:
            if (clamped != plain)[occurs].any():
                notes.append(
                    f"values beyond the {n_bits} bits of Bits Stored (0028,0101) were set to the "
                    "nearest that it can hold"
                )
            return clamped
    # Signed values are written with copies of their sign above, or with zeros.
    is_misread = (values != plain) & (codes >> n_bits != 0)
    if highest == n_bits - 1 and is_misread[occurs].any():
        notes.append("bits above Bits Stored (0028,0101) are set, and were ignored")
    return np.asarray(values)


def _clamped(
    plain: NDArray[np.int64], n_bits: int, occurs: NDArray[np.bool_], *, is_signed: bool
) -> NDArray[np.int64] | None:
    """What a decoder gave, inside the range of Bits Stored; None if its values lack their sign.

    Lossy streams overshoot, and a stream may be of more bits than the header states. Signed values
    that have no negative among them, but some in the upper half, were given without their sign.
    """
    if not is_signed:
        return plain.clip(0, 2**n_bits - 1)
    half = 2 ** (n_bits - 1)
    lowest, highest = plain[occurs].min(), plain[occurs].max()
    if lowest >= 0 and half <= highest < 2 * half:
        return None
    return plain.clip(-half, half - 1)


def _has_overlay_bits(header: Header) -> bool:
    """Whether an overlay lies in the unused bits of the pixels (60xx,0102), as it once was done."""
    return any(
        element.tag.element == _OVERLAY_BIT_POSITION and bool(element.value)
        for group in range(0x6000, 0x6020, 2)
        for element in header.dataset.group_dataset(group)
    )


def _padding(header: Header, values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which codes (C,) are Pixel Padding Value (0028,0120) up to its Range Limit (0028,0121)."""
    first = header.numbers("PixelPaddingValue")
    if not first:
        return np.zeros(len(values), dtype=bool)
    # The element has no sign of its own, and files write it with either.
    low, n_values = int(values.min()), int(np.ptp(values)) + 1
    limits = [
        (limit - low) % n_values + low if math.isfinite(limit) else limit
        for limit in first + header.numbers("PixelPaddingRangeLimit")
    ]
    return np.asarray((values >= min(limits)) & (values <= max(limits)))


def _modality(header: Header, values: NDArray[np.int64]) -> NDArray[np.float64]:
    tables = header.items("ModalityLUTSequence")
    if tables:
        try:
            return Table.of(header, tables[0], is_signed=bool(values.min() < 0))(values)
        except UnusableError as error:
            raise header.error(
                "ModalityLUTSequence", f"{error}: repair the file or leave it out"
            ) from error
    slope = (header.numbers("RescaleSlope") or [1.0])[0]
    intercept = (header.numbers("RescaleIntercept") or [0.0])[0]
    modality = values * slope + intercept
    if slope == 0 or not np.isfinite(modality).all():
        raise header.error(
            "RescaleSlope",
            f"is {slope:g} and Rescale Intercept (0028,1052) {intercept:g}: no image is left; "
            "repair the file or leave it out",
        )
    return np.asarray(modality, dtype=np.float64)


def _fill_scale(
    header: Header, modality: NDArray[np.float64], seen: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.float64]:
    if header.code("PixelIntensityRelationship") == "LIN" and is_raw(header):
        # Raw values are proportional to the X-ray intensity; attenuation is their logarithm.
        modality = np.log1p((modality - min(0.0, modality[seen].min())).clip(min=0))
        notes.append("FOR PROCESSING, linear in X-ray intensity: the logarithm was taken")
    notes.append("no VOI LUT and no window was applied: smallest to largest value fill the scale")
    low, high = modality[seen].min(), modality[seen].max()
    return np.asarray(((modality - low) / max(high - low, 1e-12)).clip(0, 1))


def is_inverted(header: Header, notes: list[str]) -> bool:
    """Whether a larger value is shown darker, see :func:`make_display`."""
    inverted = photometric_of(header) == "MONOCHROME1"
    if is_raw(header) and (sign := header.text("PixelIntensityRelationshipSign")) in {"1", "-1"}:
        if (sign == "1") != inverted:
            notes.append(
                f"FOR PROCESSING: Pixel Intensity Relationship Sign (0028,1041) {sign} contradicts "
                "Photometric Interpretation, and was followed"
            )
        return sign == "1"
    shape = header.code("PresentationLUTShape")
    if shape in {"IDENTITY", "INVERSE"} and (shape == "INVERSE") != inverted:
        notes.append(
            f"Presentation LUT Shape {shape} contradicts Photometric Interpretation, which was "
            "followed"
        )
    return inverted
