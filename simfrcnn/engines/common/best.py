"""Which checkpoint is the best so far? The one with the highest case AUC on the validation set."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.errors import CheckpointError

FIGURE = "case/auc"
"""What is compared."""

logger = logging.getLogger("simfrcnn")


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

    def forget_unless_in(self, path: Path) -> None:
        """Know of no best where ``path`` does not hold it.

        The best checkpoint can be of a later step than the last one, from which a training goes on:
        of a run that was killed between a validation and the next checkpoint, or whose last
        checkpoint was put back. The weights of the best before it are then gone.

        Raises:
            CheckpointError: The file is damaged, or no checkpoint of simfrcnn.
        """
        if self.step is None:
            return
        if not path.exists():
            logger.warning(
                f"{path} of step {self.step} is not there: the best checkpoint is chosen among the "
                "validations from here on"
            )
        elif self._is_in(path):
            return
        self.value = self.step = None

    def _is_in(self, path: Path) -> bool:
        """Whether a checkpoint says this step and figure; files of earlier versions say none."""
        try:
            card = read_checkpoint(path)["card"]
        except CheckpointError as error:
            raise CheckpointError(
                "the best checkpoint of this run cannot be read; move it away, and the training "
                f"goes on without it ({error})"
            ) from error
        if card is None:
            return True
        figures = card.get("validation_in_training", {})
        return (card.get("steps"), figures.get(FIGURE)) == (self.step, self.value)
