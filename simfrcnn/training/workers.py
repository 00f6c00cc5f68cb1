"""How do loading processes fetch batches, and how does an error of theirs reach the user?"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from simfrcnn.errors import SimFrcnnError

PREFETCHED_PER_WORKER = 2
"""Batches that each loading process works ahead."""


_KNOWS_SENDERS = hasattr(signal, "sigwaitinfo")


class BatchLoader(DataLoader[Any]):
    """A loader of batches that raises an error of a loading process as it was raised there.

    PyTorch would put the whole traceback of the process into the message.
    """

    def __init__(
        self,
        items: Dataset[Any],
        batches: Iterable[list[int]],
        *,
        n_workers: int,
        collate: Callable[[list[Any]], Any] = list,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            items: What is loaded, by number.
            batches: The item numbers of every batch.
            n_workers: Loading processes; 0 loads in this one.
            collate: What is made of the items of a batch, in the loading process.
        """
        super().__init__(
            _Batches(items, collate),
            batch_size=None,
            sampler=batches,
            collate_fn=_as_it_is,
            num_workers=n_workers,
            prefetch_factor=PREFETCHED_PER_WORKER if n_workers else None,
            worker_init_fn=_start_worker,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches in their order."""
        with _sigterm_held():
            batches = super().__iter__()  # starts the processes
        for batch in batches:
            if isinstance(batch, SimFrcnnError):
                raise batch
            yield batch


@dataclass(frozen=True)
class _Batches(Dataset[Any]):
    """A whole batch by its item numbers, or the error for the user that it met."""

    items: Dataset[Any]
    collate: Callable[[list[Any]], Any]

    def __getitem__(self, numbers: list[int]) -> Any:
        try:
            return self.collate([self.items[number] for number in numbers])
        except SimFrcnnError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


@contextlib.contextmanager
def _sigterm_held() -> Iterator[None]:
    """Hold SIGTERM back from this thread, and for good from every thread of a process that it
    starts.

    The kernel gives a signal to any thread that takes it, and PyTorch has some in a loading process
    before it calls :func:`_start_worker`.
    """
    if not _KNOWS_SENDERS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(_worker: int) -> None:
    """Keep a loading process to one thread, and leave signals to its parent.

    The processes share the cores already. A terminal sends Ctrl-C to all of them, a batch system
    SIGUSR1, SIGUSR2 or SIGTERM; the parent may want to finish what it does, and ends them when it
    is done, by a SIGTERM of its own. Where the sender of a signal cannot be known (macOS), every
    SIGTERM is obeyed.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if _KNOWS_SENDERS:  # SIGTERM is held since before the process was there
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)


def _obey(parent: int) -> None:
    """End this process when its parent says so, and at no one else's word."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as PyTorch's own handler does
