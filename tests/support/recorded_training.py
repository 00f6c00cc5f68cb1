"""A training with the torchvision engine that writes down what each process saw and ended with.

Run as ``python recorded_training.py CONFIG FOLDER``, alone or under torchrun, or with the number of
processes as a third word: they are forked then, into the environment that torchrun makes, without
an import of their own. Every rank writes ``rank<n>.json`` (the images and losses of each step,
the best figure, the memory of a replay, the digest of a teacher) and ``rank<n>.pth`` (its last
weights).
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from simfrcnn.config import load_config
from simfrcnn.engines import load_engine
from simfrcnn.engines.common.checkpoints import state_sha256
from simfrcnn.engines.torchvision import trainer
from simfrcnn.structures import Sample


class Recorded(trainer._Training):
    """The very training, with its eyes open."""

    def run(self) -> Path:
        """Train, then write down."""
        self.seen: list[list[str]] = []
        self.losses: list[dict[str, float]] = []
        last = super().run()
        folder, name = Path(sys.argv[2]), f"rank{self.processes.rank}"
        memory = self.replay.state_dict() if self.replay else {}
        teacher = self.model.teacher
        facts = {
            "steps": self.seen,
            "losses": self.losses,
            "teacher": state_sha256(teacher.network.state_dict()) if teacher else None,
            "best": self.best.state_dict(),
            "replay": {key: torch.as_tensor(value).tolist() for key, value in memory.items()},
        }
        (folder / f"{name}.json").write_text(json.dumps(facts))
        torch.save(self.model.state_dict(), folder / f"{name}.pth")
        return last

    def _step(self, model: Any, samples: Sequence[Sample], step: int) -> Any:
        self.seen.append([sample.record.file_name for sample in samples])
        losses = super()._step(model, samples, step)
        self.losses.append({name: float(loss.detach()) for name, loss in losses.items()})
        return losses


def train() -> None:
    """The training of one process."""
    torch.set_num_threads(1)
    trainer._Training = Recorded  # type: ignore[misc]
    engine = load_engine("torchvision")
    engine.train(load_config(engine.default_cfg(), sys.argv[1]))


def _train_as_rank(rank: int, n_processes: int, port: int) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n_processes))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    train()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train()
    else:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        n_processes = int(sys.argv[3])
        multiprocessing.start_processes(
            _train_as_rank, args=(n_processes, port), nprocs=n_processes, start_method="fork"
        )
