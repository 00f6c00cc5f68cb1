"""The breast box: by construction on drawn pictures, by coverage of lesions on real film."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.mias import read_mias
from simfrcnn.images.breast import breast_box, breast_mask
from simfrcnn.images.reading import load_pixels
from simfrcnn.phantom.generate import generate
from simfrcnn.phantom.presets import PRESETS
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
    assert breast_mask(np.full((30, 20), value, dtype=np.uint8)).all()


@pytest.mark.parametrize("times", [1, 3, 5])
def test_the_mask_is_the_breast_and_no_label_at_any_size(times: int) -> None:
    small = picture_with_breast()
    small[20:60, 380:480] = 255
    small[:, 495:] = 255
    small[250:260, 100:110] = 0  # a hole is filled
    pixels = cv2.resize(small, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)
    pixels = np.ascontiguousarray(pixels[: -times // 2 or None, : -times // 2 or None])
    mask = breast_mask(pixels)
    assert mask.shape == pixels.shape
    assert mask.dtype == bool
    breast = np.zeros(pixels.shape, np.uint8)
    cv2.ellipse(breast, (0, 300 * times), (250 * times, 200 * times), 0, -90, 90, 1, -1)
    assert mask[breast > 0].all()
    assert not mask[: 70 * times, 370 * times :].any()
    assert not mask[:, 490 * times :].any()
    margin = mask & (breast == 0)
    assert margin.sum() < 0.25 * breast.sum()
    reach = cv2.dilate(breast, np.ones((2 * 24 * times + 1,) * 2, np.uint8))
    assert not mask[reach == 0].any()


def test_the_mask_lies_in_the_box() -> None:
    pixels = picture_with_breast()
    x1, y1, x2, y2 = (int(edge) for edge in breast_box(pixels))
    rows, columns = np.nonzero(breast_mask(pixels))
    assert x1 - 3 <= columns.min() <= columns.max() < x2 + 3
    assert y1 - 3 <= rows.min() <= rows.max() < y2 + 3


def test_halving_a_large_picture_moves_the_box_by_little() -> None:
    small = picture_with_breast()
    large = cv2.resize(small, (2501, 3003), interpolation=cv2.INTER_LINEAR)
    expected = [5 * edge for edge in breast_box(small)]
    assert breast_box(large) == pytest.approx(expected, abs=30)


@settings(max_examples=60)
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


ON_BACKGROUND = {212, 214}
"""Films of MIAS whose annotated lesion lies outside of the breast, as published."""


@pytest.mark.data
@needs_shared("mias")
def test_the_mask_covers_every_lesion_of_mias() -> None:
    """Every circle as annotated, as far as it lies on the film."""
    n_lesions, shares = 0, []
    for record in read_mias(SHARED_DATA / "mias").records:
        mask = breast_mask(load_pixels(record))
        shares.append(mask.mean())
        for finding in record.findings:
            x1, y1, x2, y2 = finding.box
            n_lesions += 1
            if record.image_id in ON_BACKGROUND:
                assert not mask[int(y1) : int(y2), int(x1) : int(x2)].any()
                continue
            circle = np.zeros(mask.shape, np.uint8)
            radius = max(x2 - x1, y2 - y1) / 2
            # A clipped box keeps the centre on the axis that was not clipped; see read_mias.
            cv2.circle(circle, (round((x1 + x2) / 2), round((y1 + y2) / 2)), int(radius), 1, -1)
            assert mask[circle > 0].mean() >= 0.995, record.file_name
    assert n_lesions > 80
    assert np.median(shares) < 0.5  # a mask, not the film
    assert sum(share > 0.75 for share in shares) <= 2  # mdb151 and 152 fill their films


@pytest.mark.data
@needs_shared("mias")
def test_labels_of_mias_lie_outside_of_the_mask() -> None:
    """On every fourth film: the labels are the bright parts that do not touch the breast."""
    n_labels = 0
    for record in read_mias(SHARED_DATA / "mias").records[::4]:
        pixels = load_pixels(record)
        mask = breast_mask(pixels)
        n_parts, parts, stats, _ = cv2.connectedComponentsWithStats((pixels > 200).astype(np.uint8))
        for part in range(1, n_parts):
            if stats[part, cv2.CC_STAT_AREA] > 400 and not mask[parts == part].any():
                n_labels += 1
    assert n_labels > 25


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
