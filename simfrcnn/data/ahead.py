"""How is one function applied to an endless stream, a few items ahead, on several processes?

Unlike :func:`simfrcnn.parallel.in_parallel`, the items need not be in memory, and an item
that kills its process (a decoder that crashes, memory that runs out) costs that item alone.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from simfrcnn.errors import DataError
from simfrcnn.parallel import begin_process, starting_processes

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2
"""Items that wait for each process: the memory that they take is bounded."""


class Processes:
    """``n_workers`` processes that work for this one; 0 works in this one. A context manager."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def results(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        on_kill: Callable[[Item], Result],
    ) -> Iterator[Result]:
        """Yield ``function(item)`` in the order of the items, of which a few wait at any time.

        Args:
            function: Of a module, so that it can be sent to another process.
            items: What can be pickled; taken one by one as results are fetched.
            on_kill: What stands for the result of an item that killed its process.

        Raises:
            Exception: What the function raised.
            DataError: No process can be started.
        """
        if self.n_workers <= 0:
            yield from map(function, items)
            return
        left = iter(items)
        waiting: deque[tuple[Item, Future[Result]]] = deque()

        def fill() -> None:
            n_free = self.n_workers * _AHEAD - len(waiting)
            waiting.extend((item, self._submit(function, item)) for item in islice(left, n_free))

        try:
            fill()
            while waiting:
                item, future = waiting.popleft()
                try:
                    result = future.result()
                except BrokenProcessPool:
                    suspects = [item, *(other for other, _ in waiting)]
                    waiting.clear()
                    yield from self._one_by_one(function, suspects, on_kill)
                else:
                    yield result
                fill()
        finally:
            for _, future in waiting:
                future.cancel()

    def _one_by_one(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        on_kill: Callable[[Item], Result],
    ) -> Iterator[Result]:
        """The items that were under way when a process was killed: which of them did it?"""
        self._stop()
        for item in items:
            try:
                result = self._submit(function, item).result()
            except BrokenProcessPool:
                self._stop()
                self._require_processes()
                result = on_kill(item)
            yield result

    def _require_processes(self) -> None:
        """Tell an item that kills its process from processes that cannot live at all."""
        try:
            self._submit(bool, 0).result()
        except BrokenProcessPool as error:
            raise DataError(
                "processes that decode files cannot be started: work without (--workers 0, "
                "workers=0)"
            ) from error

    def _submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        if self._pool is None:
            # A fresh process each: a fork of a process with threads can wait forever.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.n_workers, context, initializer=begin_process)
        with starting_processes():
            try:
                return self._pool.submit(function, item)
            except BrokenProcessPool as error:
                broken: Future[Result] = Future()
                broken.set_exception(error)
                return broken

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
