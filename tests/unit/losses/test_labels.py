"""The loss of labels: by hand, its gradient, bags without a region, and permutation."""

import math

import pytest
import torch

from simfrcnn.losses import label_loss


def test_the_value_by_hand():
    logits = torch.tensor([[0.2, 0.8], [0.6, 0.4]]).log()
    labels, weights = torch.tensor([1, 1]), torch.tensor([1.0, 0.5])
    expected = -(math.log(0.8) + 0.5 * math.log(0.4)) / 2
    assert float(label_loss(logits, labels, weights, n_bags=2)) == pytest.approx(expected, rel=1e-6)
    # A bag without a region adds nothing and still counts.
    assert float(label_loss(logits, labels, weights, n_bags=4)) == pytest.approx(expected / 2)


def test_two_classes_by_hand():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    loss = label_loss(logits, torch.tensor([2]), torch.tensor([2.0]), n_bags=1)
    assert float(loss) == pytest.approx(-2 * math.log(0.2), rel=1e-6)


def test_no_bag_gives_a_connected_zero():
    logits = torch.zeros(3, 2, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    loss = label_loss(logits[:0], nothing, torch.zeros(0), n_bags=0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad.tolist() == [[0, 0]] * 3


def test_gradient_permutation_and_precision():
    torch.manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.tensor([1, 2, 1, 2]), torch.tensor([1.0, 0.1, 0.7, 0.3])
    assert torch.autograd.gradcheck(
        lambda values: label_loss(values, labels, weights.double(), n_bags=5), logits
    )
    order = torch.tensor([2, 0, 3, 1])
    loss = label_loss(logits, labels, weights, n_bags=4)
    permuted = label_loss(logits[order], labels[order], weights[order], n_bags=4)
    torch.testing.assert_close(loss, permuted)
    half = label_loss(logits.to(torch.bfloat16), labels, weights, n_bags=4)
    assert half.dtype == torch.float32
