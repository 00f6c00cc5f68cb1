"""How does a PNG file carry a line of text about itself, and how is it read without the pixels?

Pillow does both. Of a file only the opening is looked at, so that neither a text of gigabytes nor
one that unpacks to gigabytes costs anything.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

PREPARED_KEYWORD = "simfrcnn prepared"
"""Of the text in pictures that `prepare-data` made, see :mod:`simfrcnn.data.prepared`."""
OVERLAY_KEYWORD = "simfrcnn overlay"
"""Of the text in pictures that `predict` draws: they are results, never read as mammograms."""
START_BYTES = 4096
"""Enough to hold the header and the text of such a picture."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(pixels: NDArray[Any], text: Mapping[str, str]) -> bytes:
    """A PNG file of these pixels, its text ahead of them.

    Args:
        pixels: (H, W) of 8 or 16 bits, or (H, W, 3) RGB of 8 bits.
        text: Keyword (1 to 79 characters of Latin-1) -> what it says.
    """
    about = PngImagePlugin.PngInfo()
    for keyword, words in text.items():
        about.add_text(keyword, words)
    stream = io.BytesIO()
    # Runs of one grey, such as the air beside the breast, are most of what can be saved here.
    Image.fromarray(pixels).save(
        stream, "PNG", pnginfo=about, compress_level=1, compress_type=zlib.Z_RLE
    )
    return stream.getvalue()


def text_of(start: bytes, keyword: str) -> str | None:
    """What a PNG file says under ``keyword``, from its first bytes; pixels are not decoded.

    Args:
        start: The file, or as much of it as holds the text.
        keyword: As given to :func:`encode_png`.

    Returns:
        None where the file is no PNG, or says nothing under the keyword. An empty text where it
        does, but the text is damaged or reaches beyond ``start``: a prepared picture must not pass
        for an ordinary one.
    """
    if not start.startswith(_SIGNATURE):
        return None
    picture = _opened(start)
    words = picture.info.get(keyword) if picture else None
    if isinstance(words, str):
        return str(words)
    is_there = keyword.encode("latin-1") + b"\0" in start
    return "" if picture is None and is_there else None


def size_of(start: bytes) -> tuple[int, int]:
    """(height, width) from the first bytes of a PNG file, beyond its text.

    Raises:
        ValueError: It is no PNG file, or its opening is damaged.
    """
    picture = _opened(start)
    if picture is None:
        raise ValueError("no PNG file, or its opening is damaged")
    return picture.height, picture.width


def _opened(start: bytes) -> PngImagePlugin.PngImageFile | None:
    """The file up to its pixels.

    Not by ``Image.open``, which refuses large pictures as bombs: no pixel is decoded here.
    """
    try:
        return PngImagePlugin.PngImageFile(io.BytesIO(start))
    except (SyntaxError, ValueError, OSError):  # no PNG; a text beyond Pillow's limits; cut short
        return None
