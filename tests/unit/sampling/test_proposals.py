"""Which proposals of a normal image are chosen."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simfrcnn.errors import ConfigError
from simfrcnn.sampling.proposals import choose_partners, likeliest_targets, top_proposals


def test_top_proposals_by_hand_with_ties_in_order():
    objectness = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.5])
    assert top_proposals(objectness, 3).tolist() == [1, 3, 2]


@given(n=st.integers(0, 50), k=st.integers(0, 60), seed=st.integers(0, 2**31))
def test_top_proposals_against_a_stable_sort_in_numpy(n, k, seed):
    # Few distinct values: many ties.
    objectness = np.random.default_rng(seed).integers(0, 5, n).astype(np.float32)
    expected = np.argsort(-objectness, kind="stable")[:k]
    assert top_proposals(torch.from_numpy(objectness), k).tolist() == expected.tolist()


@pytest.mark.parametrize(("partners", "expected"), [("suspected", [2, 0]), ("hardest", [1, 2])])
def test_choice_by_hand(partners, expected):
    left, right = choose_partners(
        n_foreground=2,
        objectness=torch.tensor([0.5, 0.1, 0.9]),
        target_scores=torch.tensor([0.2, 0.8, 0.7]),
        partners=partners,
    )
    assert left.tolist() == [0, 1]
    assert right.tolist() == expected


@pytest.mark.parametrize("partners", ["suspected", "hardest", "random", "all"])
@pytest.mark.parametrize(("n_foreground", "n_proposals"), [(0, 5), (5, 0), (0, 0), (3, 2), (2, 3)])
def test_index_vectors_are_legal_and_of_equal_length(partners, n_foreground, n_proposals):
    left, right = choose_partners(
        n_foreground=n_foreground,
        objectness=torch.rand(n_proposals),
        target_scores=torch.rand(n_proposals),
        partners=partners,
    )
    n_expected = min(n_foreground, n_proposals)
    if partners == "all":
        n_expected = n_foreground * n_proposals
    assert len(left) == len(right) == n_expected
    assert set(left.tolist()) <= set(range(n_foreground))
    assert set(right.tolist()) <= set(range(n_proposals))
    if partners != "all":
        assert len(set(right.tolist())) == n_expected


def test_a_choice_that_nobody_knows_is_an_error_with_the_nearest():
    scores = torch.tensor([0.5, 0.1])
    with pytest.raises(ConfigError, match=r"PARTNERS is 'hardes'; legal is suspected \| hardest.*"):
        choose_partners(n_foreground=1, objectness=scores, target_scores=scores, partners="hardes")


def test_the_likeliest_target_is_chosen_among_the_targets_alone() -> None:
    logits = torch.tensor([[9.0, 1.0, 5.0, 2.0], [0.0, 3.0, 4.0, 1.0]])
    assert likeliest_targets(logits, (1, 3)).tolist() == [3, 1]
    assert likeliest_targets(logits[:0], (1, 3)).tolist() == []
