"""Which checkpoint is the best so far? The one with the highest case AUC on the validation set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class BestSoFar:
    """The highest validation figure and its step; it survives a resume inside the checkpoint.

    Ties go to the earlier step. An undefined figure (NaN) is never the best.
    """

    value: float | None = None
    step: int | None = None

    def offer(self, value: float, step: int) -> bool:
        """Take ``value`` if it is higher than all before; say whether it was taken."""
        if math.isnan(value) or (self.value is not None and value <= self.value):
            return False
        self.value, self.step = float(value), int(step)
        return True

    def __str__(self) -> str:
        """For the log."""
        return "none yet" if self.value is None else f"{self.value:.4f} after step {self.step}"

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"value": self.value, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.value, self.step = state["value"], state["step"]
