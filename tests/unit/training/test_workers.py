"""Batches from loading processes, and their errors."""

import multiprocessing
import os
import signal
import time

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


def test_a_signal_to_all_processes_is_left_to_the_one_that_trains():
    """As a batch system warns, or a terminal; the second SIGTERM is the parent's own."""
    batches = iter(BatchLoader(Numbers(), [[n % 5] for n in range(30)], n_workers=2))
    found = [next(batches), next(batches)]  # of each process: both have begun
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        for worker in workers:
            os.kill(worker.pid, number)
    found += list(batches)
    assert found == [[10 * (n % 5)] for n in range(30)]

    batches = iter(BatchLoader(Numbers(), [[1]] * 30, n_workers=1))
    assert next(batches) == [10]
    (worker,) = multiprocessing.active_children()
    with pytest.raises(RuntimeError, match="killed by signal: Terminated"):
        _end_by_two_signals(worker, batches)


def _end_by_two_signals(worker, batches):
    for _ in range(2):
        os.kill(worker.pid, signal.SIGTERM)
        time.sleep(0.5)
    list(batches)
