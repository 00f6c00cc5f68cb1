"""Frozen norms are folded into the convolutions before them; all else stays the same."""

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from simfrcnn.engines.common.folding import fold_frozen_norms
from simfrcnn.training.precision import Precision

SIZE = (32, 48)
ROUNDED = Precision("auto", "bfloat16", "")


def with_statistics(body):
    """Statistics as after a training: no factor is 1 and no shift is 0."""
    generator = torch.Generator().manual_seed(1)
    for layer in body.modules():
        if hasattr(layer, "running_var"):
            for tensor, low, high in (
                (layer.running_var, 0.5, 2),
                (layer.weight, 0.5, 1.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.bias, -0.5, 0.5),
            ):
                with torch.no_grad():
                    tensor.uniform_(low, high, generator=generator)
    return body


def small(*, bias=False):
    torch.manual_seed(0)
    return with_statistics(
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3, bias=bias), FrozenBatchNorm2d(8), nn.ReLU(inplace=True)),
            *(nn.Conv2d(8, 8, 3, groups=8, bias=bias), FrozenBatchNorm2d(8), nn.ReLU()),
            nn.Conv2d(8, 4, 1),
        )
    )


def network_of_timm(name):
    torch.manual_seed(0)
    body = timm.create_model(name, pretrained=False, num_classes=0)
    return with_statistics(timm.layers.freeze_batch_norm_2d(body))


def step(body, x):
    """What a body makes of a batch in training, and the gradients of its square."""
    body.train()
    y = body(x)
    return y, torch.autograd.grad(y.square().sum(), list(body.parameters()))


def assert_close(one, other):
    scale = float(one.detach().abs().max())
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * max(scale, 1e-6))


@pytest.mark.parametrize(
    "make",
    [
        small,
        lambda: small(bias=True),
        lambda: network_of_timm("test_resnet"),
        lambda: network_of_timm("test_efficientnet"),
        lambda: network_of_timm("tf_mobilenetv3_small_minimal_100"),
        lambda: network_of_timm("seresnet18"),
    ],
    ids=["plain", "with a bias", "resnet", "efficientnet", "padding of its own", "seresnet"],
)
def test_a_step_is_the_same_but_for_rounding(make):
    plain, folded = make(), make()
    names = list(folded.state_dict())
    n_norms = sum(hasattr(layer, "running_var") for layer in plain.modules())
    assert fold_frozen_norms(folded, SIZE) == n_norms > 0
    assert list(folded.state_dict()) == names
    x = torch.rand(2, 3, 64, 64)
    (one, of_one), (two, of_two) = step(plain, x), step(folded, x)
    assert_close(one, two)
    assert not torch.equal(one, two)  # else nothing was folded
    for each, other in zip(of_one, of_two, strict=True):
        assert_close(each, other)
    with torch.no_grad():
        assert_close(plain.eval()(x), folded.eval()(x))
    assert fold_frozen_norms(folded, SIZE) == 0  # it is done


def test_a_norm_makes_no_float32_of_bfloat16():
    body = network_of_timm("test_resnet")
    fold_frozen_norms(body, SIZE)
    kinds = []
    for layer in body.modules():
        if isinstance(layer, timm.layers.FrozenBatchNormAct2d | FrozenBatchNorm2d):
            layer.register_forward_hook(lambda *parts: kinds.append(parts[-1].dtype))
    with ROUNDED.autocast("cpu"):
        body(torch.rand(1, 3, 64, 64))
    assert set(kinds) == {torch.bfloat16}


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
@pytest.mark.parametrize("words", [{"stride": 2}, {"stride": 2, "dilation": 2}, {"stride": (1, 3)}])
def test_padding_that_depends_on_the_input_is_timm_s(size, words):
    torch.manual_seed(0)
    layers = timm.layers.Conv2dSame(3, 4, 5, **words), FrozenBatchNorm2d(4), nn.ReLU()
    plain = with_statistics(nn.Sequential(*layers))
    folded = copy.deepcopy(plain)
    assert fold_frozen_norms(folded, SIZE) == 1
    x = torch.rand(2, 3, *size)
    assert_close(plain(x), folded(x))


class Branching(nn.Module):
    """The result of a convolution goes to a norm, and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Twice(Branching):
    """One convolution serves two places."""

    def forward(self, x):
        return self.norm(self.conv(x)) + self.conv(x).relu()


class InPlace(Branching):
    """What the norm takes is no longer what the convolution gave."""

    def forward(self, x):
        return self.norm(self.conv(x).relu_())


@pytest.mark.parametrize("kind", [Branching, Twice, InPlace])
def test_where_the_norm_is_not_all_that_follows_nothing_is_folded(kind):
    torch.manual_seed(0)
    body = with_statistics(kind())
    expected, gradients = step(body, torch.ones(1, 3, 8, 8))
    assert fold_frozen_norms(body, SIZE) == 0
    found, others = step(body, torch.ones(1, 3, 8, 8))
    assert torch.equal(found, expected)
    assert all(torch.equal(one, two) for one, two in zip(gradients, others, strict=True))


def test_statistics_and_weights_that_are_loaded_later_count():
    first, second = small(), small()
    fold_frozen_norms(first, SIZE)
    for tensor in second.state_dict().values():
        tensor.mul_(1.5)
    first.load_state_dict(second.state_dict())
    x = torch.rand(1, 3, 16, 16)
    assert_close(step(second, x)[0], step(first, x)[0])


def test_a_copy_computes_with_its_own_norms():
    """As that of an averaged teacher."""
    body = small()
    fold_frozen_norms(body, SIZE)
    other = copy.deepcopy(body)
    with torch.no_grad():
        other[1].bias.fill_(9)
    x = torch.rand(1, 3, 16, 16)
    assert not torch.allclose(step(body, x)[0], step(other, x)[0])
    assert_close(step(body, x)[0], step(copy.deepcopy(body), x)[0])


def test_nothing_is_run_where_no_norm_is_frozen():
    assert fold_frozen_norms(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), SIZE) == 0


def test_the_draws_that_follow_and_the_mode_are_left_alone():
    body = small().eval()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fold_frozen_norms(body, SIZE)
    assert torch.equal(torch.rand(2), expected)
    assert not body.training
