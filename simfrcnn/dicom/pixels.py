"""What are the stored values of the one grey frame of a DICOM file, whatever its compression?

Everything that a decoder would allocate is checked before it runs: the size in the header, and the
size in the compressed stream, which is the one that a decoder believes.

Shapes: H x W = Rows x Columns.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from simfrcnn.dicom.header import MAX_FILE_BYTES, Header, shown

MAX_PIXELS = 64 * 2**20
"""Larger images are refused before anything is allocated; digitised films have 40 million."""

_MAX_JP2_HEADER_BYTES = 2**16
# 0xFFC4, C8 and CC are tables; F7 is that of JPEG-LS.
_STARTS_OF_FRAME = frozenset({*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC})
_START_OF_SCAN = 0xFFDA
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
_JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
_JPEG_2000 = (JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
_EXTRAS = (
    dict.fromkeys((JPEGLossless, JPEGLosslessSV1, *_JPEG_LS), ("gdcm", "libjpeg"))
    | dict.fromkeys(_JPEG_2000, ("jpeg",))
    | {JPEGExtended12Bit: ("libjpeg",)}
)
"""Transfer syntax -> the extras of setup.py that bring a decoder, one is enough; others need none.
The package behind ``libjpeg`` is under the GPL."""

_PREFERRED = {RLELossless: ("pydicom",)} | dict.fromkeys(
    (JPEGLossless, JPEGLosslessSV1, *_JPEG_LS), ("pylibjpeg", "pyjpegls", "gdcm")
)
"""Transfer syntax -> pydicom's names of the packages that may decode it, in this order."""

MAX_PIXELS_PER_BYTE = (
    dict.fromkeys((JPEGLossless, JPEGLosslessSV1), 8)  # one bit at least for each pixel
    | dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit), 256)  # two for each block of 8 x 8
    | dict.fromkeys(_JPEG_LS, 1000)
    | dict.fromkeys(_JPEG_2000, 4096)
)
"""What a compressed stream can hold. The last two have no limit of their own; mammograms are
compressed to a hundredth at most, one nearly empty public sample to a thousandth. A decoder that
looks for the pixels of a stream which has none of them can search for minutes, or invent them."""


def require_one_grey_frame(header: Header) -> None:
    """Refuse, from the header alone, whatever is not one grey frame of a possible size.

    Raises:
        DicomError: Names the element that says so.
    """
    # By name, because touching FloatPixelData of a file without a transfer syntax fails.
    if not header.has("PixelData") and not header.has_pixels_left_out:
        raise header.error("PixelData", "is missing: the file holds no image; leave it out")
    meta = getattr(header.dataset, "file_meta", None)
    if meta is None or not meta.get("TransferSyntaxUID"):
        raise header.error(
            "TransferSyntaxUID",
            "is missing, so the pixel encoding is unknown: write the file anew with a File "
            "Meta group",
        )
    frames = header.text("NumberOfFrames") or "1"
    if not frames.isdecimal() or int(frames) < 1:
        raise header.error(
            "NumberOfFrames", f"is {shown(frames)}; it must be a positive whole number"
        )
    if int(frames) > 1:
        raise header.error(
            "NumberOfFrames",
            f"is {int(frames)}: a multi-frame image, such as the slices of breast tomosynthesis. "
            "Give the 2-D view of the same breast (digital or synthesised), or write the slice "
            "you want as a file of its own",
        )
    photometric = header.code("PhotometricInterpretation")
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        found = f"is {shown(photometric)}" if photometric else "is missing"
        raise header.error(
            "PhotometricInterpretation",
            f"{found}; only the grey MONOCHROME1 and MONOCHROME2 are mammograms. A colour file is "
            "a screen shot or another examination: give the original image",
        )
    if (samples := header.whole_number("SamplesPerPixel", default=1)) != 1:
        raise header.error(
            "SamplesPerPixel", f"is {samples}: a colour image; give the original grey image"
        )
    _require_possible_size(header)


