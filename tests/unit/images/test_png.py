"""Text in PNG files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from simfrcnn.images.png import size_of, text_of, with_text

PIXELS = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000


def encoded() -> bytes:
    return cv2.imencode(".png", PIXELS)[1].tobytes()


def test_text_comes_back_and_pixels_stay() -> None:
    png = with_text(encoded(), "about", "seven by five")
    assert text_of(png, "about") == "seven by five"
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, PIXELS)
    assert size_of(png) == (5, 7)


def test_the_beginning_of_a_file_is_enough_if_it_holds_the_text() -> None:
    png = with_text(encoded(), "about", "x" * 100)
    assert text_of(png[:147], "about") == "x" * 100
    assert text_of(png[:146], "about") is None


@pytest.mark.parametrize("start", [b"", b"P5 3 3", encoded()], ids=["empty", "PGM", "no text"])
def test_other_files_have_no_text(start: bytes) -> None:
    assert text_of(start, "about") is None


def test_another_keyword_is_not_it() -> None:
    assert text_of(with_text(encoded(), "about", "x"), "abou") is None
