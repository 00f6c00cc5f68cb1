"""Stored pictures train exactly like their source."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.prepared import Cached, CacheSettings, cache_images
from simfrcnn.errors import AnnotationError, ConfigError, DataError, OutputError
from simfrcnn.images.reading import record_of_file
from simfrcnn.records import ImageRecord
from simfrcnn.settings import AugmentationSettings, InputSettings
from simfrcnn.training.loading import load_sample
from support.data_examples import make_finding, make_record, write_dicom

pytestmark = pytest.mark.data

SETTINGS = [
    InputSettings((64, 64)),
    InputSettings((48, 80), crop_to_breast=False),
    InputSettings((80, 48), crop_to_breast=False, keep_aspect=False),
    InputSettings((300, 256), keep_aspect=False),
]
INSIDE, OUTSIDE = (20.0, 60.0, 50.0, 101.0), (130.0, 10.0, 149.0, 30.0)


def breast(seed: int = 0, white: int = 4000) -> NDArray[np.uint16]:
    """A noisy half disc at the left that fades towards its edge, 200 x 150 px of 16 bits."""
    y, x = np.mgrid[:200, :150]
    depth = np.clip(1 - (x / 90) ** 2 - ((y - 100) / 80) ** 2, 0, 1)
    noise = np.random.default_rng(seed).uniform(0.7, 1, depth.shape)
    return np.rint(white * depth * noise + 0.01 * white).astype(np.uint16)


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageRecord]:
    """DICOM, 8-bit and 16-bit PNG, with a finding in the crop, none, and one that leaves it."""
    folder = tmp_path / "source"
    folder.mkdir()
    write_dicom(
        folder / "1.dcm", breast(1), BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=3500
    )
    cv2.imwrite(str(folder / "2.png"), breast(2, 255).astype(np.uint8))
    cv2.imwrite(str(folder / "3.png"), breast(3))
    boxes = {1: [INSIDE], 2: [], 3: [INSIDE, OUTSIDE]}
    return [
        make_record(
            number,
            *(make_finding(box, finding_id=10 * number + k) for k, box in enumerate(boxes[number])),
            path=folder / name,
            height=200,
            width=150,
            pixel_spacing_mm=(0.07, 0.08),
        )
        for number, name in enumerate(("1.dcm", "2.png", "3.png"), start=1)
    ]


def cache(records: Sequence[ImageRecord], out: Path, *words: Any, **options: Any) -> Cached:
    places = {record.image_id: out / f"{record.image_id}.png" for record in records}
    return cache_images(
        records, places, CacheSettings(*words), fingerprint=str, **{"n_workers": 0, **options}
    )


def through_a_file(records: Sequence[ImageRecord], out: Path) -> tuple[ImageRecord, ...]:
    """As training gets them: written and read again."""
    write_coco(out / "train.json", records, {1: "malignant"}, {})
    return read_coco(out / "train.json").records


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_the_same_pixels_and_boxes_as_from_the_source(
    sources: list[ImageRecord],
    tmp_path: Path,
    settings: InputSettings,
    bits: int,
    training: bool,
) -> None:
    cached = cache(sources, tmp_path / "out", bits, settings)
    for before, after in zip(
        sources, through_a_file(cached.records, tmp_path / "out"), strict=True
    ):
        live, stored = (
            load_sample(
                record,
                input_settings=settings,
                classes=("malignant",),
                training=training,
                rng=np.random.default_rng(record.image_id),
                augmentation=AugmentationSettings(),
            )
            for record in (before, after)
        )
        difference = (live.image - stored.image).abs().max().item()
        # 16 bits are resized before they are rounded to 8.
        assert difference <= (0 if bits == 8 else 1)
        if training:
            assert live.targets
            assert stored.targets
            torch.testing.assert_close(stored.targets.boxes, live.targets.boxes)
            assert torch.equal(stored.targets.labels, live.targets.labels)
            assert stored.targets.is_normal == live.targets.is_normal


def test_pictures_are_small_and_facts_are_those_of_the_picture(
    sources: list[ImageRecord], tmp_path: Path
) -> None:
    settings = InputSettings((64, 64))
    first = through_a_file(cache(sources, tmp_path, 16, settings).records, tmp_path)[0]
    picture = cv2.imread(str(first.path), cv2.IMREAD_UNCHANGED)
    assert picture.dtype == np.uint16
    assert picture.shape == (first.height, first.width)
    assert max(picture.shape) == 64
    prepared = first.prepared
    assert prepared is not None
    assert (prepared.source_height, prepared.source_width) == (200, 150)
    assert prepared.as_input == settings
    assert first.pixel_spacing_mm == pytest.approx(
        (0.07 / prepared.scale_y, 0.08 / prepared.scale_x)
    )
    assert prepared.to_source(first.findings[0].box) == pytest.approx(INSIDE)
    assert prepared.to_stored(INSIDE) == pytest.approx(first.findings[0].box)
    everything = prepared.to_source((-99.0, -99.0, 900.0, 900.0))
    assert everything == (0, 0, 150, 200)


def test_a_finding_that_leaves_the_crop_keeps_its_image_whole(
    sources: list[ImageRecord], tmp_path: Path
) -> None:
    cached = cache(sources, tmp_path, 8, InputSettings((64, 64)))
    assert cached.n_whole == 1
    last = cached.records[2]
    assert (last.height, last.width) == (200, 150)
    assert last.findings == sources[2].findings
    assert last.prepared is not None
    assert last.prepared.as_input is None


def test_whole_pictures_serve_every_size(sources: list[ImageRecord], tmp_path: Path) -> None:
    cached = cache(sources, tmp_path, 8, None)
    assert cached.n_whole == 0
    for record, before in zip(cached.records, sources, strict=True):
        assert (record.height, record.width) == (200, 150)
        for settings in SETTINGS:
            live, stored = (
                load_sample(each, input_settings=settings, classes=(), training=False)
                for each in (before, record)
            )
            assert torch.equal(live.image, stored.image)


def test_a_dark_16_bit_picture_is_not_taken_for_12_bits(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    cv2.imwrite(str(path), np.full((40, 30), 7, np.uint8))
    record = make_record(1, path=path, height=40, width=30)
    cached = cache([record], tmp_path / "out", 16, InputSettings((40, 30), False))
    sample = load_sample(
        cached.records[0],
        input_settings=InputSettings((40, 30), False),
        classes=(),
        training=False,
    )
    assert sample.image.unique().tolist() == [7]


def test_a_picture_by_itself_knows_what_it_is(sources: list[ImageRecord], tmp_path: Path) -> None:
    cached = cache(sources, tmp_path, 8, InputSettings((64, 64))).records
    assert [record_of_file(r.path, 1).prepared for r in cached] == [r.prepared for r in cached]
    assert record_of_file(sources[1].path, 1).prepared is None
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(cached[0].path.read_bytes().replace(b'"prepared"', b'"repaired"'))
    with pytest.raises(DataError, match=r"damaged\.png: its text .* is damaged"):
        record_of_file(damaged, 1)


def test_another_input_than_was_prepared_is_refused(
    sources: list[ImageRecord], tmp_path: Path
) -> None:
    first = cache(sources, tmp_path, 8, InputSettings((64, 64))).records[0]
    with pytest.raises(ConfigError, match=r"1\.png: was prepared as input .*INPUT\.MAMMO\.SIZE"):
        load_sample(first, input_settings=InputSettings((64, 96)), classes=(), training=False)


def test_what_is_up_to_date_is_not_made_again(sources: list[ImageRecord], tmp_path: Path) -> None:
    settings = InputSettings((64, 64))
    first = cache(sources, tmp_path, 8, settings)
    assert (first.n_made, first.n_up_to_date) == (3, 0)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    again = cache(sources, tmp_path, 8, settings)
    assert (again.n_made, again.n_up_to_date) == (0, 3)
    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")} == times
    assert cache(sources, tmp_path, 16, settings).n_made == 3
    assert cache(sources, tmp_path, 16, InputSettings((64, 48))).n_made == 3
    os.utime(sources[1].path, (1, 1))
    changed = [
        dataclasses.replace(sources[0], findings=(make_finding((30, 60, 40, 70)),)),
        *sources[1:],
    ]
    assert cache(changed, tmp_path, 16, InputSettings((64, 48))).n_made == 2


def test_workers_make_the_same(sources: list[ImageRecord], tmp_path: Path) -> None:
    settings = InputSettings((64, 64))
    cache(sources, tmp_path / "one", 8, settings)
    cache(sources, tmp_path / "two", 8, settings, n_workers=2)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_files_that_cannot_be_read_are_collected(
    sources: list[ImageRecord], tmp_path: Path
) -> None:
    sources[0].path.write_bytes(b"no DICOM")
    sources[1].path.unlink()
    cached = cache(sources, tmp_path / "out", 8, InputSettings((64, 64)))
    assert [record.image_id for record in cached.records] == [3]
    assert [item.record for item in cached.unreadable] == sources[:2]
    for item in cached.unreadable:
        assert item.message.startswith(str(item.record.path))
    resized = [dataclasses.replace(sources[2], height=99)]
    assert "200 x 150" in cache(resized, tmp_path / "new").unreadable[0].message


def test_a_foreign_file_is_replaced_only_when_asked(
    sources: list[ImageRecord], tmp_path: Path
) -> None:
    foreign = tmp_path / "1.png"
    cv2.imwrite(str(foreign), np.zeros((9, 9), np.uint8))
    before = foreign.read_bytes()
    with pytest.raises(OutputError, match=r"1\.png is there already.*--overwrite"):
        cache(sources, tmp_path, 8, InputSettings((64, 64)))
    assert foreign.read_bytes() == before
    assert cache(sources, tmp_path, 8, InputSettings((64, 64)), overwrite=True).n_made == 3


def test_the_source_is_never_replaced(sources: list[ImageRecord], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sources[1].path.parent)
    places = {number: tmp_path / "link" / f"{number}.png" for number in (1, 2, 3)}
    before = sources[1].path.read_bytes()
    with pytest.raises(OutputError, match=r"2\.png is an image of the source itself"):
        cache_images(sources, places, CacheSettings(), fingerprint=str, overwrite=True, n_workers=0)
    assert sources[1].path.read_bytes() == before
    (tmp_path / "1.png").mkdir()
    with pytest.raises(OutputError, match=r"1\.png is a folder"):
        cache(sources, tmp_path, 8, InputSettings((64, 64)))


def test_two_images_of_one_place_are_refused(sources: list[ImageRecord], tmp_path: Path) -> None:
    places = {1: tmp_path / "a.png", 2: tmp_path / "b.png", 3: tmp_path / "a.png"}
    with pytest.raises(DataError, match=r"1\.dcm and .*3\.png would both become .*a\.png"):
        cache_images(sources, places, CacheSettings(), fingerprint=str, n_workers=0)


_KILLED = """
import os, signal, sys
from pathlib import Path
import simfrcnn.files as files
from simfrcnn.data.prepared import CacheSettings, cache_images
from simfrcnn.data.coco import read_coco

