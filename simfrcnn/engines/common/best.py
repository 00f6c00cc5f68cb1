"""Which checkpoint is the best so far? The one whose figure on the validation set is highest."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.config import BEST_BY, LAST_COUNTS
from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.errors import CheckpointError, ConfigError

_DEFAULT = "case/auc"
"""The figure of checkpoints that do not name theirs."""

logger = logging.getLogger("simfrcnn")


@dataclass
class BestSoFar:
    """The highest validation figure and its step; it survives a resume inside the checkpoint.

    Ties go to the earlier step. An undefined figure (NaN) is never the best. Where ``figure`` is
    ``last``, none is.
    """

    value: float | None = None
    step: int | None = None
    figure: str = _DEFAULT

    def offer(self, figures: Mapping[str, float], step: int) -> bool:
        """Take the figures of a validation if they are better than all before; say whether."""
        value = figures.get(self.figure, math.nan)
        if math.isnan(value) or (self.value is not None and value <= self.value):
            return False
        self.value, self.step = float(value), int(step)
        return True

    def __str__(self) -> str:
        """For the log."""
        return "none yet" if self.value is None else f"{self.value:.4f} after step {self.step}"

    def line(self, figures: Mapping[str, float], step: int) -> str:
        """For the log, after a validation."""
        shown = _DEFAULT if self.figure == LAST_COUNTS else self.figure
        value = figures.get(shown, math.nan)
        found = f"step {step}: {BEST_BY[shown]} on VAL {value:.4f}"
        if self.figure == LAST_COUNTS:
            return found
        if math.isnan(value) and self.value is None:
            return f"{found}: not defined there; as long as that is so, the last checkpoint counts"
        return f"{found}; best: {self}"

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"value": self.value, "step": self.step, "figure": self.figure}

    def go_on_from(self, state: Mapping[str, Any], path: Path) -> None:
        """Take the best of a checkpoint, unless ``path`` does not hold it.

        The best checkpoint can be of a later step than the last one, from which a training goes on:
        of a run that was killed between a validation and the next checkpoint, or whose last
        checkpoint was put back. The weights of the best before it are then gone.

        Args:
            state: Of the last checkpoint.
            path: The best checkpoint.

        Raises:
            CheckpointError: The file is damaged, or no checkpoint of simfrcnn.
            ConfigError: It was chosen by another figure.
        """
        before = state.get("figure", _DEFAULT)
        if before != self.figure:
            if path.exists():
                raise ConfigError(
                    f"TEST.BEST_BY is {self.figure}, and was {before} when {path} was written: go "
                    f"on with TEST.BEST_BY {before}, or move the file away"
                )
            logger.warning(
                f"TEST.BEST_BY was {before}: by {self.figure} the best checkpoint is chosen among "
                "the validations from here on"
                if self.figure != LAST_COUNTS
                else f"TEST.BEST_BY was {before}: from here on the last checkpoint counts"
            )
            return
        self.value, self.step = state["value"], state["step"]
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
        return (card.get("steps"), figures.get(self.figure)) == (self.step, self.value)