def stored_values(header: Header) -> NDArray[Any]:
    """The stored values (H, W) of a file that passed :func:`require_one_grey_frame`.

    Returns:
        8- or 16-bit integers in native byte order, signed as Pixel Representation says; bits above
        Bits Stored are as in the file. May be read-only: it is the file's own memory if it can be.

    Raises:
        DicomError: A decoder is missing (names the extra to install), or the data are damaged.
    """
    syntax = header.dataset.file_meta.TransferSyntaxUID
    decoder = _decoder(header, syntax)
    if header.has_pixels_left_out:
        raise header.error(
            "PixelData", f"lies in a file of more than {MAX_FILE_BYTES:,} bytes: not a mammogram"
        )
    if syntax.is_encapsulated:
        _require_stated_size(header, syntax)
    stored = _decoded(header, decoder)
    expected = (header.whole_number("Rows"), header.whole_number("Columns"))
    if stored.shape != expected:
        raise header.error("PixelData", f"decodes to {stored.shape}, not Rows x Columns {expected}")
    native: NDArray[Any] = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native


def _decoded(header: Header, decoder: Decoder) -> NDArray[Any]:
    """What the first of the packages that can decode the frame makes of it."""
    failure = Exception("no package")
    for package in _packages(decoder):
        try:
            stored: NDArray[Any] = decoder.as_array(
                header.dataset,
                index=0,
                raw=True,
                decoding_plugin=package,
                view_only=True,
                correct_unused_bits=False,
                allow_excess_frames=False,
            )[0]
            return stored
        except MemoryError as error:
            raise header.error("PixelData", "does not fit in memory") from error
        except Exception as error:  # each package has its own exceptions
            failure = error
    raise _damaged(header, decoder.UID, failure) from failure


def _packages(decoder: Decoder) -> tuple[str, ...]:
    """The packages to ask, in this order and not in pydicom's.

    Only those that survived thousands of damaged streams: GDCM aborts the process on some of 8-bit
    JPEG, and the package for RLE ends in what is no Exception.
    """
    if decoder.is_native:
        return ("",)
    preferred = _PREFERRED.get(decoder.UID, ("pylibjpeg", "pillow"))
    return tuple(package for package in preferred if package in decoder.available_plugins)


def _require_possible_size(header: Header) -> None:
    """Rows, Columns and bits that a mammogram can have; nothing else about them is trusted."""
    rows, columns = header.whole_number("Rows"), header.whole_number("Columns")
    for keyword, length in (("Rows", rows), ("Columns", columns)):
        if length < 1:
            raise header.error(keyword, f"is {length}: repair the file or leave it out")
    if rows * columns > MAX_PIXELS:
        raise header.error(
            "Rows",
            f"x Columns is {rows * columns:,} pixels, more than {MAX_PIXELS:,}: not a mammogram",
        )
    allocated = header.whole_number("BitsAllocated")
    if allocated not in {8, 16}:
        raise header.error("BitsAllocated", f"is {allocated}; grey images of 8 and 16 are read")
    stored = header.whole_number("BitsStored", default=allocated)
    if not 1 <= stored <= allocated:
        raise header.error("BitsStored", f"is {stored}; it must be 1 to Bits Allocated {allocated}")
    if header.whole_number("PixelRepresentation", default=0) not in {0, 1}:
        raise header.error("PixelRepresentation", "must be 0 (unsigned) or 1 (signed)")


def _decoder(header: Header, syntax: UID) -> Decoder:
    """pydicom's decoder of a transfer syntax, if a package that it can call is installed."""
    if not syntax.is_transfer_syntax:
        raise header.error("TransferSyntaxUID", "names no transfer syntax: the file is damaged")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise header.error(
            "TransferSyntaxUID",
            f"is {syntax.name}, which no Python package decodes to a single view: convert the file "
            "to Explicit VR Little Endian",
        ) from error
    is_available = decoder.is_available
    if syntax == JPEGExtended12Bit and header.whole_number("BitsStored", default=16) > 8:
        # Others announce themselves for this syntax, and then refuse more than 8 bits.
        is_available = "pylibjpeg" in decoder.available_plugins
    if not is_available:
        raise header.error(
            "PixelData",
            f"is compressed ({syntax.name}), and its decoder is not installed: "
            + " or ".join(f"`pip install -e '.[{extra}]'`" for extra in _EXTRAS[syntax])
            + (" (libjpeg is under the GPL)" if "libjpeg" in _EXTRAS[syntax] else ""),
        )
    return decoder


