"""How two scores become one: by hand, and what holds for any."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from simfrcnn.second_look.scores import combined


def test_two_scores_become_one_and_the_others_get_the_lowest_second_look() -> None:
    first = torch.tensor([0.8, 0.6, 0.5, 0.4])
    chances = torch.tensor([[0.75, 0.25], [0.1, 0.9]])
    labels = torch.ones(4, dtype=torch.int64)
    seen = torch.tensor([[0.0, 0.0, 9.0, 9.0], [-5.0, 2.0, 4.0, 11.0]])
    found = combined(first, labels, chances, seen, first_exponent=1.0)
    torch.testing.assert_close(found.scores, torch.tensor([0.54, 0.2, 0.125, 0.1]))
    assert found.order.tolist() == [1, 0, 2, 3]
    torch.testing.assert_close(found.first_scores, torch.tensor([0.6, 0.8, 0.5, 0.4]))
    torch.testing.assert_close(found.second_scores[:2], torch.tensor([0.9, 0.25]))
    assert found.second_scores[2:].isnan().all()
    assert found.squares[:2].tolist() == [[-5.0, 2.0, 4.0, 11.0], [0.0, 0.0, 9.0, 9.0]]
    assert found.squares[2:].isnan().all()
    again = combined(first.square(), labels, chances, seen, first_exponent=0.5)
    torch.testing.assert_close(again.scores, found.scores)


def test_a_detection_is_judged_as_its_own_class() -> None:
    found = combined(
        torch.tensor([0.5, 0.5]),
        torch.tensor([2, 1]),
        torch.tensor([[0.2, 0.5, 0.3]] * 2),
        torch.zeros(2, 4),
        first_exponent=1.0,
    )
    torch.testing.assert_close(found.scores, torch.tensor([0.25, 0.15]))
    assert found.order.tolist() == [1, 0]


def test_detections_on_the_cpu_are_joined_with_a_second_look_on_a_gpu() -> None:
    """As in a whole-image classifier; shapes and devices alone, without a GPU."""
    with FakeTensorMode():
        found = combined(
            torch.empty(3),
            torch.empty(3, dtype=torch.int64),
            torch.empty(2, 2, device="cuda"),
            torch.empty(2, 4),
            first_exponent=0.5,
        )
    assert found.scores.device.type == found.second_scores.device.type == "cpu"


def test_nothing_found_stays_nothing() -> None:
    none = (torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))
    found = combined(*none, torch.zeros(0, 4), first_exponent=0.5)
    assert found.scores.shape == found.order.shape == (0,)
    assert found.squares.shape == (0, 4)


def test_below_the_cap_the_order_stays_and_none_comes_before_a_looked_at_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for n_looked in (1, 3, 5):
        first = torch.rand(12, generator=generator).sort(descending=True).values
        first[7] = first[6]  # a tie
        chances = torch.rand(n_looked, 2, generator=generator)
        labels, exponent = torch.ones(12, dtype=torch.int64), 1 / n_looked
        seen = torch.zeros(n_looked, 4)
        found = combined(first, labels, chances, seen, first_exponent=exponent)
        assert (found.scores.diff() <= 0).all()
        assert (found.scores <= found.first_scores**exponent).all()
        assert set(found.order[:n_looked].tolist()) == set(range(n_looked))
        assert found.order[n_looked:].tolist() == list(range(n_looked, 12))
