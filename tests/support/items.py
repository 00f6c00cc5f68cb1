"""Functions that other processes can import."""

from __future__ import annotations

import os
import signal

from simfrcnn.errors import DataError


def squared(number: int) -> int:
    return number * number


def deadly(number: int) -> int:
    """Five kills the process."""
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refusing(number: int) -> int:
    raise DataError(f"{number} is refused")
