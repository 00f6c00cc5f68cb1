"""Batches from loading processes, and their errors."""

import multiprocessing
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from simfrcnn.errors import DataError
from simfrcnn.training.workers import BatchLoader


class Numbers(Dataset):
    """Item n is 10 n; number 5 cannot be read."""

    def __getitem__(self, number):
        if number == 5:
            raise DataError("five.png: not readable")
        return 10 * number


@pytest.mark.parametrize("n_workers", [0, 2])
def test_batches_come_in_their_order(n_workers):
    loader = BatchLoader(Numbers(), [[3, 1], [2], [4, 4]], n_workers=n_workers, collate=tuple)
    assert len(loader) == 3
    assert list(loader) == [(30, 10), (20,), (40, 40)]


@pytest.mark.parametrize("n_workers", [0, 1])
def test_an_error_for_the_user_arrives_as_it_was_raised(n_workers):
    batches = iter(BatchLoader(Numbers(), [[1], [2, 5], [3]], n_workers=n_workers))
    assert next(batches) == [10]
    with pytest.raises(DataError) as error:
        next(batches)
    assert str(error.value) == "five.png: not readable"


def test_any_other_error_keeps_its_traceback():
    def broken(_items):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError, match="Original Traceback"):
        list(BatchLoader(Numbers(), [[1]], n_workers=1, collate=broken))


def takes(thread: Path) -> bool:
    """Whether a thread of /proc may be given a SIGTERM."""
    (blocked,) = re.findall(r"SigBlk:\s*(\w+)", (thread / "status").read_text())
    return not int(blocked, 16) >> (signal.SIGTERM - 1) & 1


def test_a_signal_to_all_processes_is_left_to_the_one_that_trains():
    """As a batch system warns, or a terminal. Only the parent's own SIGTERM ends a process."""
    others = set(multiprocessing.active_children())
    batches = iter(BatchLoader(Numbers(), [[n % 5] for n in range(30)], n_workers=2))
    found = [next(batches), next(batches)]  # of each process: both have begun
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    if hasattr(signal, "sigwaitinfo"):  # Linux
        for worker in workers:
            takers = [task for task in Path(f"/proc/{worker.pid}/task").iterdir() if takes(task)]
            assert len(takers) <= 1, "besides the one that waits for it a thread takes SIGTERM"
    for name in ("INT", "USR1", "USR2", *(["TERM"] if hasattr(signal, "sigwaitinfo") else [])):
        subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    found += list(batches)
    assert found == [[10 * (n % 5)] for n in range(30)]

    batches = iter(BatchLoader(Numbers(), [[1]] * 30, n_workers=1))
    assert next(batches) == [10]
    (worker,) = set(multiprocessing.active_children()) - others - workers
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(20)
    assert worker.exitcode == 0
