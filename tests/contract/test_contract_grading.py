"""Graded normal images on every engine: what a weight changes, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from support.examples import BATCHES, seeded_model, smoke_config

KEY = "loss_rpn_top_likelihood"


def graded(samples, *weights):
    """The samples, the normal ones with these weights in turn."""
    left = list(weights)
    return [
        dataclasses.replace(
            one, targets=dataclasses.replace(one.targets, normal_weight=left.pop(0))
        )
        if one.targets.is_normal
        else one
        for one in samples
    ]


def losses_of(engine, model, samples):
    torch.manual_seed(1)
    return engine.training_losses(model, samples)


def value(loss):
    return float(loss.detach())


def test_a_weight_is_a_factor_of_its_image_in_the_top_likelihood_loss_alone(engine, heads):
    model = seeded_model(engine, smoke_config(engine, heads))
    plain = losses_of(engine, model, BATCHES["pairs"])
    for weights in ((1.0, 1.0), (3.0, 3.0), (3.0, 1.0), (1.0, 3.0)):
        losses = losses_of(engine, model, graded(BATCHES["pairs"], *weights))
        for name, loss in losses.items():
            assert name == KEY or torch.equal(loss, plain[name]), name
        if weights == (1.0, 1.0):
            assert torch.equal(losses[KEY], plain[KEY])
        elif weights == (3.0, 3.0):
            assert value(losses[KEY]) == pytest.approx(3 * value(plain[KEY]), rel=1e-5)
        else:
            assert value(plain[KEY]) < value(losses[KEY]) < 3 * value(plain[KEY])


def test_only_a_normal_image_has_a_weight():
    (positive, *_) = BATCHES["positives"]
    with pytest.raises(ValueError, match="not normal has no weight as one"):
        dataclasses.replace(positive.targets, normal_weight=2.0)
