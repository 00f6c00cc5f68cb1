"""How are checkpoints written and read, so that none is half-written or mistaken for another, and
each says what it needs to be used?

A checkpoint is one file, a dict saved by torch: ``schema``, ``engine``, ``architecture``, ``model``
(a state dict), for resuming ``training``, and what describes the model: ``config`` (resolved, as
YAML), ``classes``, ``target_classes``, ``operating_points`` (the document of
``operating_points.json``) and ``card``. Schema 1, of earlier versions, has no description. A file
for inference may be ``.safetensors`` instead: the same, without ``training``, and all but the
weights as JSON.
Files of one run: ``model_last.pth``, replaced in one rename at every checkpoint, and
``model_best.pth``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn import config
from simfrcnn.engines.common.stored_weights import restored
from simfrcnn.engines.common.tensor_files import (
    read_safetensors,
    read_torch_file,
    write_safetensors,
    write_torch_file,
)
from simfrcnn.errors import CheckpointError
from simfrcnn.files import sha256_of, writing
from simfrcnn.trees import value_of
from simfrcnn.wording import first_few

SCHEMA = 2
LAST = "model_last.pth"
BEST = "model_best.pth"
SAFETENSORS = ".safetensors"
"""The suffix of a checkpoint for inference that is no pickle."""
SECOND_LOOK = "second_look."
"""How the names of a second look's weights begin."""
_IN_SAFETENSORS = "simfrcnn"
_ENTRIES = {"engine", "architecture", "model", "training"}
DESCRIPTION = ("config", "classes", "target_classes", "operating_points", "card")
"""The entries that describe a model; None where a file does not have them."""

logger = logging.getLogger("simfrcnn")

# The keys that decide the names and shapes of weights, or what they mean.
_ARCHITECTURE_KEYS = (
    "MODEL.META_ARCHITECTURE",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "MODEL.BACKBONE.NAME",
    "MODEL.TIMM.NAME",
    "MODEL.RESNETS.DEPTH",
    "MODEL.RESNETS.NORM",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.RESNETS.OUT_FEATURES",
    "MODEL.FPN.IN_FEATURES",
    "MODEL.FPN.OUT_CHANNELS",
    "MODEL.FPN.NORM",
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.ROI_HEADS.NAME",
    "MODEL.ROI_BOX_HEAD.NAME",
    "MODEL.ROI_BOX_HEAD.NUM_FC",
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
    "MODEL.SIMFRCNN.DEFORM_STAGES",
    "DATASETS.CLASSES",
)
_N_SHOWN = 5
_MASK_ON = "MODEL.MASK_ON"
# Of a model with a mask head alone: other checkpoints stay as they always were.
_MASK_KEYS = (
    _MASK_ON,
    "MODEL.ROI_MASK_HEAD.NUM_CONV",
    "MODEL.ROI_MASK_HEAD.CONV_DIM",
    "MODEL.ROI_MASK_HEAD.NORM",
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE",
)
POOLING_KEYS = ("MODEL.CLASSIFIER.POOL", "MODEL.CLASSIFIER.TOP_SHARE")
# Of a whole-image classifier alone.
_KEYS_OF_A_CLASSIFIER = (
    "MODEL.CLASSIFIER.HEAD",
    "MODEL.CLASSIFIER.HEAD_CHANNELS",
    *POOLING_KEYS,
)
# What a checkpoint meant before it had the key.
_BEFORE_THE_KEY = {
    "MODEL.TIMM.NAME": "",
    "MODEL.SIMFRCNN.DEFORM_STAGES": "[]",
    _MASK_ON: "False",
}


