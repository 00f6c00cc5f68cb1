"""The measurement of a step of one config over one of another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import steps
from simfrcnn.cli.main import run_program

SMOKE = str(Path(__file__).resolve().parents[3] / "configs/smoke/sim_r18_fpn.yaml")
ENOUGH = ["SOLVER.MAX_ITER", "23"]

pytestmark = pytest.mark.torchvision


@pytest.fixture
def ended(monkeypatch):
    """Run the program; its exit code."""

    def run(*words: str) -> int | str | None:
        start = ["benchmark.py", "--engine", "torchvision", "--repeats", "20"]
        monkeypatch.setattr("sys.argv", [*start, "--config-file", SMOKE, *words])
        monkeypatch.setattr(steps, "make_missing_phantoms", lambda _cfg: None)
        with pytest.raises(SystemExit) as error:
            run_program(steps)
        return error.value.code

    return run


@pytest.fixture
def other(tmp_path):
    """Write a config that differs from the smoke test's in one key."""

    def write(key: str, value: str) -> str:
        path = tmp_path / "other.yaml"
        path.write_text(f"_BASE_: {SMOKE}\n{key}: {value}\n")
        return str(path)

    return write


def test_each_config_takes_its_steps_in_turn(monkeypatch, capsys, ended, other):
    """A step of the config takes 3 s by the clock, one of the other 2 s."""
    taken: list[str] = []

    def stepper(_engine, cfg, _clock):
        loss = cfg.MODEL.SIMFRCNN.SIMILARITY.LOSS

        def step(batch):
            taken.append(loss)
            assert batch == f"a batch of {loss}"
            return {"cosine": 3.0, "none": 2.0}[loss]

        return step

    def batches(cfg):
        return iter([f"a batch of {cfg.MODEL.SIMFRCNN.SIMILARITY.LOSS}"] * cfg.SOLVER.MAX_ITER)

    monkeypatch.setattr(steps, "_stepper", stepper)
    monkeypatch.setattr(steps, "_batches", batches)
    assert ended("--against", other("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"), *ENOUGH) == 0
    assert "| ratio of the two | 1.500 |" in capsys.readouterr().out
    assert taken == ["cosine", "none", "none", "cosine"] * 11 + ["cosine", "none"]


def test_the_ratio_is_of_neighbours_and_says_how_far_they_lie_apart(
    monkeypatch, capsys, ended, other
):
    """A machine that doubles its pace half-way: 1, 2 s before, 2, 3 s after."""

    def stepper(_engine, cfg, _clock):
        is_other = cfg.MODEL.SIMFRCNN.SIMILARITY.LOSS == "none"
        seconds = iter([1.0] * 18 + [2.0] * 5 if is_other else [2.0] * 18 + [3.0] * 5)
        return lambda _batch: next(seconds)

    monkeypatch.setattr(steps, "_stepper", stepper)
    monkeypatch.setattr(steps, "_batches", lambda cfg: iter(range(cfg.SOLVER.MAX_ITER)))
    assert ended("--against", other("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"), *ENOUGH) == 0
    printed = capsys.readouterr().out
    assert "| ratio of the two | 2.000 |" in printed
    assert "| its quartiles over 20 pairs of steps | 1.875 to 2.000 |" in printed
    assert "| ratio of the two medians | 2.000 |" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([SMOKE], r"SOLVER.MAX_ITER is \d+, and 23 steps are measured; append SOLVER.MAX_ITER 23"),
        ([SMOKE, "--speed", *ENOUGH], "--speed and --against are two measurements"),
    ],
)
def test_what_cannot_be_measured_is_refused(capsys, ended, words, message):
    assert ended("--against", *words) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.IMS_PER_BATCH", "8", r"IMS_PER_BATCH is \d and 8 in the config of --against"),
        ("MODEL.DEVICE", "cuda", "MODEL.DEVICE is cuda: --against measures processor time"),
    ],
)
def test_steps_that_cannot_be_compared_are_refused(
    monkeypatch, capsys, ended, other, key, value, message
):
    monkeypatch.setattr(steps, "check_device", lambda _cfg: None)  # as with a GPU
    assert ended("--against", other(key, value), *ENOUGH) == 2
    assert re.search(message, capsys.readouterr().err)
