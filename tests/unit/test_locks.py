"""One run at a time in a folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from simfrcnn.errors import OutputError
from simfrcnn.files import writing_folder
from simfrcnn.locks import LOCK, is_locked, locked, working_in

KILLED_WITH_A_CHILD = """
import os, signal, sys, time
from pathlib import Path
from simfrcnn.locks import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
CHILD_LEAVES_THE_BLOCK = """
import os, sys
from pathlib import Path
from simfrcnn.errors import OutputError
from simfrcnn.locks import locked
folder = Path(sys.argv[1])
with locked(folder):
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], *os.listdir(folder))
        try:
            with locked(folder):
                print("entered")
        except OutputError:
            print("refused", flush=True)
"""


def test_a_folder_has_one_writer_at_a_time_and_keeps_no_lock(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "new"
    with locked(folder):
        with pytest.raises(OutputError, match="another run is at work there: wait"), locked(folder):
            pass
        with pytest.raises(OutputError, match="another run"), writing_folder(folder):
            pass
        assert os.listdir(folder) == [LOCK]
    assert os.listdir(folder) == []
    (folder / LOCK).touch()  # of a process that was killed
    with locked(folder):
        pass
    assert os.listdir(folder) == []

    def too_late(stream, operation):  # who held it has just ended, and somebody else begun
        (folder / LOCK).unlink()

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(OutputError, match="another run"), locked(folder):
        pass

    def unknown(stream, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked(folder):
        assert f"{folder} cannot be locked" in caplog.text


def test_a_child_that_outlives_its_killed_parent_keeps_nobody_out(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WITH_A_CHILD, str(tmp_path)], stdout=subprocess.PIPE
    )
    child = int(killed.stdout)
    try:
        assert killed.returncode == -signal.SIGKILL
        os.kill(child, 0)  # it lives
        with locked(tmp_path):
            assert os.listdir(tmp_path) == [LOCK]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_that_leaves_the_block_does_not_end_the_lock_of_its_parent(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD_LEAVES_THE_BLOCK, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert done.returncode == 0
    assert done.stdout.decode().split() == ["0", LOCK, "refused"]
    assert os.listdir(tmp_path) == []


def test_a_new_folder_in_which_nothing_was_left_goes_again(tmp_path):
    folder = tmp_path / "new"
    with working_in(folder):
        assert is_locked(folder)
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), working_in(folder):
        folder / str(1 / 0)
    assert not folder.exists()
    with working_in(folder):
        (folder / "a").touch()
    assert [path.name for path in folder.iterdir()] == ["a"]
    (folder / "a").unlink()
    with working_in(folder):
        pass
    assert folder.exists()  # it was there before


def test_folders_that_were_made_for_one_go_with_it(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(ZeroDivisionError), working_in(tmp_path / "old" / "x" / "y"):
        (tmp_path / "old" / str(1 / 0)).touch()
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
