"""The stored pixels of an input: the same part, the same way up, and the map between the two."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from simfrcnn.errors import ConfigError
from simfrcnn.records import Prepared
from simfrcnn.settings import AugmentationSettings, InputSettings
from simfrcnn.training.loading import RecordDataset, load_sample
from support.data_examples import make_finding, make_record

PADDED = InputSettings((64, 64), crop_to_breast=True, keep_aspect=True)
STRETCHED = InputSettings((50, 70), crop_to_breast=False, keep_aspect=False)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A breast at the left of black film, with a square in it."""
    pixels = np.random.default_rng(0).integers(0, 12, (200, 160), dtype=np.uint8)
    pixels[30:170, 0:90] = np.linspace(70, 140, 90)
    pixels[80:100, 40:60] = 250
    cv2.imwrite(str(tmp_path / "film.png"), pixels)
    return tmp_path / "film.png"


@pytest.mark.parametrize("settings", [PADDED, STRETCHED])
@pytest.mark.parametrize(("across", "down"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_a_box_lies_on_the_same_thing_in_both(
    film: Path, settings: InputSettings, across: float, down: float
) -> None:
    sample = load_sample(
        make_record(1, make_finding((40, 80, 60, 100)), path=film, height=200, width=160),
        input_settings=settings,
        classes=("malignant",),
        training=True,
        augmentation=AugmentationSettings(horizontal_flip=across, vertical_flip=down),
        rng=np.random.default_rng(0),
        native=True,
    )
    assert sample.native is not None
    assert sample.targets is not None
    pixels, frame = sample.native.pixels, sample.native.frame
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert (frame.original_height, frame.original_width) == tuple(pixels.shape)
    x1, y1, x2, y2 = (round(side) for side in frame.to_original(sample.targets.boxes)[0].tolist())
    assert (x2 - x1, y2 - y1) == (20, 20)  # stored pixels, whatever the input's size
    assert (pixels[y1:y2, x1:x2] == 250).all()
    assert int((pixels == 250).sum()) == 400
    # What the input shows is what the stored pixels show, brought to its size.
    shown = (sample.image[0] > 50).float().mean() * sample.image[0].numel()
    there = (pixels > 50).float().sum() * frame.scale_x * frame.scale_y
    assert float(there) == pytest.approx(float(shown), rel=0.05)


def test_only_what_the_input_shows_is_kept(film: Path) -> None:
    (sample,) = RecordDataset(
        [make_record(1, path=film, height=200, width=160)], PADDED, native=True
    )
    assert sample.native is not None
    height, width = sample.native.pixels.shape
    assert height < 180  # 140 of breast and its margins, of 200
    assert (
        RecordDataset([make_record(1, path=film, height=200, width=160)], PADDED)[0].native is None
    )
    assert width <= 160


def test_a_picture_that_was_prepared_as_input_has_nothing_to_magnify(film: Path) -> None:
    whole = Prepared(200, 160, 1, 0, 1, 0)
    record = dataclasses.replace(make_record(1, path=film, height=200, width=160), prepared=whole)
    assert RecordDataset([record], PADDED, native=True)[0].native is not None
    small = InputSettings((200, 160))
    record = dataclasses.replace(record, prepared=dataclasses.replace(whole, as_input=small))
    with pytest.raises(ConfigError, match=r"film\.png: .*200 x 160.*--size full.*SOURCE to input"):
        load_sample(record, input_settings=small, classes=(), training=False, native=True)
