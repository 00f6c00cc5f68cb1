"""The library of the extra ``dicom-out``, loaded when a result needs it."""

from __future__ import annotations

import importlib
from typing import Any

from simfrcnn.errors import ConfigError


def import_highdicom() -> Any:
    """highdicom with its packages ``sr`` and ``pr``.

    Raises:
        ConfigError: It is not installed; names the extra.
    """
    try:
        highdicom = importlib.import_module("highdicom")
        for package in ("sr", "pr"):
            importlib.import_module(f"highdicom.{package}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "highdicom":
            raise
        raise ConfigError(
            "the DICOM results sr and gsps need highdicom, which is not installed: "
            "pip install 'simfrcnn[dicom-out]'; cad-sr and sc do without"
        ) from error
    return highdicom
