"""What does a compressed stream say of itself, before any decoder is asked?

Decoders allocate what the stream states, so its size is read here first; and a scan header that is
known to be written wrong is put right, because decoders refuse it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

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
)

JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
JPEG_2000 = (JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)

_MAX_JP2_HEADER_BYTES = 2**16
# 0xFFC4, C8 and CC are tables; F7 is that of JPEG-LS.
_STARTS_OF_FRAME = frozenset({*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC})
_SEQUENTIAL_DCT = (0xFFC0, 0xFFC1)
_START_OF_SCAN = 0xFFDA
_LAST_COEFFICIENT = 63


class StreamFrame(NamedTuple):
    """The size that a compressed stream states."""

    rows: int
    columns: int
    n_components: int


def frame_of(stream: bytes, syntax: UID) -> StreamFrame | None:
    """The size that a stream states; None for a syntax whose streams state none.

    Raises:
        ValueError: The markers are not those of the syntax, or out of order.
        struct.error: The stream ends before its size is stated.
    """
    if syntax in JPEG_2000:
        return _jpeg_2000_frame(stream)
    if syntax in JPEG or syntax in JPEG_LS:
        return _walk_jpeg(stream).frame
    return None


def mended(stream: bytes, syntax: UID) -> bytes | None:
    """The stream with a right scan header, None where there is nothing to mend.

    A scan of sequential DCT holds all coefficients: Ss is 0 and Se 63. Some encoders of 12 bits
    write Se = 0; decoders that believe it refuse the file, others warn and decode all.

    Raises:
        ValueError: As :func:`frame_of`.
        struct.error: As :func:`frame_of`.

    Reference:
        ITU-T T.81 B.2.3 and table B.3.
    """
    if syntax not in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return None
    walk = _walk_jpeg(stream)
    (n_components,) = struct.unpack_from(">B", stream, walk.scan + 4)
    place = walk.scan + 5 + 2 * n_components
    first, last = struct.unpack_from(">BB", stream, place)
    if walk.kind not in _SEQUENTIAL_DCT or (first, last) != (0, 0):
        return None
    return stream[: place + 1] + bytes([_LAST_COEFFICIENT]) + stream[place + 2 :]


class _Walk(NamedTuple):
    """Its size, the marker that states it, and where the first scan starts."""

    frame: StreamFrame
    kind: int
    scan: int


def _walk_jpeg(stream: bytes) -> _Walk:
    """From the start-of-frame marker (ITU-T T.81 B.2.2; T.87 C.2.2 for JPEG-LS).

    All markers up to the scan are looked at: GDCM aborts the process where they are out of order.
    """
    place, frame, kind = 2, None, 0
    while True:
        marker, length = struct.unpack_from(">HH", stream, place)
        if marker == 0xFFFF:  # fill bytes
            place += 1
            continue
        if marker < 0xFFC0 or length < 2 or (marker == _START_OF_SCAN and frame is None):
            raise ValueError(f"no JPEG marker, or another than expected, at byte {place}")
        if marker == _START_OF_SCAN and frame is not None:
            return _Walk(frame, kind, place)
        if marker in _STARTS_OF_FRAME:
            _, rows, columns, n_components = struct.unpack_from(">BHHB", stream, place + 4)
            frame, kind = StreamFrame(rows, columns, n_components), marker
        place += 2 + length


def _jpeg_2000_frame(stream: bytes) -> StreamFrame:
    """From the SIZ marker, which follows SOC (ISO/IEC 15444-1 A.5.1)."""
    start = stream.index(b"\xff\x4f\xff\x51", 0, _MAX_JP2_HEADER_BYTES)
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    (n_components,) = struct.unpack_from(">H", stream, start + 40)
    return StreamFrame(bottom - top, right - left, n_components)
