"""Atomic writing: the old file or the whole new one, never a part."""

import errno
import os

import pytest

from simfrcnn.errors import OutputError
from simfrcnn.files import sha256_of, write_json, write_text, writing


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
