"""What a run folder says: which of its files is damaged, and whether its data have changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from simfrcnn.errors import ArtifactError
from simfrcnn.files import sha256_of
from simfrcnn.ladder.folders import _hash, facts_of
from simfrcnn.ladder.plan import Run, Rung

PART = {"wall_seconds_this_process": 2.0, "peak_memory_mb": 10, "earlier_parts": []}
WHOLE = {
    **PART,
    "engine": "torchvision",
    "engine_version": {},
    "simfrcnn": "0.1",
    "commit": None,
    "packages": {},
    "device": "cpu",
    "data": [{"sha256": "0"}],
    "steps_done": 3,
    "earlier_parts": [{}],
}


def a_run(folder: Path, stages: list[Path]) -> Run:
    configs = tuple(SimpleNamespace(OUTPUT_DIR=str(stage)) for stage in stages)
    kind = "weak" if len(stages) > 1 else "train"
    return Run(Rung("sim", folder, {}, None, kind), 0, folder, configs, (), {})


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def weak(tmp_path: Path) -> Run:
    """A weak run of two trainings, the second interrupted once."""
    stages = [tmp_path / "stage1", tmp_path / "stage2"]
    write(tmp_path / "manifest.json", {"steps": {"pseudo": {"wall_seconds": 5.0}}})
    write(stages[0] / "manifest.json", PART)
    write(stages[1] / "manifest.0.json", PART)
    write(stages[1] / "manifest.json", WHOLE)
    write(stages[1] / "config.yaml", {"DATASETS": {"FILES": []}})
    return a_run(tmp_path, stages)


def test_the_facts_of_a_weak_run_are_those_of_all_its_parts(weak: Run) -> None:
    facts = facts_of(weak)
    assert facts.wall_seconds == 3 * 2 + 5
    assert facts.was_interrupted
    assert (facts.steps, facts.peak_memory_mb, facts.peak_gpu_memory_mb) == (3, 10, None)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("manifest.json", {"steps": {}}, "lacks 'pseudo'"),
        ("stage1/manifest.json", {"wall_seconds_this_process": 2.0}, "lacks 'peak_memory_mb'"),
        ("stage2/manifest.0.json", {**PART, "peak_memory_mb": None}, "is damaged"),
        ("stage2/manifest.json", PART, "lacks 'engine'"),
        ("stage2/config.yaml", {}, "lacks 'DATASETS'"),
    ],
)
def test_the_file_that_lacks_something_is_named(
    weak: Run, file: str, content: object, reason: str
) -> None:
    path = write(weak.folder / file, content)
    with pytest.raises(ArtifactError) as refused:
        facts_of(weak)
    assert str(refused.value).startswith(f"{path} {reason}")


def test_an_annotation_file_that_changes_in_the_meantime_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    run = a_run(tmp_path, [tmp_path])
    run.cfg.DATASETS = SimpleNamespace(FILES=(f"own={path}",))
    hashes = set()
    for number in range(3):  # of one length each
        path.write_text(str(number))
        os.utime(path, ns=(number, number))
        assert _hash(run, "own") == sha256_of(path)
        hashes.add(_hash(run, "own"))
    assert len(hashes) == 3
