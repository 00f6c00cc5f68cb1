"""Stages by name, and which convolutions of res5 stay trained."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from simfrcnn.engines.common.stages import (
    freeze_layers,
    stages_by_layer,
    train_last_convolutions,
)
from simfrcnn.engines.torchvision.backbone import freeze_statistics
from simfrcnn.errors import ConfigError


def trained(module):
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def test_stages_of_a_resnet_by_name():
    resnet = torchvision.models.resnet18(weights=None)
    stages = stages_by_layer(resnet)
    assert list(stages) == ["stem", "res2", "res3", "res4", "res5"]
    assert stages["res3"] is resnet.layer2
    of_stages = [p for stage in stages.values() for p in stage.parameters()]
    assert len(of_stages) == len(list(resnet.parameters())) - 2  # the classifier
    assert stages_by_layer(nn.Linear(1, 1)) == {}


@pytest.mark.parametrize("freeze_at", range(6))
def test_layers_are_frozen_from_the_stem_on(freeze_at):
    resnet = torchvision.models.resnet18(weights=None)
    resnet.bn1.running_mean.fill_(0.7)
    freeze_layers(resnet, freeze_at, freeze_statistics)
    left = {name.split(".")[0] for name in trained(resnet)} - {"fc"}
    names = ["conv1", "layer1", "layer2", "layer3", "layer4"][freeze_at:]
    assert left == {*names, *(["bn1"] if freeze_at == 0 else [])}
    assert isinstance(resnet.bn1, FrozenBatchNorm2d) == (freeze_at >= 1)
    assert isinstance(resnet.layer2[0].downsample[1], FrozenBatchNorm2d) == (freeze_at >= 3)
    assert float(resnet.bn1.running_mean[0]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("n_trained", "expected"),
    [
        (0, []),
        (1, ["2.conv3", "2.bn3"]),
        (2, ["2.conv2", "2.bn2", "2.conv3", "2.bn3"]),
        (4, ["1.conv3", "1.bn3"] + [f"2.{kind}{n}" for n in (1, 2, 3) for kind in ("conv", "bn")]),
    ],
)
def test_the_last_convolutions_of_a_bottleneck_stage_by_hand(n_trained, expected):
    stage = torchvision.models.resnet50(weights=None).layer4
    before = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
    train_last_convolutions(stage, n_trained, freeze_statistics)
    assert {name.rsplit(".", 1)[0] for name in trained(stage)} == set(expected)
    for name, layer in stage.named_modules():
        assert isinstance(layer, nn.BatchNorm2d) <= (name in expected)
    after = stage.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_all_convolutions_of_a_stage_can_be_counted_down_to_the_shortcut():
    stage = torchvision.models.resnet50(weights=None).layer4
    train_last_convolutions(stage, 10, freeze_statistics)
    assert trained(stage) == [name for name, _ in stage.named_parameters()]
    train_last_convolutions(stage, 9, freeze_statistics)
    frozen = {name for name, parameter in stage.named_parameters() if not parameter.requires_grad}
    assert frozen == {"0.downsample.0.weight"}  # its norm layer has no parameters any more
    with pytest.raises(ConfigError, match=r"RES5_TRAINED_CONVS is 11, but res5 has 10"):
        train_last_convolutions(stage, 11, freeze_statistics)


def test_blocks_whose_convolutions_have_other_names_are_refused():
    stage = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 3)))
    with pytest.raises(ConfigError, match="which a Sequential does not have"):
        train_last_convolutions(stage, 1, freeze_statistics)
