"""Is the device that the config asks for there?"""

from __future__ import annotations

from typing import Any

import torch

from simfrcnn.errors import ConfigError


def check_device(cfg: Any) -> torch.device:
    """The device of ``MODEL.DEVICE``.

    Raises:
        ConfigError: It is no device, or a GPU that this machine or this torch does not have.
    """
    name = str(cfg.MODEL.DEVICE)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"MODEL.DEVICE is {name!r}; legal are cpu, cuda and cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"MODEL.DEVICE is {name}, but torch {torch.__version__} finds no GPU here; set "
            "MODEL.DEVICE cpu"
        )
    return device
