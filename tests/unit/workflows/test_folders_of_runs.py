"""While a run is at work in a folder, nobody else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from simfrcnn import config
from simfrcnn.config import pseudo_settings
from simfrcnn.errors import OutputError
from simfrcnn.locks import is_locked, locked
from simfrcnn.workflows import training, weak


class Engine:
    """Trains nothing, and says whether the run folder was locked meanwhile."""

    NAME = "none"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.was_locked: list[bool] = []

    def default_cfg(self):
        cfg = config.portable_defaults()
        config.add_simfrcnn_config(cfg)
        return cfg

    def train(self, cfg, **_options):
        self.was_locked.append(is_locked(self.folder))
        return self.folder / "model_last.pth"

    launch_training = train


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def engine(folder, monkeypatch):
    engine = Engine(folder)
    cfg = engine.default_cfg()
    cfg.OUTPUT_DIR = str(folder)
    monkeypatch.setattr(training, "checked_training", lambda *_, **__: (engine, cfg))

    def judged(*_, **__):
        engine.was_locked.append(is_locked(folder))

    monkeypatch.setattr(training, "_judged", judged)
    return engine


def test_a_training_holds_its_folder_until_it_is_judged(engine, folder):
    training.train("sim_r101")
    assert engine.was_locked == [True, True]
    assert not is_locked(folder)


def test_a_test_holds_the_folder_too(engine, folder):
    training.judge("sim_r101", weights="cbis-mass")
    assert engine.was_locked == [True]
    with locked(folder), pytest.raises(OutputError, match="another run is at work there"):
        training.judge("sim_r101", weights="cbis-mass")
    assert engine.was_locked == [True]


@pytest.mark.parametrize(("rank", "machine_rank"), [("1", 0), ("0", 1)])
def test_processes_after_the_first_leave_that_to_it(
    engine, folder, monkeypatch, rank, machine_rank
):
    monkeypatch.setenv("RANK", rank)  # of torchrun
    with locked(folder):  # by the first
        training.train("sim_r101", processes=training.Processes(machine_rank=machine_rank))
        assert is_locked(folder)
    assert engine.was_locked == [True, True]


def test_a_stage_of_a_weak_job_holds_its_own_folder(engine, folder):
    cfg = engine.default_cfg()
    cfg.OUTPUT_DIR = str(folder)
    job = weak._Weak(engine, folder.parent, cfg, cfg, pseudo_settings(cfg), False, (), "weak.yaml")
    job.training("stage1", cfg).work(False)
    assert engine.was_locked == [True]
    assert not is_locked(folder)