def _damaged(header: Header, syntax: UID, error: Exception) -> Exception:
    if syntax.is_encapsulated:
        problem = (
            f"({syntax.name}) is refused by every decoder that is installed: it is damaged or of a "
            "kind that they do not know; convert the file to Explicit VR Little Endian, or leave "
            "it out"
        )
    else:
        problem = (
            f"cannot be read, the file is truncated or damaged ({type(error).__name__}): fetch it "
            "again or leave it out"
        )
    return header.error("PixelData", problem)


class _Frame(NamedTuple):
    """What a compressed stream says of itself."""

    rows: int
    columns: int
    n_components: int


def _require_stated_size(header: Header, syntax: UID) -> None:
    """Decoders allocate what the stream states: it must be what the header states."""
    try:
        stream = get_frame(header.value("PixelData"), 0, number_of_frames=1)
        if syntax in _JPEG_2000:
            frame = _jpeg_2000_frame(stream)
        elif syntax in _JPEG or syntax in _JPEG_LS:
            frame = _jpeg_frame(stream)
        else:
            return  # RLE has no size of its own
    except Exception as error:  # not even the beginning of the stream can be read
        raise _damaged(header, syntax, error) from error
    stated = _Frame(header.whole_number("Rows"), header.whole_number("Columns"), 1)
    if frame != stated:
        raise header.error(
            "PixelData",
            f"({syntax.name}) holds {frame.rows} x {frame.columns} pixels of {frame.n_components} "
            f"component(s), Rows x Columns are {stated.rows} x {stated.columns}, of one: the file "
            "is damaged; fetch it again or leave it out",
        )
    if frame.rows * frame.columns > MAX_PIXELS_PER_BYTE[syntax] * len(stream):
        raise header.error(
            "PixelData",
            f"({syntax.name}) has {len(stream):,} bytes for {frame.rows} x {frame.columns} pixels: "
            "the file is truncated; fetch it again or leave it out",
        )


def _jpeg_2000_frame(stream: bytes) -> _Frame:
    """From the SIZ marker, which follows SOC (ISO/IEC 15444-1 A.5.1).

    Raises:
        ValueError: There is none.
        struct.error: It is cut off.
    """
    start = stream.index(b"\xff\x4f\xff\x51", 0, _MAX_JP2_HEADER_BYTES)
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    (n_components,) = struct.unpack_from(">H", stream, start + 40)
    return _Frame(bottom - top, right - left, n_components)


def _jpeg_frame(stream: bytes) -> _Frame:
    """From the start-of-frame marker (ITU-T T.81 B.2.2; T.87 C.2.2 for JPEG-LS).

    All markers up to the scan are looked at: GDCM aborts the process where they are out of order.

    Raises:
        ValueError: They are.
        struct.error: The stream ends before the scan.
    """
    place, frame = 2, None
    while True:
        marker, length = struct.unpack_from(">HH", stream, place)
        if marker == 0xFFFF:  # fill bytes
            place += 1
            continue
        if marker < 0xFFC0 or length < 2 or (marker == _START_OF_SCAN and frame is None):
            raise ValueError(f"no JPEG marker, or another than expected, at byte {place}")
        if marker == _START_OF_SCAN and frame is not None:
            return frame
        if marker in _STARTS_OF_FRAME:
            _, rows, columns, n_components = struct.unpack_from(">BHHB", stream, place + 4)
            frame = _Frame(rows, columns, n_components)
        place += 2 + length
