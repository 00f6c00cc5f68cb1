"""A picture stored in a mirror is hung up right for the network, and boxes stay where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simfrcnn.data.prepared import CacheSettings, cache_images
from simfrcnn.images.reading import load_pixels
from simfrcnn.records import Box, ImageRecord
from simfrcnn.settings import InputSettings
from simfrcnn.structures import Sample
from simfrcnn.training.loading import load_sample
from support.data_examples import make_finding, make_record, write_dicom

pytestmark = pytest.mark.data

BOX: Box = (20.0, 60.0, 50.0, 101.0)
INPUTS = [
    InputSettings((64, 64)),
    InputSettings((48, 80), crop_to_breast=False),
    InputSettings((300, 256), keep_aspect=False),
]
MIRRORS: dict[str, Any] = {
    "left-right": (["P", "R"], (slice(None), slice(None, None, -1))),
    "top-bottom": (["A", "HR"], (slice(None, None, -1), slice(None))),
    "both": (["P", "L"], (slice(None, None, -1), slice(None, None, -1))),
}


def mirrored(box: Box, name: str) -> Box:
    x1, y1, x2, y2 = box
    if name != "top-bottom":
        x1, x2 = 150 - x2, 150 - x1
    if name != "left-right":
        y1, y2 = 200 - y2, 200 - y1
    return x1, y1, x2, y2


def view(folder: Path, name: str | None = None) -> ImageRecord:
    """A left breast at the left, its lesion bright; or the same, stored in a mirror."""
    y, x = np.mgrid[:200, :150]
    depth = np.clip(1 - (x / 90) ** 2 - ((y - 110) / 80) ** 2, 0, 1)
    stored = (1000 * depth + 3000 * (depth > 0) * (x < 50) * (x >= 20) * (y >= 60) * (y < 101)) + 40
    orientation, order = MIRRORS[name] if name else (["A", "R"], slice(None))
    path = write_dicom(
        folder / f"{name}.dcm",
        np.ascontiguousarray(stored.astype(np.uint16)[order]),
        PatientOrientation=orientation,
    )
    finding = make_finding(mirrored(BOX, name) if name else BOX)
    return make_record(1, finding, path=path, height=200, width=150, pixel_spacing_mm=(0.1, 0.2))


def sample_of(record: ImageRecord, settings: InputSettings, training: bool = True) -> Sample:
    return load_sample(record, input_settings=settings, classes=("malignant",), training=training)


@pytest.mark.parametrize("settings", INPUTS, ids=str)
@pytest.mark.parametrize("name", MIRRORS)
def test_the_network_sees_the_standard_hanging(
    tmp_path: Path, name: str, settings: InputSettings
) -> None:
    right, mirror = (sample_of(view(tmp_path, n), settings) for n in (None, name))
    assert right.targets is not None
    assert mirror.targets is not None
    # Area averages may begin at the other end of a row; the crop is made to whole pixels.
    assert (right.image - mirror.image).abs().mean() < 1.5
    assert (right.targets.boxes - mirror.targets.boxes).abs().max() < 1.5


@pytest.mark.parametrize("name", MIRRORS)
def test_boxes_come_back_in_stored_pixels(tmp_path: Path, name: str) -> None:
    sample = sample_of(view(tmp_path, name), INPUTS[0])
    assert sample.targets is not None
    back = sample.frame.to_original(sample.targets.boxes)[0].tolist()
    assert back == pytest.approx(mirrored(BOX, name), abs=1e-3)
    x1, y1, x2, y2 = (round(edge) for edge in back)
    pixels = load_pixels(sample.record)  # as stored: what a reader of the result looks at
    assert pixels[y1:y2, x1:x2].min() > 180
    assert pixels[y1:y2, x1:x2].mean() > pixels.mean() + 100


@pytest.mark.parametrize("settings", [None, *INPUTS], ids=str)
@pytest.mark.parametrize("name", MIRRORS)
def test_prepared_pictures_hang_the_same(
    tmp_path: Path, name: str, settings: InputSettings | None
) -> None:
    record = view(tmp_path, name)
    cached = cache_images(
        [record],
        {1: tmp_path / "out" / "1.png"},
        CacheSettings(as_input=settings),
        fingerprint=str,
        n_workers=0,
    )
    (prepared,) = cached.records
    asked = settings or InputSettings((200, 150), crop_to_breast=False)
    live, stored = sample_of(record, asked), sample_of(prepared, asked)
    np.testing.assert_array_equal(live.image, stored.image)
    assert live.targets is not None
    assert stored.targets is not None
    assert (live.targets.boxes - stored.targets.boxes).abs().max() < 1e-3
    assert prepared.prepared is not None
    assert prepared.prepared.to_source(prepared.findings[0].box) == pytest.approx(
        mirrored(BOX, name), abs=1e-6
    )
    assert prepared.pixel_spacing_mm is not None
    assert min(prepared.pixel_spacing_mm) > 0


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("settings", INPUTS, ids=str)
@pytest.mark.parametrize("name", MIRRORS)
def test_whole_pictures_make_the_input_of_their_source(
    tmp_path: Path, name: str, settings: InputSettings, bits: int
) -> None:
    record = view(tmp_path, name)
    cached = cache_images(
        [record],
        {1: tmp_path / "out" / "1.png"},
        CacheSettings(bits, as_input=None),
        fingerprint=str,
        n_workers=0,
    )
    (prepared,) = cached.records
    assert prepared.prepared is not None
    for training in (True, False):
        live, stored = (sample_of(r, settings, training) for r in (record, prepared))
        assert (live.image - stored.image).abs().max() <= (bits == 16)
        detected = live.frame.to_input(torch.tensor([record.findings[0].box]))
        in_picture = stored.frame.to_original(detected)[0].tolist()
        found = prepared.prepared.to_source((*in_picture,))
        assert found == pytest.approx(record.findings[0].box, abs=1e-3)