@dataclass(frozen=True)
class Identity:
    """Whose weights these are: the engine, and the keys that shape the network."""

    engine: str
    architecture: Mapping[str, str]

    @classmethod
    def of(cls, engine: str, cfg: Any) -> Identity:
        """Read the identity of a model from its config."""
        keys = (
            *_ARCHITECTURE_KEYS,
            *(_MASK_KEYS if cfg.MODEL.MASK_ON else ()),
            *(_KEYS_OF_A_CLASSIFIER if config.is_classifier(cfg) else ()),
        )
        return cls(engine, {key: _plain(value_of(cfg, key)) for key in keys})

    @classmethod
    def in_file(cls, content: Mapping[str, Any]) -> Identity:
        """Of what :func:`read_checkpoint` gave; older files lack keys that changed nothing then."""
        return cls(content["engine"], {**_BEFORE_THE_KEY, **content["architecture"]})


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of its model: enough to use it without any other file."""

    config: str
    """The resolved config, as YAML."""
    classes: tuple[str, ...]
    target_classes: tuple[str, ...]
    card: Mapping[str, Any] = field(default_factory=dict)
    operating_points: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, cfg: Any, card: Mapping[str, Any]) -> Description:
        """Of a model that was built from a config; no operating point has been chosen yet."""
        data = cfg.DATASETS
        return cls(cfg.dump(), tuple(data.CLASSES), tuple(data.TARGET_CLASSES), card)

    def after(
        self, steps: int, figures: Mapping[str, float] | None = None, *, chosen_by: str = ""
    ) -> Description:
        """The same of a later step.

        Args:
            steps: Optimiser steps so far.
            figures: Of a validation after that step, if there was one.
            chosen_by: Which of them is the best so far.
        """
        card = {**self.card, "steps": steps}
        if figures is not None:
            card["validation_in_training"] = dict(figures)
        if chosen_by:
            card["checkpoint_chosen_by"] = chosen_by
        return replace(self, card=card)

    def entries(self) -> dict[str, Any]:
        """As they stand in the file."""
        return {
            "config": self.config,
            "classes": list(self.classes),
            "target_classes": list(self.target_classes),
            "operating_points": self.operating_points,
            "card": dict(self.card),
        }


def save_checkpoint(
    path: Path,
    model: nn.Module,
    identity: Identity,
    training: Mapping[str, Any] | None = None,
    description: Description | None = None,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: Replaced as a whole or not at all.
        model: Its state dict is saved (unwrap a data-parallel model first).
        identity: Engine and architecture.
        training: Everything that resuming needs, made of tensors and plain containers only.
        description: Left out, the model can be loaded only by who knows its config.

    Raises:
        OutputError: Disk full, no permission.
    """
    content = {
        "engine": identity.engine,
        "architecture": dict(identity.architecture),
        "model": model.state_dict(),
        "training": training,
        **(dict.fromkeys(DESCRIPTION) if description is None else description.entries()),
    }
    write_checkpoint(path, content)


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write what :func:`read_checkpoint` gave, or a changed copy of it, atomically.

    A ``.safetensors`` holds no state of a training: ``training`` must be None for it.
    """
    content = {**content, "schema": SCHEMA}
    with writing(path) as temporary:
        if path.suffix != SAFETENSORS:
            write_torch_file(content, temporary)
            return
        if content["training"] is not None:
            raise CheckpointError(
                f"{path}: a {SAFETENSORS} file cannot hold the state of a training"
            )
        said = {key: value for key, value in content.items() if key != "model"}
        texts = {_IN_SAFETENSORS: json.dumps(said)}
        write_safetensors(content["model"], texts, temporary)


def read_checkpoint(path: Path, identity: Identity | None = None) -> dict[str, Any]:
    """Read a checkpoint of simfrcnn, without running any code that it might hold.

    Weights that were stored in half precision or as int8 become float32.

    Args:
        path: The file.
        identity: If given, the checkpoint must be of this engine and architecture.

    Returns:
        The entries of the file; those of :data:`DESCRIPTION` are None in a file of schema 1.

    Raises:
        CheckpointError: Missing, damaged, unsafe, not one of ours, of a later version, or of
            another engine or architecture (the keys that differ are listed).
    """
    content = read_weights_file(path)
    if not is_simfrcnn_checkpoint(content):
        raise CheckpointError(
            f"{path} is not a checkpoint of simfrcnn; weights for the start of a training go into "
            "MODEL.WEIGHTS"
        )
    if content["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} was written by a later version of simfrcnn (schema {content['schema']}; this "
            f"one reads up to {SCHEMA}): install a newer simfrcnn"
        )
    if identity is not None:
        _check_identity(path, content, identity)
    try:
        state = restored(content["model"])
    except KeyError as error:
        raise CheckpointError(f"{path} is damaged: it lacks {error}") from error
    return {**dict.fromkeys(DESCRIPTION), **content, "model": state}


def holds_detector(path: Path) -> bool:
    """Whether a file is a checkpoint of ours; False of any other file of weights.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return path.suffix != ".pkl" and is_simfrcnn_checkpoint(read_weights_file(path))


