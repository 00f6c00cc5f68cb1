"""How do ImageNet weights of a ResNet get into either engine's backbone?

Names are brought to one spelling, torchvision's: ``conv1.weight``, ``bn1.running_mean``,
``layer3.0.conv2.weight``, ``layer4.0.downsample.1.bias``. Files: torchvision's ``.pth`` and
Detectron2's converted ``.pkl`` (``stem.conv1.norm.weight``, ``res4.0.shortcut.weight`` ...).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn.config.mapping import CLASSIFIER
from simfrcnn.engines.common.checkpoints import (
    POOLING_KEYS,
    Identity,
    holds_detector,
    is_counter,
    is_simfrcnn_checkpoint,
    read_checkpoint,
    read_weights_file,
)
from simfrcnn.engines.common.deformable import is_offset
from simfrcnn.engines.common.tensor_files import read_pickled_arrays
from simfrcnn.errors import CheckpointError
from simfrcnn.wording import first_few
from simfrcnn.zoo import find_model

_DETECTRON2_NAME = re.compile(
    r"(?:res(?P<stage>[2-5])\.(?P<block>\d+)\.|stem\.)"
    r"(?P<layer>conv[1-3]|shortcut)\.(?P<rest>norm\.\w+|weight|bias)"
)
_IN_A_CLASSIFIER = ("backbone.body.net.model.", "backbone.body.", "backbone.")
"""How names of a backbone begin in a classifier of either engine; the first that fits counts."""
_OF_A_BACKBONE = (
    "MODEL.TIMM.NAME",
    "MODEL.RESNETS.DEPTH",
    "MODEL.RESNETS.NORM",
    "MODEL.RESNETS.STRIDE_IN_1X1",
)
_BATCH_NORMS = {"FrozenBN": "BN", "SyncBN": "BN"}
"""Norm layers whose weights and statistics mean the same."""
_CLASSIFIER = re.compile(r"(?:^|\.)(?:fc|linear)\w*\.(?:weight|bias)$|^stem\.fc\.")


def torchvision_name(detectron2_name: str) -> str | None:
    """torchvision's name of a ResNet tensor that Detectron2 calls ``detectron2_name``.

    None if the name is not one of a ResNet's body.
    """
    match = _DETECTRON2_NAME.fullmatch(detectron2_name)
    if match is None:
        return None
    layer, rest = match["layer"], match["rest"]
    prefix = f"layer{int(match['stage']) - 1}.{match['block']}." if match["stage"] else ""
    if layer == "shortcut":
        name = f"downsample.1.{rest[5:]}" if rest.startswith("norm.") else f"downsample.0.{rest}"
    elif rest.startswith("norm."):
        name = f"bn{layer[-1]}.{rest[5:]}"
    else:
        name = f"{layer}.{rest}"
    return prefix + name


def read_imagenet_weights(path: Path) -> dict[str, Tensor]:
    """Read a ResNet trained on ImageNet; names are torchvision's, the classifier is left out.

    Args:
        path: torchvision's ``.pth`` (a state dict), or Detectron2's ``.pkl``.

    Raises:
        CheckpointError: Missing, damaged, unsafe, a checkpoint of simfrcnn, or not a ResNet.
    """
    if path.suffix == ".pkl":
        content = read_pickled_arrays(path)
    else:
        content = read_weights_file(path)
        if is_simfrcnn_checkpoint(content):
            raise CheckpointError(f"{path} is a whole detector, not an ImageNet backbone")
    state = content.get("model", content) if isinstance(content, dict) else {}
    weights = {
        torchvision_name(name) or name: torch.as_tensor(value)
        for name, value in state.items()
        if _is_weight(name, value)
    }
    if "conv1.weight" not in weights:
        raise CheckpointError(
            f"{path} holds no ResNet: no conv1.weight (torchvision) or stem.conv1.weight "
            f"(Detectron2); found {sorted(state)[:4]}"
        )
    return weights


def fill_new_model(
    weights: str,
    *,
    identity: Identity,
    load_detector: Callable[[Path, Identity], None],
    backbone: Mapping[str, Tensor],
    read: Callable[[Path], Mapping[str, Tensor]] = read_imagenet_weights,
    architecture_key: str = "MODEL.RESNETS.DEPTH",
) -> None:
    """Fill a new model from ``MODEL.WEIGHTS``; an empty name leaves it random.

    Every tensor of the backbone, and of the stage that serves as C4 head, is filled or the file
    refused.

    Args:
        weights: A checkpoint of simfrcnn, or the name of a model that comes with it, from which the
            whole detector starts; or a backbone: a file of ImageNet weights, or the checkpoint of a
            whole-image classifier, of either engine, which gives a detector its backbone.
        identity: Of the model.
        load_detector: Fills the whole model from a checkpoint of an identity, strictly.
        backbone: The file's name (torchvision's or timm's) -> the model's own tensor.
        read: Reads a backbone's file; names are those of ``backbone``.
        architecture_key: What to check if the file does not fit, for the message.

    Raises:
        CheckpointError: Missing, damaged or unsafe file; one that leaves a backbone tensor
            unfilled; a checkpoint of another engine or architecture.
    """
    if not weights:
        return
    path = find_model(weights)
    if not holds_detector(path):
        found = read(path)
    elif _is_classifier(identity) or not _is_classifier(
        stored := Identity.in_file(read_checkpoint(path))
    ):
        load_detector(path, _identity_at_start(identity, path))
        return
    else:
        _require_same_backbone(identity, stored, path)
        found = _backbone_of_classifier(read_checkpoint(path)["model"])
    filling = backbone_weights(found, backbone, path, architecture_key)
    with torch.no_grad():
        for name, value in filling.items():
            backbone[name].copy_(value)


def _is_classifier(identity: Identity) -> bool:
    return identity.architecture.get("MODEL.META_ARCHITECTURE") == CLASSIFIER


def _identity_at_start(identity: Identity, path: Path) -> Identity:
    """What a file must be of to start a model. A classifier may have pooled its maps in another
    way, as one of patches does: pooling has no weights.
    """
    if not _is_classifier(identity):
        return identity
    stored = Identity.in_file(read_checkpoint(path)).architecture
    pooling = {key: stored[key] for key in POOLING_KEYS if key in stored}
    return dataclasses.replace(identity, architecture={**identity.architecture, **pooling})


def _backbone_of_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone in a classifier's state dict, by torchvision's or timm's names."""
    tensors = {}
    for name, value in state.items():
        prefix = next((each for each in _IN_A_CLASSIFIER if name.startswith(each)), None)
        if prefix is not None:
            own = name.removeprefix(prefix)
            tensors[torchvision_name(own) or own] = value
    return tensors


