"""What is remembered of earlier steps, and what comes again."""

from __future__ import annotations

import torch

from simfrcnn.second_look.memory import Memory


def squares(*greys: float) -> torch.Tensor:
    return torch.tensor(greys).reshape(-1, 1, 1).expand(-1, 2, 2)


def filled() -> Memory:
    memory = Memory(3, 2)
    memory.add(squares(1, 2, 3), torch.tensor([1, 0, 1]), torch.tensor([True, False, True]))
    memory.add(squares(4, 5, 6), torch.tensor([1, 1, 2]), torch.tensor([True, True, False]))
    return memory


def test_the_last_squares_of_each_side_are_kept_and_drawn_once_each() -> None:
    torch.manual_seed(0)
    found, labels, _ = filled().drawn(9, is_of_positive=True)
    assert sorted(found[:, 0, 0].tolist()) == [3, 4, 5]
    assert labels.tolist() == [1, 1, 1]
    found, labels, _ = filled().drawn(9, is_of_positive=False)
    assert dict(zip(found[:, 1, 1].tolist(), labels.tolist(), strict=True)) == {2: 0, 6: 2}
    assert len(filled().drawn(2, is_of_positive=True)[0]) == 2
    assert len(filled().drawn(-1, is_of_positive=True)[0]) == 0


def test_every_remembered_square_comes_again_as_often() -> None:
    torch.manual_seed(0)
    memory = filled()
    seen = [float(memory.drawn(1, is_of_positive=True)[0][0, 0, 0]) for _ in range(600)]
    assert all(150 < seen.count(grey) < 250 for grey in (3, 4, 5))


def test_a_state_goes_on_where_it_stopped() -> None:
    again = Memory(3, 2)
    again.load_state_dict(filled().state_dict())
    torch.manual_seed(5)
    expected = filled().drawn(2, is_of_positive=True)[0]
    torch.manual_seed(5)
    assert torch.equal(again.drawn(2, is_of_positive=True)[0], expected)
    for memory in (Memory(0, 2), Memory(3, 4)):
        memory.load_state_dict(filled().state_dict())
        assert len(memory.drawn(9, is_of_positive=True)[0]) == 0
    none = Memory(0, 2)
    none.add(squares(1), torch.tensor([1]), torch.tensor([True]))
    assert len(none.drawn(1, is_of_positive=True)[0]) == 0


def test_weights_come_again_with_their_squares_and_are_kept_where_they_are_not_one() -> None:
    assert all("weights" not in side for side in filled().state_dict().values())
    memory = filled()
    memory.add(squares(7), torch.tensor([0]), torch.tensor([False]), torch.tensor([2.0]))
    again = Memory(3, 2)
    again.load_state_dict(memory.state_dict())
    for each in (memory, again):
        found, _, weights = each.drawn(9, is_of_positive=False)
        assert dict(zip(found[:, 0, 0].tolist(), weights.tolist(), strict=True)) == {
            2: 1,
            6: 1,
            7: 2,
        }
    assert memory.state_dict()["other"]["weights"].tolist() == [1, 1, 2]
    again.load_state_dict(filled().state_dict())  # of a training without weights
    assert again.drawn(9, is_of_positive=False)[2].tolist() == [1, 1]
