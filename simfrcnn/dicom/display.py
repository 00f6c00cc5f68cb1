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
from pydicom.dataset import Dataset

from simfrcnn.dicom.header import Header, shown
from simfrcnn.dicom.view import AS_STORED, Flips

FOR_PROCESSING_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1.2.1",  # Digital Mammography X-Ray
    "1.2.840.10008.5.1.4.1.1.13.1.5",  # Breast Projection X-Ray
}

_ROWS_PER_STEP = 64


@dataclass(frozen=True)
class Display:
    """Codes (H, W) uint8 or uint16 and what each is shown as: ``greys`` (C,) float64 in 0..1.

    Pixels are given as they lie in the file; ``flips`` turns them into the standard hanging.
    """

    codes: NDArray[Any]
    greys: NDArray[np.float64]
    flips: Flips = AS_STORED

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


def make_display(header: Header, stored: NDArray[Any], notes: list[str]) -> Display:
    """Follow the path of every stored value to the display.

    Polarity is one decision: inverted once, after the VOI transform, when Photometric
    Interpretation is MONOCHROME1. Presentation LUT Shape only restates it; if the two disagree,
    Photometric Interpretation is followed and a note says so. Of a raw image, which is not meant
    for a display, Pixel Intensity Relationship Sign decides where it is given: 1 says that larger
    values are more radiation, which is air. A VOI LUT goes before a window; of several, the first
    is taken. With neither, the values from the smallest to the largest that occur fill the scale:
    Bits Stored is often larger than what the detector delivers, and a nearly black image would go
    unnoticed. Pixel Padding becomes black.

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
    greys = _voi(header, _modality(header, values), seen, notes)
    if _is_inverted(header, notes):
        greys = 1 - greys
    return Display(codes, np.where(padding, 0, greys))


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
    has_tables = header.items("ModalityLUTSequence") or header.items("VOILUTSequence")
    if has_tables or header.numbers("PixelPaddingValue") or not smallest <= low <= high <= largest:
        counts = cv2.calcHist([codes], [0], None, [n_codes], [0, n_codes])
        return np.asarray(counts.ravel() > 0)
    occurs = np.zeros(n_codes, dtype=bool)
    occurs[[int(low) % n_codes, int(high) % n_codes]] = True
    return occurs


def _values_of_codes(
    header: Header, stored_type: np.dtype[Any], occurs: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.int64]:
    """The value that each code (C,) means: Bits Stored bits up to High Bit, signed or not."""
    n_codes = len(occurs)
    allocated = n_codes.bit_length() - 1
    n_bits = header.whole_number("BitsStored", default=allocated)
    highest = header.whole_number("HighBit", default=n_bits - 1)
    if header.dataset.file_meta.TransferSyntaxUID.is_encapsulated or n_bits > allocated:
        # A decoder gives values, not words with the bits of the file.
        n_bits, highest = min(n_bits, allocated), min(n_bits, allocated) - 1
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
    # Signed values are written with copies of their sign above, or with zeros.
    is_misread = (values != plain) & (codes >> n_bits != 0)
    if highest == n_bits - 1 and is_misread[occurs].any():
        notes.append("bits above Bits Stored (0028,0101) are set, and were ignored")
    return np.asarray(values)


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
        return _Table.of(header, "ModalityLUTSequence", tables[0], values.min() < 0)(values)
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


def _voi(
    header: Header, modality: NDArray[np.float64], seen: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.float64]:
    """Modality values -> 0..1 by VOI table, window or the range of the values that are seen."""
    tables = header.items("VOILUTSequence")
    if tables:
        keyword = "VOILUTSequence"
        if len(tables) > 1:
            notes.append(f"{len(tables)} VOI LUTs: the first was taken")
        table = _Table.of(header, keyword, tables[0], modality[seen].min() < 0)
        greys = table(modality) / table.full_scale
    elif header.numbers("WindowCenter") or header.numbers("WindowWidth"):
        keyword, greys = "WindowCenter", _window(header, modality, notes)
    else:
        return _fill_scale(header, modality, seen, notes)
    if np.ptp(modality[seen]) > 0 and np.ptp(greys[seen]) == 0:
        raise header.error(
            keyword, "shows every pixel of this image alike: it belongs to other values"
        )
    return greys


@dataclass(frozen=True)
class _Table:
    """A look-up table of the standard: ``entries[0]`` is for ``first`` and everything below it."""

    first: int
    entries: NDArray[np.float64]
    full_scale: int

    @classmethod
    def of(cls, header: Header, keyword: str, item: Dataset, is_signed: bool) -> _Table:
        """Read LUT Descriptor (0028,3002) and LUT Data (0028,3006) of one item.

        Args:
            header: Of the file.
            keyword: Of the sequence, for errors.
            item: Of the sequence.
            is_signed: Whether the values that are looked up can be negative.
        """
        try:
            n_entries, first, n_bits = (int(number) for number in item.LUTDescriptor)
            # 0 stands for 65,536, and a file may write the number with a sign.
            entries = cls._entries(header, item.LUTData, n_entries % 65536 or 65536)
        except Exception as error:
            raise header.error(
                keyword,
                f"cannot be applied ({type(error).__name__}): its descriptor and data must be a "
                "table; repair the file or leave it out",
            ) from error
        if not 8 <= n_bits <= 16 or len(entries) == 0 or entries.max() >= 2**n_bits:
            raise header.error(
                keyword, f"does not hold entries of {n_bits} bits: repair the file or leave it out"
            )
        if is_signed and first > 32767:  # written without a sign
            first -= 65536
        return cls(first, entries.astype(np.float64), 2**n_bits - 1)

    @staticmethod
    def _entries(header: Header, data: Any, n_entries: int) -> NDArray[Any]:
        """LUT Data as numbers: OW holds words in the byte order of the file, or packed bytes."""
        if not isinstance(data, bytes):
            return np.asarray(data, dtype=np.uint16)[:n_entries]
        order = "<" if header.dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        is_packed = len(data) < 2 * n_entries
        return np.frombuffer(data, "u1" if is_packed else f"{order}u2", count=n_entries)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        place = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[place.astype(np.int64)])


def _window(header: Header, modality: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """The first window, by VOI LUT Function (0028,1056); PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    centers, widths = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    if len(centers) != len(widths):
        raise header.error(
            "WindowCenter",
            "and Window Width (0028,1051) differ in number of values: repair the file or leave "
            "it out",
        )
    if len(centers) > 1:
        notes.append(f"{len(centers)} windows: the first was taken")
    center, width = centers[0], widths[0]
    function = header.code("VOILUTFunction") or "LINEAR"
    if not (math.isfinite(center) and math.isfinite(width)) or width <= 0:
        raise header.error("WindowWidth", f"is {width:g}; it must be positive")
    if function == "LINEAR":
        if width < 1:
            raise header.error("WindowWidth", f"is {width:g}; a LINEAR window is at least 1 wide")
        if width == 1:
            return (modality > center - 0.5).astype(np.float64)
        return ((modality - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    if function == "LINEAR_EXACT":
        return ((modality - center) / width + 0.5).clip(0, 1)
    if function == "SIGMOID":
        # Beyond +-50 the exponential only overflows: the display is 0 or 1 to double precision.
        exponent = np.clip(-4 * (modality - center) / width, -50, 50)
        return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float64)
    raise header.error(
        "VOILUTFunction", f"is {shown(function)}; LINEAR, LINEAR_EXACT and SIGMOID are defined"
    )


def _fill_scale(
    header: Header, modality: NDArray[np.float64], seen: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.float64]:
    if header.code("PixelIntensityRelationship") == "LIN" and is_raw(header):
        # Raw values are proportional to the X-ray intensity; attenuation is their logarithm.
        modality = np.log1p((modality - min(0.0, modality[seen].min())).clip(min=0))
        notes.append("FOR PROCESSING, linear in X-ray intensity: the logarithm was taken")
    notes.append("no VOI LUT and no window: smallest to largest value fill the scale")
    low, high = modality[seen].min(), modality[seen].max()
    return np.asarray(((modality - low) / max(high - low, 1e-12)).clip(0, 1))


def _is_inverted(header: Header, notes: list[str]) -> bool:
    inverted = header.code("PhotometricInterpretation") == "MONOCHROME1"
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
