"""The loss of a whole-image classifier and the pooling of its maps, by hand and by a slow twin."""

from __future__ import annotations

import math

import pytest
import torch

from simfrcnn.losses import multilabel_loss, pooled

UNKNOWN = float("nan")


def maps_of(*cells):
    return torch.tensor(cells).reshape(1, 1, 2, -1)


def slow_loss(logits, present, smoothing):
    costs = []
    for row, truths in zip(logits.tolist(), present.tolist(), strict=True):
        for z, y in zip(row, truths, strict=True):
            if math.isnan(y):
                continue
            y = y * (1 - smoothing) + smoothing / 2
            p = 1 / (1 + math.exp(-z))
            costs.append(-(y * math.log(p) + (1 - y) * math.log(1 - p)))
    return sum(costs) / max(1, len(costs))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_mean_over_what_is_known(smoothing):
    logits = torch.tensor([[0.3, -1.2, 2.0], [-0.4, 0.0, 5.0]])
    present = torch.tensor([[1.0, 0.0, UNKNOWN], [UNKNOWN, 1.0, 0.0]])
    found = float(multilabel_loss(logits, present, smoothing=smoothing))
    assert found == pytest.approx(slow_loss(logits, present, smoothing), rel=1e-6)


def test_smoothing_by_hand():
    # y = 1, e = .2: the truth is .9; at logit 0 the cost is log 2, whatever the truth.
    one = torch.ones(1, 1)
    assert float(multilabel_loss(one * 0, one, smoothing=0.2)) == pytest.approx(math.log(2))
    z = math.log(9)  # the sigmoid is .9, the entropy of a coin of .9
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert float(multilabel_loss(one * z, one, smoothing=0.2)) == pytest.approx(expected, rel=1e-6)


def test_what_is_unknown_has_exactly_no_gradient_even_where_it_is_not_finite():
    logits = torch.tensor([[0.5, float("inf")], [1.0, -2.0]], requires_grad=True)
    present = torch.tensor([[1.0, UNKNOWN], [UNKNOWN, 0.0]])
    loss = multilabel_loss(logits, present)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert logits.grad is not None
    assert logits.grad[0, 1] == logits.grad[1, 0] == 0
    assert logits.grad[0, 0] == pytest.approx((torch.sigmoid(torch.tensor(0.5)) - 1) / 2)


def test_nothing_known_is_a_connected_zero():
    logits = torch.tensor([[0.5, 7.0]], requires_grad=True)
    loss = multilabel_loss(logits, torch.full((1, 2), UNKNOWN))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0]]


def test_poolings_by_hand():
    maps = maps_of(0.0, 1.0, 2.0, 7.0, -3.0, 5.0)
    assert float(pooled(maps, "avg")) == pytest.approx(2.0)
    assert float(pooled(maps, "max")) == 7.0
    assert float(pooled(maps, "top", top_share=0.5)) == pytest.approx(14 / 3)
    by_hand = math.log(sum(math.exp(5 * m) for m in (0, 1, 2, 7, -3, 5)) / 6) / 5
    assert float(pooled(maps, "lse")) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(
    ("share", "cells"), [(1 / 6, 1), (0.17, 2), (0.01, 1), (1e-12, 1), (0.5, 3), (1, 6)]
)
def test_top_takes_the_share_rounded_up(share, cells):
    values = torch.tensor([3.0, -1.0, 0.5, 9.0, 4.0, 2.0])
    expected = values.sort(descending=True).values[:cells].mean()
    found = pooled(values.reshape(1, 1, 2, 3), "top", top_share=share)
    assert float(found) == pytest.approx(float(expected))


def test_the_share_that_is_meant_is_taken_not_its_last_bit():
    cells = torch.arange(100.0).reshape(1, 1, 10, 10)
    assert 0.07 * 100 > 7
    assert float(pooled(cells, "top", top_share=0.07)) == pytest.approx(96)  # 93 to 99


def test_top_of_all_cells_is_the_mean_of_one_the_maximum_and_lse_lies_between():
    maps = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    mean, highest = pooled(maps, "avg"), pooled(maps, "max")
    assert torch.allclose(pooled(maps, "top", top_share=1.0), mean, atol=1e-6)
    assert torch.equal(pooled(maps, "top", top_share=0.001), highest)
    soft = pooled(maps, "lse")
    assert bool(((mean < soft) & (soft < highest)).all())


@pytest.mark.parametrize("pool", ["avg", "max", "lse", "top"])
def test_one_cell_is_its_own_pooling_and_half_precision_is_not_used(pool):
    cell = torch.tensor([[[[1.5]]]], dtype=torch.bfloat16)
    found = pooled(cell, pool)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(1.5)
