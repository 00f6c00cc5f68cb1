"""Many files at once: in their order, and ended in order by Ctrl-C and by a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simfrcnn.data.parallel import _interrupts_held, in_parallel

_SCRIPT = """
import signal, sys, time
from pathlib import Path
from simfrcnn.data.parallel import in_parallel

def work(path):
    Path(path).touch()
    time.sleep(float(sys.argv[2]))
    Path(path + "-done").touch()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    items = [f"{sys.argv[1]}/{n}" for n in range(400)]
    try:
        list(in_parallel(work, items, title="t", unit="u", n_workers=2))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("n_workers", [0, 2])
def test_results_come_in_order(n_workers: int) -> None:
    found = in_parallel(abs, list(range(-9, 0)), title="t", unit="u", n_workers=n_workers)
    assert list(found) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the items of the script leave their marks."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "script.py").write_text(_SCRIPT)
    return tmp_path / "marks"


@contextlib.contextmanager
def running(folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """The script in a group of its own, once its first item has begun."""
    words = [sys.executable, str(folder.parent / "script.py"), str(folder), str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not any(folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process


def test_an_interrupt_ends_all_processes_quietly(folder: Path) -> None:
    with running(folder, 0.05) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        printed, errors = process.communicate(timeout=30)
    assert printed == "interrupted\n"
    assert "Traceback" not in errors
    assert 0 < len(list(folder.iterdir())) < 400


def test_an_interrupt_while_processes_are_started_is_not_lost() -> None:
    arrived = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it

    def interrupted() -> None:
        with _interrupts_held():
            signal.raise_signal(signal.SIGINT)
            arrived.append("not yet")

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert arrived == ["not yet"]


def test_processes_end_with_a_parent_that_was_killed(folder: Path) -> None:
    with running(folder, 1.0) as process:
        process.kill()
        process.communicate(
            timeout=30
        )  # until the last of the group has closed its end of the pipe
    assert not list(folder.glob("*-done"))
