"""How are many commands run as jobs, and followed until all are done, whoever is killed meanwhile?

What was submitted stands in ``jobs.json``. The process that follows the jobs is of no importance to
them: started again, it takes up those that wait or run, passes over those that are done, and
submits the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from simfrcnn.cluster.extra import import_submitit, require_launcher
from simfrcnn.cluster.settings import ClusterSettings, Launcher
from simfrcnn.cluster.task import Task
from simfrcnn.errors import ArtifactError, ConfigError, SimFrcnnError
from simfrcnn.files import write_json
from simfrcnn.locks import locked
from simfrcnn.wording import counted

RECORD = "jobs.json"
_REQUEUES = 10_000
"""How often a job may use up its time: each time it goes on, so there is no reason to stop."""
_NO_LIMIT_MIN = 10 * 365 * 24 * 60
"""The time of a job of this machine: it need not make room for anybody."""
_LOST_AFTER = 3
"""Looks at a job that is gone without a result: a shared file system may be late."""
_LINES_SHOWN = 3
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class JobsFailedError(SimFrcnnError):
    """Jobs ended without what they were to do; their logs say why."""

    exit_code = 1


class SlurmSilentError(SimFrcnnError):
    """Slurm does not say how the jobs are; they are not affected."""


@dataclass(frozen=True)
class Job:
    """A command that goes on when it is started again.

    Attributes:
        name: Of its own.
        words: The command.
        identity: What it was made of beside its words; with another it is another job.
        good_codes: Exit codes that are no failure.
    """

    name: str
    words: tuple[str, ...]
    identity: str = ""
    good_codes: tuple[int, ...] = (0,)

    @property
    def digest(self) -> str:
        """Names the command."""
        return hashlib.sha256("\0".join((*self.words, self.identity)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted: its id, the command's digest, by what, and the folder of its log.

    The folder is new for each submission: the ids of ``local`` are those of processes, which come
    again.
    """

    id: str
    digest: str
    launcher: Launcher
    folder: str

    @property
    def log(self) -> Path:
        """What it prints, all goes of it."""
        return Path(self.folder, f"{self.id}_0_log.out")

    def code(self) -> int | None:
        """The exit code of the command once the job has ended; None without one."""
        submitit = import_submitit()
        paths = submitit.core.utils.JobPaths(self.folder, job_id=self.id, task_id=0)
        if not paths.result_pickle.exists():
            return None
        outcome, result = submitit.core.utils.pickle_load(paths.result_pickle)
        return int(result) if outcome == "success" else 1


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    launcher: Launcher,
    settings: ClusterSettings,
    *,
    say: Callable[[str], None],
    skips_done: bool = True,
) -> dict[str, str]:
    """Submit what is not done or under way, and follow all jobs until they have ended.

    Args:
        jobs: Each with a name of its own.
        folder: For ``jobs.json`` and the logs; one for each set of jobs.
        launcher: Slurm, or this machine.
        settings: What a job asks for.
        say: Takes one line per event.
        skips_done: Whether a job that ended well before is not submitted again.

    Returns:
        The jobs that failed: name -> why, with the log.

    Raises:
        ConfigError: submitit or Slurm is missing, or Slurm refuses the jobs.
        SlurmSilentError: squeue fails, or is not there, when the jobs are to be taken up.
        OutputError: Another process follows these jobs, or the folder cannot be written.
        KeyboardInterrupt: Ctrl-C. The jobs go on.
    """
    require_launcher(launcher)
    with locked(folder):
        followed = _Followed(jobs, folder, launcher, settings, say)
        try:
            followed.take_up(skips_done=skips_done)
            while not followed.are_over():
                time.sleep(settings.poll_s)
        except KeyboardInterrupt:
            end = "scancel" if launcher == "slurm" else "kill"
            ids = " ".join(sorted(one.id for one in followed.running.values()))
            say(f"the jobs go on; the same command follows them again ({end} {ids} ends them)")
            raise
    return followed.failures


def submitted_before(folder: Path) -> dict[str, Submitted]:
    """What :func:`run_jobs` has submitted, by the name of the job, as ``jobs.json`` says.

    Raises:
        ArtifactError: It is damaged.
    """
    return _read_record(folder / RECORD)


