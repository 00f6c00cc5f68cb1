"""Embedded data sets that are there already: those of another version are used, and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simfrcnn.data.coco import read_coco
from simfrcnn.data.weaken import weaken
from simfrcnn.errors import OutputError
from simfrcnn.locks import locked
from simfrcnn.phantom.generate import GENERATOR_VERSION, MANIFEST, write_outlined
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.workflows.phantoms import make_missing_phantoms, make_phantoms
from support.commands import ONE_ENGINE
from support.examples import engine_named, smoke_config


@pytest.fixture
def in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path))
    folder = tmp_path / "phantom_tiny"
    make_phantoms(PRESETS["tiny"], folder)
    return folder


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_of_another_version_is_named_and_left_as_it_is(
    in_place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = smoke_config(engine_named(ONE_ENGINE), "fpn")
    assert all(name.startswith("phantom_tiny/") for name in cfg.DATASETS.TRAIN)
    make_missing_phantoms(cfg)
    assert not caplog.records
    manifest = in_place / MANIFEST
    older = {**json.loads(manifest.read_text()), "generator_version": 1}
    manifest.write_text(json.dumps(older))
    before = content_of(in_place)
    make_missing_phantoms(cfg)
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert f"version 1 of the phantom generator, and this is version {GENERATOR_VERSION}" in (
        said.getMessage()
    )
    assert f"make-phantoms --preset tiny --out {in_place} --overwrite" in said.getMessage()
    assert content_of(in_place) == before
    with pytest.raises(OutputError, match="no complete phantom data set of this version"):
        write_outlined(in_place)
    caplog.clear()
    weaken(read_coco(in_place / "train.json"), in_place / "train_labels.json", n_patients=1, seed=0)
    make_phantoms(PRESETS["tiny"], in_place, overwrite=True)
    assert not caplog.records  # train.json is what it was
    make_phantoms(PRESETS["tiny"], in_place, seed=1, overwrite=True)
    (said,) = caplog.records
    assert f"{in_place / 'train_labels.json'} was made from another train.json" in said.getMessage()
    (in_place / "train_labels.json").unlink()
    caplog.clear()
    make_missing_phantoms(cfg)
    assert not caplog.records


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder, half_written = tmp_path / "phantoms", tmp_path / "phantoms" / ".train.json.0.part"
    with locked(folder):
        half_written.touch()  # of the run that is at work
        with pytest.raises(OutputError, match="another run is at work there"):
            make_phantoms(PRESETS["tiny"], folder)
        assert half_written.exists()


def test_a_training_says_that_another_process_makes_the_set(in_place: Path) -> None:
    (in_place / MANIFEST).unlink()
    before = content_of(in_place)
    cfg = smoke_config(engine_named(ONE_ENGINE), "fpn")
    with locked(in_place), pytest.raises(OutputError, match=r"again when .*phantom\.json is there"):
        make_missing_phantoms(cfg)
    assert content_of(in_place) == before
