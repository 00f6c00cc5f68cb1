"""How does a training start in several processes, and how do they end together?"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import launch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from simfrcnn import errors
from simfrcnn.engines.common.checkpoints import LAST
from simfrcnn.engines.common.stopping import TrainingInterrupted, passing_signals_on
from simfrcnn.engines.detectron2.trainer import train
from simfrcnn.errors import ConfigError, SimFrcnnError


def launch_training(
    cfg: Any,
    *,
    resume: bool = False,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    command: Sequence[str] | None = None,
) -> Path:
    """Train in one process, or in several by Detectron2's ``launch``.

    Args:
        cfg: Checked; ``SOLVER.IMS_PER_BATCH`` is that of all processes together.
        resume: As for :func:`train`.
        num_gpus: Processes on this machine: one per GPU or, with ``MODEL.DEVICE cpu``, so many.
        num_machines: Machines in all.
        machine_rank: This machine, 0-based.
        dist_url: Where the processes meet; ``auto`` on one machine.
        command: The words of the command line, for the manifest.

    Returns:
        The path of the last checkpoint.

    Raises:
        SimFrcnnError: As for :func:`train`, whichever process it is from.
        ConfigError: More processes than GPUs, or several CPU processes beside a GPU.
        TrainingInterrupted: Ctrl-C or SIGTERM; every process has finished its step.
    """
    if num_gpus * num_machines == 1:
        return train(cfg, resume=resume, command=command)
    _check_processes(cfg, num_gpus, num_machines, dist_url)
    with tempfile.TemporaryDirectory(prefix="simfrcnn-") as folder:
        messages = Path(folder)
        with passing_signals_on(_children) as is_interrupted:
            try:
                launch(
                    _train_one_of_many,
                    num_gpus,
                    num_machines=num_machines,
                    machine_rank=machine_rank,
                    dist_url=dist_url,
                    args=(cfg, resume, command, folder),
                )
            except (ProcessRaisedException, ProcessExitedException) as error:
                if not is_interrupted():
                    raise _first_message(messages) or error from None
        if is_interrupted():
            raise _first_message(messages) or TrainingInterrupted("interrupted")
    return Path(cfg.OUTPUT_DIR) / LAST


def _train_one_of_many(
    cfg: Any, resume: bool, command: Sequence[str] | None, messages: str
) -> None:
    """In a process of its own: leave for the parent what it should tell the user."""
    try:
        train(cfg, resume=resume, command=command)
    except (SimFrcnnError, TrainingInterrupted) as error:
        told = {"error": type(error).__name__, "message": str(error)}
        (Path(messages) / f"{time.time_ns()}-{os.getpid()}.json").write_text(json.dumps(told))
        raise


def _children() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def _first_message(folder: Path) -> SimFrcnnError | TrainingInterrupted | None:
    """What a process left; the one that failed comes before those that stopped because of it."""
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    told.sort(key=lambda one: "its own message says why" in one["message"])
    for one in told:
        if one["error"] == TrainingInterrupted.__name__:
            return TrainingInterrupted(one["message"])
        error: SimFrcnnError = getattr(errors, one["error"])(one["message"])
        return error
    return None


def _check_processes(cfg: Any, num_gpus: int, num_machines: int, dist_url: str) -> None:
    if dist_url == "auto" and num_machines > 1:
        raise ConfigError("--dist-url is auto; several machines need tcp://HOST:PORT of the first")
    n_found = torch.cuda.device_count()
    if cfg.MODEL.DEVICE == "cpu" and n_found:
        raise ConfigError(
            "several processes with MODEL.DEVICE cpu on a machine with a GPU: Detectron2 would "
            "join them by NCCL. Hide the GPU with CUDA_VISIBLE_DEVICES=''"
        )
    if cfg.MODEL.DEVICE != "cpu" and num_gpus > n_found:
        raise ConfigError(
            f"--num-gpus is {num_gpus}; this machine has {n_found}. Give at most that, or "
            "MODEL.DEVICE cpu for so many CPU processes"
        )
