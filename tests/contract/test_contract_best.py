"""Is the best checkpoint always one of the training that its folder holds? On every engine."""

from __future__ import annotations

import importlib
import logging
import shutil

import pytest
import torch

from simfrcnn.engines.common.checkpoints import BEST, LAST, read_checkpoint
from simfrcnn.errors import CheckpointError, ConfigError
from simfrcnn.workflows.training import weights_of
from support.examples import tiny_config

VALIDATED = ("DATASETS.VAL", "[tiny]", "TEST.EVAL_PERIOD", "1")


@pytest.fixture
def train(engine, tmp_path, monkeypatch):
    """Go on with ``run`` to a number of steps; after each new one case AUC is what is given, and
    AP50 what it lacks to 1.
    """

    def go_on(steps, *figures, by="case/auc"):
        left = iter(figures)
        trainer = importlib.import_module(f"simfrcnn.engines.{engine.NAME}.trainer")

        def validated(_sets):
            auc = next(left)
            return {"case/auc": auc, "finding/ap50": 1 - auc}

        monkeypatch.setattr(trainer, "mean_over_sets", validated)
        words = ("SOLVER.MAX_ITER", steps, "SOLVER.CHECKPOINT_PERIOD", "1", *VALIDATED)
        cfg = tiny_config(engine, "fpn", tmp_path, *words, "TEST.BEST_BY", by)
        engine.train(cfg, resume=True)
        assert not list(left)

    return go_on


@pytest.fixture
def put_back(train, tmp_path):
    """A training of two steps whose last checkpoint is put back to that of the first.

    So it is, too, where a run is killed between a validation and the next checkpoint.
    """

    def make(first, second):
        folder = tmp_path / "run"
        train(1, first)
        shutil.copy(folder / LAST, tmp_path / "kept.pth")
        train(2, second)
        assert read_checkpoint(folder / BEST)["card"]["steps"] == 2
        shutil.copy(tmp_path / "kept.pth", folder / LAST)
        return folder

    return make


def best_of(folder):
    """What the best checkpoint says, and what the last one knows of it."""
    card = read_checkpoint(folder / BEST)["card"]
    of_file = {"value": card["validation_in_training"]["case/auc"], "step": card["steps"]}
    known = dict(read_checkpoint(folder / LAST)["training"]["best"])
    assert known.pop("figure") == "case/auc"
    return of_file, known


@pytest.mark.parametrize("first", [0.6, float("nan")])
def test_a_best_checkpoint_from_after_the_last_one_is_not_kept(put_back, train, caplog, first):
    folder = put_back(first, 0.9)
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        train(2, 0.5)  # as other settings or other data may make it
    assert best_of(folder) == ({"value": 0.5, "step": 2}, {"value": 0.5, "step": 2})
    assert f"{folder / BEST} is not of the training that {LAST} goes on with" in caplog.text


def test_without_another_validation_the_last_checkpoint_counts(put_back, train):
    folder = put_back(0.6, 0.9)
    train(1)
    assert weights_of(folder) == folder / LAST


def test_a_best_checkpoint_of_the_same_step_with_another_figure_is_not_kept(put_back, train):
    folder = put_back(0.6, 0.9)
    shutil.copy(folder / LAST, folder.parent / "kept.pth")
    train(2, 0.8)
    of_other_history = (folder / BEST).read_bytes()
    shutil.copy(folder.parent / "kept.pth", folder / LAST)
    train(2, 0.7)
    assert best_of(folder) == ({"value": 0.7, "step": 2}, {"value": 0.7, "step": 2})
    (folder / BEST).write_bytes(of_other_history)
    train(3, 0.1)
    assert best_of(folder) == ({"value": 0.1, "step": 3}, {"value": 0.1, "step": 3})


def test_a_best_checkpoint_that_was_taken_away_is_chosen_again(train, tmp_path, caplog):
    folder = tmp_path / "run"
    train(1, 0.9)
    (folder / BEST).unlink()
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        train(2, 0.7)
    assert best_of(folder) == ({"value": 0.7, "step": 2}, {"value": 0.7, "step": 2})
    assert f"{folder / BEST} of step 1 is not there" in caplog.text


def test_the_best_so_far_survives_a_resume(train, tmp_path):
    folder = tmp_path / "run"
    train(2, 0.9, 0.6)
    kept = (folder / BEST).read_bytes()
    train(3, 0.8)
    assert (folder / BEST).read_bytes() == kept
    assert best_of(folder) == ({"value": 0.9, "step": 1}, {"value": 0.9, "step": 1})
    train(3)
    assert (folder / BEST).read_bytes() == kept


def test_a_best_checkpoint_of_an_earlier_version_is_kept(train, tmp_path):
    """It has no card, and so does not say its step."""
    folder = tmp_path / "run"
    train(1, 0.9)
    torch.save({**read_checkpoint(folder / BEST), "schema": 1, "card": None}, folder / BEST)
    kept = (folder / BEST).read_bytes()
    train(2, 0.8)
    assert (folder / BEST).read_bytes() == kept


def test_a_damaged_best_checkpoint_stays_and_the_message_says_what_to_do(train, tmp_path):
    folder = tmp_path / "run"
    train(1, 0.9)
    (folder / BEST).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"move it away.*model_best\.pth"):
        train(2, 0.8)
    assert (folder / BEST).read_bytes() == b"damaged"


def test_the_best_is_chosen_by_the_figure_that_is_asked_for(train, tmp_path, caplog):
    folder = tmp_path / "run"
    with caplog.at_level(logging.INFO, "simfrcnn"):
        train(3, 0.6, 0.2, 0.9, by="finding/ap50")
    assert read_checkpoint(folder / BEST)["card"]["steps"] == 2
    assert read_checkpoint(folder / BEST)["card"]["checkpoint_chosen_by"] == "finding/ap50"
    assert "step 3: AP50 on VAL 0.1000; best: 0.8000 after step 2" in caplog.text
    with pytest.raises(ConfigError, match=r"BEST_BY is case/auc, and was finding/ap50 when"):
        train(4, 0.9)
    train(4, 0.9, by="finding/ap50")
    assert read_checkpoint(folder / BEST)["card"]["steps"] == 2


def test_where_the_last_counts_there_is_no_best(train, tmp_path):
    folder = tmp_path / "run"
    train(2, 0.9, 0.6, by="last")
    train(3, 0.7, by="last")
    assert weights_of(folder) == folder / LAST
    assert read_checkpoint(folder / LAST)["card"]["steps"] == 3
