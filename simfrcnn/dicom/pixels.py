"""What are the stored values of the one grey frame of a DICOM file, whatever its compression?

Everything that a decoder would allocate is checked before it runs: the size in the header, and the
size in the compressed stream, which is the one that a decoder believes.

Shapes: H x W = Rows x Columns.
"""

from __future__ import annotations

import re
from typing import Any

from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from simfrcnn.dicom.header import MAX_FILE_BYTES, Header, shown
from simfrcnn.dicom.streams import JPEG_2000, JPEG_LS, StreamFrame, frame_of, mended

MAX_PIXELS = 64 * 2**20
"""Larger images are refused before anything is allocated; digitised films have 40 million."""

_EXTRAS = (
    dict.fromkeys((JPEGLossless, JPEGLosslessSV1, *JPEG_LS), ("gdcm", "libjpeg"))
    | dict.fromkeys(JPEG_2000, ("jpeg",))
    | {JPEGExtended12Bit: ("libjpeg",)}
)
"""Transfer syntax -> the extras of setup.py that bring a decoder, one is enough; others need none.
The package behind ``libjpeg`` is under the GPL."""

_PREFERRED = {RLELossless: ("pydicom",)} | dict.fromkeys(
    (JPEGLossless, JPEGLosslessSV1, *JPEG_LS), ("pylibjpeg", "pyjpegls", "gdcm")
)
"""Transfer syntax -> pydicom's names of the packages that may decode it, in this order."""

MAX_PIXELS_PER_BYTE = (
    dict.fromkeys((JPEGLossless, JPEGLosslessSV1), 8)  # one bit at least for each pixel
    | dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit), 256)  # two for each block of 8 x 8
    | dict.fromkeys(JPEG_LS, 1000)
    | dict.fromkeys(JPEG_2000, 4096)
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
            "is missing, so the pixel encoding is unknown: write the file again with a File "
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
    photometric = photometric_of(header)
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


def photometric_of(header: Header) -> str | None:
    """Photometric Interpretation in the standard's spelling: `monochrome 2` is MONOCHROME2."""
    stated = header.code("PhotometricInterpretation")
    match = re.fullmatch(r"MONOCHROME[\s_]*([12])", stated or "")
    return f"MONOCHROME{match[1]}" if match else stated


def stored_values(header: Header, notes: list[str]) -> NDArray[Any]:
    """The stored values (H, W) of a file that passed :func:`require_one_grey_frame`.

    Args:
        header: Of the file; a compressed stream that had to be mended is replaced in it.
        notes: Gets what was mended.

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
        _look_at_stream(header, syntax, notes)
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
                photometric_interpretation=photometric_of(header),
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


def _look_at_stream(header: Header, syntax: UID, notes: list[str]) -> None:
    """Refuse a stream of another size than the header's; mend one that is known to be wrong."""
    try:
        stream = get_frame(header.value("PixelData"), 0, number_of_frames=1)
        frame = frame_of(stream, syntax)
        better = mended(stream, syntax)
    except Exception as error:  # not even the beginning of the stream can be read
        raise _damaged(header, syntax, error) from error
    if frame is not None:
        _require_stated_size(header, syntax, frame, len(stream))
    if better is not None:
        header.dataset.PixelData = encapsulate([better])
        header.dataset["PixelData"].is_undefined_length = True
        notes.append(
            f"Pixel Data ({syntax.name}): its scan header ends at coefficient 0, and was read as 63"
        )


def _require_stated_size(header: Header, syntax: UID, frame: StreamFrame, n_bytes: int) -> None:
    """Decoders allocate what the stream states: it must be what the header states."""
    stated = StreamFrame(header.whole_number("Rows"), header.whole_number("Columns"), 1)
    if frame != stated:
        raise header.error(
            "PixelData",
            f"({syntax.name}) holds {frame.rows} x {frame.columns} pixels of {frame.n_components} "
            f"component(s), Rows x Columns are {stated.rows} x {stated.columns}, of one: the file "
            "is damaged; fetch it again or leave it out",
        )
    if frame.rows * frame.columns > MAX_PIXELS_PER_BYTE[syntax] * n_bytes:
        raise header.error(
            "PixelData",
            f"({syntax.name}) has {n_bytes:,} bytes for {frame.rows} x {frame.columns} pixels: "
            "the file is truncated; fetch it again or leave it out",
        )
