"""Deformable convolution: starts as the plain one, and then samples where its offsets say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simfrcnn.engines.common.deformable import DeformableConv, is_offset, make_deformable
from simfrcnn.errors import ConfigError


def plain_conv(**changes):
    torch.manual_seed(3)
    return nn.Conv2d(8, 6, **{"kernel_size": 3, "padding": 1, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stride": 2},
        {"stride": 2, "bias": False},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(7, 9), (8, 8)])
def test_it_starts_equal_to_the_plain_convolution(changes, size):
    plain = plain_conv(**changes)
    deformable = DeformableConv(plain)
    x = torch.randn(2, 8, *size)
    torch.testing.assert_close(deformable(x), plain(x), rtol=1e-5, atol=1e-5)
    assert deformable.weight is plain.weight
    expected = {"weight", "offset.weight", "offset.bias"} | ({"bias"} & plain.state_dict().keys())
    assert deformable.state_dict().keys() == expected


def test_an_offset_of_one_pixel_is_a_shift():
    plain = plain_conv()
    deformable = DeformableConv(plain)
    with torch.no_grad():
        deformable.offset.bias.view(9, 2)[:, 1] = 1.0  # (y, x) for every point of the kernel
    x = torch.randn(1, 8, 6, 7)
    shifted = F.pad(x, (0, 1))[..., 1:]
    inner = (..., slice(1, -1), slice(1, -1))  # the padding is shifted too
    torch.testing.assert_close(deformable(x)[inner], plain(shifted)[inner], rtol=1e-5, atol=1e-5)


def test_weights_and_offsets_get_gradients_from_the_first_step():
    deformable = DeformableConv(plain_conv())
    deformable(torch.randn(2, 8, 6, 6)).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in deformable.parameters())


def test_no_region_is_no_error():
    deformable = DeformableConv(plain_conv(stride=2))
    out = deformable(torch.zeros(0, 8, 14, 14))
    assert out.shape == (0, 6, 7, 7)
    out.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in deformable.parameters())


def test_mixed_precision_samples_in_float32():
    deformable = DeformableConv(plain_conv())
    x = torch.randn(1, 8, 6, 6).bfloat16()
    expected = deformable(x.float()).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = deformable(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_norm_and_activation_inside_a_convolution_are_kept():
    plain = plain_conv()
    plain.norm, plain.activation = nn.GroupNorm(3, 6), F.relu
    x = torch.randn(2, 8, 5, 5)
    expected = F.relu(plain.norm(plain(x)))
    torch.testing.assert_close(DeformableConv(plain)(x), expected, rtol=1e-5, atol=1e-5)


def test_only_offsets_are_called_offsets():
    assert is_offset("backbone.res4.3.conv2.offset.weight")
    assert not is_offset("backbone.res4.3.conv2.weight")


def test_blocks_without_a_plain_3x3_convolution_are_refused():
    block = nn.Module()
    block.conv2 = nn.Conv2d(2, 2, 1)
    with pytest.raises(ConfigError, match=r"DEFORM_STAGES names res4, whose Module has Conv2d"):
        make_deformable(nn.Sequential(block), "res4")
    with pytest.raises(ConfigError, match="has nothing where"):
        make_deformable(nn.Sequential(nn.Module()), "res4")