class _Followed:
    """The jobs of one call: which run, which wait to be submitted, and which failed."""

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: Path,
        launcher: Launcher,
        settings: ClusterSettings,
        say: Callable[[str], None],
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.folder, self.launcher, self.settings, self.say = folder, launcher, settings, say
        self.record = _read_record(folder / RECORD)
        self.running: dict[str, Submitted] = {}
        self.waiting: list[Job] = []
        self.failures: dict[str, str] = {}
        self._own: dict[str, Any] = {}
        self._missed: Counter[str] = Counter()
        self._said: dict[str, int] = {}

    def take_up(self, *, skips_done: bool) -> None:
        """Find out what is done and what runs; submit the rest."""
        known = {n: one for n, one in self.record.items() if n in self.jobs}
        try:
            under_way = _states(known)
        except FileNotFoundError as error:
            raise SlurmSilentError(
                f"{self.folder / RECORD} names jobs of Slurm, and squeue, which says how they are, "
                "is not here: give the command where they were submitted, or, once they have "
                "ended, delete that file"
            ) from error
        for job in self.jobs.values():
            before = self.record.get(job.name)
            if before is None or before.digest != job.digest:
                if before is not None and _is_at_work(job.name, before, under_way):
                    raise ConfigError(
                        f"{job.name}: job {before.id} is at work there with other options: wait "
                        "until it has ended, or end it, or give another output"
                    )
                self.waiting.append(job)
            elif _is_at_work(job.name, before, under_way):
                self.running[job.name] = before
                self.say(f"{job.name}: job {before.id} is under way")
            elif skips_done and before.code() in job.good_codes:
                self.say(f"{job.name}: done before by job {before.id}")
            else:
                self.waiting.append(job)
        self._submit()

    def are_over(self) -> bool:
        """Look at every job; whether all have ended."""
        try:
            states = _states(self.running)
        except SlurmSilentError as error:
            self.say(f"{error}; asked again in {self.settings.poll_s:g} s")
            return False
        for name, one in list(self.running.items()):
            code = one.code()
            if _is_at_work(name, one, states):
                self._missed[name] = 0
                continue
            if code is None:
                self._missed[name] += 1
                if self._missed[name] < _LOST_AFTER:
                    continue
            own = self._own.get(name) if one.launcher == "local" else None
            if own is not None and not own.done():  # it ends, and is reaped by this call soon
                continue
            del self.running[name]
            self._own.pop(name, None)
            if code in self.jobs[name].good_codes:
                self.say(f"{name}: done")
            else:
                self.failures[name] = _why(code, one.log)
                self.say(f"{name}: {self.failures[name]}")
        self._submit()
        self._say_states(Counter(states[name] for name in self.running if name in states))
        return not self.running and not self.waiting

    def _submit(self) -> None:
        """Submit what waits: on Slurm all as one array, here so many that not too many run."""
        if self.launcher == "slurm":
            chosen = self.waiting
        else:
            chosen = self.waiting[: max(0, (self.settings.at_a_time or 1) - len(self.running))]
        if not chosen:
            return
        self.waiting = self.waiting[len(chosen) :]
        logs = _new_logs(self.folder)
        handles = _submit(chosen, self.folder, logs, self.launcher, self.settings)
        for job, handle in zip(chosen, handles, strict=True):
            number = str(handle.job_id)
            self.running[job.name] = Submitted(number, job.digest, self.launcher, str(logs))
            self._own[job.name] = handle
        self.record |= self.running
        write_json(self.folder / RECORD, {n: asdict(one) for n, one in self.record.items()})
        for job in chosen:
            one = self.running[job.name]
            self.say(f"{job.name}: job {one.id}, log {one.log}")

    def _say_states(self, states: Mapping[str, int]) -> None:
        now = dict(sorted(states.items()))
        if now and now != self._said:
            self._said = now
            total = counted(len(self.jobs), "[job|jobs]")
            listed = ", ".join(f"{n} {state.lower()}" for state, n in now.items())
            self.say(f"of {total}: {listed}")


def _is_at_work(name: str, one: Submitted, states: Mapping[str, str]) -> bool:
    """Whether a job is listed and has no result: Slurm lists one for minutes after its end."""
    return name in states and (one.launcher == "local" or one.code() is None)


