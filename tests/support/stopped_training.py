"""Trainings of two processes with the torchvision engine, of which one does not go on.

Run as ``python stopped_training.py CONFIG FOLDER``: for each case of :data:`CASES`, process 1 meets
it at step 2, and both write down how they ended, as ``<case>_<rank>.json``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from simfrcnn.config import load_config
from simfrcnn.engines import load_engine
from simfrcnn.engines.torchvision import trainer
from simfrcnn.engines.torchvision.processes import Processes
from simfrcnn.errors import DataError
from simfrcnn.structures import Sample
from simfrcnn.training.workers import BatchLoader

CASES = ("nan", "image", "signal")
AT_STEP = 2


class Stopped(trainer._Training):
    """A training in which process 1 meets a case."""

    case = ""

    def _losses(self, model: Any, samples: Sequence[Sample], step: int) -> Any:
        met = self.processes.rank == 1 and step == AT_STEP
        if met and self.case == "nan":
            samples[0].image.fill_(float("nan"))
        if met and self.case == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        return super()._losses(model, samples, step)


def _damaged(self: BatchLoader) -> Any:
    original = _loaded(self)
    for step in range(4):
        if step == AT_STEP and distributed.get_rank() == 1 and Stopped.case == "image":
            raise DataError("image7.png is damaged")
        yield next(original)


_loaded = BatchLoader.__iter__


def run(rank: int, config: str, folder: str) -> None:
    """All cases, in one process."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    BatchLoader.__iter__ = _damaged  # type: ignore[method-assign]
    engine = load_engine("torchvision")
    for Stopped.case in CASES:
        words = ["OUTPUT_DIR", f"{folder}/{Stopped.case}"]
        cfg = load_config(engine.default_cfg(), config, words)
        try:
            Stopped(cfg, Processes(rank, 2), resume=False).run()
        except BaseException as error:
            told = {"error": type(error).__name__, "message": str(error)}
            Path(folder, f"{Stopped.case}_{rank}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked: these two need no import of their own.
    multiprocessing.start_processes(
        run, args=(sys.argv[1], sys.argv[2]), nprocs=2, start_method="fork"
    )
