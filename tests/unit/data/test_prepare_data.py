"""The command that turns MIAS into annotation files."""

from __future__ import annotations

import argparse
import errno
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simfrcnn.cli import prepare_data
from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.source import SourceData
from simfrcnn.data.splits import assert_no_patient_leak
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.workflows import prepare as workflow


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """20 patients, the left breast of every second with a malignant mass."""
    root = tmp_path / "films"
    root.mkdir()
    rows = [
        f"mdb{n:03d} G CIRC M 40 50 {5 + n // 4}" if n % 4 == 0 else f"mdb{n:03d} G NORM"
        for n in range(1, 41)
    ]
    (root / "Info.txt").write_text("prose\n" + "\n".join(rows))
    for n in range(1, 41):
        cv2.imwrite(str(root / f"mdb{n:03d}.png"), np.full((1024, 1024), n, np.uint8))
    return root


def prepare(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    prepare_data.add_arguments(parser)
    return prepare_data.run(parser.parse_args(["mias", *map(str, arguments)]))


@pytest.mark.parametrize(
    ("info", "said"),
    [({}, "no description and no reference"), ({"description": "films"}, "states no reference")],
)
def test_a_reader_states_what_it_read(info: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        SourceData((), {}, info, ())


def test_three_files_that_can_be_read(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare("--root", films, "--out", out) == 0
    sets = {name: read_coco(out / f"{name}.json") for name in ("train", "val", "test")}
    assert {name: len(data.records) for name, data in sets.items()} == {
        "train": 24,
        "val": 8,
        "test": 8,
    }
    assert_no_patient_leak({name: data.records for name, data in sets.items()})
    positives = {
        name: sum(record.is_positive(("malignant",)) for record in data.records)
        for name, data in sets.items()
    }
    assert positives == {"train": 6, "val": 2, "test": 2}
    assert sets["val"].info["seed"] == 0
    assert sets["val"].info["target_classes"] == ["CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM"]
    assert sets["val"].records[0].path.parent == films
    printed = capsys.readouterr().out
    assert "train: 12 patients, 24 images" in printed
    assert "boxes:  6 malignant" in printed
    assert (
        "40 images\ndivided: at random by patient, train=0.6 val=0.2 test=0.2\ntrain: " in printed
    )


def test_the_same_seed_gives_the_same_bytes(films: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare("--root", films, "--out", tmp_path / name, "--seed", 3)
    prepare("--root", films, "--out", tmp_path / "other", "--seed", 4)
    one, two, other = (
        (tmp_path / name / "test.json").read_bytes() for name in ("one", "two", "other")
    )
    assert one == two
    assert one != other


def test_copies_stand_alone(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("--root", films, "--out", out, "--copy", "--fractions", "train=0.5", "test=0.5")
    names = {entry["file_name"] for entry in json.loads((out / "test.json").read_text())["images"]}
    assert all(name.startswith("images/mdb") for name in names)
    films.rename(tmp_path / "moved")
    assert len(read_coco(out / "test.json").records) == 20


def test_copies_replace_no_other_film_unasked(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    other = out / "images" / "mdb004.png"
    other.write_bytes(b"another film of this name")
    with pytest.raises(OutputError, match=r"mdb004\.png is there already"):
        prepare("--root", films, "--out", out, "--copy")
    assert other.read_bytes() == b"another film of this name"
    assert not list(out.glob("*.json"))
    prepare("--root", films, "--out", out, "--copy", "--overwrite")
    assert other.read_bytes() == (films / "mdb004.png").read_bytes()


def test_the_default_folder_is_that_of_the_data_sets(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path / "sets"))
    prepare("--root", films)
    assert (tmp_path / "sets" / "mias" / "train.json").is_file()


def test_nothing_is_replaced_unasked(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("--root", films, "--out", out)
    before = (out / "val.json").read_bytes()
    with pytest.raises(OutputError, match=r"already there: .*train\.json"):
        prepare("--root", films, "--out", out, "--seed", 9)
    assert (out / "val.json").read_bytes() == before
    prepare("--root", films, "--out", out, "--seed", 9, "--overwrite")
    assert (out / "val.json").read_bytes() != before


def test_a_split_of_another_division_is_not_left_beside_new_ones(
    films: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepare("--root", films, "--out", out)
    fractions = ("--fractions", "train=0.5", "test=0.5")
    with pytest.raises(OutputError, match=r"val\.json: belongs to another division"):
        prepare("--root", films, "--out", out, "--overwrite", *fractions)
    (out / "val.json").unlink()
    assert prepare("--root", films, "--out", out, "--overwrite", *fractions) == 0


@pytest.mark.parametrize("words", [("--copy",), ("--cache", "8bit")], ids=str)
@pytest.mark.parametrize(("root", "out"), [("a", "a"), ("a", "a/b"), ("a/images", "a")])
def test_pictures_never_mix_with_those_of_the_source(
    films: Path, tmp_path: Path, root: str, out: str, words: tuple[str, ...]
) -> None:
    source = tmp_path / root
    source.parent.mkdir(exist_ok=True)
    films.rename(source)
    before = {path: path.read_bytes() for path in source.iterdir()}
    with pytest.raises(ConfigError, match=r"--out .* would lie among those of --root"):
        prepare("--root", source, "--out", tmp_path / out, "--overwrite", *words)
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_all_annotation_files_are_written_or_none(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare("--root", films, "--out", out)
    before = {path: path.read_bytes() for path in out.iterdir()}

    def full_at_the_last(content: object, **_: object) -> str:
        if "test" in content["info"]["description"]:  # type: ignore[index]
            raise OSError(errno.ENOSPC, "full")
        return "{}"

    monkeypatch.setattr(workflow, "as_json", full_at_the_last)
    with pytest.raises(OSError, match="full"):
        prepare("--root", films, "--out", out, "--seed", 9, "--overwrite")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("share", ["train", "train=x", "train=0", "a/b=1", "train=2"])
def test_bad_fractions(films: Path, tmp_path: Path, share: str) -> None:
    with pytest.raises(ConfigError, match=r"--fractions.*SPLIT=SHARE"):
        prepare("--root", films, "--out", tmp_path / "out", "--fractions", share)


def test_a_refusal_leaves_nothing_behind(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="split 'tiny' gets no patient"):
        prepare("--root", films, "--out", out, "--fractions", "train=0.99", "tiny=0.01")
    with pytest.raises(DataError, match="sum to 1"):
        prepare("--root", films, "--out", out, "--fractions", "train=0.5")
    with pytest.raises(DataError, match="gone: no such folder"):
        prepare("--root", tmp_path / "gone", "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_second_run_into_the_same_folder_is_refused_and_disturbs_nothing(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """It begins when the first one has looked for files that are in its way, and found none."""
    out, refusals = tmp_path / "out", list[str]()
    divided = workflow.divided

    def meanwhile(*arguments: Any) -> Any:
        if not refusals:
            with pytest.raises(OutputError) as caught:
                prepare("--root", films, "--out", out, "--seed", 1, "--cache", "8bit", *options)
            refusals.append(str(caught.value))
        return divided(*arguments)

    monkeypatch.setattr(workflow, "divided", meanwhile)
    assert prepare("--root", films, "--out", out) == 0
    assert refusals == [
        f"{out}: another run is at work there: wait until it has ended, or give another folder"
    ]
    assert sorted(path.name for path in out.iterdir()) == ["test.json", "train.json", "val.json"]
    assert json.loads((out / "train.json").read_text())["info"]["seed"] == 0


def test_a_new_folder_goes_again_where_the_source_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare("--root", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
