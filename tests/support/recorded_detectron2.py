"""A training with the Detectron2 engine that writes down what each process saw and ended with.

Run as ``python recorded_detectron2.py CONFIG FOLDER N``. What the N processes write is what
:mod:`support.recorded_training` does, less the best figure and the memory of a replay.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

from simfrcnn.config import load_config
from simfrcnn.engines import load_engine
from simfrcnn.engines.common.checkpoints import state_sha256
from simfrcnn.engines.detectron2 import trainer
from support.forking import fork_processes


class Recorded(trainer.Trainer):
    """The very trainer, with its eyes open."""

    def __init__(self, cfg: Any) -> None:
        """Keep the losses of each forward pass."""
        torch.set_num_threads(1)
        super().__init__(cfg)
        self.seen: list[list[str]] = []
        self.losses: list[dict[str, float]] = []
        self.model.register_forward_hook(self._record)

    def _record(self, model: Any, _inputs: Any, outputs: Any) -> None:
        if model.training:
            self.losses.append({name: float(loss.detach()) for name, loss in outputs.items()})
            self.seen.append([Path(entry["file_name"]).name for entry in self.data_loader.batch])

    def train(self) -> None:
        """Train, then write down."""
        super().train()
        folder, name = Path(sys.argv[2]), f"rank{comm.get_rank()}"
        teacher = self.teacher
        facts = {
            "steps": self.seen,
            "losses": self.losses,
            "teacher": state_sha256(teacher.network.state_dict()) if teacher else None,
        }
        (folder / f"{name}.json").write_text(json.dumps(facts))
        torch.save(self.bare_model.state_dict(), folder / f"{name}.pth")


if __name__ == "__main__":
    fork_processes()
    trainer.Trainer = Recorded  # type: ignore[misc]
    engine = load_engine("detectron2")
    engine.launch_training(
        load_config(engine.default_cfg(), sys.argv[1]), num_gpus=int(sys.argv[3])
    )
