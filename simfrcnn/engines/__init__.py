"""Adapters between the core and a detection library, one package each."""

from simfrcnn.engines.contract import LOSS_KEYS, Deviation, Engine, load_engine

__all__ = ["LOSS_KEYS", "Deviation", "Engine", "load_engine"]
