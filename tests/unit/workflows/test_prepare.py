"""The workflow as Python calls it, and the way back from a pseudonym."""

from __future__ import annotations

import doctest
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import simfrcnn
from simfrcnn.cli.main import main
from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.registry import SOURCES
from simfrcnn.described import descriptions
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.images.reading import read_image
from simfrcnn.settings import InputSettings
from simfrcnn.workflows import prepare as workflow
from simfrcnn.workflows.prepare import option_groups, prepare
from simfrcnn.workflows.whois import whois

pytestmark = pytest.mark.data


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures of 60 x 40 pixels, grey 40 with a bright half, of four patients."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "clinic"
    root.mkdir()
    pixels = np.full((60, 40), 40, np.uint8)
    pixels[:, :20] = 250
    lines = ["file,label,x1,y1,x2,y2,patient"]
    for n in range(4):
        cv2.imwrite(str(root / f"{n}.png"), pixels)
        lines.append(f"{n}.png,malignant,4,6,14,26,p{n}" if n % 2 else f"{n}.png,normal,,,,,p{n}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def run(root: Path, **options: Any) -> workflow.Prepared:
    chosen = {"workers": 0, "fractions": {"train": 0.5, "val": 0.5}, "size": "full", **options}
    return prepare("folder", root, root.parent / "out", **chosen)


def test_what_python_gets_is_what_was_written(clinic: Path) -> None:
    done = run(clinic)
    assert {name: path.name for name, path in done.files.items()} == {
        "train": "train.json", "val": "val.json",
    }  # fmt: skip
    train = done.counts["train"]
    assert (train.n_patients, train.n_images, train.n_positive, train.n_normal) == (2, 2, 1, 1)
    assert (train.n_left_out, dict(train.boxes)) == (0, {"malignant": 1})
    assert "4 exams: 4 of 1 image" in done.notes
    assert done.id_map is not None
    assert done.id_map.is_file()
    records = read_coco(done.files["train"]).records
    assert sorted(len(record.findings) for record in records) == [0, 1]
    assert f"train: 2 patients, 2 images -> {done.files['train']}" in done.lines()


def test_an_unknown_name_is_an_error_with_the_nearest(clinic: Path) -> None:
    with pytest.raises(ConfigError, match=r"source is 'foldr'.*Did you mean folder\?"):
        prepare("foldr", clinic)
    with pytest.raises(ConfigError, match=r"folder: the option is 'tabel'.*Did you mean table\?"):
        prepare("folder", clinic, tabel="x")
    with pytest.raises(ConfigError, match=r"--cache is '9bit'; legal is none \| 8bit \| 16bit"):
        run(clinic, cache="9bit")


def test_every_option_has_one_name() -> None:
    for source in SOURCES.values():
        names = [field.name for group in option_groups(source) for field in fields(group)]
        assert len(names) == len(set(names)), source.name
        assert all(each.help for g in option_groups(source) for each in descriptions(g))


def test_negatives_are_turned_round(clinic: Path) -> None:
    """Their crop too: the breast of a negative is its dark part."""
    plain = run(clinic)
    before = read_image(read_coco(plain.files["train"]).records[0].path)
    done = run(clinic, invert=True, overwrite=True)
    record = read_coco(done.files["train"]).records[0]
    np.testing.assert_array_equal(read_image(record.path), 255 - before)
    assert json.loads(done.files["train"].read_text())["info"]["prepared"]["inverted"] is True
    deep = read_coco(run(clinic, invert=True, cache="16bit", overwrite=True).files["train"])
    stored = cv2.imread(str(deep.records[0].path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(np.unique(stored), 65535 - np.array([250, 40]) * 257)


def test_the_crop_of_a_negative_is_that_of_the_picture(clinic: Path) -> None:
    """The bright half of a negative is air: it is the dark half, from 20 on, that is kept."""
    noise = np.random.default_rng(0)
    pixels = np.hstack([noise.integers(245, 256, (60, 20)), noise.integers(20, 120, (60, 20))])
    for path in clinic.glob("*.png"):
        cv2.imwrite(str(path), pixels.astype(np.uint8))
    done = run(clinic, invert=True, size=64)
    normal = next(r for r in read_coco(done.files["train"]).records if not r.findings)
    assert normal.prepared is not None
    x1, _, x2, _ = normal.prepared.to_source((0, 0, normal.width, normal.height))
    assert 14 < x1 < 20, "with its margin"
    assert x2 == 40


def test_pictures_for_a_config(clinic: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("INPUT:\n  MAMMO:\n    SIZE: [96, 64]\n    KEEP_ASPECT: false\n")
    config = tmp_path / "c.yaml"
    config.write_text("_BASE_: base.yaml\nINPUT:\n  MAMMO:\n    CROP_TO_BREAST: false\nODD: 1\n")
    done = run(clinic, size="512", for_config=config)
    record = read_coco(done.files["train"]).records[0]
    assert record.prepared is not None
    assert record.prepared.as_input == InputSettings((96, 64), False, False)
    assert (record.height, record.width) == (96, 64)
    with pytest.raises(ConfigError, match="--for states size, crop and aspect: leave out --size, "):
        run(clinic, for_config=config, stretch=True)
    with pytest.raises(ConfigError, match="--for: is for stored pictures"):
        run(clinic, size="512", for_config=config, cache="none", keep_identifiers=True)
    config.write_text("INPUT:\n  MAMMO:\n    SIZE: 5\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: INPUT\.MAMMO\.SIZE: "):
        run(clinic, size="512", for_config=config)


def test_a_part_without_a_positive_is_said(clinic: Path) -> None:
    (clinic / "labels.csv").write_text(
        "file,label,patient\n0.png,normal,p0\n1.png,normal,p1\n2.png,malignant,p2\n"
    )
    done = run(clinic)
    assert any(note.startswith("note: train, val: no image has a box of") for note in done.notes)


def test_whois_leads_back_to_the_file(
    clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(clinic)
    record = read_coco(done.files["train"]).records[0]
    number = int(record.path.stem, 16)
    for word in (record.path.stem, record.path.name, str(number), f"images/{record.path.name}"):
        (source,) = whois(word)
        assert (source.kind, source.id_map) == ("image", done.id_map)
        assert source.path == clinic / source.identifier
        assert source.path.is_file()
    patient = whois(record.patient_id)[0]
    assert (patient.kind, patient.identifier[0]) == ("patient", "p")
    assert whois(record.exam_id, done.id_map)[0].kind == "exam"
    capsys.readouterr()
    assert main(["whois", record.path.name]) == 0
    assert str(clinic / source.identifier) in capsys.readouterr().out
    older = done.id_map.with_name("older.json")
    older.write_bytes(done.id_map.read_bytes())
    os.utime(older, (0, 0))
    assert main(["whois", record.path.name]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"{clinic / source.identifier}  ({done.id_map} and 1 other map)")
    older.unlink()
    with pytest.raises(DataError, match=r"nobody is not in any of the 1 id maps"):
        whois("nobody")
    with pytest.raises(ConfigError, match="gone does not exist"):
        whois("nobody", tmp_path / "gone")
    with pytest.raises(ConfigError, match="is no id map of this version"):
        whois("nobody", done.files["train"])


def test_whois_without_any_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="holds no id map: name it with --id-map"):
        whois("patient-0")


def test_the_example_runs() -> None:
    (example,) = doctest.DocTestFinder().find(prepare, "prepare", globs={"simfrcnn": simfrcnn})
    assert doctest.DocTestRunner().run(example).failed == 0