def _new_logs(folder: Path) -> Path:
    """A folder for the logs of a submission, with a number above all that are there."""
    numbers = [path.name.removeprefix("logs_") for path in folder.glob("logs_*")]
    logs = folder / f"logs_{max((int(n) for n in numbers if n.isdecimal()), default=0) + 1}"
    logs.mkdir()
    return logs


def _submit(
    jobs: Sequence[Job], folder: Path, logs: Path, launcher: Launcher, settings: ClusterSettings
) -> list[Any]:
    """submitit's own jobs, in their order."""
    submitit = import_submitit()
    executor = _executor(submitit, len(jobs), logs, launcher, settings)
    tasks = [
        Task(
            name=job.name,
            words=job.words,
            folder=os.getcwd(),
            lock=str(folder / "locks" / re.sub(r"[^\w.-]+", "_", job.name)),
            setup=settings.setup if launcher == "local" else (),
            grace_s=settings.grace_s,
            own_session=launcher == "local",
        )
        for job in jobs
    ]
    with _environment(), _without_interrupt():
        try:
            with executor.batch():
                return [executor.submit(task) for task in tasks]
        except submitit.core.utils.FailedJobError as error:
            raise ConfigError(f"Slurm refused the jobs: {_last_lines(str(error))}") from error


def _executor(
    submitit: Any, n_jobs: int, folder: Path, launcher: Launcher, settings: ClusterSettings
) -> Any:
    """What submits: it knows what a job asks for."""
    shared = {"signal_delay_s": settings.grace_s, "stderr_to_stdout": True}
    if launcher == "local":
        # Not submitit's setup: the job's id would be that of a shell, which outlives no kill.
        executor = submitit.LocalExecutor(folder, max_num_timeout=_REQUEUES)
        executor.update_parameters(timeout_min=_NO_LIMIT_MIN, gpus_per_node=settings.gpus, **shared)
        return executor
    executor = submitit.SlurmExecutor(folder, max_num_timeout=_REQUEUES)
    asked = {
        "partition": settings.partition,
        "gpus_per_node": settings.gpus or None,
        "mem": None if settings.memory_gb is None else f"{settings.memory_gb * 1024:.0f}M",
    }
    executor.update_parameters(
        job_name="simfrcnn",
        time=settings.time_min,
        cpus_per_task=settings.cpus,
        array_parallelism=settings.at_a_time or n_jobs,
        setup=list(settings.setup),
        additional_parameters={"requeue": True, **(settings.extra or {})},
        **shared,
        **{name: value for name, value in asked.items() if value is not None},
    )
    return executor


def _states(submitted: Mapping[str, Submitted]) -> dict[str, str]:
    """The state of those that wait or run."""
    states: dict[str, str] = {}
    if any(one.launcher == "slurm" for one in submitted.values()):
        queue = _slurm_queue()
        states |= {n: queue[one.id] for n, one in submitted.items() if one.id in queue}
    for name, one in submitted.items():
        if one.launcher == "local" and _is_alive(one.id):
            states[name] = "RUNNING"
    return states


def _slurm_queue() -> dict[str, str]:
    """Job id -> state, of all of this user's jobs.

    squeue, and not sacct as in submitit: not every cluster keeps accounts.
    """
    words = ("squeue", "--me", "--noheader", "--array", "--format=%i %T")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SlurmSilentError(f"squeue does not answer: {_last_lines(done.stderr)}")
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())


def _is_alive(process: str) -> bool:
    """Whether a process of this machine is the one that runs a job, and not a later namesake."""
    try:
        found = psutil.Process(int(process))
        is_ours = "submitit.local._local" in found.cmdline()
        return is_ours and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _why(code: int | None, log: Path) -> str:
    """The exit code and the end of the log: the error's own line if it has one."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    how = "ended without a result" if code is None else f"exit code {code}"
    return f"failed ({how}; see {log}): {_last_lines(text)}"


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith("submitit ")]
    errors = [line for line in own if line.startswith("error: ")]
    return " | ".join(errors[-1:] or own[-_LINES_SHOWN:])


def _read_record(path: Path) -> dict[str, Submitted]:
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Submitted(**one) for name, one in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}): delete it; what is done is found in the outputs"
        ) from error


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Jobs import this very simfrcnn, and have one thread of OpenMP unless the user says more."""
    before = dict(os.environ)
    path = [str(_PACKAGE_ROOT), *filter(None, [before.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C: the jobs go on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
