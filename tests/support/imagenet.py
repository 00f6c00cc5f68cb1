"""Files like those with ImageNet weights, made here: random ResNets with sane batch statistics."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor


def write_imagenet_pth(path: Path, *, depth: int, without: Sequence[str] = ()) -> Path:
    """A state dict as torchvision publishes it, perhaps with tensors left out."""
    state = random_resnet(depth)
    torch.save({name: t for name, t in state.items() if name not in without}, path)
    return path


def write_imagenet_pkl(path: Path, *, depth: int) -> Path:
    """The same weights as Detectron2's converter writes them."""
    model = {
        detectron2_name(name): tensor.numpy()
        for name, tensor in random_resnet(depth).items()
        if not name.endswith("num_batches_tracked") and not name.startswith("fc.")
    }
    path.write_bytes(
        pickle.dumps({"model": model, "__author__": "test", "matching_heuristics": True})
    )
    return path


def random_resnet(depth: int) -> dict[str, Tensor]:
    """A seeded ResNet of torchvision that is as tame as a trained one."""
    torch.manual_seed(depth)
    return _tamed(getattr(torchvision.models, f"resnet{depth}")(weights=None))


def random_timm_model(name: str) -> dict[str, Tensor]:
    """A seeded model of timm; if it is a ResNet, one as tame as a trained one."""
    import timm

    torch.manual_seed(len(name))
    model = timm.create_model(name, pretrained=False)
    return _tamed(model) if hasattr(model, "layer4") else model.state_dict()


def _tamed(resnet: Any) -> dict[str, Tensor]:
    """Running statistics are made those of grey images with noise.

    Blocks add little to what they are given, so that nothing explodes over a hundred layers.
    """
    for layer in resnet.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over the batches seen
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        for block in stage:
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            torch.nn.init.constant_(last.weight, 0.2)
    with torch.no_grad():
        resnet.train()(torch.linspace(-2, 2, 4)[:, None, None, None] + torch.randn(4, 3, 96, 96))
    state: dict[str, Tensor] = resnet.state_dict()
    return state


def detectron2_name(torchvision_name: str) -> str:
    """layer3.0.downsample.1.bias -> res4.0.shortcut.norm.bias, and so on."""
    name = re.sub(r"downsample\.0", "shortcut", torchvision_name)
    name = re.sub(r"downsample\.1", "shortcut.norm", name)
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    if not name.startswith("layer"):
        return f"stem.{name}"
    return re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", name)
