"""What does a training tell while it runs? Lines, ``metrics.json`` and TensorBoard events."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from simfrcnn.engines.common.run_folder import METRICS, forget_metrics_from
from simfrcnn.errors import OutputError

logger = logging.getLogger("simfrcnn")


class Progress:
    """The record of a run in its folder. Steps count from 0, as Detectron2's iterations do.

    Args:
        folder: The run folder.
        start_step: Where this process begins; what was recorded from there on is replaced.
        end_step: For the time that is left.
    """

    def __init__(self, folder: Path, start_step: int, end_step: int) -> None:
        self._path = folder / METRICS
        forget_metrics_from(folder, start_step)
        self._events = SummaryWriter(str(folder), purge_step=start_step)
        self._end_step = end_step
        self._last_step, self._last_time = start_step - 1, time.perf_counter()

    def record_training(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """Record the losses of a step, and say them with the pace and the time that is left."""
        seconds = self._seconds_per_step(step)
        total = sum(losses.values())
        self._write(
            step,
            {"total_loss": total, **losses, "lr": learning_rate, "seconds_per_step": seconds},
        )
        left = timedelta(seconds=round(seconds * (self._end_step - step - 1)))
        parts = [f"{name.removeprefix('loss_')} {loss:.3f}" for name, loss in losses.items()]
        logger.info(
            f"step {step + 1}/{self._end_step}  loss {total:.3f}  ({'  '.join(parts)})  "
            f"lr {learning_rate:.2g}  {seconds:.2f} s/step  {left} left"
        )

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Record other figures of a step."""
        self._write(step, figures)

    def record_validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Record the figures of a validation after ``step``; its time is no training time."""
        self._write(step, figures)
        self._last_step, self._last_time = step, time.perf_counter()

    def close(self) -> None:
        """Write out what TensorBoard still holds back."""
        self._events.close()

    def _seconds_per_step(self, step: int) -> float:
        now = time.perf_counter()
        seconds = (now - self._last_time) / max(step - self._last_step, 1)
        self._last_step, self._last_time = step, now
        return seconds

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"iteration": step, **values}) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
