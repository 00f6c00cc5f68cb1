"""What does a run leave behind, and what says where a number came from?

A run folder holds ``config.yaml`` (resolved), ``manifest.json`` (versions, commit, engine,
deviations, seed, data hashes, time, memory), ``metrics.json`` (one JSON object a line), TensorBoard
events, ``model_last.pth`` and ``model_best.pth``, under ``inference/`` detections and reports, and
``operating_points.json``, chosen on the validation set.
Of a run that was resumed after step n, ``config_to_step<n>.yaml`` and ``manifest_to_step<n>.json``
say under what it had run until then.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from simfrcnn import config
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.checkpoints import BEST, LAST
from simfrcnn.engines.contract import Deviation
from simfrcnn.errors import OutputError
from simfrcnn.files import write_json, write_text
from simfrcnn.labels import Tally
from simfrcnn.training.precision import training_precision
from simfrcnn.version import __version__

logger = logging.getLogger("simfrcnn")

CONFIG = "config.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.json"
_PACKAGES = (
    "numpy",
    "torch",
    "torchvision",
    "pydicom",
    "opencv-python",
    "fvcore",
    "pycocotools",
    "scikit-learn",
)


def open_run_folder(cfg: Any, *, resume: bool) -> Path:
    """Make the run folder, or refuse one that holds a run which would be overwritten.

    Raises:
        OutputError: A checkpoint is there and ``resume`` is not asked for, or the folder cannot be
            made.
    """
    folder = Path(cfg.OUTPUT_DIR)
    there = [name for name in (LAST, BEST) if (folder / name).exists()]
    if there and not resume:
        raise OutputError(
            f"OUTPUT_DIR {folder} holds a run already ({there[0]}); go on with --resume, or give "
            "another OUTPUT_DIR"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make OUTPUT_DIR {folder}: {error.strerror}") from error
    for torn in folder.glob(".model_*.part"):  # of a process that was killed while it wrote
        torn.unlink()
    return folder


def forget_best(folder: Path, best: BestSoFar, *, steps_done: int) -> None:
    """Remove the best checkpoint where a run knows of none: it is of another history.

    A run that was killed after a validation and before its next checkpoint has left it.
    """
    path = folder / BEST
    if best.step is not None or not path.exists():
        return
    path.unlink()
    if steps_done == 0:
        logger.warning(
            f"there is no {LAST} to go on from: the run starts at the beginning, and {path} of "
            "the run before is removed"
        )
        return
    logger.warning(
        f"{path} is not of the training that {LAST} goes on with after step {steps_done}: it is "
        "removed, and the best is chosen among the validations from here on; if there is none, "
        f"{LAST} is tested"
    )


def write_config(folder: Path, cfg: Any, *, steps_done: int) -> None:
    """Write the config; keep that of the steps that are done, and their manifest, beside it.

    A resumed run may change settings, even the seed: what its first steps ran under is not lost,
    and every changed key is reported.
    """
    path = folder / CONFIG
    if steps_done and path.exists():
        if changes := config.changed_keys(path, cfg, defaults=_own_defaults()):
            logger.warning(f"from step {steps_done} on with other settings: {'; '.join(changes)}")
        for earlier in (path, folder / MANIFEST):
            if earlier.exists():
                kept = f"{earlier.stem}_to_step{steps_done:07d}{earlier.suffix}"
                earlier.replace(folder / kept)
    write_text(path, cfg.dump())


def _own_defaults() -> Any:
    """What our keys are in the config of an earlier version, which lacks some."""
    defaults = config.portable_defaults()
    config.add_simfrcnn_config(defaults)
    return defaults


def write_manifest(
    folder: Path,
    cfg: Any,
    *,
    engine: str,
    deviations: Sequence[Deviation],
    sets: Sequence[AnnotatedSet],
    labels: Tally,
    world_size: int,
    steps_done: int,
    started: float,
    finished: bool,
    command: Sequence[str] | None,
) -> None:
    """Write where the run's numbers come from; called at the start and at the end, however it ends.

    Args:
        folder: Where it is written.
        cfg: Resolved.
        engine: Its name.
        deviations: Where the engine departs from the config.
        sets: The annotation files that were read, by hash.
        labels: What the labels of the training sets come to.
        world_size: Number of processes.
        steps_done: Optimiser steps so far, resumed ones included.
        started: ``time.time()`` at the start of this process's part.
        finished: Whether all steps are done.
        command: The words of the command line; None if Python called.
    """
    write_json(
        folder / MANIFEST,
        {
            "schema": 1,
            "simfrcnn": __version__,
            "commit": own_commit(),
            "engine": engine,
            "engine_version": engine_version(engine),
            "deviations": [asdict(deviation) for deviation in deviations],
            "seed": cfg.SEED,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "device": _device_name(cfg),
            "precision": training_precision(cfg).to_dict(),
            "threads": torch.get_num_threads(),
            "world_size": world_size,
            "data": [
                {
                    "path": str(annotated.path),
                    "sha256": annotated.sha256,
                    "images": len(annotated.records),
                }
                for annotated in sets
            ],
            "labels": labels.to_dict(),
            "steps_done": steps_done,
            "earlier_parts": sorted(path.name for path in folder.glob("manifest_to_step*.json")),
            "finished": finished,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started)),
            "wall_seconds_this_process": round(time.time() - started, 1),
            "peak_memory_mb": round(_peak_memory_mb(), 1),
            "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1)
            if str(cfg.MODEL.DEVICE).startswith("cuda")
            else None,
            "command": None if command is None else list(command),
        },
    )


def forget_metrics_from(folder: Path, step: int) -> None:
    """Drop the lines of ``metrics.json`` from ``step`` on: a resumed run writes them again."""
    path = folder / METRICS
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) < step]
    write_text(path, "".join(f"{line}\n" for line in kept))


@functools.cache
def own_commit() -> str | None:
    """The commit of this package as :func:`commit_of` says it, asked once a process.

    A process runs the code that it loaded at its start.
    """
    return commit_of(Path(__file__).parents[2])


def commit_of(package: Path) -> str | None:
    """The git commit of a package that runs from its checkout; None if it was installed.

    ``+changes`` follows if files of the package differ from the commit. Only they are looked at: a
    checkout may hold data sets and runs, and looking through those takes long.
    """
    if "site-packages" in package.parts:  # a repository round it would be somebody else's
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(package, "status", "--porcelain", "--", ".")
    return commit if changes == "" else f"{commit}+changes"


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def engine_version(engine: str) -> dict[str, str | None]:
    """The version of an engine's library, and its commit where it runs from a checkout."""
    library = importlib.import_module(engine)
    return {"version": str(library.__version__), "commit": _library_commit(engine)}


@functools.cache
def _library_commit(engine: str) -> str | None:
    return commit_of(Path(str(importlib.import_module(engine).__file__)).parent)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device_name(cfg: Any) -> str:
    if str(cfg.MODEL.DEVICE).startswith("cuda"):
        return str(torch.cuda.get_device_name())
    return f"{cfg.MODEL.DEVICE} ({platform.machine()})"


def _peak_memory_mb() -> float:
    import resource  # not on Windows, where this module can still be imported

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024 * 1024)


def _step_of(line: str) -> int:
    """The step of a metrics line; a torn last line counts as beyond every step."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize
