"""How is one function applied to many files, on as many cores as are ours, with progress?"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import cv2
from tqdm import tqdm

from simfrcnn.errors import ConfigError, DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 4
_MOST = 8
_CGROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """The cores that this process may use, at least 1.

    A machine's cores are not ours where an affinity mask (``taskset``, a batch system) or a quota
    of the control group (a container) says less: more processes than that only wait for each other.
    """
    if hasattr(os, "sched_getaffinity"):
        n_cores = len(os.sched_getaffinity(0))
    else:  # macOS
        n_cores = os.cpu_count() or 1
    quota = _quota(_CGROUPS, _own_group())
    return max(1, n_cores if quota is None else min(n_cores, math.ceil(quota)))


def n_processes_of(n_workers: int | None) -> int:
    """How many processes ``--workers`` asks for: None is one per available core, at most 8.

    Raises:
        ConfigError: The number is negative.
    """
    if n_workers is None:
        return min(_MOST, available_cores())
    if n_workers < 0:
        raise ConfigError(f"--workers is {n_workers}: give 0 (this process alone) or more")
    return n_workers


def in_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    unit: str,
    n_workers: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of the items, with a bar and an estimate.

    Args:
        function: Of a module, so that it can be sent to another process.
        items: What can be pickled.
        title: Of the bar.
        unit: What one item is, for the bar.
        n_workers: Processes; 0 works in this one; None takes one per available core, at most 8.

    Raises:
        Exception: What ``function`` raised.
        ConfigError: ``n_workers`` is negative.
        DataError: A process was killed.
    """
    n_processes = n_processes_of(n_workers)
    results = results_of(function, items, title=title, n_workers=n_processes)
    with tqdm(total=len(items), desc=title, unit=unit, mininterval=1.0) as progress:
        for result in results:
            yield result
            progress.update()


def results_of(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    n_workers: int,
    chunk: int = _CHUNK,
) -> Iterator[Result]:
    """Like :func:`in_parallel`, without a bar; ``chunk`` items travel to a process at once."""
    n_processes = min(n_workers, len(items))
    if n_processes <= 1:
        yield from map(function, items)
        return
    # A fresh process each: a fork of a process with threads can wait forever.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(n_processes, context, initializer=begin_process) as pool:
            with starting_processes():
                waiting = deque(
                    pool.submit(_of_chunk, function, items[start : start + chunk])
                    for start in range(0, len(items), chunk)
                )
            try:
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                # Not future.cancel(), as map does: where a process was killed, the pool's thread
                # meets cancelled futures, fails, and leaves the other processes alive.
                pool.shutdown(cancel_futures=True)
    except BrokenProcessPool as error:
        raise DataError(
            f"{title}: a process was killed, most likely because memory ran out: try fewer "
            f"processes (--workers, now {n_processes})"
        ) from error


def _of_chunk(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _own_group() -> str:
    """The path of this process's control group below its mount; version 2 has one line, 0::PATH."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")


def _quota(mount: Path, group: str) -> float | None:
    """The fewest cores that the group and those around it grant; None where none is limited."""
    parts = [part for part in group.split("/") if part]
    folders = [mount.joinpath(*parts[:n]) for n in range(len(parts) + 1)]
    granted = [_granted(folder) for folder in folders] + [_granted_v1(mount / "cpu")]
    return min((cores for cores in granted if cores is not None), default=None)


def _granted(folder: Path) -> float | None:
    """``cpu.max`` of version 2: two numbers, microseconds a period, or "max" and the period."""
    try:
        limit, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _granted_v1(folder: Path) -> float | None:
    """Version 1 has a file for each of the two; -1 is no limit."""
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return limit / period if limit > 0 and period > 0 else None


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """For the start of processes: they never see Ctrl-C, and do not run the caller's script again.

    This process does see it, afterwards, and ends the others. A blocked signal waits, and stays
    blocked in the processes that are started; an ignored one would be lost. A fresh process imports
    the main module, and a script without a main guard would run once more in each; what our
    processes run is never in that module, so it is not shown to them.
    """
    script = sys.modules["__main__"]
    before: Iterable[int] | None = None
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # its start would lift the block
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_process() -> None:
    """Keep a process to one thread, for the processes share the cores, and to its parent's life."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its processes: they would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
