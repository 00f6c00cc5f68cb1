"""Top likelihood loss: by hand, against an independent selection, and at its edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simfrcnn.losses import top_likelihood_loss


def test_value_by_hand():
    # The two largest logits are 2 and 0: (ln(1 + e^2) + ln 2) / 2.
    logits = torch.tensor([[0.0, -3.0, 2.0, -1.0]])
    expected = (math.log(1 + math.exp(2)) + math.log(2)) / 2
    assert top_likelihood_loss(logits, 2).item() == pytest.approx(expected, rel=1e-6)


def test_mean_over_images_of_means_over_anchors():
    logits = torch.tensor([[1.0, -9.0], [0.5, -9.0]])
    expected = (math.log(1 + math.exp(1.0)) + math.log(1 + math.exp(0.5))) / 2
    assert top_likelihood_loss(logits, 1).item() == pytest.approx(expected, rel=1e-6)


def test_is_cross_entropy_with_target_zero():
    logits = torch.linspace(-6, 6, 13).unsqueeze(0)
    reference = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.zeros_like(logits)
    )
    assert top_likelihood_loss(logits, 13).item() == pytest.approx(reference.item(), rel=1e-6)


@given(
    n_images=st.integers(1, 4),
    n_anchors=st.integers(1, 60),
    top_k=st.integers(1, 80),
    seed=st.integers(0, 2**31),
)
def test_selection_against_a_full_sort_in_numpy(n_images, n_anchors, top_k, seed):
    logits = np.random.default_rng(seed).normal(0, 5, (n_images, n_anchors))
    chosen = np.sort(logits, axis=1)[:, ::-1][:, :top_k]
    expected = np.log1p(np.exp(chosen)).mean()
    got = top_likelihood_loss(torch.from_numpy(logits), top_k).item()
    assert got == pytest.approx(expected, rel=1e-5)


def test_only_the_chosen_anchors_get_a_gradient_and_it_lowers_them():
    logits = torch.tensor([[3.0, 1.0, -2.0, 2.0]], requires_grad=True)
    top_likelihood_loss(logits, 2).backward()
    assert logits.grad is not None
    assert logits.grad[0, [0, 3]].gt(0).all()
    assert logits.grad[0, [1, 2]].eq(0).all()


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_gradcheck_in_float64(top_k):
    logits = torch.tensor(
        [[0.3, -1.2, 2.0], [4.0, 0.1, -7.0]], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda x: top_likelihood_loss(x, top_k), (logits,))


def test_no_normal_image_gives_a_connected_zero():
    logits = torch.randn(2, 10, requires_grad=True)
    loss = top_likelihood_loss(logits[:0], 256)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_connected_zero_does_not_keep_nan():
    logits = torch.full((2, 10), float("nan"), requires_grad=True)
    loss = top_likelihood_loss(logits[:0], 256)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.full((1, 4), 20.0, dtype=torch.float16)
    assert top_likelihood_loss(logits, 4).dtype == torch.float32


def test_order_of_anchors_does_not_matter():
    logits = torch.randn(3, 50)
    shuffled = logits[:, torch.randperm(50)]
    assert torch.allclose(top_likelihood_loss(logits, 7), top_likelihood_loss(shuffled, 7))


def test_a_weighted_image_counts_more_and_weights_of_one_change_no_bit():
    logits = torch.tensor([[1.0, -9.0], [0.5, -9.0]], requires_grad=True)
    plain = top_likelihood_loss(logits, 1)
    (gradient,) = torch.autograd.grad(plain, logits)
    ones = top_likelihood_loss(logits, 1, torch.ones(2))
    (same,) = torch.autograd.grad(ones, logits)
    assert torch.equal(plain, ones)
    assert torch.equal(gradient, same)
    graded = top_likelihood_loss(logits, 1, torch.tensor([3.0, 1.0]))
    expected = (3 * math.log(1 + math.exp(1.0)) + math.log(1 + math.exp(0.5))) / 2
    assert graded.item() == pytest.approx(expected, rel=1e-6)
    assert top_likelihood_loss(logits[:0], 1, torch.ones(0)).item() == 0