replace, n_done = os.replace, 0
def replace_or_die(source, target):
    global n_done
    if n_done == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    n_done += 1
    replace(source, target)
files.os.replace = replace_or_die
records = read_coco(Path(sys.argv[1])).records
out = Path(sys.argv[2])
places = {record.image_id: out / f"{record.image_id}.png" for record in records}
cache_images(records, places, CacheSettings(), fingerprint=str, n_workers=0)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    records = []
    for number in range(1, 9):
        path = source / f"{number}.png"
        cv2.imwrite(str(path), breast(number))
        records.append(make_record(number, path=path, height=200, width=150))
    records = list(through_a_file(records, source))
    out = tmp_path / "out"
    words = [sys.executable, "-c", _KILLED, str(source / "train.json"), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = {path: path.stat().st_mtime_ns for path in out.glob("[!.]*.png")}
    assert len(finished) == 4
    assert len(list(out.glob(".*.part"))) == 1
    again = cache(records, out)
    assert (again.n_made, again.n_up_to_date) == (4, 4)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    fresh = cache(records, tmp_path / "fresh")
    assert [r.prepared for r in fresh.records] == [r.prepared for r in again.records]
    contents = [{p.name: p.read_bytes() for p in f.iterdir()} for f in (out, tmp_path / "fresh")]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_x": 0.0}, "must be above 0"),
        ({"scale_y": "x"}, "'scale_y' must be a finite number"),
        ({"source_height": 0}, "'source_height' must be at least 1"),
        ({"as_input": {"size_px": [64]}}, "'as_input' must have size_px"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(
    sources: list[ImageRecord], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    records = cache(sources, tmp_path, 8, InputSettings((64, 64))).records
    through_a_file(records, tmp_path)
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    content["images"][0]["prepared"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_coco(path)