def read_weights_file(path: Path) -> Any:
    """What a ``.safetensors`` file, or one of PyTorch, holds, whoever wrote it; no code is run.

    Raises:
        CheckpointError: It is missing, damaged or unsafe.
    """
    if path.suffix != SAFETENSORS:
        return read_torch_file(path)
    tensors, texts = read_safetensors(path)
    if _IN_SAFETENSORS not in texts:
        return tensors
    try:
        said = json.loads(texts[_IN_SAFETENSORS])
        return {**said, "model": tensors}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: what it says of its model is no JSON") from error


def is_simfrcnn_checkpoint(content: Any) -> bool:
    """Whether what was read from a file is a checkpoint of ours, of whatever version."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("schema"), int)
        and content.keys() >= _ENTRIES
        and isinstance(content["model"], Mapping)
    )


def weights_sha256(path: Path) -> str:
    """What tells the model in a file from every other: the ``checkpoint_sha256`` of detections.

    The digest of its weights, which stays the same when operating points are written into the file
    or its training state is left out. Of a file of schema 1 it is the hash of the file, as
    detections and operating points of those versions have it: such a file is never rewritten.

    Raises:
        CheckpointError: As of :func:`read_checkpoint`.
    """
    content = read_checkpoint(path)
    return sha256_of(path) if content["schema"] == 1 else state_sha256(content["model"])


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """The digest of names, types, shapes and values of a state dict, whatever its order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy a state dict into a model; every name and shape must match.

    Counters of batch normalisation may be there or not: layers with frozen statistics have none,
    and nothing reads them. The second look may be there or not, as a whole: a file without one
    leaves that of the model as it is, one with it fills a model without, and either is logged.

    Raises:
        CheckpointError: Names the tensors that are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    state = _across_the_switch(own, state, path)
    state = {name: tensor for name, tensor in state.items() if name in own or not is_counter(name)}
    state |= {name: own[name] for name in own if name not in state and is_counter(name)}
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in own]
    problems += [
        f"{name}: {tuple(state[name].shape)} in the file, {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the model: {first_few(problems, _N_SHOWN, '; ')}"
        )
    model.load_state_dict(state)


def _across_the_switch(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """A state dict with or without a second look for a model without or with one."""
    of_model = {name: tensor for name, tensor in own.items() if name.startswith(SECOND_LOOK)}
    of_file = [name for name in state if name.startswith(SECOND_LOOK)]
    if bool(of_model) == bool(of_file):
        return dict(state)
    if of_model:
        logger.warning(
            f"{path} has no second look (MODEL.SECOND_LOOK): the model's starts fresh, and its "
            "scores mean nothing before it is trained"
        )
        return {**state, **of_model}
    logger.warning(
        f"{path} has a second look, which is left out: MODEL.SECOND_LOOK.ENABLED is False here"
    )
    return {name: tensor for name, tensor in state.items() if name not in of_file}


def is_counter(name: str) -> bool:
    """Whether a tensor of this name counts the batches that a norm layer has seen."""
    return name.endswith("num_batches_tracked")


def _check_identity(path: Path, content: dict[str, Any], identity: Identity) -> None:
    if content["engine"] != identity.engine:
        raise CheckpointError(
            f"{path} was trained with the engine {content['engine']}, this run uses "
            f"{identity.engine}; take --engine {content['engine']}"
        )
    theirs = {**_BEFORE_THE_KEY, **content["architecture"]}
    ours = {**_BEFORE_THE_KEY, **identity.architecture}
    kind = "MODEL.META_ARCHITECTURE"
    if theirs.get(kind) != ours.get(kind):
        raise CheckpointError(
            f"{path} is of another architecture: it holds a {theirs.get(kind)}, and {kind} of the "
            f"config is {ours.get(kind)}; take a file of the same kind, or the config of the file"
        )
    keys = {*theirs, *ours}
    if theirs.get(_MASK_ON) != ours.get(_MASK_ON):
        keys -= {key for key in _MASK_KEYS if key != _MASK_ON}  # one of the two has none
    differing = [
        f"{key} is {theirs.get(key)} in the file, {ours.get(key)} in the config"
        for key in sorted(keys)
        if theirs.get(key) != ours.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{path} is of another architecture: {first_few(differing, _N_SHOWN, '; ')}; set the "
            "config as the file has it, or take another file"
        )


def _plain(value: Any) -> str:
    """The same text for a list and a tuple: YAML knows no tuples."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)
