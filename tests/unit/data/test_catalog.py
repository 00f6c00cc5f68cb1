"""Names of data sets and the files that they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from simfrcnn.data.catalog import load, parse_files, read, reading_once, resolve
from simfrcnn.data.coco import write_coco
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from support.data_examples import make_record
from support.file_counts import counting_files


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path))
    write_coco(tmp_path / "clinic" / "train.json", [make_record(4)], {1: "malignant"}, {})
    return tmp_path


def test_a_name_is_folder_and_split(root: Path) -> None:
    assert resolve("clinic/train", {}) == root / "clinic" / "train.json"


def test_an_explicit_path_goes_first(root: Path) -> None:
    other = root / "other.json"
    write_coco(other, [make_record(9)], {1: "malignant"}, {})
    files = parse_files([f"clinic/train = {other}", f"mine={other}"])
    assert resolve("clinic/train", files) == other
    assert load("mine", files, check_files=False).records[0].image_id == 9
    assert load("clinic/train", {}, check_files=False).records[0].image_id == 4


def test_the_default_root_is_the_datasets_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMFRCNN_DATASETS")
    (root / "datasets").symlink_to(root)
    monkeypatch.chdir(root)
    assert resolve("clinic/train", {}) == root / "datasets" / "clinic" / "train.json"


def test_an_unknown_name_lists_what_there_is(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        resolve("clinic/tran", {"mine": "x.json"})
    message = str(caught.value)
    assert str(root / "clinic" / "tran.json") in message
    assert "there are: clinic/train" in message
    assert "given explicitly: mine" in message


def test_an_explicit_path_must_exist(root: Path) -> None:
    with pytest.raises(DataError, match=r"'mine'.*does not exist.*gone\.json"):
        resolve("mine", {"mine": str(root / "gone.json")})


def test_a_folder_is_no_annotation_file(root: Path) -> None:
    with pytest.raises(DataError, match=rf"'mine': {root} is a folder; give a COCO file"):
        resolve("mine", {"mine": str(root)})


@pytest.mark.parametrize("entry", ["clinic/train", "=a.json", "name="])
def test_malformed_entries(entry: str) -> None:
    with pytest.raises(ConfigError, match="is not NAME=PATH"):
        parse_files([entry])


def test_a_name_with_two_paths() -> None:
    assert parse_files(["a=1.json", "a=1.json"]) == {"a": "1.json"}
    with pytest.raises(ConfigError, match=r"'a' is given two paths: 1\.json and 2\.json"):
        parse_files(["a=1.json", "a=2.json"])


def test_in_a_run_each_file_is_read_once_and_each_image_looked_for_once(tmp_path: Path) -> None:
    path, picture = tmp_path / "train.json", tmp_path / "a.png"
    picture.write_bytes(b"")
    write_coco(path, [make_record(4, path=picture)], {1: "malignant"}, {})

    @reading_once()
    def run() -> None:
        first = read(path, check_files=False)
        with reading_once():
            assert read(path) is first
        assert load("mine", {"mine": str(path)}) is first

    with counting_files() as counts:
        run()
    assert (counts.opened[path], counts.looked_for[picture]) == (1, 1)
    with counting_files() as counts:
        assert read(path).records == read(path).records
    assert (counts.opened[path], counts.looked_for[picture]) == (2, 2)


def test_in_a_run_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    write_coco(path, [make_record(4)], {1: "malignant"}, {})
    with reading_once():
        read(path, check_files=False)
        with pytest.raises(AnnotationError, match="1 of 1 image file is missing"):
            read(path)
        write_coco(path, [make_record(5)], {1: "malignant"}, {})
        assert read(path, check_files=False).records[0].image_id == 5
        path.unlink()
        with pytest.raises(AnnotationError, match="cannot be opened"):
            read(path, check_files=False)
