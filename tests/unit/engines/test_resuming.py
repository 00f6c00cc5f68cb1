"""A resumed optimiser: its memory is the checkpoint's, its options are the config's."""

import copy

import pytest
import torch
from torch import nn

from simfrcnn import config
from simfrcnn.engines.common.resuming import restore_optimizer
from simfrcnn.training import recipe


def make_optimizer(model, **solver):
    """A new optimiser and its schedule."""
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.SOLVER.update({"OPTIMIZER": "sgd", "WARMUP_ITERS": 0, "STEPS": (), **solver})
    optimizer = recipe.build_optimizer(cfg, model)
    return optimizer, recipe.build_lr_scheduler(cfg, optimizer)


@pytest.fixture
def model():
    return nn.Linear(3, 1)


def step(model, optimizer):
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("optimizer", "key", "option", "before", "now"),
    [
        ("sgd", "WEIGHT_DECAY", "weight_decay", 0.1, 0.2),
        ("sgd", "MOMENTUM", "momentum", 0.9, 0.5),
        ("adam", "WEIGHT_DECAY", "weight_decay", 0.1, 0.2),
        ("sgd", "BASE_LR", "lr", 0.1, 0.2),
    ],
)
def test_options_are_those_of_the_config(model, tmp_path, optimizer, key, option, before, now):
    first, _ = make_optimizer(model, OPTIMIZER=optimizer, **{key: before})
    step(model, first)
    state = first.state_dict()
    second, schedule = make_optimizer(model, OPTIMIZER=optimizer, **{key: now})
    restore_optimizer(second, schedule, state, steps_done=1, path=tmp_path)
    assert [group[option] for group in second.param_groups] == [now]
    for name, memory in second.state_dict()["state"].items():
        for entry, value in memory.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(state["state"][name][entry]))


@pytest.mark.parametrize(("before", "now"), [(0.0, 0.9), (0.9, 0.0)])
def test_momentum_may_be_switched(model, tmp_path, before, now):
    first, _ = make_optimizer(model, MOMENTUM=before)
    step(model, first)
    second, schedule = make_optimizer(model, MOMENTUM=now)
    restore_optimizer(second, schedule, first.state_dict(), steps_done=1, path=tmp_path)
    step(model, second)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
    assert second.param_groups[0]["momentum"] == now


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("last_first", [True, False], ids=["to channels last", "from them"])
def test_a_state_in_another_memory_layout_makes_the_same_steps(optimizer, last_first, tmp_path):
    """A fused optimiser pairs numbers of a state and of a parameter by their place in memory."""
    layouts = [torch.contiguous_format, torch.channels_last]
    before, now = layouts if last_first else layouts[::-1]
    torch.manual_seed(0)
    inputs = torch.rand(3, 1, 3, 8, 8)

    def steps(model, optimizer, which):
        for n in which:
            model(inputs[n]).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole = nn.Conv2d(3, 4, 3).to(memory_format=before)
    other = copy.deepcopy(whole).to(memory_format=now)
    first, _ = make_optimizer(whole, OPTIMIZER=optimizer, BASE_LR=0.01)
    steps(whole, first, (0, 1))
    other.load_state_dict(whole.state_dict())
    second, schedule = make_optimizer(other, OPTIMIZER=optimizer, BASE_LR=0.01)
    assert second.param_groups[0]["fused"]
    state = copy.deepcopy(first.state_dict())
    restore_optimizer(second, schedule, state, steps_done=2, path=tmp_path)
    steps(whole, first, (2,))
    steps(other, second, (2,))
    assert other.weight.stride() != whole.weight.stride()
    torch.testing.assert_close(other.weight, whole.weight)
