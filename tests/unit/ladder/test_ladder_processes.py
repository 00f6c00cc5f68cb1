"""Commands side by side: failures, kills, interruptions, and two programs in one folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from simfrcnn.ladder import processes
from simfrcnn.ladder.processes import Command, clock, run_commands

LONG = "import time\nprint('begun', flush=True)\ntime.sleep(60)"


@pytest.fixture
def job(tmp_path):
    def make(name, code):
        return Command(name, (sys.executable, "-c", code), tmp_path / "logs" / f"{name}.log")

    return make


@pytest.fixture
def said():
    return []


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_in(path):
    wait_for(lambda: path.exists() and path.read_text().strip().isdigit())
    return int(path.read_text())


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_jobs_get_the_environment_of_a_slot_and_never_more_than_there_are_slots(
    job, said, tmp_path
):
    code = (
        "import os, time, pathlib\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "mine = here / ('busy_' + os.environ['GPU'])\n"
        "mine.touch(exist_ok=False)\n"  # fails if two share a slot
        "time.sleep(0.1)\n"
        "print(os.environ['GPU'], os.environ['OMP_NUM_THREADS'])\n"
        "mine.unlink()"
    )
    jobs = [job(f"job{i}", code) for i in range(5)]
    assert run_commands(jobs, [{"GPU": "0"}, {"GPU": "1"}], say=said.append) == {}
    printed = {each.log.read_text() for each in jobs}
    assert printed <= {"0 1\n", "1 1\n"}
    assert sum("started" in line for line in said) == 5
    assert said[-1].startswith("[5/5] job")
    assert any("left" in line for line in said)


def test_a_failure_and_a_kill_are_told_with_the_last_lines_and_the_others_go_on(job, said):
    jobs = [
        job("broken", "import sys\nprint('reading')\nsys.exit('error: no such file')"),
        job("killed", "import os, signal\nprint('at step 3', flush=True)\nos.kill(os.getpid(), 9)"),
        job("fine", "print('ok')"),
    ]
    failures = run_commands(jobs, [{}], say=said.append)
    assert list(failures) == ["broken", "killed"]
    assert "exit code 1" in failures["broken"]
    assert failures["broken"].endswith(": error: no such file")
    assert "ended by signal 9" in failures["killed"]
    assert failures["killed"].endswith("at step 3")
    assert jobs[2].log.read_text() == "ok\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_reaches_every_child_once_and_waits_for_it(job, said, tmp_path, number):
    code = (
        "import time, pathlib\n"
        "try:\n    print('begun', flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.3)\n    print('saved')\n    exit(130)"
    )
    jobs = [job("one", code), job("two", code), job("never", code)]

    def interrupt():
        # the whole line: where Python does not buffer, its end is a write of its own
        wait_for(lambda: all(j.log.exists() and j.log.read_text() == "begun\n" for j in jobs[:2]))
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_commands(jobs, [{}, {}], say=said.append)
    thread.join()
    assert [j.log.read_text() for j in jobs[:2]] == ["begun\nsaved\n"] * 2
    assert not jobs[2].log.exists()
    assert "interrupted: stopping 2 runs" in said[-1]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_child_that_does_not_end_is_killed_with_what_it_started(job, said, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_TO_STOP", 0.3)
    code = (
        "import signal, subprocess, sys, time, pathlib\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )

    def interrupt():
        pid_in(tmp_path / "pid")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_commands([job("stubborn", code)], [{}], say=said.append)
    thread.join()
    pid = pid_in(tmp_path / "pid")
    wait_for(lambda: not is_alive(pid) or _is_zombie(pid))


def _is_zombie(pid):
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_folder_in_which_a_process_lives_is_left_alone(job, said):
    """As after a kill of the first program: the lock is the child's, not its parent's."""
    long = job("run", LONG)
    child = processes._start(long, {})
    try:
        wait_for(lambda: long.log.read_text() == "begun\n")
        failures = run_commands([long, job("other", "print('ok')")], [{}], say=said.append)
        assert list(failures) == ["run"]
        assert "another process is at work" in failures["run"]
        assert long.log.read_text() == "begun\n"
    finally:
        child.process.kill()
        child.process.wait()
    assert run_commands([job("run", "print('later')")], [{}], say=said.append) == {}
    assert long.log.read_text() == "begun\nlater\n"


def test_a_clock_is_read_in_hours_minutes_and_seconds():
    assert [clock(s) for s in (0.4, 59.6, 61, 3600 + 62)] == ["0:00", "1:00", "1:01", "1:01:02"]
