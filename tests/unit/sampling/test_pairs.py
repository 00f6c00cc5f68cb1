"""Pairs: a pure function of (seed, number), complete passes, and exact shares over ranks."""

import pytest

from simfrcnn.errors import ConfigError
from simfrcnn.sampling.pairs import ItemNumbers, PairStream, ShuffledStream, TwinStream


def test_every_pass_holds_every_item_once_and_is_shuffled_again():
    stream = ShuffledStream(50, seed=3, name="x")
    passes = [[stream[50 * epoch + place] for place in range(50)] for epoch in range(3)]
    assert all(sorted(one) == list(range(50)) for one in passes)
    assert passes[0] != list(range(50))
    assert passes[0] != passes[1] != passes[2]


def test_an_element_does_not_depend_on_what_was_asked_before():
    in_order = [ShuffledStream(7, 1, "x")[number] for number in range(100)]
    stream = ShuffledStream(7, 1, "x")
    backwards = [stream[number] for number in reversed(range(100))]
    assert in_order == backwards[::-1]


def test_seed_and_name_change_the_order():
    orders = {
        tuple(ShuffledStream(30, seed, name)[i] for i in range(30))
        for seed in (0, 1)
        for name in ("positives", "normals")
    }
    assert len(orders) == 4


def test_lists_of_unequal_length_are_reshuffled_independently():
    stream = PairStream(n_positives=4, n_normals=6, seed=0)
    pairs = [stream[number] for number in range(12)]
    for first in range(0, 12, 4):
        assert sorted(positive for positive, _ in pairs[first : first + 4]) == [0, 1, 2, 3]
    for first in range(0, 12, 6):
        assert sorted(normal for _, normal in pairs[first : first + 6]) == list(range(6))
    # A positive image meets other normals in every pass.
    partners = {positive: {n for p, n in pairs if p == positive} for positive in range(4)}
    assert max(len(met) for met in partners.values()) > 1


def test_twins_run_through_the_positives_twice_as_fast():
    stream = TwinStream(n_positives=6, seed=0)
    drawn = [index for number in range(3) for index in stream[number]]
    assert sorted(drawn) == list(range(6))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_the_items_of_a_step_without_loss_or_repetition(world_size):
    ranks = [
        list(
            ItemNumbers(
                start_step=5, end_step=9, items_per_step=4, rank=rank, world_size=world_size
            )
        )
        for rank in range(world_size)
    ]
    for place, step in enumerate(range(5, 9)):
        union = [number for rank in ranks for number in rank[place]]
        assert union == list(range(4 * step, 4 * step + 4))


def test_items_that_cannot_be_shared_equally_are_refused():
    with pytest.raises(ConfigError, match=r"SOLVER\.IMS_PER_BATCH is 6.*3 pairs.*2 processes"):
        ItemNumbers(start_step=0, end_step=1, items_per_step=3, rank=0, world_size=2)


def test_items_of_three_images_are_called_items_and_count_threefold():
    words = r"IMS_PER_BATCH is 3, that is 1 items of 3 images a step, which 2 proc.*multiple of 6"
    with pytest.raises(ConfigError, match=words):
        ItemNumbers(
            start_step=0, end_step=1, items_per_step=1, rank=0, world_size=2, images_per_item=3
        )


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="normals"):
        PairStream(3, 0, seed=0)
