"""Atomic writing: the old file or the whole new one, never a part."""

import errno
import os

import pytest

from simfrcnn.errors import OutputError
from simfrcnn.files import sha256_of, write_files, write_json, write_text, writing, writing_folder


def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail_in_the_middle():
        with writing(path) as temporary:
            temporary.write_text("half of the new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_names_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(OutputError, match=r"report\.json.*disk is full") as caught, writing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == []


def test_a_folder_that_may_not_be_changed_is_told_in_a_line(tmp_path, monkeypatch):
    """Root is refused by EPERM, and so is everybody by some network drives."""

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match=r"report\.json: no permission to write there"):
        write_text(tmp_path / "report.json", "new")


def test_files_that_belong_together_change_together(tmp_path, monkeypatch):
    write_files(tmp_path, {"a": b"old", "b": b"old"})
    n_written = 0

    def fill_up(_):
        nonlocal n_written
        n_written += 1
        if n_written == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(TypeError):
        write_files(tmp_path, {"a": b"new", "b": "not bytes"})
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill_up)
        with pytest.raises(OutputError, match=r"b: the disk is full"):
            write_files(tmp_path, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}
    (tmp_path / "c").mkdir()
    with pytest.raises(OutputError, match=r"c: that path is a folder"):
        write_files(tmp_path, {"c": b"new", "a": b"new"})
    (tmp_path / "c").rmdir()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}
    write_files(tmp_path, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_a_folder_of_results_is_whole_or_not_there(tmp_path):
    new, empty = tmp_path / "new", tmp_path / "empty"
    empty.mkdir()

    def fail_in_the_middle(folder):
        with writing_folder(folder) as temporary:
            write_text(temporary / "first.txt", "1")
            raise ZeroDivisionError

    for folder in (new, empty):
        with pytest.raises(ZeroDivisionError):
            fail_in_the_middle(folder)
    assert os.listdir(tmp_path) == ["empty"]
    assert os.listdir(empty) == []
    (empty / ".simfrcnn-unfinished-abc").mkdir()  # of a run that was killed
    (empty / ".simfrcnn-unfinished-abc" / "half.txt").write_text("")
    for folder in (new, empty):
        with writing_folder(folder) as temporary:
            write_text(temporary / "first.txt", "1")
            write_text(temporary / "second.txt", "2")
        assert sorted(os.listdir(folder)) == ["first.txt", "second.txt"]


def test_a_folder_of_results_never_mixes_with_other_files(tmp_path):
    (tmp_path / "x").write_text("precious")
    for folder in (tmp_path, tmp_path / "x"):
        with pytest.raises(OutputError, match="not a new or empty folder"), writing_folder(folder):
            pass
    with (
        pytest.raises(OutputError, match="a file, not a folder"),
        writing_folder(tmp_path / "x" / "y"),
    ):
        pass
    assert (tmp_path / "x").read_text() == "precious"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device_is_reported_as_such(tmp_path):
    def write_to_full_device():
        with writing(tmp_path / "x"), open("/dev/full", "wb") as stream:
            stream.write(b"x" * 10_000_000)

    with pytest.raises(OutputError, match="disk is full"):
        write_to_full_device()


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file, not a folder"):
        write_text(tmp_path / "file" / "x", "")


def test_folders_are_made_and_permissions_follow_the_umask(tmp_path):
    path = tmp_path / "new" / "a.txt"
    old = os.umask(0o027)
    try:
        write_text(path, "x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"auc": float("nan")})
    assert os.listdir(tmp_path) == []


def test_sha256_of_a_known_text(tmp_path):
    write_text(tmp_path / "x", "abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
