"""How is a model built, filled from a checkpoint, and run on samples?"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import get_cfg
from detectron2.modeling import build_model as build_registered_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from simfrcnn.config import add_simfrcnn_config
from simfrcnn.engines.common.checkpoints import Identity, load_model_strictly, read_checkpoint
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.inference import evaluating
from simfrcnn.engines.common.teacher import teacher_of
from simfrcnn.engines.detectron2.classifier import SimClassifier
from simfrcnn.engines.detectron2.compatibility import check_supported
from simfrcnn.engines.detectron2.data import to_dicts
from simfrcnn.engines.detectron2.meta_arch import NAME, SimFasterRCNN
from simfrcnn.errors import ConfigError
from simfrcnn.structures import OF_SECOND_LOOK, Detections, Sample

__all__ = [
    "NAME",
    "build_model",
    "default_cfg",
    "detect",
    "load_weights",
    "to_detections",
    "training_losses",
]


def default_cfg() -> Any:
    """Detectron2's whole tree with simfrcnn's keys on top."""
    cfg = get_cfg()
    add_simfrcnn_config(cfg)
    return cfg


def build_model(cfg: Any) -> nn.Module:
    """The detector with random weights on ``MODEL.DEVICE``, in training mode.

    Raises:
        ConfigError: Another architecture, a key that nobody would read, no such device, or a
            combination that Detectron2 refuses.
    """
    check_supported(cfg)
    check_device(cfg)
    try:
        model: nn.Module = build_registered_model(cfg)
    except AssertionError as error:
        raise ConfigError(f"Detectron2 cannot build this model: {error}") from error
    except KeyError as error:
        raise ConfigError(
            f"Detectron2 cannot build this model: it has no {error}; check MODEL.RESNETS.DEPTH, "
            "MODEL.*.IN_FEATURES and MODEL.RESNETS.OUT_FEATURES"
        ) from error
    if isinstance(model, SimFasterRCNN):
        model.teacher = teacher_of(cfg, functools.partial(build_registered_model, cfg), detect)
    return model


def load_weights(model: nn.Module, path: Path, identity: Identity | None = None) -> None:
    """Fill a model of :func:`build_model` from a checkpoint of simfrcnn, strictly.

    Args:
        model: The model.
        path: The file.
        identity: What the file must be of; the model's own if None.

    Raises:
        CheckpointError: Another engine, architecture, name or shape; a damaged or unsafe file.
    """
    assert isinstance(model, SimFasterRCNN | SimClassifier)
    load_model_strictly(model, read_checkpoint(path, identity or model.identity)["model"], path)


def training_losses(model: nn.Module, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The losses of one batch, keys exactly :func:`~simfrcnn.engines.contract.loss_keys`."""
    with EventStorage():  # the library's losses log into one
        losses: dict[str, Tensor] = model(to_dicts(samples))
    return losses


def detect(model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
    """Detections in original pixels, one per sample in order; the model's mode is restored."""
    with evaluating(model):
        outputs = model(to_dicts(samples))
    return [
        to_detections(sample.record.image_id, output["instances"])
        for sample, output in zip(samples, outputs, strict=True)
    ]


def to_detections(image_id: int, instances: Any) -> Detections:
    """The library's ``Instances``, in original pixels, as ours; classes become 1..K."""
    found = instances.to("cpu")
    both = {name: found.get(name) for name in OF_SECOND_LOOK if found.has(name)}
    labels = found.pred_classes + 1
    masks = tuple(found.pred_rles) if found.has("pred_rles") else None
    return Detections(image_id, found.pred_boxes.tensor, found.scores, labels, **both, masks=masks)
