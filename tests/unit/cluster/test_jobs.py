"""Commands as jobs of this machine and of a real Slurm: followed, taken up again, queued again."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from simfrcnn.cluster import jobs as jobs_module
from simfrcnn.cluster.jobs import RECORD, Job, SlurmSilentError, run_jobs
from simfrcnn.cluster.settings import ClusterSettings, Launcher
from simfrcnn.cluster.task import Task
from simfrcnn.errors import ArtifactError, ConfigError, OutputError
from simfrcnn.locks import locked

pytest.importorskip("submitit")

QUICK = ClusterSettings(poll_s=0.2, time_min=1, grace_s=20, at_a_time=2)
PATIENCE_S = 60
SAVES = """
import pathlib, signal, sys, time
done = pathlib.Path(sys.argv[1])
asked = []
signal.signal(signal.SIGUSR2, lambda *_: asked.append(1))
n = len(done.read_text()) if done.exists() else 0
while n < 8:
    n += 1
    time.sleep(0.1)
    done.write_text("x" * n)
    if n == 3:
        done.with_name("ready").touch()
        while not asked:
            time.sleep(0.02)
    if asked:
        print("saved at", n)
        sys.exit(130)
print("went on to the end")
"""
"""A command that counts to 8 and goes on where it was; at 3 it waits until it is asked to save."""


def python(name: str, code: str, *arguments: object) -> Job:
    return Job(name, (sys.executable, "-c", code, *map(str, arguments)))


def appends(name: str, path: Path) -> Job:
    code = "import sys; open(sys.argv[1], 'a').write('once ')"
    return python(name, code, path)


def wait_for(is_there: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(params=["local", "slurm"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    return request.param  # type: ignore[no-any-return]


def test_jobs_run_and_one_that_fails_is_named_with_its_log(
    launcher: Launcher, tmp_path: Path
) -> None:
    said: list[str] = []
    jobs = [
        appends("good", tmp_path / "good"),
        python("bad", "import sys; print('error: no such thing'); sys.exit(2)"),
        replace(python("lists", "import sys; sys.exit(3)"), good_codes=(0, 3)),
    ]
    folder = tmp_path / "jobs"
    failures = run_jobs(jobs, folder, launcher, QUICK, say=said.append)
    assert list(failures) == ["bad"]
    assert "exit code 2" in failures["bad"]
    assert failures["bad"].endswith("error: no such thing")
    log = Path(failures["bad"].partition("see ")[2].partition(")")[0])
    assert "error: no such thing" in log.read_text()
    ids = [one["id"] for one in json.loads((folder / RECORD).read_text()).values()]
    assert len(set(ids)) == 3
    assert all(any(number in line for line in said) for number in ids)
    assert "good: done" in said
    # The same again: what is done is not done again, what failed is tried again.
    assert list(run_jobs(jobs, folder, launcher, QUICK, say=said.append)) == ["bad"]
    assert (tmp_path / "good").read_text() == "once "


def test_a_job_that_must_end_saves_and_goes_on(launcher: Launcher, tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "jobs"

    def interrupt() -> None:
        wait_for((tmp_path / "ready").exists)
        if launcher == "slurm":  # as Slurm does when the time is nearly over
            (one,) = json.loads((folder / RECORD).read_text()).values()
            os.system(f"scancel --signal=USR2 {one['id']}")
        else:
            task_of(folder).send_signal(signal.SIGUSR2)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    failures = run_jobs([python("a", SAVES, state)], folder, launcher, QUICK, say=print)
    interrupter.join()
    assert failures == {}
    assert state.read_text() == "x" * 8
    (log,) = folder.glob("logs_1/*_log.out")
    text = log.read_text()
    assert "a: this job must end; it saves, and goes on later" in text
    assert text.index("saved at 3") < text.index("went on to the end")


@pytest.mark.slow
def test_a_job_that_slurm_ends_and_queues_again_goes_on(slurm: None, tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "jobs"

    def requeue() -> None:
        wait_for((tmp_path / "ready").exists)
        (one,) = json.loads((folder / RECORD).read_text()).values()
        os.system(f"scontrol requeue {one['id']}")  # as a preemption or a dead node

    requeuer = threading.Thread(target=requeue)
    requeuer.start()
    assert run_jobs([python("a", SAVES, state)], folder, "slurm", QUICK, say=print) == {}
    requeuer.join()
    assert state.read_text() == "x" * 8


def task_of(folder: Path) -> psutil.Process:
    """submitit's process that runs the task of the only local job of a folder."""

    def runs_it(child: psutil.Process) -> bool:
        try:
            words = child.cmdline()
        except psutil.Error:  # another process, at its end
            return False
        return "submitit.core._submit" in words and any(str(folder) in word for word in words)

    (task,) = filter(runs_it, psutil.Process().children(recursive=True))
    return task


def follow(jobs: list[Job], folder: Path, launcher: Launcher) -> None:
    run_jobs(jobs, folder, launcher, QUICK, say=print)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process with threads")
def test_whoever_follows_may_be_killed(launcher: Launcher, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "jobs"
    code = (
        "import sys, time, pathlib\nopen(sys.argv[1], 'a').write('once ')\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.05)"
    )
    jobs = [python("long", code, out, tmp_path / "end"), appends("short", tmp_path / "short")]
    follower = multiprocessing.get_context("fork").Process(
        target=follow, args=(jobs, folder, launcher)
    )
    follower.start()
    wait_for(lambda: out.exists() and (tmp_path / "short").exists())
    with pytest.raises(OutputError, match="another run is at work"):
        run_jobs(jobs, folder, launcher, QUICK, say=print)
    os.kill(follower.pid or 0, signal.SIGKILL)
    follower.join()
    said: list[str] = []
    other = [python("long", "print()"), jobs[1]]
    with pytest.raises(ConfigError, match="is at work there with other options"):
        run_jobs(other, folder, launcher, QUICK, say=said.append)
    threading.Timer(0.5, (tmp_path / "end").touch).start()
    assert run_jobs(jobs, folder, launcher, QUICK, say=said.append) == {}
    assert any(line.endswith("is under way") and line.startswith("long") for line in said)
    assert (out.read_text(), (tmp_path / "short").read_text()) == ("once ", "once ")


def test_a_job_that_is_killed_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()

    def kill() -> None:
        wait_for((tmp_path / "ready").exists)
        task = task_of(tmp_path / "jobs")
        for process in (task.parent(), task, *task.children()):
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    job = python("a", SAVES, tmp_path / "state")
    failures = run_jobs([job], tmp_path / "jobs", "local", QUICK, say=print)
    killer.join()
    assert "ended without a result" in failures["a"]


def test_slurm_says_why_it_refuses(slurm: None, tmp_path: Path) -> None:
    elsewhere = replace(QUICK, partition="elsewhere")
    with pytest.raises(ConfigError, match=r"Slurm refused the jobs: .*partition"):
        run_jobs([python("a", "")], tmp_path / "jobs", "slurm", elsewhere, say=print)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(ArtifactError, match=r"jobs\.json is damaged"):
        run_jobs([python("a", "")], tmp_path, "local", QUICK, say=print)


def test_a_local_job_with_setup_runs_and_is_ended_by_its_id(tmp_path: Path) -> None:
    settings = replace(QUICK, setup=("NOTE='set up'", "export NOTE"))
    code = "import os, sys, time; open(sys.argv[1], 'w').write(os.environ['NOTE'])"
    short = python("short", code, tmp_path / "short")
    assert run_jobs([short], tmp_path / "jobs", "local", settings, say=print) == {}
    assert (tmp_path / "short").read_text() == "set up"

    def kill() -> None:
        wait_for((tmp_path / "ready").exists)
        time.sleep(4 * settings.poll_s)  # would count as gone by now if it were not recognised
        record = json.loads((tmp_path / "jobs" / RECORD).read_text())
        os.kill(int(record["long"]["id"]), signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    code = (
        "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "pathlib.Path(sys.argv[2]).touch(); time.sleep(60)"
    )
    long = python("long", code, tmp_path / "pid", tmp_path / "ready")
    failures = run_jobs([long], tmp_path / "jobs", "local", settings, say=print)
    killer.join()
    assert "ended without a result" in failures["long"]
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "jobs" / "logs_2").is_dir()


def test_setup_that_fails_fails_the_job(tmp_path: Path) -> None:
    settings = replace(QUICK, setup=("exit 7",))
    failures = run_jobs([python("a", "")], tmp_path / "jobs", "local", settings, say=print)
    assert "exit code 7" in failures["a"]


def test_a_job_of_this_machine_has_no_limit_of_time(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    executor = jobs_module._executor(submitit, 1, tmp_path, "local", QUICK)
    assert executor.parameters["timeout_min"] > 365 * 24 * 60


def test_slurm_jobs_cannot_be_followed_where_there_is_no_squeue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = python("a", "")
    one = {"id": "12", "digest": job.digest, "launcher": "slurm", "folder": str(tmp_path)}
    (tmp_path / RECORD).write_text(json.dumps({"a": one}))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmSilentError, match=r"jobs\.json names jobs of Slurm.*delete"):
        run_jobs([job], tmp_path, "local", QUICK, say=print)


@pytest.mark.parametrize("has_result", [True, False])
def test_a_job_with_a_result_is_done_although_slurm_still_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_result: bool
) -> None:
    """Slurm lists a job for minutes after its end; one without a result is at work."""
    job = python("a", "")
    one = {"id": "12", "digest": job.digest, "launcher": "slurm", "folder": str(tmp_path)}
    (tmp_path / RECORD).write_text(json.dumps({"a": one}))
    result = tmp_path / "12_0_result.pkl"
    if has_result:
        result.write_bytes(pickle.dumps(("success", 0)))
    monkeypatch.setattr(jobs_module, "_slurm_queue", lambda: {"12": "COMPLETING"})
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        result.write_bytes(pickle.dumps(("success", 0)))  # the one at work ends

    assert run_jobs([job], tmp_path, "slurm", QUICK, say=say) == {}
    done = ["a: done before by job 12"]
    assert told == (done if has_result else ["a: job 12 is under way", "a: done"])


def test_logs_never_go_to_a_folder_of_before(tmp_path: Path) -> None:
    for name in ("logs_3", "logs_old"):
        (tmp_path / name).mkdir()
    assert jobs_module._new_logs(tmp_path).name == "logs_4"


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process with threads")
def test_a_command_that_outlives_its_task_keeps_the_lock(tmp_path: Path) -> None:
    ready, lock = tmp_path / "ready", tmp_path / "lock"
    code = (
        "import os, pathlib, sys, time\npath = pathlib.Path(sys.argv[1])\n"
        "path.with_suffix('.part').write_text(str(os.getpid()))\n"
        "path.with_suffix('.part').rename(path)\ntime.sleep(60)"
    )
    words = python("a", code, ready).words
    task = Task("a", words, str(tmp_path), str(lock), grace_s=5, own_session=True)
    process = multiprocessing.get_context("fork").Process(target=task)
    process.start()
    wait_for(ready.exists)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with pytest.raises(OutputError, match="another run is at work"), locked(lock):
        pass
    orphan = psutil.Process(int(ready.read_text()))
    orphan.kill()
    wait_for(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    with locked(lock):
        pass
