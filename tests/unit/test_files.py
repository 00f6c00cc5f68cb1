"""Atomic writing: the old file or the whole new one, never a part."""

import errno
import gc
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from simfrcnn.errors import DataError, OutputError
from simfrcnn.files import (
    as_json,
    as_json_lines_below,
    collector_at_rest,
    copy_file,
    require_new_or_empty,
    require_writable,
    require_writable_file,
    sha256_of,
    write_files,
    write_json,
    write_text,
    writing,
    writing_folder,
)

DOCUMENT = {
    "none": None,
    "empty": {},
    "no rows": [],
    "figures": {"a": {"value": 0.1, "n": {"cases": 3}}, "ä": 1e-300},
    "units": {"case": [{"id": "1\n2", "score": 0.5}, {"id": "\udce9", "score": 1}], "image": []},
    "pairs": ((1, 2), [True, False, []]),
}


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 9])
def test_a_document_of_lines_says_what_the_indented_one_says(levels):
    text = as_json_lines_below(DOCUMENT, levels)
    assert json.loads(text) == json.loads(as_json(DOCUMENT))
    if levels == 3:
        assert '  "case": [\n   {"id": "1\\n2", "score": 0.5},\n   {"id"' in text
    if levels == 9:  # an empty list or object stays on its line, as with Python's own indent
        assert text == as_json(DOCUMENT)


def test_a_document_of_lines_refuses_what_is_not_json():
    with pytest.raises(ValueError, match="Out of range"):
        as_json_lines_below({"rows": [{"value": float("nan")}]}, 2)


def test_the_collector_works_again_after_its_rest_and_after_a_failure():
    assert gc.isenabled()
    with collector_at_rest():
        assert not gc.isenabled()
        with collector_at_rest():
            pass
        assert not gc.isenabled()  # the outer block still runs
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_at_rest():
        raise ZeroDivisionError
    assert gc.isenabled()


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

    monkeypatch.setattr("os.open", refuse)
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


def test_large_files_are_made_when_the_one_before_is_on_disk(tmp_path):
    def further(n_whole):
        for number in range(3):
            if number == n_whole:
                raise ZeroDivisionError
            parts = [path.read_text() for path in sorted(tmp_path.rglob("*.part"))]
            assert parts == ["small", *(f"large {before}" for before in range(number))]
            yield f"pages/{number}", f"large {number}".encode()

    with pytest.raises(ZeroDivisionError):
        write_files(tmp_path, {"a": b"small"}, further(2))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    write_files(tmp_path, {"a": b"small"}, further(None))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [*"012", "a"]
    assert (tmp_path / "pages" / "2").read_bytes() == b"large 2"


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
        require_new_or_empty(folder)
        with writing_folder(folder) as temporary:
            write_text(temporary / "first.txt", "1")
            write_text(temporary / "second.txt", "2")
        assert sorted(os.listdir(folder)) == ["first.txt", "second.txt"]


def test_a_folder_of_results_never_mixes_with_other_files(tmp_path):
    (tmp_path / "x").write_text("precious")
    for folder in (tmp_path, tmp_path / "x"):
        with pytest.raises(OutputError, match="not a new or empty folder"), writing_folder(folder):
            pass
        with pytest.raises(OutputError, match="not a new or empty folder"):
            require_new_or_empty(folder)
    with (
        pytest.raises(OutputError, match="a file, not a folder"),
        writing_folder(tmp_path / "x" / "y"),
    ):
        pass
    assert (tmp_path / "x").read_text() == "precious"
    assert os.listdir(tmp_path) == ["x"]


