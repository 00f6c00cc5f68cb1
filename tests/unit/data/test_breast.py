"""The breast box: by construction on drawn pictures, by coverage of lesions on real film."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simfrcnn.data.breast import breast_box
from simfrcnn.data.coco import read_coco
from simfrcnn.data.images import load_pixels
from simfrcnn.data.phantom.generate import generate
from simfrcnn.data.phantom.presets import PRESETS
from simfrcnn.data.sources.mias import read_mias
from support.data_examples import SHARED_DATA, needs_shared


def picture_with_breast(height: int = 600, width: int = 500) -> np.ndarray:
    """A half ellipse at the left edge, on a noisy background that is not 0."""
    pixels = np.random.default_rng(0).normal(14, 3, (height, width)).clip(0, 40)
    cv2.ellipse(pixels, (0, 300), (250, 200), 0, -90, 90, 120, -1)
    return pixels.astype(np.uint8)


def assert_near(box: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert box == pytest.approx(expected, abs=18)  # margin 2% of 600 px, and the working grid


def test_breast_on_a_background_that_is_not_0() -> None:
    assert_near(breast_box(picture_with_breast()), (0, 100, 250, 500))


def test_white_labels_and_a_bright_border_are_left_out() -> None:
    pixels = picture_with_breast()
    pixels[20:60, 380:480] = 255
    pixels[:, 495:] = 255
    assert_near(breast_box(pixels), (0, 100, 250, 500))


def test_the_box_holds_the_whole_breast_region() -> None:
    pixels = picture_with_breast()
    x1, y1, x2, y2 = breast_box(pixels)
    rows, columns = np.nonzero(pixels == 120)
    assert x1 <= columns.min()
    assert y1 <= rows.min()
    assert x2 > columns.max()
    assert y2 > rows.max()


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_picture_of_one_value_is_its_own_box(value: int) -> None:
    assert breast_box(np.full((30, 20), value, dtype=np.uint8)) == (0, 0, 20, 30)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), seed=st.integers(0, 2**32 - 1))
def test_always_a_box_inside_the_image(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = cv2.resize(
        rng.integers(0, 256, (4, 4), dtype=np.uint8),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    x1, y1, x2, y2 = breast_box(pixels)
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert all(edge == int(edge) for edge in (x1, y1, x2, y2))


def test_every_finding_of_the_phantoms_lies_in_the_breast_box(tmp_path: Path) -> None:
    generate(PRESETS["tiny"], tmp_path, seed=0)
    findings = 0
    for split in ("train_oracle", "val", "test"):
        for record in read_coco(tmp_path / f"{split}.json").records:
            x1, y1, x2, y2 = breast_box(load_pixels(record))
            for finding in record.findings:
                a1, b1, a2, b2 = finding.box
                assert x1 <= a1 < a2 <= x2
                assert y1 <= b1 < b2 <= y2
                findings += 1
    assert findings > 5


@pytest.mark.data
@needs_shared("mias")
def test_every_finding_of_mias_lies_in_the_breast_box() -> None:
    areas = []
    for record in read_mias(SHARED_DATA / "mias").records:
        x1, y1, x2, y2 = breast_box(load_pixels(record))
        areas.append((x2 - x1) * (y2 - y1) / (record.height * record.width))
        for finding in record.findings:
            a1, b1, a2, b2 = finding.box
            assert x1 <= a1, record.file_name
            assert y1 <= b1, record.file_name
            assert x2 >= a2, record.file_name
            assert y2 >= b2, record.file_name
    assert np.median(areas) < 0.6  # the box is a crop, not the film
