"""How does ``MODEL.WEIGHTS`` get into a new model?

Files: torchvision's ImageNet ``.pth``, Detectron2's ``.pkl`` (also those with Caffe2 names, such as
MSRA's R-101), or a checkpoint of simfrcnn, from which the whole detector starts.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from torch import Tensor, nn

from simfrcnn.engines.common.second_look import fill_second_look
from simfrcnn.engines.common.tensor_files import read_pickled_arrays
from simfrcnn.engines.common.timm_backbones import TimmBody, read_timm_weights
from simfrcnn.engines.common.weights import (
    fill_new_model,
    read_imagenet_weights,
    tensors_by_file_name,
    torchvision_name,
)
from simfrcnn.engines.detectron2.model import load_weights
from simfrcnn.errors import CheckpointError

_PREFIXES = ("backbone.bottom_up.", "backbone.", "roi_heads.")
_PREFIXES_OF_TIMM = {
    "backbone.body.net.model.": "",
    "backbone.body.": "",
    "backbone.bottom_up.body.net.model.": "",
    "backbone.bottom_up.body.": "",
    "roi_heads.res5.": "layer4.",
}
_FROZEN_EPS = 1e-5


def load_initial_weights(model: nn.Module, weights: str) -> None:
    """Fill a new model from ``MODEL.WEIGHTS``; an empty name leaves it random.

    Raises:
        CheckpointError: See :func:`simfrcnn.engines.common.weights.fill_new_model`.
    """
    fill_second_look(model)
    load_detector = partial(load_weights, model)
    identity: Any = model.identity
    if any(isinstance(part, TimmBody) for part in model.modules()):
        fill_new_model(
            weights,
            identity=identity,
            load_detector=load_detector,
            backbone=tensors_by_file_name(model, _PREFIXES_OF_TIMM),
            read=read_timm_weights,
            architecture_key="MODEL.TIMM.NAME",
        )
        return
    fill_new_model(
        weights,
        identity=identity,
        load_detector=load_detector,
        backbone=_tensors_of_the_resnet(model),
        read=_read,
    )


def _tensors_of_the_resnet(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor
        for own_name, tensor in model.state_dict().items()
        if (name := torchvision_name(_without_prefix(own_name))) is not None
    }


def _without_prefix(name: str) -> str:
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return name[len(prefix) :]


def _read(path: Path) -> dict[str, Tensor]:
    """The weights by torchvision's names, whatever the file calls them."""
    if path.suffix == ".pkl":
        content = read_pickled_arrays(path)
        arrays = content.get("blobs", content)
        if isinstance(arrays, dict) and "conv1_w" in arrays:
            return _from_caffe2(arrays, path)
    return read_imagenet_weights(path)


def _from_caffe2(arrays: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Caffe2's names and its batch normalisation, which is a scale and a shift alone.

    Frozen statistics of mean 0 and variance 1 - eps make Detectron2's layer do just that.
    """
    names = sorted(name for name in arrays if re.match(r"(conv1|res)", name))
    weights: dict[str, Tensor] = {}
    for old, new in zip(names, convert_basic_c2_names(names), strict=True):
        name = torchvision_name(new)
        if name is None:
            continue
        if not hasattr(arrays[old], "__array__"):
            raise CheckpointError(f"{path}: {old} is a {type(arrays[old]).__name__}, not an array")
        weights[name] = torch.as_tensor(arrays[old])
    for name in [name for name in weights if re.search(r"(bn\d|downsample\.1)\.weight$", name)]:
        scale, layer = weights[name], name.removesuffix("weight")
        weights.setdefault(f"{layer}running_mean", torch.zeros_like(scale))
        weights.setdefault(f"{layer}running_var", torch.ones_like(scale) - _FROZEN_EPS)
    return weights
