"""The engine on torchvision's detection models, which ``pip install`` brings."""

from __future__ import annotations

from typing import Any

from simfrcnn.config import add_simfrcnn_config, portable_defaults
from simfrcnn.engines.torchvision.building import (
    build_model,
    detect,
    load_weights,
    training_losses,
)
from simfrcnn.engines.torchvision.classifier import SimClassifier
from simfrcnn.engines.torchvision.model import DEVIATIONS, SimFasterRCNN
from simfrcnn.engines.torchvision.supported import NAME
from simfrcnn.engines.torchvision.trainer import launch_training, train
from simfrcnn.engines.torchvision.weights import load_initial_weights

__all__ = [
    "DEVIATIONS",
    "NAME",
    "SimClassifier",
    "SimFasterRCNN",
    "build_model",
    "default_cfg",
    "detect",
    "launch_training",
    "load_initial_weights",
    "load_weights",
    "train",
    "training_losses",
]


def default_cfg() -> Any:
    """The portable keys of Detectron2 and our own; any other key is an error."""
    cfg = portable_defaults()
    add_simfrcnn_config(cfg)
    return cfg
