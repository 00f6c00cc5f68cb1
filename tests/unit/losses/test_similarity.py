"""Similarity loss: by hand, against torch's own cosine embedding loss, pairing, and edges."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from simfrcnn.errors import ConfigError
from simfrcnn.losses import (
    are_partners,
    contrastive_costs,
    cosine_costs,
    similarity_loss,
)
from simfrcnn.settings import SimilaritySettings


def test_value_by_hand():
    # cos 45 degrees, and a right angle that costs nothing.
    positive = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    normal = torch.tensor([[3.0, 3.0], [5.0, 0.0]])
    expected = math.cos(math.pi / 4) / 2
    assert cosine_costs(positive, normal, 0.0).mean().item() == pytest.approx(expected, rel=1e-6)


def test_opposite_vectors_cost_nothing_and_the_margin_is_subtracted():
    positive = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    normal = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    assert cosine_costs(positive, normal, 0.25).mean().item() == pytest.approx(0.75 / 2)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_equals_cosine_embedding_loss_with_target_minus_one(margin):
    positive, normal = torch.randn(40, 16), torch.randn(40, 16)
    reference = nn.CosineEmbeddingLoss(margin=margin)(positive, normal, -torch.ones(40))
    got = cosine_costs(positive, normal, margin).mean()
    assert got.item() == pytest.approx(reference.item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_gradcheck_in_float64(margin):
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    positive, normal = (part.clone().requires_grad_() for part in pair)
    assert torch.autograd.gradcheck(lambda x, y: cosine_costs(x, y, margin), (positive, normal))


def test_half_precision_is_computed_in_float32():
    vectors = torch.randn(3, 4).half()
    assert cosine_costs(vectors, vectors, 0.0).dtype == torch.float32


def test_gradient_turns_the_vectors_apart():
    positive = torch.tensor([[1.0, 0.2]], requires_grad=True)
    normal = torch.tensor([[1.0, -0.1]])
    before = cosine_costs(positive, normal, 0.0).mean()
    before.backward()
    assert positive.grad is not None
    after = cosine_costs(positive - 0.1 * positive.grad, normal, 0.0).mean()
    assert after < before


def contrastive(first, second, same_kind, margin=1.0, normalise=False):
    return contrastive_costs(first, second, same_kind=same_kind, margin=margin, normalise=normalise)


def test_contrastive_by_hand():
    # Distances 5, 0.5 and 0 with margin 1.
    first = torch.tensor([[3.0, 0.0], [0.3, 0.0], [1.0, 1.0]])
    second = torch.tensor([[0.0, 4.0], [0.0, 0.4], [1.0, 1.0]])
    apart = contrastive(first, second, same_kind=False)
    together = contrastive(first, second, same_kind=True)
    assert apart.tolist() == pytest.approx([0, 0.125, 0.5])
    assert together.tolist() == pytest.approx([12.5, 0.125, 0])


def test_normalised_vectors_have_length_one():
    # A right angle is a distance of sqrt(2), whatever the lengths.
    first, second = torch.tensor([[10.0, 0.0]]), torch.tensor([[0.0, 0.1]])
    cost = contrastive(first, second, same_kind=False, margin=2.0, normalise=True)
    assert cost.item() == pytest.approx((2 - math.sqrt(2)) ** 2 / 2)
    assert contrastive(first, second, same_kind=True, normalise=True).item() == pytest.approx(1)


@pytest.mark.parametrize("same_kind", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
def test_contrastive_gradcheck_in_float64(same_kind, normalise):
    generator = torch.Generator().manual_seed(1)
    pair = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    first, second = (part.clone().requires_grad_() for part in pair)
    assert torch.autograd.gradcheck(
        lambda x, y: contrastive(x, y, same_kind, 1.5, normalise), (first, second)
    )


@pytest.mark.parametrize("same_kind", [True, False])
def test_contrastive_gradient_of_equal_vectors_is_finite(same_kind):
    first = torch.ones(2, 3, requires_grad=True)
    contrastive(first, torch.ones(2, 3), same_kind, normalise=True).sum().backward()
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


def test_contrastive_gradient_moves_two_kinds_apart_and_one_kind_together():
    second = torch.tensor([[0.2, 0.0]])
    for same_kind in (True, False):
        first = torch.tensor([[0.5, 0.1]], requires_grad=True)
        contrastive(first, second, same_kind).sum().backward()
        moved = first.detach() - 0.1 * first.grad
        nearer = (moved - second).norm() < (first.detach() - second).norm()
        assert bool(nearer) == same_kind


E1, E2, E3 = torch.eye(3)


def batch_loss(settings, *, features, labels, image_index, objectness, scores, is_partner):
    logits = torch.log(torch.tensor([[1 - score, score] for score in scores]))
    return similarity_loss(
        features=features,
        labels=torch.tensor(labels),
        image_index=torch.tensor(image_index),
        objectness=torch.tensor(objectness),
        class_logits=logits,
        is_partner=is_partner,
        target_labels=[1],
        settings=settings,
    )


# One pair: the positive image has foreground e1, e1 + e2 and a background region; its normal
# partner has e1 (objectness .2, score .9), e2 (.9, .1) and e3 (.5, .5).
PAIR = {
    "features": torch.stack([E1, E1 + E2, E3, E1, E2, E3]),
    "labels": [1, 1, 0, 0, 0, 0],
    "image_index": [0, 0, 0, 1, 1, 1],
    "objectness": [0.9, 0.8, 0.7, 0.2, 0.9, 0.5],
    "scores": [0.9, 0.9, 0.1, 0.9, 0.1, 0.5],
    "is_partner": [False, True],
}
HALF = math.sqrt(0.5)


def test_suspected_partners_are_those_with_the_highest_objectness():
    # e1 meets e2 (0), e1 + e2 meets e3 (0).
    assert batch_loss(SimilaritySettings(partners="suspected"), **PAIR).item() == 0


def test_hardest_partners_are_those_with_the_highest_target_score():
    # e1 meets e1 (1), e1 + e2 meets e3 (0).
    loss = batch_loss(SimilaritySettings(partners="hardest"), **PAIR)
    assert loss.item() == pytest.approx(0.5)


def test_all_compares_every_region_with_every_proposal():
    # e1: 1, 0, 0; e1 + e2: .707, .707, 0.
    loss = batch_loss(SimilaritySettings(partners="all"), **PAIR)
    assert loss.item() == pytest.approx((1 + 2 * HALF) / 6)


def test_random_partners_are_proposals_of_the_normal_image():
    possible = set()
    for seed in range(40):
        torch.manual_seed(seed)
        possible.add(round(batch_loss(SimilaritySettings(partners="random"), **PAIR).item(), 3))
    # (first, second) cosine pairs without repeating a proposal, halved.
    pairs = [(1, HALF), (1, 0), (0, HALF), (0, 0), (0, HALF), (0, HALF)]
    assert possible == {round((first + second) / 2, 3) for first, second in pairs}


def test_k_shrinks_when_the_normal_image_has_fewer_proposals():
    fewer = {**PAIR, "features": PAIR["features"][:4]}
    for key in ("labels", "image_index", "objectness", "scores"):
        fewer[key] = PAIR[key][:4]
    # Only the first foreground region takes part: e1 meets e1.
    assert batch_loss(SimilaritySettings(), **fewer).item() == pytest.approx(1)


def test_pairs_are_matched_by_order_and_averaged():
    # Positives 0 and 1 (e1, e2), normals 2 and 3 (e1, e3): cosines 1 and 0; crossed 0 and 0.
    loss = batch_loss(
        SimilaritySettings(),
        features=torch.stack([E1, E2, E1, E3]),
        labels=[1, 1, 0, 0],
        image_index=[0, 1, 2, 3],
        objectness=[0.5] * 4,
        scores=[0.5] * 4,
        is_partner=[False, False, True, True],
    )
    assert loss.item() == pytest.approx(0.5)


@pytest.mark.parametrize("is_partner", [[False, False], [True, True]])
def test_without_partners_it_is_a_connected_zero(is_partner):
    features = torch.randn(6, 3, requires_grad=True)
    loss = batch_loss(
        SimilaritySettings(), **{**PAIR, "features": features, "is_partner": is_partner}
    )
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None


def test_without_foreground_it_is_a_connected_zero():
    features = torch.randn(6, 3, requires_grad=True)
    loss = batch_loss(SimilaritySettings(), **{**PAIR, "features": features, "labels": [0] * 6})
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None


def test_off_is_a_connected_zero():
    assert batch_loss(SimilaritySettings(kind="none"), **PAIR).item() == 0


def test_no_gradient_flows_through_the_choice_of_partners():
    logits = torch.zeros(2, 2, requires_grad=True)
    features = torch.ones(2, 3, requires_grad=True)
    similarity_loss(
        features=features,
        labels=torch.tensor([1, 0]),
        image_index=torch.tensor([0, 1]),
        objectness=torch.zeros(2),
        class_logits=logits,
        is_partner=[False, True],
        target_labels=[1],
        settings=SimilaritySettings(partners="hardest"),
    ).backward()
    assert logits.grad is None


def test_hardest_goes_by_the_target_classes_alone():
    # The other class is surest of e1, the target class of e2.
    loss = similarity_loss(
        features=torch.stack([E1, E1, E2]),
        labels=torch.tensor([1, 0, 0]),
        image_index=torch.tensor([0, 1, 1]),
        objectness=torch.tensor([0.9, 0.9, 0.1]),
        class_logits=torch.tensor([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 5.0]]),
        is_partner=[False, True],
        target_labels=[2],
        settings=SimilaritySettings(partners="hardest"),
    )
    assert loss.item() == 0


# Two pairs: positives 0 and 1 (e1 and e1 + e2), normals 2 and 3 (e2 and e3).
TWO_PAIRS = {
    "features": torch.stack([E1, E1 + E2, E2, E3]),
    "labels": [1, 1, 0, 0],
    "image_index": [0, 1, 2, 3],
    "objectness": [0.5] * 4,
    "scores": [0.5] * 4,
    "is_partner": [False, False, True, True],
}
RAW = SimilaritySettings(kind="contrastive", distance_margin=2.0, normalise_vectors=False)


def test_contrastive_of_two_pairs():
    # e1 and e2 are sqrt(2) apart, e1 + e2 and e3 sqrt(3).
    expected = ((2 - math.sqrt(2)) ** 2 / 2 + (2 - math.sqrt(3)) ** 2 / 2) / 2
    assert batch_loss(RAW, **TWO_PAIRS).item() == pytest.approx(expected)


def test_same_kind_pairs_join_the_mean():
    # e1 and e1 + e2 are 1 apart, e2 and e3 sqrt(2): costs 1/2 and 1, in each pair's mean of three.
    apart = [(2 - math.sqrt(2)) ** 2 / 2, (2 - math.sqrt(3)) ** 2 / 2]
    expected = sum((one + 0.5 + 1) / 3 for one in apart) / 2
    settings = dataclasses.replace(RAW, same_kind_pairs=True)
    assert batch_loss(settings, **TWO_PAIRS).item() == pytest.approx(expected)


def test_one_pair_has_no_second_image_of_a_kind():
    settings = dataclasses.replace(RAW, same_kind_pairs=True)
    assert batch_loss(settings, **PAIR).item() == pytest.approx(batch_loss(RAW, **PAIR).item())


def test_as_many_partners_as_foreground_regions_meet_their_kind():
    # The first pair has one foreground region and two candidates: the suspected one (e2) alone
    # meets the partners of the second pair.
    more = {
        "features": torch.stack([E1, E1, E2, E1, E3]),
        "labels": [1, 1, 0, 0, 0],
        "image_index": [0, 1, 2, 2, 3],
        "objectness": [0.5, 0.5, 0.9, 0.1, 0.5],
        "scores": [0.5] * 5,
        "is_partner": [False, False, True, True],
    }
    settings = dataclasses.replace(RAW, same_kind_pairs=True, distance_margin=1.0)
    # Positive-normal: all sqrt(2) apart, nothing; e1 and e1: 0; e2 and e3: 1.
    assert batch_loss(settings, **more).item() == pytest.approx(1 / 3)
    all_partners = dataclasses.replace(settings, partners="all")
    assert batch_loss(all_partners, **more).item() == pytest.approx(
        # The first pair compares e1 with e2 and with e1 (cost 1/2).
        ((0 + 0.5 + 0 + 1) / 4 + 1 / 3) / 2
    )


def test_regions_of_other_classes_are_no_foreground():
    loss = similarity_loss(
        features=torch.stack([E1, E2, E2]),
        labels=torch.tensor([1, 2, 0]),
        image_index=torch.tensor([0, 0, 1]),
        objectness=torch.tensor([0.9, 0.9, 0.9]),
        class_logits=torch.zeros(3, 3),
        is_partner=[False, True],
        target_labels=[1],
        settings=SimilaritySettings(),
    )
    assert loss.item() == 0


def test_a_loss_that_nobody_knows_is_an_error_with_the_nearest():
    """Also from Python, where no config is checked; not the last branch."""
    nothing = torch.zeros(0)
    with pytest.raises(ConfigError, match=r"SIMILARITY\.LOSS is 'cosin'.*Did you mean cosine\?"):
        similarity_loss(
            features=torch.zeros(0, 4),
            labels=nothing.long(),
            image_index=nothing.long(),
            objectness=nothing,
            class_logits=torch.zeros(0, 2),
            is_partner=[False, True],
            target_labels=[1],
            settings=SimilaritySettings(kind="cosin"),
        )


def test_partners_are_normal_images_and_those_with_boxes_of_other_classes_alone():
    positive, mixed, pseudo = torch.tensor([1]), torch.tensor([2, 1]), torch.tensor([2, 3])
    none = torch.tensor([], dtype=torch.int64)
    partners = are_partners(
        [positive, mixed, pseudo, none, none],
        # The last is a positive whose box lies outside the crop: it stays on its side.
        [False, False, False, True, False],
        target_labels=[1],
    )
    assert partners == (False, False, True, True, False)


def suspected_pair(**changed):
    """A malignant e1; its partner has e1 as background and e2 + e1 as a suspected region."""
    pair = {
        "features": torch.stack([E1, E1, E1 + E2]),
        "labels": torch.tensor([1, 0, 2]),
        "image_index": torch.tensor([0, 1, 1]),
        "objectness": torch.tensor([0.9, 0.9, 0.1]),
        "class_logits": torch.zeros(3, 3),
        "is_partner": [False, True],
        "target_labels": [1],
        "settings": SimilaritySettings(),
    }
    return similarity_loss(**{**pair, **changed})


def test_a_boxed_partner_offers_its_suspected_regions_alone():
    assert suspected_pair().item() == pytest.approx(HALF)


def test_a_partner_without_sampled_foreground_offers_all_regions():
    loss = suspected_pair(labels=torch.tensor([1, 0, 0]))
    assert loss.item() == pytest.approx(1)  # the one of the highest objectness


def test_a_boxed_partner_keeps_its_place_in_the_pairs():
    """Two positives, then a boxed and a plain normal image: no positive meets a positive."""
    loss = suspected_pair(
        features=torch.stack([E1, E2, E1, E3]),
        labels=torch.tensor([1, 1, 2, 0]),
        image_index=torch.tensor([0, 1, 2, 3]),
        objectness=torch.zeros(4),
        class_logits=torch.zeros(4, 3),
        is_partner=are_partners(
            [torch.tensor([1]), torch.tensor([1]), torch.tensor([2]), torch.tensor([]).long()],
            [False, False, False, True],
            [1],
        ),
    )
    assert loss.item() == pytest.approx(0.5)  # e1 meets e1, e2 meets e3
