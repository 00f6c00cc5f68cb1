"""What does a run leave behind, and what says where a number came from?

A run folder holds ``config.yaml`` (resolved), ``manifest.json`` (versions, commit, engine,
deviations, seed, data hashes, time, memory), ``metrics.json`` (one JSON object a line), TensorBoard
events, ``model_last.pth`` and ``model_best.pth``, and under ``inference/`` detections and reports.
"""

from __future__ import annotations

import importlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.checkpoints import LAST
from simfrcnn.engines.contract import Deviation
from simfrcnn.errors import OutputError
from simfrcnn.files import write_json, write_text
from simfrcnn.version import __version__

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
    if (folder / LAST).exists() and not resume:
        raise OutputError(
            f"OUTPUT_DIR {folder} holds a run already ({LAST}); go on with --resume, or give "
            "another OUTPUT_DIR"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make OUTPUT_DIR {folder}: {error.strerror}") from error
    write_text(folder / "config.yaml", cfg.dump())
    return folder


def write_manifest(
    folder: Path,
    cfg: Any,
    *,
    engine: str,
    deviations: Sequence[Deviation],
    sets: Sequence[AnnotatedSet],
    world_size: int,
    steps_done: int,
    started: float,
    finished: bool,
) -> None:
    """Write where the run's numbers come from; called at the start and at the end.

    Args:
        folder: The run folder.
        cfg: The resolved config.
        engine: Its name.
        deviations: Where the engine departs from the config.
        sets: The annotation files that were read, by hash.
        world_size: Number of processes.
        steps_done: Optimiser steps so far, resumed ones included.
        started: ``time.time()`` at the start of this process's part.
        finished: Whether all steps are done.
    """
    write_json(
        folder / MANIFEST,
        {
            "schema": 1,
            "simfrcnn": __version__,
            "commit": commit_of(Path(__file__).parent),
            "engine": engine,
            "engine_version": _engine_version(engine),
            "deviations": [asdict(deviation) for deviation in deviations],
            "seed": cfg.SEED,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "device": _device_name(cfg),
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
            "steps_done": steps_done,
            "finished": finished,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started)),
            "wall_seconds_this_process": round(time.time() - started, 1),
            "peak_memory_mb": round(_peak_memory_mb(), 1),
            "command": sys.argv[1:],
        },
    )


def forget_metrics_from(folder: Path, step: int) -> None:
    """Drop the lines of ``metrics.json`` from ``step`` on: a resumed run writes them again."""
    path = folder / METRICS
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) < step]
    write_text(path, "".join(f"{line}\n" for line in kept))


def commit_of(folder: Path) -> str | None:
    """The git commit of a checkout, with ``+changes`` if it has uncommitted ones; None outside."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if _git(folder, "status", "--porcelain") else commit


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _engine_version(engine: str) -> dict[str, str | None]:
    library = importlib.import_module(engine)
    location = Path(str(library.__file__)).parent
    commit = None if "site-packages" in location.parts else commit_of(location)
    return {"version": str(library.__version__), "commit": commit}


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024 * 1024)


def _step_of(line: str) -> int:
    """The step of a metrics line; a torn last line counts as beyond every step."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize
