"""Which model has a config, and how are detector and classifier called alike?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from simfrcnn import config
from simfrcnn.engines.common.checkpoints import Identity, load_model_strictly, read_checkpoint
from simfrcnn.engines.common.inference import evaluating
from simfrcnn.engines.torchvision import model as detectors
from simfrcnn.engines.torchvision.classifier import SimClassifier, build_classifier
from simfrcnn.engines.torchvision.model import SimFasterRCNN
from simfrcnn.structures import Detections, Sample


def build_model(cfg: Any) -> SimFasterRCNN | SimClassifier:
    """Build the model of a config, with random weights, on ``MODEL.DEVICE``, in training mode.

    Raises:
        ConfigError: A key has a value that this engine cannot honour; says which are legal.
    """
    return build_classifier(cfg) if config.is_classifier(cfg) else detectors.build_model(cfg)


def load_weights(model: nn.Module, path: Path, identity: Identity | None = None) -> None:
    """Fill the model from a checkpoint of simfrcnn, strictly.

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
    """The losses of one batch, weighted, keys exactly :func:`simfrcnn.engines.loss_keys`."""
    losses: dict[str, Tensor] = model(samples)
    return losses


def detect(model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
    """Detections in original pixels by falling score, one entry a sample; the mode is restored."""
    if not isinstance(model, SimClassifier):
        return detectors.detect(model, samples)
    with evaluating(model):
        found: list[Detections] = model(samples)
    return found
