"""How do a signal, a bad loss or a damaged image stop a training, in all of its processes at once?

A first Ctrl-C or SIGTERM is remembered until the step is done: the checkpoint then loses nothing.
So are SIGUSR1 and SIGUSR2, by which batch systems warn of the end of a job's time.
Before each step and after each forward pass the processes tell each other how they are, so that
none waits for one that has stopped. They do so on the CPU: a GPU is not waited for.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import distributed

from simfrcnn.errors import TrainingError

T = TypeVar("T")

WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Of a batch system (``sbatch --signal``); they never end a training at once."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
SAME_SIGNAL_SECONDS = 1.0
"""A terminal and a launcher both pass a Ctrl-C on: what arrives within this time is one."""

_FAILED, _ASKED = 1, 2

logger = logging.getLogger("simfrcnn")


class TrainingInterrupted(KeyboardInterrupt):
    """A training was ended by the user; the message says at which step and how to go on."""


class StopRequested(BaseException):
    """Some process was asked to stop; the step before is done in all of them."""


class Interruption:
    """Remembers that one of :data:`SIGNALS` came, while it is entered.

    A second Ctrl-C or SIGTERM ends at once.

    In another thread than the main one no signal arrives, and none is handled.
    """

    def __init__(self) -> None:
        """Nothing has come yet, and nothing is handled yet."""
        self._came: float | None = None
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the training should stop after the current step."""
        return self._came is not None

    def __enter__(self) -> Interruption:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # in a forked loading process, which its parent ends
            return
        now = time.monotonic()
        if self._came is None:
            self._came = now
            logger.warning(
                f"{signal.Signals(number).name}: stopping when this step is done; Ctrl-C to stop "
                "at once"
            )
        elif number not in WARNINGS and now - self._came > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt


def interrupted(steps_done: int, saved_steps: int, last: Path) -> TrainingInterrupted:
    """The exception that ends an interrupted training.

    Args:
        steps_done: Steps that were taken.
        saved_steps: Steps of which the last checkpoint knows; 0 if there is none.
        last: The last checkpoint.
    """
    if saved_steps == 0:
        return TrainingInterrupted(
            f"interrupted after step {steps_done}; no checkpoint was due yet: --resume starts at "
            "the beginning"
        )
    if saved_steps < steps_done:
        return TrainingInterrupted(
            f"interrupted after step {steps_done}; {last} holds step {saved_steps}; go on with "
            "--resume"
        )
    return TrainingInterrupted(f"interrupted at step {steps_done}; go on with --resume ({last})")


def attempt(work: Callable[[], T], *, step: int, interruption: Interruption | None = None) -> T:
    """Do this process's part of a step; if another process fails in its own, stop as well.

    Every process must come here at the same point of the same step.

    Args:
        work: The part; it must not wait for another process.
        step: For the message, counted from 0.
        interruption: If given, this is a point between two steps, where a training may stop.

    Raises:
        StopRequested: Some process was asked to stop. What ``work`` did is dropped.
        TrainingError: Another process failed; names it. What this process raises itself is raised
            as it is.
    """
    failure: Exception | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    is_asked = interruption is not None and interruption.requested
    codes = _codes_of_all(_FAILED * (failure is not None) + _ASKED * is_asked)
    if any(code & _ASKED for code in codes):
        raise StopRequested
    if failure is not None:
        raise failure
    refuse_failures([rank for rank, code in enumerate(codes) if code & _FAILED], step)
    return result


def failed_ranks(has_failed: bool) -> list[int]:
    """The processes that have failed, this one included; to be called by all of them."""
    return [rank for rank, code in enumerate(_codes_of_all(int(has_failed))) if code & _FAILED]


def refuse_failures(ranks: list[int], step: int) -> None:
    """Stop because of other processes.

    Raises:
        TrainingError: If there are any; names them.
    """
    if ranks:
        named = ", ".join(map(str, ranks))
        raise TrainingError(
            f"step {step}: process {named} of {distributed.get_world_size()} (counted from 0) "
            "failed, and the training stops in all; its own message says why"
        )


@contextlib.contextmanager
def passing_signals_on(receivers: Callable[[], list[int]]) -> Iterator[Callable[[], bool]]:
    """Hand :data:`SIGNALS` to other processes instead of being ended by them.

    Args:
        receivers: Gives the process numbers at the time of the signal.

    Yields:
        Whether a signal has come.
    """
    came: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        for process in receivers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _codes_of_all(code: int) -> list[int]:
    """A small number of every process, by rank, in every process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [code]
    world_size = distributed.get_world_size()
    if world_size == 1:
        return [code]
    codes = torch.zeros(world_size, dtype=torch.int32)
    codes[distributed.get_rank()] = code
    distributed.all_reduce(codes, group=_cpu_group(distributed.group.WORLD))
    return [int(each) for each in codes.tolist()]


@functools.lru_cache(maxsize=1)
def _cpu_group(world: Any) -> Any:
    """All processes, talking on the CPU; made once for a process group."""
    return world if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")
