"""Trainings in two processes, of either engine, that write down what each of them saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from support.examples import tiny_config, write_tiny_set
from support.forking import run_program
from support.labelled_examples import label_two_images

SCRIPTS = {"torchvision": "recorded_training.py", "detectron2": "recorded_detectron2.py"}
Facts = list[dict[str, Any]]


def run_recorded(
    engine: Any, folder: Path, *words: Any, labelled: bool = False, by_torchrun: bool = False
) -> tuple[Facts, list[dict[str, torch.Tensor]]]:
    """Run the recorded training in two processes; give the facts and weights of both.

    Args:
        engine: Which trains.
        folder: Of the data set and the run.
        words: KEY VALUE overrides.
        labelled: Two of the images are known by their label alone.
        by_torchrun: Started by torchrun, which torchvision's engine alone knows.
    """
    path = write_tiny_set(folder / "data", n_positives=5, n_normals=3)
    if labelled:
        label_two_images(path)
    cfg = tiny_config(
        engine,
        "fpn",
        folder,
        *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "4"),
        *("DATASETS.VAL", "[tiny]", "TEST.EVAL_PERIOD", "2"),
        *words,
    )
    (folder / "config.yaml").write_text(cfg.dump())
    program = [Path(__file__).with_name(SCRIPTS[engine.NAME]), folder / "config.yaml", folder]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    started = [*torchrun, *program] if by_torchrun else [*program, "2"]
    done = run_program(started, cwd=folder, logs=folder)
    assert done.returncode == 0, done.stderr
    facts = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    weights = [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in (0, 1)]
    return facts, weights
