"""How is one function applied to many files, on several cores, with progress?"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

import cv2
from tqdm import tqdm

from simfrcnn.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 4


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
        n_workers: Processes; 0 works in this one; None takes one per core, at most 8.

    Raises:
        Exception: What ``function`` raised.
        DataError: A process was killed.
    """
    wanted = min(8, os.cpu_count() or 1) if n_workers is None else n_workers
    n_processes = min(wanted, len(items))
    with tqdm(total=len(items), desc=title, unit=unit, mininterval=1.0) as progress:
        if n_processes <= 1:
            for item in items:
                yield function(item)
                progress.update()
            return
        # A fresh process each: a fork of a process with threads can wait for ever.
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(n_processes, context, initializer=_begin) as pool:
                with _interrupts_held():
                    results = pool.map(function, items, chunksize=_CHUNK)
                for result in results:
                    yield result
                    progress.update()
        except BrokenProcessPool as error:
            raise DataError(
                f"{title}: a process was killed, most likely because memory ran out: try fewer "
                f"processes (--workers, now {n_processes})"
            ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started inside never sees Ctrl-C: this process does, afterwards, and ends the others.

    A blocked signal waits, and stays blocked in the processes that are started; an ignored one
    would be lost.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Keep a process to one thread, for the processes share the cores, and to its parent's life."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its processes: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
