"""The folder: the same bytes whatever the workers, resumable, and nobody else's files touched."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest

from simfrcnn.cli import make_phantoms
from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.facts import facts_of
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.files import sha256_of
from simfrcnn.phantom import generate as generating
from simfrcnn.phantom.generate import INCOMPLETE, MANIFEST, generate
from simfrcnn.phantom.presets import PRESETS, SPLITS
from simfrcnn.records import FindingSource, Pathology, Supervision

TINY = PRESETS["tiny"]


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


def test_three_workers_write_the_bytes_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    generate(TINY, tmp_path / "three", seed=0, n_workers=3)
    assert hashes(tmp_path / "three") == hashes(tiny_folder)


# Every process imports it at its start; only those of the run draw a view.
_KILLS = """
import os, signal
from simfrcnn.phantom import generate as generating

def render(*words):
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out

generating.render_view = render
"""
_SCRIPT = """
import sys
from pathlib import Path
from simfrcnn.errors import DataError
from simfrcnn.phantom.generate import generate
from simfrcnn.phantom.presets import PRESETS

try:
    generate(PRESETS["tiny"], Path(sys.argv[1]), seed=0, n_workers=2)
except DataError as error:
    print(error)
"""


def test_a_killed_worker_ends_the_run_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(_KILLS)
    places = [str(tmp_path / "start"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "phantoms: a process was killed" in done.stdout
    assert (tmp_path / "out" / INCOMPLETE).exists()


def test_another_seed_gives_another_data_set(tiny_folder: Path, tmp_path: Path) -> None:
    generate(TINY, tmp_path, seed=1)
    first, second = hashes(tiny_folder), hashes(tmp_path)
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_files_and_counts(tiny_folder: Path) -> None:
    names = hashes(tiny_folder)
    n_images = sum(name.endswith(".dcm") for name in names)
    assert n_images == 4 * TINY.n_patients
    assert {name for name in names if name.endswith(".json")} == {
        MANIFEST, "train.json", "val.json", "test.json", "train_oracle.json",
    }  # fmt: skip
    manifest = json.loads((tiny_folder / MANIFEST).read_text(encoding="utf-8"))
    assert (manifest["preset"]["name"], manifest["seed"]) == ("tiny", 0)
    for split in SPLITS:
        size = TINY.split(split)
        counts = manifest["counts"][split]
        assert counts["n_patients"] == size.n_malignant + size.n_normal
        assert counts["n_normal"] == 4 * size.n_normal
        assert counts["n_boxes"] + counts["n_image_label"] == 2 * size.n_malignant
        assert counts["n_unlabelled"] == 2 * size.n_malignant


def test_annotations_follow_the_rules_of_supervision(tiny_folder: Path) -> None:
    patients: dict[str, set[str]] = {}
    for split in SPLITS:
        annotated = read_coco(tiny_folder / f"{split}.json")
        patients[split] = {record.patient_id for record in annotated.records}
        for record in annotated.records:
            assert record.split == split
            dataset = pydicom.dcmread(record.path)
            assert (record.height, record.width) == (dataset.Rows, dataset.Columns)
            assert record.laterality is not None
            assert record.laterality.value == dataset.ImageLaterality
            assert record.patient_id == dataset.PatientID
            inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
            assert (record.attributes["vendor"] == "A") is inverted
            assert record.attributes["age"] == facts_of(record.path).person["age"]
            assert bool(record.findings) == (record.supervision is Supervision.BOXES)
            for finding in record.findings:
                assert finding.category == "malignant"
                assert finding.pathology is record.pathology is Pathology.MALIGNANT
                assert finding.source is FindingSource.RADIOLOGIST
                assert finding.lesion_id is not None
                assert finding.lesion_id.startswith(record.breast_id)
    assert not set.intersection(*patients.values())
    assert sum(len(ids) for ids in patients.values()) == TINY.n_patients


def test_the_oracle_adds_benign_boxes_and_changes_nothing_else(tiny_folder: Path) -> None:
    plain = read_coco(tiny_folder / "train.json").records
    oracle = read_coco(tiny_folder / "train_oracle.json").records
    n_benign = 0
    for ours, theirs in zip(plain, oracle, strict=True):
        assert ours.file_name == theirs.file_name
        assert ours.supervision is theirs.supervision
        assert ours.pathology is theirs.pathology
        malignant = [finding for finding in theirs.findings if finding.category == "malignant"]
        assert [finding.box for finding in malignant] == [finding.box for finding in ours.findings]
        for finding in theirs.findings:
            if finding.category == "benign":
                n_benign += 1
                assert finding.source is FindingSource.ORACLE
                assert finding.pathology is Pathology.BENIGN
        if theirs.supervision is Supervision.NORMAL:
            assert bool(theirs.findings) == (theirs.pathology is Pathology.BENIGN)
    assert n_benign > 0


def test_an_interrupted_run_is_finished_without_doing_work_twice(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(TINY, tmp_path, seed=0, progress=interrupt)
    assert (tmp_path / INCOMPLETE).exists()
    assert not list(tmp_path.glob("t*.json"))
    finished = sorted(tmp_path.rglob("*.dcm"))
    assert len(finished) == 20
    finished[0].write_bytes(finished[0].read_bytes()[:5000])
    finished[1].write_bytes(b"")
    (finished[0].parent / ".half.dcm.x.part").write_bytes(b"rest of a kill")

    drawn = Counter[str]()
    render = generating.render_view

    def counting(exam, laterality, view, *rest):  # type: ignore[no-untyped-def]
        drawn[exam.file_name(laterality, view)] += 1
        return render(exam, laterality, view, *rest)

    monkeypatch.setattr(generating, "render_view", counting)
    generate(TINY, tmp_path, seed=0)
    assert sum(drawn.values()) == 4 * TINY.n_patients - 18
    assert hashes(tmp_path) == hashes(tiny_folder)


def test_a_finished_data_set_is_kept_as_it_is(tiny_folder: Path) -> None:
    before = hashes(tiny_folder)
    times = {path: path.stat().st_mtime_ns for path in tiny_folder.rglob("*.dcm")}
    generate(TINY, tiny_folder, seed=0)
    assert hashes(tiny_folder) == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_folder_with_something_else_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis\.txt.*--overwrite"):
        generate(TINY, tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_phantoms_of_another_seed_are_refused_then_replaced(tmp_path: Path) -> None:
    generate(TINY, tmp_path, seed=0)
    before = hashes(tmp_path)
    with pytest.raises(OutputError, match=r"preset tiny, seed 0.*--overwrite"):
        generate(TINY, tmp_path, seed=2)
    assert hashes(tmp_path) == before
    foreign = tmp_path / "dicom" / "mine" / "film.dcm"
    foreign.parent.mkdir()
    foreign.write_text("not a phantom")
    generate(TINY, tmp_path, seed=2, overwrite=True)
    after = hashes(tmp_path)
    assert after.pop("dicom/mine/film.dcm")
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize("moment", ["first picture", "third picture", "before the new set"])
def test_a_replacement_that_is_interrupted_can_be_given_again(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(tiny_folder, folder)
    calls = Counter[str]()
    last = {"first picture": 1, "third picture": 3}.get(moment)

    def interrupted(name: str, n: int | None, function: Any) -> Any:
        def call(*args: Any) -> None:
            calls[name] += 1
            if calls[name] == n:
                raise KeyboardInterrupt
            function(*args)

        return call

    with monkeypatch.context() as during:
        n_files = None if last else 2
        during.setattr(shutil, "rmtree", interrupted("rmtree", last, shutil.rmtree))
        during.setattr(
            generating, "write_json", interrupted("write_json", n_files, generating.write_json)
        )
        with pytest.raises(KeyboardInterrupt):
            generate(TINY, folder, seed=2, overwrite=True)
    assert not (folder / MANIFEST).exists()  # nobody takes what is left for a whole set
    with pytest.raises(OutputError, match=r"preset tiny, seed 0.*--overwrite"):
        generate(TINY, folder, seed=2)
    generating._claim(folder, generating._identity(TINY, 2), overwrite=True)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [INCOMPLETE]
    generating._claim(folder, generating._identity(TINY, 2), overwrite=False)


def test_annotations_of_another_data_set_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("a week of work")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"train\.json without a readable phantom\.json"):
            generate(TINY, tmp_path, seed=0, overwrite=overwrite)
    assert (tmp_path / "train.json").read_text() == "a week of work"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("a file")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        generate(TINY, path, seed=0)


@pytest.mark.parametrize(("setting", "name"), [("n_workers", "--workers"), ("seed", "--seed")])
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, setting: str, name: str
) -> None:
    numbers = {"seed": 0, "n_workers": 1} | {setting: -1}
    with pytest.raises(ConfigError, match=rf"{name} is -1"):
        generate(TINY, tmp_path / "out", **numbers)
    assert not (tmp_path / "out").exists()


def test_the_generator_runs_without_torch() -> None:
    code = (
        "import sys, simfrcnn.phantom.generate, simfrcnn.cli.make_phantoms; "
        "print([name for name in ('torch', 'torchvision', 'detectron2') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_command_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    make_phantoms.add_arguments(parser)
    args = parser.parse_args(["--preset", "tiny", "--out", str(tmp_path / "out"), "--seed", "7"])
    assert make_phantoms.run(args) == 0
    captured = capsys.readouterr()
    assert "train: patients 7, images 28" in captured.out
    assert str(tmp_path / "out" / MANIFEST) in captured.out
    assert "56/56" in captured.err


def test_an_unknown_preset_is_refused_with_the_legal_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = argparse.ArgumentParser()
    make_phantoms.add_arguments(parser)
    with pytest.raises(SystemExit) as refusal:
        parser.parse_args(["--preset", "huge", "--out", "x"])
    assert refusal.value.code == 2
    message = capsys.readouterr().err
    assert all(name in message for name in ("huge", *PRESETS))
