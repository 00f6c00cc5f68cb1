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

from simfrcnn import parallel
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.parallel import available_cores, in_parallel, results_of, starting_processes

_WORK = """
import sys, time
from pathlib import Path

def work(path):
    Path(path).touch()
    time.sleep(float(sys.argv[2]))
    Path(path + "-done").touch()
"""
_SCRIPT = """
import signal, sys
from simfrcnn.parallel import in_parallel
from work import work

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
    (tmp_path / "work.py").write_text(_WORK)
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
        with starting_processes():
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


def _killed_at_three(item: int) -> int:
    """As the kernel does when memory runs out."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_killed_process_is_an_error_and_not_a_wait_for_ever() -> None:
    with pytest.raises(DataError, match=r"t: a process was killed.*fewer processes.*now 2"):
        list(results_of(_killed_at_three, list(range(9)), title="t", n_workers=2, chunk=1))


def test_a_negative_number_of_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--workers is -2: give 0"):
        list(in_parallel(abs, [1], title="t", unit="u", n_workers=-2))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"a/b/cpu.max": "150000 100000"}, 2),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ({"cpu.max": "50000 100000"}, 1),
        ({"a/b/cpu.max": "9900000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
    ids=str,
)
def test_cores_are_those_of_the_mask_and_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(parallel, "_CGROUPS", tmp_path)
    monkeypatch.setattr(parallel, "_own_group", lambda: "a/b")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == cores


def test_a_script_without_a_main_guard_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('here')\n"
        "from simfrcnn.parallel import in_parallel\n"
        "print(list(in_parallel(abs, [-1, -2, -3], title='t', unit='u', n_workers=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "here\n[1, 2, 3]\n", done.stderr
