"""Batches from loading processes, and their errors."""

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
