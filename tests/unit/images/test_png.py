"""Text in PNG files."""

from __future__ import annotations

import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from simfrcnn.images.png import encode_png, size_of, text_of

PIXELS = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000


def plain() -> bytes:
    return cv2.imencode(".png", PIXELS)[1].tobytes()


def with_chunk(kind: bytes, content: bytes, *, length: int | None = None) -> bytes:
    """A PNG file with a chunk of our own behind its header, whose length may be a lie."""
    head = struct.pack(">I", len(content) if length is None else length)
    chunk = head + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    png = plain()
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("pixels", [PIXELS, (PIXELS // 257).astype(np.uint8)], ids=["16", "8"])
def test_text_comes_back_and_pixels_stay(pixels: np.ndarray) -> None:
    png = encode_png(pixels, {"about": "seven by five", "more": "<&>"})
    assert text_of(png, "about") == "seven by five"
    assert text_of(png, "more") == "<&>"
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == pixels.dtype
    np.testing.assert_array_equal(decoded, pixels)
    assert size_of(png) == (5, 7)


def test_what_the_first_versions_wrote_is_read() -> None:
    png = with_chunk(b"tEXt", b'simfrcnn prepared\0{"a": 1}')
    assert text_of(png, "simfrcnn prepared") == '{"a": 1}'


def test_the_beginning_of_a_file_is_enough_if_it_holds_the_text() -> None:
    png = encode_png(PIXELS, {"about": "x" * 100})
    end = png.index(b"IDAT") + 4
    assert text_of(png[:end], "about") == "x" * 100
    assert size_of(png[:end]) == (5, 7)
    assert text_of(png[: end - 40], "about") == ""  # there, but not whole


@pytest.mark.parametrize("start", [b"", b"P5 3 3", plain()], ids=["empty", "PGM", "no text"])
def test_other_files_have_no_text(start: bytes) -> None:
    assert text_of(start, "about") is None


def test_another_keyword_is_not_it() -> None:
    assert text_of(encode_png(PIXELS, {"about": "x"}), "abou") is None


def test_a_file_that_is_no_png_has_no_size() -> None:
    with pytest.raises(ValueError, match="no PNG file"):
        size_of(b"P5 3 3")


def test_pixels_are_not_decoded() -> None:
    png = encode_png(PIXELS, {"about": "x"})
    start = png.index(b"IDAT") + 4
    broken = png[:start] + b"no pixels at all"
    assert text_of(broken, "about") == "x"
    huge = PngImagePlugin.PngInfo()
    huge.add_text("about", "wide")
    stream = io.BytesIO()
    Image.new("1", (20000, 20000)).save(stream, "PNG", pnginfo=huge)  # a bomb to Image.open
    assert text_of(stream.getvalue(), "about") == "wide"
    assert size_of(stream.getvalue()) == (20000, 20000)


@pytest.mark.parametrize(
    "png",
    [
        with_chunk(b"tEXt", b"about\0x", length=2**31 - 1),
        with_chunk(b"zTXt", b"about\0\0" + zlib.compress(bytes(100 * 2**20), 9)),
        with_chunk(b"tEXt", b"about\0x").replace(b"about\0x", b"about\0y"),
    ],
    ids=["says that it is 2 GB long", "unpacks to 100 MiB", "checksum of another text"],
)
def test_a_damaged_text_is_empty_and_costs_nothing(png: bytes) -> None:
    begin = time.process_time()
    assert text_of(png, "about") == ""
    assert time.process_time() - begin < 1.0
