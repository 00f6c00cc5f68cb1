"""ImageNet weights: names of both libraries, whole or refused."""

import pickle

import pytest
import torch
import torchvision

from simfrcnn.engines.common.weights import (
    backbone_weights,
    read_imagenet_weights,
    torchvision_name,
)
from simfrcnn.errors import CheckpointError


@pytest.mark.parametrize(
    ("detectron2", "expected"),
    [
        ("stem.conv1.weight", "conv1.weight"),
        ("stem.conv1.norm.running_mean", "bn1.running_mean"),
        ("res2.0.conv1.weight", "layer1.0.conv1.weight"),
        ("res5.2.conv3.norm.bias", "layer4.2.bn3.bias"),
        ("res4.0.shortcut.weight", "layer3.0.downsample.0.weight"),
        ("res4.0.shortcut.norm.running_var", "layer3.0.downsample.1.running_var"),
        ("res4.22.conv2.weight", "layer3.22.conv2.weight"),
        ("stem.fc.weight", None),
        ("proposal_generator.conv1.weight", None),
    ],
)
def test_names_by_hand(detectron2, expected):
    assert torchvision_name(detectron2) == expected


@pytest.fixture(scope="module")
def resnet18():
    state = torchvision.models.resnet18(weights=None).state_dict()
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in state.items()
    }


def detectron2_spelling(state):
    """The inverse of torchvision_name, written independently, as Detectron2's converter does."""
    spelt = {}
    for name, value in state.items():
        if name.startswith("fc") or name.endswith("num_batches_tracked"):
            continue
        parts = name.split(".")
        if parts[0].startswith("layer"):
            prefix, parts = f"res{int(parts[0][5]) + 1}.{parts[1]}.", parts[2:]
        else:
            prefix = "stem."
        if parts[0] == "downsample":
            layer = "shortcut" if parts[1] == "0" else "shortcut.norm"
            parts = parts[1:]
        elif parts[0].startswith("bn"):
            layer = f"conv{parts[0][2]}.norm"
        else:
            layer = parts[0]
        spelt[f"{prefix}{layer}.{parts[-1]}"] = value.numpy()
    return spelt


def test_both_file_formats_give_the_same_tensors(tmp_path, resnet18):
    torch.save(resnet18, tmp_path / "a.pth")
    content = {
        "model": detectron2_spelling(resnet18),
        "__author__": "x",
        "matching_heuristics": True,
    }
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(content))
    first = read_imagenet_weights(tmp_path / "a.pth")
    second = read_imagenet_weights(tmp_path / "b.pkl")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(first) == sum(
        not name.startswith("fc") and "num_batches" not in name for name in resnet18
    )


def test_every_wanted_tensor_is_picked_and_a_gap_is_refused(tmp_path, resnet18):
    body = {n: v for n, v in resnet18.items() if not n.startswith("fc") and "num_b" not in n}
    picked = backbone_weights(body, body, tmp_path / "x.pth")
    assert picked.keys() == body.keys()
    incomplete = {n: v for n, v in body.items() if n != "layer3.1.conv2.weight"}
    with pytest.raises(CheckpointError, match=r"x\.pth.*missing: layer3\.1\.conv2\.weight"):
        backbone_weights(incomplete, body, tmp_path / "x.pth")


def test_another_depth_is_refused_with_the_key_to_check(tmp_path, resnet18):
    deeper = torchvision.models.resnet50(weights=None).state_dict()
    wanted = {n: v for n, v in deeper.items() if not n.startswith("fc")}
    with pytest.raises(CheckpointError, match=r"MODEL\.RESNETS\.DEPTH"):
        backbone_weights(resnet18, wanted, tmp_path / "x.pth")


def test_batch_norm_statistics_are_not_poured_into_group_norm(tmp_path, resnet18):
    body = {n: v for n, v in resnet18.items() if not n.startswith("fc")}
    group_norm = {n: v for n, v in body.items() if "running" not in n and "num_b" not in n}
    with pytest.raises(CheckpointError, match=r"batch normalisation.*FrozenBN or BN"):
        backbone_weights(body, group_norm, tmp_path / "x.pth")


def test_a_file_without_a_resnet_is_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError, match=r"vgg\.pth holds no ResNet.*features\.0\.weight"):
        read_imagenet_weights(tmp_path / "vgg.pth")
