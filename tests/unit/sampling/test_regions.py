"""The region of interest: by hand for each rule, against a slow twin, with nothing to choose."""

import pytest
import torch

from simfrcnn.errors import ConfigError
from simfrcnn.sampling.regions import (
    NO_BAGS,
    Bags,
    EmptyBags,
    chosen_by_image,
    highest_of_bags,
    interest,
)
from simfrcnn.structures import ImageTargets

# Probabilities of background, malignant, benign.
LOGITS = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.02, 0.38], [0.2, 0.35, 0.45]]).log()


@pytest.mark.parametrize(
    ("rule", "of_benign"),
    [
        ("target", [0.3, 0.02, 0.35]),
        ("own", [0.2, 0.38, 0.45]),
        ("discriminative", [0.3, 0.38, 0.45]),
        ("abnormal", [0.5, 0.4, 0.8]),
    ],
)
def test_what_each_rule_looks_for(rule, of_benign):
    benign, malignant = torch.full((3,), 2), torch.full((3,), 1)
    torch.testing.assert_close(interest(LOGITS, benign, rule, [1]), torch.tensor(of_benign))
    # A label that is a target always takes the highest target score.
    of_target = interest(LOGITS, malignant, rule, [1])
    torch.testing.assert_close(of_target, torch.tensor([0.3, 0.02, 0.35]))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"LABELS\.REGION is 'largest'"):
        interest(LOGITS, torch.ones(3, dtype=torch.int64), "largest", [1])


def test_probabilities_decide_not_logits():
    logits = torch.tensor([[9.0, 5.0], [0.0, 1.0]])
    values = interest(logits, torch.tensor([1, 1]), "target", [1])
    assert highest_of_bags(values, torch.tensor([0, 0]), 1).tolist() == [1]


def slow_choice(values, bags, n_bags):
    chosen = []
    for bag in range(n_bags):
        best, highest = -1, float("-inf")
        for place, (value, own) in enumerate(zip(values, bags, strict=True)):
            if own == bag and value > highest:
                best, highest = place, value
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_equals_that_of_a_slow_twin(seed):
    generator = torch.Generator().manual_seed(seed)
    n_regions, n_bags = int(torch.randint(0, 12, (1,), generator=generator)), 4
    bags = torch.randint(0, n_bags, (n_regions,), generator=generator)
    values = torch.randint(0, 4, (n_regions,), generator=generator).float()  # many ties
    chosen = highest_of_bags(values, bags, n_bags)
    assert chosen.tolist() == slow_choice(values.tolist(), bags.tolist(), n_bags)


def test_extreme_logits_one_region_and_none():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [1e4, -1e4]])
    values = interest(logits, torch.tensor([1, 1, 1]), "target", [1])
    assert highest_of_bags(values, torch.tensor([0, 0, 2]), 3).tolist() == [1, -1, 2]


def test_chosen_regions_go_back_to_their_images():
    places = chosen_by_image(torch.tensor([4, -1, 1]), [2, 0, 3])
    assert [one.tolist() for one in places] == [[1], [], [2]]


def test_bags_without_a_proposal_are_counted_and_do_not_fill_the_log(caplog):
    empty = EmptyBags()
    said = []
    for number in (0, 1, *[1] * 8, 0, 2, *[1] * 100):
        caplog.clear()
        empty.add(number)
        if caplog.records:
            assert f"without a proposal so far: {empty.count};" in caplog.text
            said.append(empty.count)
    assert said == [1, 11, 100]
    assert empty.count == 111


def of_image(label=None, weight=0.0, bag=None):
    return ImageTargets(torch.zeros(0, 4), torch.zeros(0), label is None, label, weight, bag)


def test_images_of_one_bag_share_a_label():
    batch = [of_image(), of_image(1, 0.5, 8), None, of_image(2, 0.3), of_image(1, 0.5, 8)]
    bags = Bags.of(batch)
    assert bags == Bags((1, 3, 4), (0, 1, 0), (1, 2), (0.5, 0.3))
    assert bags.others(len(batch)) == [0, 2]
    assert Bags.of([of_image(), None]) == NO_BAGS
    # Two images without a bag are two bags, be their labels equal.
    assert Bags.of([of_image(1), of_image(1)]).bag_of == (0, 1)
