"""How are many commands run side by side, so that nothing is lost when one or all are stopped?

Each command is a process of its own, in a session of its own: Ctrl-C reaches this program alone,
which then interrupts each child once and waits for it to end in order. A child's log is locked by
the child itself (through its standard output) as long as it lives, so that a second ladder never
runs in the same folder, even if the first was killed and its children live on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.wording import counted

POLL_SECONDS = 0.2
SECONDS_TO_STOP = 60.0
_LINES_SHOWN = 3


@dataclass(frozen=True)
class Command:
    """A command, what to call it, and the file that takes what it prints."""

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass
class _Child:
    job: Command
    process: subprocess.Popen[bytes]
    slot: Mapping[str, str]
    started: float


def run_commands(
    jobs: Sequence[Command],
    slots: Sequence[Mapping[str, str]],
    *,
    say: Callable[[str], None],
    known_seconds: Sequence[float] = (),
) -> dict[str, str]:
    """Run all jobs, as many at once as there are slots; one that fails does not stop the others.

    Args:
        jobs: In the order in which they are started.
        slots: One per process at a time: the environment variables that it gets.
        say: Takes one line per event.
        known_seconds: How long such jobs took before, for the estimate of the time left.

    Returns:
        The jobs that failed: name -> exit code and last lines.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the children have been stopped.
    """
    waiting, free, running = deque(jobs), deque(slots), list[_Child]()
    failures: dict[str, str] = {}
    seconds = list(known_seconds)
    n_over = 0
    with _terminate_as_interrupt():
        try:
            while waiting or running:
                while waiting and free:
                    job, slot = waiting.popleft(), free.popleft()
                    child = _start(job, slot)
                    if child is None:
                        free.append(slot)
                        n_over += 1
                        failures[job.name] = f"another process is at work there ({job.log})"
                        say(f"[{n_over}/{len(jobs)}] {job.name}: {failures[job.name]}")
                        continue
                    running.append(child)
                    say(f"[{n_over}/{len(jobs)}] {job.name}: started")
                time.sleep(POLL_SECONDS)
                for child in [one for one in running if one.process.poll() is not None]:
                    running.remove(child)
                    free.append(child.slot)
                    n_over += 1
                    took = time.monotonic() - child.started
                    outcome = f"done in {clock(took)}"
                    if child.process.returncode == 0:
                        seconds.append(took)
                    else:
                        outcome = failures[child.job.name] = _why(child)
                    left = _time_left(seconds, running, len(waiting), len(slots))
                    say(f"[{n_over}/{len(jobs)}] {child.job.name}: {outcome}{left}")
        except KeyboardInterrupt:
            say(
                f"interrupted: stopping {counted(len(running), '[run|runs]')}; the same command "
                "goes on later"
            )
            raise
        finally:
            _stop(running)
    return failures


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _start(job: Command, slot: Mapping[str, str]) -> _Child | None:
    """Start a job; None if the log is locked: another process runs it."""
    import fcntl  # not on Windows, where this module can still be imported

    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **slot},
            start_new_session=True,
        )
    return _Child(job, process, slot, time.monotonic())


def _stop(children: Sequence[_Child]) -> None:
    """Interrupt every child and wait; one that does not end is killed, with all that it started."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + SECONDS_TO_STOP
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def _why(child: _Child) -> str:
    """The exit code and the end of the log: the error's own line if it has one."""
    lines = child.job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines[-_LINES_SHOWN:] if line.startswith("error: ")]
    code = child.process.returncode
    how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
    return f"failed ({how}; see {child.job.log}): {' | '.join(errors or lines[-_LINES_SHOWN:])}"


def _time_left(
    seconds: Sequence[float], running: Sequence[_Child], n_waiting: int, n_slots: int
) -> str:
    if not seconds or not (running or n_waiting):
        return ""
    usual = statistics.median(seconds)
    now = time.monotonic()
    rest = sum(max(usual - (now - child.started), 0.0) for child in running) + usual * n_waiting
    return f"; about {clock(rest / min(n_slots, len(running) + n_waiting))} left"


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM stops the children in order, as Ctrl-C does.

    A shell that starts a program in the background makes it ignore Ctrl-C, and so would its
    children: they could not be interrupted. Hence SIGINT, too.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, signal.default_int_handler) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
