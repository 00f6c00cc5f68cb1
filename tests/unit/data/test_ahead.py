"""A stream of items on several processes: order, bounds, and what kills a process."""

import pytest

from simfrcnn.data.ahead import Processes
from simfrcnn.errors import DataError
from support.items import deadly, refusing, squared


@pytest.mark.parametrize("n_workers", [0, 2])
def test_results_come_in_order_and_few_items_are_taken_ahead(n_workers):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    with Processes(n_workers) as processes:
        results = processes.results(squared, items(), on_kill=squared)
        assert next(results) == 0
        assert len(taken) <= 1 + 2 * n_workers
        assert list(results) == [n * n for n in range(1, 40)]
        assert list(processes.results(squared, [], on_kill=squared)) == []


def test_an_item_that_kills_its_process_costs_itself_alone():
    with Processes(2) as processes:
        found = list(processes.results(deadly, range(12), on_kill=lambda n: -n))
    assert found == [0, 1, 2, 3, 4, -5, 6, 7, 8, 9, 10, 11]


def test_an_error_is_raised_as_it_was():
    with Processes(1) as processes, pytest.raises(DataError, match="3 is refused"):
        list(processes.results(refusing, [3], on_kill=squared))
