"""Pooling under autocast on a CPU: the library's values, and its gradient by another way."""

import pytest
import torch
from torchvision.ops import roi_align

from simfrcnn.engines.common import region_align
from simfrcnn.engines.common.region_align import align_regions


def regions_of(n_images, n_regions, width_px, height_px):
    """Random boxes, some beyond the image, one empty, in no order of images."""
    random = torch.Generator().manual_seed(0)
    size = torch.tensor([width_px, height_px], dtype=torch.float32)
    start = torch.rand(n_regions, 2, generator=random) * size * 1.2 - 0.1 * size
    length = torch.rand(n_regions, 2, generator=random) * size * 0.6
    length[0] = 0
    image = torch.randint(0, n_images, (n_regions, 1), generator=random).float()
    return torch.cat([image, start, start + length], dim=1)


def pooled_and_gradient(function, features, regions, upstream, how):
    features = features.clone().requires_grad_()
    pooled = function(features, regions, **how)
    pooled.backward(upstream)
    return pooled.detach(), features.grad


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("largest", [2**24, 1])
def test_values_and_gradient_are_the_librarys(monkeypatch, aligned, sampling_ratio, largest):
    monkeypatch.setattr(region_align, "_LARGEST_PRODUCT", largest)
    torch.manual_seed(0)
    features, regions = torch.randn(3, 5, 11, 14), regions_of(3, 30, 14 * 4, 11 * 4)
    how = {
        "output_size": (3, 7),
        "spatial_scale": 0.25,
        "sampling_ratio": sampling_ratio,
        "aligned": aligned,
    }
    upstream = torch.randn(30, 5, 3, 7)
    expected = pooled_and_gradient(roi_align, features, regions, upstream, how)
    with torch.autocast("cpu", torch.bfloat16):
        found = pooled_and_gradient(align_regions, features, regions, upstream, how)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)
    # Without autocast it is the library's function, gradient included.
    plain = pooled_and_gradient(align_regions, features, regions, upstream, how)
    assert all(torch.equal(one, two) for one, two in zip(plain, expected, strict=True))


def test_of_no_region_the_gradient_is_zero():
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = align_regions(
            features,
            torch.zeros(0, 5),
            output_size=(7, 7),
            spatial_scale=1.0,
            sampling_ratio=0,
            aligned=True,
        )
    pooled.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_features_in_half_precision_get_boxes_that_are_not_rounded():
    ramp = torch.arange(512.0).expand(1, 1, 4, 512) / 512
    regions = torch.tensor([[0.0, 301.0, 0.0, 303.0, 4.0]])  # to bfloat16: 300 and 304
    with torch.autocast("cpu", torch.bfloat16):
        pooled = align_regions(
            ramp.bfloat16().requires_grad_(),
            regions,
            output_size=(1, 2),
            spatial_scale=1.0,
            sampling_ratio=1,
            aligned=True,
        )
    assert pooled.dtype == torch.bfloat16
    expected = roi_align(ramp, regions, (1, 2), 1.0, 1, True).bfloat16()
    assert torch.equal(pooled.detach(), expected)
