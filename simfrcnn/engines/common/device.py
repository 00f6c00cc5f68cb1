"""Is the device that the config asks for there, and does memory come fast on a CPU?"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

import torch

from simfrcnn.errors import ConfigError

_MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_INT = 2**31 - 1


def check_device(cfg: Any) -> torch.device:
    """The device of ``MODEL.DEVICE``.

    Raises:
        ConfigError: It is neither cpu, cuda nor cuda:N, or a GPU that this machine or this torch
            does not have.
    """
    name = str(cfg.MODEL.DEVICE)
    match = re.fullmatch(r"cpu|cuda(?::(0|[1-9]\d*))?", name)
    if match is None:
        raise ConfigError(f"MODEL.DEVICE is {name!r}; legal are cpu, cuda and cuda:N")
    if name == "cpu":
        keep_freed_memory()
        return torch.device(name)
    if not torch.cuda.is_available():
        raise ConfigError(
            f"MODEL.DEVICE is {name}, but torch {torch.__version__} finds no GPU here; set "
            "MODEL.DEVICE cpu"
        )
    n_gpus = torch.cuda.device_count()
    if match[1] and int(match[1]) >= n_gpus:  # of cuda:256 torch makes cuda:0
        raise ConfigError(
            f"MODEL.DEVICE is {name}, but this machine has {n_gpus} GPU{'s' * (n_gpus != 1)}, "
            "counted from cuda:0"
        )
    return torch.device(name)


def keep_freed_memory() -> None:
    """Have the C library keep what a network frees, for the next layer of this process.

    glibc gives every block of more than 32 MB back to the system when it is freed, and the system
    clears the pages of the next one: with film-sized inputs half the time of a detector goes there.
    What a process holds at its peak stays the same; it holds on to it until it ends. Nothing is
    done where another C library is used, or where the environment says how malloc is to behave.

    Source: mallopt(3).
    """
    if any(name in os.environ for name in _MALLOC_VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(parameter, _LARGEST_INT)