def _require_same_backbone(model: Identity, stored: Identity, path: Path) -> None:
    """Refuse a classifier whose backbone is another one, though names and shapes may be the same.

    Raises:
        CheckpointError: Names the key and both values.
    """
    for key in _OF_A_BACKBONE:
        ours, theirs = (each.architecture.get(key, "") for each in (model, stored))
        if key == "MODEL.RESNETS.NORM":
            ours, theirs = (_BATCH_NORMS.get(norm, norm) for norm in (ours, theirs))
        if ours != theirs:
            raise CheckpointError(
                f"{path} is a {CLASSIFIER} with {key} {stored.architecture.get(key)!r}, and the "
                f"model has {model.architecture.get(key)!r}: its backbone would mean something "
                "else; use the same"
            )
    if stored.architecture.get("MODEL.SIMFRCNN.DEFORM_STAGES", "[]") not in ("[]", "()"):
        raise CheckpointError(
            f"{path} is a {CLASSIFIER} with deformable convolutions, whose backbone a detector "
            "cannot start from; train it with MODEL.SIMFRCNN.DEFORM_STAGES ()"
        )


def tensors_by_file_name(model: nn.Module, prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a model that a file with weights of its backbone must fill.

    Offsets of deformable convolutions are new, and not among them.

    Args:
        model: The detector.
        prefixes: How names of the backbone's parts begin in the model -> how in the file; the first
            that fits counts.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        ours = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if ours is not None and not is_offset(name):
            tensors[prefixes[ours] + name.removeprefix(ours)] = tensor
    return tensors


def backbone_weights(
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    path: Path,
    architecture_key: str = "MODEL.RESNETS.DEPTH",
) -> dict[str, Tensor]:
    """Pick every tensor that the backbone needs; refuse a file that leaves one unfilled.

    Args:
        weights: From :func:`read_imagenet_weights`.
        wanted: torchvision name -> the model's own tensor, for the whole backbone and, in a C4
            model, for the stage that serves as box head.
        path: For the message.
        architecture_key: What to check, for the message.

    Raises:
        CheckpointError: Lists what is missing or of another shape. A file with batch statistics is
            refused by a model without them (GroupNorm): its scales would mean something else.
    """
    wanted = {name: value for name, value in wanted.items() if not is_counter(name)}
    problems = [f"missing: {name}" for name in wanted if name not in weights]
    problems += [
        f"{name}: {tuple(weights[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if _has_statistics(weights) and not _has_statistics(wanted):
        problems.append(
            "the file was trained with batch normalisation, the model has other norm layers; set "
            "MODEL.RESNETS.NORM to FrozenBN or BN"
        )
    if problems:
        raise CheckpointError(
            f"{path} does not fill the backbone: {first_few(problems, 5, '; ')}. Check "
            f"{architecture_key} and MODEL.RESNETS.NORM"
        )
    return {name: weights[name] for name in wanted}


def _is_weight(name: Any, value: Any) -> bool:
    is_array = isinstance(value, Tensor) or hasattr(value, "__array__")
    return (
        isinstance(name, str) and is_array and not _CLASSIFIER.search(name) and not is_counter(name)
    )


def _has_statistics(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.endswith("running_mean") for name in tensors)
