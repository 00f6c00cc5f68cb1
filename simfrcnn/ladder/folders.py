"""What did a run leave on the disk: is it done, was it this run, and what did it cost?

A run folder is what ``train-net`` writes. It is taken for a run of the ladder if its config and its
annotation files, by hash, are those that the ladder would use now; else it is refused, never
overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from simfrcnn import config
from simfrcnn.artifacts import sidecar_of
from simfrcnn.data import catalog
from simfrcnn.engines.common import checkpoints
from simfrcnn.errors import ArtifactError, OutputError
from simfrcnn.files import sha256_of
from simfrcnn.ladder.plan import Run
from simfrcnn.wording import first_few

_HARMLESS = frozenset(
    {
        "OUTPUT_DIR",
        # Data sets are compared by content.
        *("DATASETS.FILES", "DATASETS.TRAIN", "DATASETS.VAL"),
        # No weight and no detection depends on these.
        *("DATALOADER.NUM_WORKERS", "SOLVER.CHECKPOINT_PERIOD"),
        *("EVAL.BOOTSTRAP_REPLICATES", "EVAL.BOOTSTRAP_SEED"),
    }
)
_N_SHOWN = 6


class State(Enum):
    """How far a run is."""

    ABSENT = "not started"
    UNFINISHED = "unfinished"
    DONE = "done"


@dataclass(frozen=True)
class Facts:
    """Where a run's numbers come from, and what they cost; from its manifests.

    ``wall_seconds`` and ``peak_memory_mb`` are of training, over all its parts; of a weak run, of
    both trainings, and the time of pseudo-labelling is counted too. ``was_interrupted`` says that a
    training had several parts: what a killed one took after its start is not in ``wall_seconds``.
    """

    engine: str
    engine_version: Mapping[str, Any]
    simfrcnn: str
    commit: str | None
    packages: Mapping[str, Any]
    device: str
    data_sha256: tuple[str, ...]
    config_sha256: str
    steps: int
    wall_seconds: float
    peak_memory_mb: float
    peak_gpu_memory_mb: float | None
    was_interrupted: bool


def detections_of(run: Run) -> Path:
    """Where the detections of the test set are, or will be."""
    return run.result_folder / "inference" / run.test_set / "detections.json"


def state_of(run: Run, engine: str, defaults: Any) -> State:
    """How far a run is.

    A weak run that is done may still be out of date: only ``tools/weak.py`` knows its steps.

    Args:
        run: The run as it would be now.
        engine: Name of the engine that the run would use.
        defaults: The engine's default config: what a folder of an older version lacks counts as
            left at its default.

    Raises:
        OutputError: The folder holds a run with other settings, data or engine; names them.
        ArtifactError: A file of the folder is damaged.
    """
    folder = run.result_folder
    if not any(Path(cfg.OUTPUT_DIR, "config.yaml").exists() for cfg in run.configs):
        return State.ABSENT
    if changes := _changes(run, engine, defaults):
        raise OutputError(
            f"{run.folder} holds a run with other settings ({first_few(changes, _N_SHOWN, '; ')}); "
            "give another --output, change the ladder file back, or delete the folder"
        )
    manifest = _json(folder / "manifest.json") if (folder / "manifest.json").exists() else {}
    detections = detections_of(run)
    is_tested = sidecar_of(detections).exists() and detections.with_name("report.json").exists()
    is_finished = manifest.get("finished") and is_tested
    if run.rung.kind == "weak":  # stage 1 or the labels may be in the making again
        is_finished = is_finished and _json(run.folder / "manifest.json").get("finished")
    return State.DONE if is_finished else State.UNFINISHED


def facts_of(run: Run) -> Facts:
    """The facts of a run that is done.

    Raises:
        ArtifactError: A manifest is missing or damaged.
    """
    trainings = [Path(cfg.OUTPUT_DIR) for cfg in run.configs]
    paths = [path for folder in trainings for path in sorted(folder.glob("manifest*.json"))]
    parts = [_part(path) for path in paths]
    gpu = [part.peak_gpu_memory_mb for part in parts if part.peak_gpu_memory_mb]
    with _entries_of(run.result_folder / "config.yaml") as path:
        config_sha256 = _config_hash(path)
    seconds = _labelling_seconds(run) + sum(part.wall_seconds for part in parts)
    with _entries_of(run.result_folder / "manifest.json") as path:
        last = _json(path)
        return Facts(
            engine=last["engine"],
            engine_version=last["engine_version"],
            simfrcnn=last["simfrcnn"],
            commit=last["commit"],
            packages=last["packages"],
            device=last["device"],
            data_sha256=tuple(entry["sha256"] for entry in last["data"]),
            config_sha256=config_sha256,
            steps=last["steps_done"],
            wall_seconds=seconds,
            peak_memory_mb=max(part.peak_memory_mb for part in parts),
            peak_gpu_memory_mb=max(gpu, default=None),
            was_interrupted=any(part.is_resumed for part in parts),
        )


@dataclass(frozen=True)
class _Part:
    """What one process of a training took."""

    wall_seconds: float
    peak_memory_mb: float
    peak_gpu_memory_mb: float | None
    is_resumed: bool


def _part(path: Path) -> _Part:
    with _entries_of(path):
        part = _json(path)
        return _Part(
            wall_seconds=float(part["wall_seconds_this_process"]),
            peak_memory_mb=float(part["peak_memory_mb"]),
            peak_gpu_memory_mb=part.get("peak_gpu_memory_mb"),
            is_resumed=bool(part["earlier_parts"]),
        )


@contextlib.contextmanager
def _entries_of(path: Path) -> Iterator[Path]:
    """Say of which file an entry is missing, or is something else than it should be."""
    try:
        yield path
    except (KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged ({error})"
        raise ArtifactError(f"{path} {what}; it is not of a run of this version") from error


def _labelling_seconds(run: Run) -> float:
    """What a weak run spent between its trainings."""
    if run.rung.kind != "weak":
        return 0.0
    with _entries_of(run.folder / "manifest.json") as path:
        return float(_json(path)["steps"]["pseudo"]["wall_seconds"])


def _changes(run: Run, engine: str, defaults: Any) -> list[str]:
    """How the folder's run differs from the one that would be made now."""
    folder, changes = run.result_folder, list[str]()
    manifest = _json(folder / "manifest.json") if (folder / "manifest.json").exists() else {}
    if manifest.get("engine", engine) != engine:  # their config trees differ in many keys
        return [f"the engine was {manifest['engine']}, is {engine}"]
    for cfg in run.configs:  # also what a resumed run ran under before
        for path in sorted(Path(cfg.OUTPUT_DIR).glob("config*.yaml")):
            changes += config.changed_keys(path, cfg, defaults=defaults, ignored=_HARMLESS)
    if run.rung.kind == "train" and "data" in manifest:  # a weak job checks its own data
        names = (*run.cfg.DATASETS.TRAIN, *run.cfg.DATASETS.VAL)
        recorded = [entry["sha256"] for entry in manifest["data"]]
        if recorded != [_hash(run, name) for name in names]:
            changes.append(f"the annotation files of {', '.join(names)} were others")
    sidecar = sidecar_of(detections_of(run))
    if sidecar.exists():
        tested = _json(sidecar).get("provenance", {})
        if tested.get("annotations_sha256") != _hash(run, run.test_set):
            changes.append(f"the annotation file of {run.test_set} was another")
        own = [folder / name for name in (checkpoints.LAST, checkpoints.BEST)]
        hashes = [checkpoints.weights_sha256(path) for path in own if path.exists()]
        if hashes and tested.get("checkpoint_sha256") not in hashes:
            changes.append(f"{sidecar.name} is of a checkpoint that is not the run's own")
    return list(dict.fromkeys(changes))


def _hash(run: Run, name: str) -> str:
    files = catalog.parse_files(tuple(run.cfg.DATASETS.FILES))
    path = catalog.resolve(name, files)
    now = path.stat()
    return _hash_of_file(path, now.st_mtime_ns, now.st_size, now.st_ino)


@lru_cache(maxsize=64)
def _hash_of_file(path: Path, *_state: int) -> str:
    """Every run of a ladder asks for the same files; one that changed meanwhile is read again."""
    return sha256_of(path)


def _config_hash(path: Path) -> str:
    """Of the settings alone: not of where the run was put."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content.pop("OUTPUT_DIR", None)
    content["DATASETS"].pop("FILES", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete the run's folder") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} holds no JSON object; delete the run's folder")
    return content


def common_facts(facts: Sequence[Facts]) -> tuple[dict[str, Any], list[str]]:
    """Which facts about their origin all runs share, and in which they differ."""
    shared: dict[str, Any] = {}
    differing: list[str] = []
    for name in ("engine", "engine_version", "simfrcnn", "commit", "packages", "device"):
        values = [getattr(each, name) for each in facts]
        if all(value == values[0] for value in values):
            shared[name] = values[0]
        else:
            differing.append(name)
    return shared, differing
