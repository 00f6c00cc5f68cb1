"""Adapters between the core and a detection library, one package each."""

from typing import TYPE_CHECKING

from simfrcnn.engines.contract import (
    LOSS_KEYS,
    Detector,
    Deviation,
    Engine,
    load_engine,
    loss_keys,
)

if TYPE_CHECKING:
    # mypy refuses this if one of the modules does not offer what the contract says.
    from simfrcnn.engines import detectron2, torchvision

    _SATISFIED_BY: tuple[Engine, Engine] = (detectron2, torchvision)

__all__ = ["LOSS_KEYS", "Detector", "Deviation", "Engine", "load_engine", "loss_keys"]
