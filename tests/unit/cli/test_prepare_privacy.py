"""What leaves a clinic's folder when it is prepared, and what does not."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from simfrcnn.cli.main import main
from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.registry import SOURCES
from support.canaries import MARK, canary_folder, leaks, write_canary

pytestmark = pytest.mark.data

PUBLIC = {"mias", "cbis_ddsm", "inbreast", "vindr_mammo", "ddsm", "rsna", "cmmd", "chestxray14"}
N_PATIENTS = 10
Prepare = Callable[..., int]


def breast(seed: int) -> NDArray[np.uint16]:
    """A noisy half disc that fades towards its edge, 120 x 90 px."""
    y, x = np.mgrid[:120, :90]
    depth = np.clip(1 - (x / 60) ** 2 - ((y - 60) / 50) ** 2, 0, 1)
    noise = np.random.default_rng(seed).uniform(0.7, 1, depth.shape)
    return np.rint(4000 * depth * noise + 40).astype(np.uint16)


@pytest.fixture(scope="module")
def first_clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two views of ten patients, one a PNG, under telling names; every second has a cancer."""
    root = tmp_path_factory.mktemp("first") / "clinic"
    rows = []
    for number in range(2 * N_PATIENTS):
        patient = number // 2
        folder = canary_folder(root, str(patient))
        if number == 1:
            path = folder / "jane.png"
            cv2.imwrite(str(path), breast(number))
        else:
            path = write_canary(folder / f"CANARY{number}", breast(number), number)
        box = (10, 50, 24, 66) if patient % 2 else ("", "", "", "")
        label = "malignant" if patient % 2 else "normal"
        place = path.relative_to(root)
        rows.append([place, label, *box, f"{MARK}-{patient}", f"Doe lump {patient}", "B"])
    with open(root / "labels.csv", "w", newline="") as stream:
        columns = ["file", "label", "x1", "y1", "x2", "y2", "patient", "lesion", "density"]
        csv.writer(stream).writerows([columns, *rows])
    return root


@pytest.fixture
def clinic(first_clinic: Path, tmp_path: Path) -> Path:
    """A copy of it for one test: to write its files takes long."""
    return Path(shutil.copytree(first_clinic, tmp_path / "clinic of Dr Canary"))