def test_an_error_of_reading_is_not_one_of_writing(tmp_path):
    """Root may read everything: a folder in place of a file stands for what cannot be read."""
    source, target = tmp_path / "source.dcm", tmp_path / "copy.dcm"
    source.mkdir()

    def copy(read):
        with writing(target) as temporary:
            temporary.write_bytes(read())

    with pytest.raises(IsADirectoryError, match=r"source\.dcm"):
        copy(source.read_bytes)
    with pytest.raises(PermissionError, match=r"secret\.dcm"):
        copy(lambda: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no", "secret.dcm")))
    with pytest.raises(DataError, match=r"cannot read .*source\.dcm: Is a directory"):
        copy_file(source, target)
    with pytest.raises(DataError, match=r"cannot read .*nothing\.dcm: No such file"):
        copy_file(tmp_path / "nothing.dcm", target)
    assert os.listdir(tmp_path) == ["source.dcm"]


def test_a_copy_that_does_not_fit_is_an_error_of_writing(tmp_path, monkeypatch):
    """Copying in the kernel names both files, whichever of them was at fault."""
    source = tmp_path / "source.dcm"
    source.write_bytes(b"x")

    def fill_up(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fill_up)
        with pytest.raises(OutputError, match=r"copy\.dcm: the disk is full"):
            copy_file(source, tmp_path / "copy.dcm")
    copy_file(source, tmp_path / "copy.dcm")
    assert (tmp_path / "copy.dcm").read_bytes() == b"x"


@pytest.mark.parametrize("length", [251, 4 * 251])
def test_long_names_are_written_or_refused_in_a_line(tmp_path, length):
    path = tmp_path / f"{'n' * length}.txt"
    if length == 251:  # the temporary file's name must not be longer than is legal
        write_text(path, "x")
        assert os.listdir(tmp_path) == [path.name]
    else:
        with pytest.raises(OutputError, match="longer than the file system allows"):
            write_text(path, "x")
        assert os.listdir(tmp_path) == []


def test_file_names_that_are_no_text_survive_json(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.dcm")
    write_json(tmp_path / "x.json", {"file": name})
    content = (tmp_path / "x.json").read_bytes()
    assert json.loads(content)["file"] == name
    assert os.fsencode(json.loads(content)["file"]) == b"caf\xe9 \xc3\xa9.dcm"
    assert "é" in content.decode("utf-8")
    write_text(tmp_path / "x.md", name)
    assert (tmp_path / "x.md").read_text(encoding="utf-8") == "caf\\udce9 é.dcm"


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    """It belongs to all threads: a file that another one makes in that moment would be open."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was changed"))
    threads = [
        threading.Thread(target=write_text, args=(tmp_path / str(number), "x"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(os.listdir(tmp_path)) == [str(number) for number in range(8)]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_private_files_are_the_owners_alone_from_their_first_byte(tmp_path, umask):
    old = os.umask(umask)
    try:
        with writing(tmp_path / "private", private=True) as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o600
        with writing(tmp_path / "plain"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device_is_reported_as_such(tmp_path):
    def write_to_full_device():
        with writing(tmp_path / "x"), open("/dev/full", "wb") as stream:
            stream.write(b"x" * 10_000_000)

    with pytest.raises(OutputError, match="disk is full"):
        write_to_full_device()


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="path is a file, or a link to nothing"):
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


def test_a_place_that_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    require_writable(tmp_path / "new" / "er")
    require_writable_file(tmp_path / "new" / "file.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OutputError, match=r"write .*file/x/y: a part of that path is a file"):
        require_writable(tmp_path / "file" / "x" / "y")
    with pytest.raises(OutputError, match=r"cannot write .*: that path is a folder"):
        require_writable_file(tmp_path)
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    with pytest.raises(OutputError, match=r"write .*new/er: no permission to write there"):
        require_writable(tmp_path / "new" / "er")


@pytest.mark.parametrize(
    ("target", "reason"), [("gone", "a link to nothing"), ("link", "a link to nothing|leads back")]
)
def test_a_place_behind_a_broken_link(tmp_path, target, reason):
    (tmp_path / "link").symlink_to(tmp_path / target)
    for make in (require_writable, lambda place: write_text(place / "x", "abc")):
        for place in (tmp_path / "link", tmp_path / "link" / "deeper"):
            with pytest.raises(OutputError, match=rf"cannot write .*link.*: .*{reason}"):
                make(place)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_file_system_in_which_no_folder_can_be_made(tmp_path, monkeypatch):
    """Such as /proc, which says that the new folder does not exist."""

    def mkdir(self, *args, **kwargs):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutputError, match=r"cannot write .*new/x: no folder can be made there"):
        write_text(tmp_path / "new" / "x", "abc")
