"""How does a PNG file carry a line of text about itself, and how is it read without the pixels?

Reference:
    W3C (2025), "Portable Network Graphics (PNG) Specification", sections 5 (chunks) and 11.3.3.2
    (tEXt).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PREPARED_KEYWORD = "simfrcnn prepared"
"""Of the text in pictures that `prepare-data` made, see :mod:`simfrcnn.data.prepared`."""
OVERLAY_KEYWORD = "simfrcnn overlay"
"""Of the text in pictures that `predict` draws: they are results, never read as mammograms."""
START_BYTES = 4096
"""Enough to hold the header and the text of such a picture."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END_OF_HEADER = len(_SIGNATURE) + 8 + 13 + 4
"""Where the first chunk, IHDR with its 13 bytes, ends."""


def with_text(png: bytes, keyword: str, text: str) -> bytes:
    """A PNG file with a text chunk directly behind its header; pixels untouched.

    Args:
        png: A whole PNG file.
        keyword: 1 to 79 characters of Latin-1.
        text: Of ASCII.
    """
    content = b"tEXt" + keyword.encode("latin-1") + b"\0" + text.encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_END_OF_HEADER] + chunk + png[_END_OF_HEADER:]


def text_of(start: bytes, keyword: str) -> str | None:
    """The text that :func:`with_text` put there, from the first bytes of a file; None without it.

    Args:
        start: The file, or as much of it as holds the text.
        keyword: As given to :func:`with_text`.
    """
    opening = b"tEXt" + keyword.encode("latin-1") + b"\0"
    begin = _END_OF_HEADER + 4
    if not start.startswith(_SIGNATURE) or start[begin : begin + len(opening)] != opening:
        return None
    (length,) = struct.unpack_from(">I", start, _END_OF_HEADER)
    text = start[begin + len(opening) : begin + 4 + length]
    is_whole = begin + 4 + length <= len(start)
    return text.decode("ascii", errors="replace") if is_whole else None


def size_of(start: bytes) -> tuple[int, int]:
    """(height, width) from the first bytes of a PNG file."""
    width, height = struct.unpack_from(">II", start, len(_SIGNATURE) + 8)
    return height, width


def chunks_of(content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(type, data, where it ends) of each whole chunk of a PNG file up to IEND; none of others.

    The data of pixels (IDAT) is given as empty, so that it is not copied.
    """
    if not content.startswith(_SIGNATURE):
        return
    place, kind = len(_SIGNATURE), b""
    while kind != b"IEND" and place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            return
        yield kind, content[place + 8 : end - 4] if kind != b"IDAT" else b"", end
        place = end
