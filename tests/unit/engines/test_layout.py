"""What a CPU is spared: the layout of a network, and depthwise convolutions in float32."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from simfrcnn.config import portable_defaults
from simfrcnn.engines.common.layout import is_depthwise, lay_out_for_training
from simfrcnn.training.precision import Precision

EXACT, ROUNDED = (Precision("auto", kind, "") for kind in ("float32", "bfloat16"))


def network(*, norm=nn.BatchNorm2d, depthwise=True):
    torch.manual_seed(0)
    middle = nn.Conv2d(8, 8, 3, padding=1, groups=8 if depthwise else 1)
    layers = nn.Conv2d(3, 8, 3), norm(8), middle, nn.ReLU(), nn.Conv2d(8, 4, 3)
    return nn.Sequential(*layers)


def group_norm(channels):
    return nn.GroupNorm(2, channels)


def laid_out(model, precision, device="cpu"):
    cfg = portable_defaults()
    cfg.MODEL.DEVICE = device
    return lay_out_for_training(cfg, model, precision)


def has_channels_last(model):
    return all(
        layer.weight.is_contiguous(memory_format=torch.channels_last)
        for layer in model
        if isinstance(layer, nn.Conv2d) and not is_depthwise(layer)
    )


@pytest.mark.parametrize(
    ("kind", "precision", "expected"),
    [
        ({}, EXACT, True),
        ({}, ROUNDED, True),
        ({"depthwise": False}, ROUNDED, True),
        ({"depthwise": False}, EXACT, False),
        ({"norm": group_norm}, EXACT, False),
        ({"norm": group_norm}, ROUNDED, False),
        ({"norm": group_norm, "depthwise": False}, ROUNDED, False),
    ],
)
def test_channels_come_last_where_that_is_faster(kind, precision, expected):
    assert has_channels_last(laid_out(network(**kind), precision)) is expected


@pytest.mark.parametrize("look_has_group_norm", [True, False])
def test_a_second_look_leaves_the_layout_of_its_detector(look_has_group_norm):
    of_look, of_detector = nn.BatchNorm2d, group_norm
    if look_has_group_norm:
        of_look, of_detector = of_detector, of_look
    parts = {"detector": network(norm=of_detector), "second_look": network(norm=of_look)}
    model = nn.ModuleDict(parts)
    laid_out(model, EXACT)
    assert has_channels_last(model["detector"]) is look_has_group_norm
    assert has_channels_last(model["second_look"]) is not look_has_group_norm


def test_a_model_for_a_gpu_is_left_alone():
    model = laid_out(network(), ROUNDED, device="cuda")
    assert not has_channels_last(model)
    assert "forward" not in vars(model[2])


def test_depthwise_convolutions_are_as_exact_as_in_float32():
    model = laid_out(network(), ROUNDED)
    x = torch.rand(2, 8, 9, 9).bfloat16().requires_grad_()
    weight = model[2].weight
    with ROUNDED.autocast("cpu"):
        found = model[2](x)
        assert model[4](found).dtype == torch.bfloat16  # the others are rounded
    wanted = functional.conv2d(x.float(), weight, model[2].bias, padding=1, groups=8)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    one, two = (torch.autograd.grad(y.square().sum(), weight)[0] for y in (found, wanted))
    assert torch.equal(one, two)


def test_losses_in_float32_stay_within_rounding():
    x = torch.rand(2, 3, 16, 16)
    plain, laid = network(), laid_out(network(), EXACT)
    for model in (plain, laid):
        model(x).square().sum().backward()
    for one, two in zip(plain.parameters(), laid.parameters(), strict=True):
        assert torch.equal(one, two)
        assert torch.allclose(one.grad, two.grad, rtol=1e-3, atol=1e-3)


def test_a_copy_computes_with_its_own_weights():
    """As in a test that trains one copy on."""
    model = laid_out(network(), ROUNDED)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[2].weight.zero_()
        other[2].bias.fill_(7)
    x = torch.rand(1, 8, 5, 5)
    for context in (EXACT, ROUNDED):
        with context.autocast("cpu"):
            assert torch.equal(other[2](x), torch.full((1, 8, 5, 5), 7.0))
            assert not torch.equal(model[2](x), other[2](x))