@pytest.fixture
def prepare(clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares the clinic's folder in this process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(out: str = "out", *words: Any, root: Path = clinic) -> int:
        fixed = ["--root", root, "--out", tmp_path / out, "--split", "random", "--workers", 0]
        asked = ["prepare-data", "folder", *fixed, "--size", 64, *words]
        return main([str(word) for word in asked])

    return run


def id_map_of(state: Path) -> dict[str, dict[str, str]]:
    (path,) = (state / "simfrcnn" / "id_maps").iterdir()
    sources: dict[str, dict[str, str]] = json.loads(path.read_text())["sources"]
    return sources


def test_only_known_public_sets_keep_their_identifiers() -> None:
    assert {name for name, source in SOURCES.items() if source.has_public_ids} == PUBLIC


@pytest.mark.parametrize("words", [(), ("--cache", "16bit"), ("--size", "full")], ids=str)
def test_no_mark_of_the_source_appears_in_any_output(
    prepare: Prepare, clinic: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert leaks(clinic), "the marks are in the source"
    assert prepare("out", *words) == 0
    out = tmp_path / "out"
    assert leaks(out) == []
    records = [
        r for split in ("train", "val", "test") for r in read_coco(out / f"{split}.json").records
    ]
    assert len(records) == 2 * N_PATIENTS
    assert len({record.patient_id for record in records}) == N_PATIENTS
    assert {path.name for path in out.iterdir()} == {
        "images",
        *map("{}.json".format, ("train", "val", "test")),
    }
    assert len(list((out / "images").iterdir())) == 2 * N_PATIENTS
    chunks = (out / "images").joinpath(records[0].path.name).read_bytes()
    assert chunks.count(b"tEXt") == 1


def test_the_files_say_how_they_were_made(prepare: Prepare, tmp_path: Path) -> None:
    assert prepare() == 0
    info = json.loads((tmp_path / "out" / "train.json").read_text())["info"]
    assert info["identifiers"] == "pseudonyms: keyed hashes, HMAC-SHA256"
    size = {"size_px": [64, 64], "crop_to_breast": True, "keep_aspect": True}
    assert info["prepared"] == {"bits": 8, "as_input": size}


def test_the_id_map_leads_back_and_is_private(
    prepare: Prepare, clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare() == 0
    private = sorted(path for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert len(private) == 2
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private)
    printed = capsys.readouterr().out
    assert all(str(path) in printed for path in private)
    back = id_map_of(tmp_path / "state")
    for record in read_coco(tmp_path / "out" / "test.json").records:
        source = clinic / back["image"][record.path.stem]
        assert source.is_file()
        assert back["patient"][record.patient_id] == f"{MARK}-{source.parts[-3][-1]}"


def test_the_split_is_that_of_the_source_whatever_the_key(
    prepare: Prepare, clinic: Path, tmp_path: Path
) -> None:
    prepare("kept", "--keep-identifiers")
    prepare("one", "--key-file", tmp_path / "k1", "--id-map", tmp_path / "m1")
    prepare("two", "--key-file", tmp_path / "k2", "--id-map", tmp_path / "m2")
    ours = {}
    for out, id_map in (("one", "m1"), ("two", "m2")):
        back = json.loads((tmp_path / id_map).read_text())["sources"]["patient"]
        records = read_coco(tmp_path / out / "test.json").records
        ours[out] = {record.patient_id for record in records}
        kept = read_coco(tmp_path / "kept" / "test.json").records
        assert {back[patient] for patient in ours[out]} == {r.patient_id for r in kept}
    assert not ours["one"] & ours["two"]


def test_identifiers_are_kept_when_asked(prepare: Prepare, tmp_path: Path) -> None:
    assert prepare("out", "--keep-identifiers") == 0
    train = json.loads((tmp_path / "out" / "train.json").read_text())
    assert train["info"]["identifiers"] == "those of the source"
    assert all(image["patient_id"].startswith(MARK) for image in train["images"])
    assert all("Canary_Doe" in image["file_name"] for image in train["images"])
    assert not (tmp_path / "state").exists()


def test_kept_identifiers_need_no_pictures(prepare: Prepare, clinic: Path, tmp_path: Path) -> None:
    def run(out: str, *words: str) -> int:
        fixed = ("prepare-data", "folder", "--root", str(clinic), "--out", str(tmp_path / out))
        return main([*fixed, "--split", "random", "--cache", "none", "--workers", "0", *words])

    assert run("out", "--keep-identifiers") == 0
    assert read_coco(tmp_path / "out" / "train.json").records[0].path.is_relative_to(clinic)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cache", "none", "--size", "512"), "--keep-identifiers"),
        (("--cache", "none"), "--size: is for stored pictures"),
        (("--copy",), "--copy copies the source's files"),
        (("--keep-identifiers", "--key-file", "k"), "makes no pseudonyms"),
        (("--key-file", "{out}/key"), "--key-file .*lies inside the output folder"),
        (("--id-map", "{out}/deep/map"), "--id-map .*lies inside the output folder"),
        (("--size", "full", "--stretch"), "--size full stores whole images"),
        (("--size", "5"), "of at least 32 pixels"),
        (("--size", "64", "64", "64"), "one number, or height and width"),
    ],
)
def test_what_would_leak_or_contradicts_is_refused(
    prepare: Prepare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert prepare("out", *(word.format(out=tmp_path / "out") for word in words)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_key_that_others_can_read_is_refused(
    prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    assert prepare("one", "--key-file", key) == 0
    key.chmod(0o644)
    assert prepare("two", "--key-file", key) == 2
    assert "can be read by others" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def test_the_output_must_not_lie_in_the_source(
    prepare: Prepare, clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(str(clinic / "out")) == 2
    assert "would lie among those of --root" in capsys.readouterr().err


def test_unreadable_images_are_named_and_nothing_is_dropped_unasked(
    prepare: Prepare, clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = canary_folder(clinic, "3") / "CANARY6"
    broken.write_bytes(broken.read_bytes()[:-5000])
    assert prepare() == 2
    error = capsys.readouterr().err
    assert f"1 of {2 * N_PATIENTS} images cannot be read" in error
    assert "--skip-unreadable" in error
    assert str(broken.relative_to(clinic)) in error
    assert str(clinic) not in error.split("images cannot be read")[1]
    assert not list((tmp_path / "out").glob("*.json"))
    assert prepare("out", "--skip-unreadable") == 0
    printed = capsys.readouterr().out
    assert f"pictures: 0 made, {2 * N_PATIENTS - 1} up to date" in printed
    assert "1 image cannot be read, left out" in printed
    train = json.loads((tmp_path / "out" / "train.json").read_text())
    assert train["info"]["n_unreadable_left_out"] == 1
    assert leaks(tmp_path / "out") == []


def test_pictures_of_patients_who_are_gone_are_told(
    prepare: Prepare, clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    assert "are in no annotation file" not in capsys.readouterr().out
    table = clinic / "labels.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-2]) + "\n")
    assert prepare("out", "--overwrite") == 0
    assert "2 pictures in" in capsys.readouterr().out


def test_names_that_a_pipe_cannot_show_end_no_run(
    prepare: Prepare, clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clinic / "M\u00fcller.png").write_bytes(b"not in the table")
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="ascii"))
    assert prepare() == 0
    sys.stdout.flush()
    assert b"not used: M\\xfcller.png" in pipe.getvalue()


def test_a_second_run_makes_only_what_is_new(
    prepare: Prepare, clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert prepare() == 2
    assert "--overwrite" in capsys.readouterr().err
    assert prepare("out", "--overwrite") == 0
    assert f"pictures: 0 made, {2 * N_PATIENTS} up to date" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
