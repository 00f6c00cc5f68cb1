"""The torchvision loop: several processes, interruption, and what it tells on the way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import support.recorded_training
import support.stopped_training
from simfrcnn.config import load_config
from simfrcnn.engines.common.checkpoints import LAST, read_checkpoint
from simfrcnn.engines.common.inference import detect_records
from simfrcnn.engines.torchvision import trainer
from simfrcnn.engines.torchvision.processes import Processes
from simfrcnn.errors import ConfigError, OutputError, TrainingError
from simfrcnn.training import recipe
from support.examples import engine_named, tiny_config, write_tiny_set
from support.forking import run_program
from support.two_processes import run_recorded

pytestmark = pytest.mark.torchvision

SCRIPT = Path(support.recorded_training.__file__)


@pytest.fixture
def engine():
    return engine_named("torchvision")


def metrics_of(folder):
    text = (folder / "run" / "metrics.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_two_processes_draw_the_pairs_of_one_replay_alike_and_end_with_the_same_weights(
    engine, tmp_path
):
    words = ("DATASETS.REPLAY.FRACTION", "0.9", "DATASETS.REPLAY.PERIOD", "3")
    words += ("SOLVER.MAX_ITER", "8", "DATALOADER.NUM_WORKERS", "1", "TEST.EVAL_PERIOD", "4")
    words += ("MODEL.SECOND_LOOK.ENABLED", "True")
    (first, second), weights = run_recorded(engine, tmp_path, *words, by_torchrun=True)
    folder = tmp_path / "run"
    last = read_checkpoint(folder / LAST)
    assert weights[0].keys() == weights[1].keys() == last["model"].keys()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        assert torch.equal(tensor, last["model"][name]), name
    assert first["best"] == second["best"] == last["training"]["best"]
    assert first["best"]["step"] in (4, 8)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["world_size"] == 2
    assert manifest["finished"] is True

    assert any(name.startswith("second_look.") for name in last["model"])
    remembered = last["training"]["second_look"]  # of the first process: 8 steps of a pair
    assert len(remembered["positive"]["labels"]) == len(remembered["other"]["labels"]) == 16
    kept = last["training"]["replay"]
    assert first["replay"] == second["replay"]
    assert all(0 < score < 1 for score in first["replay"]["scores"])
    assert kept["published"].tolist() == first["replay"]["published"]
    cfg = load_config(engine.default_cfg(), tmp_path / "config.yaml")
    items = recipe.training_items(cfg)
    alone = [[record.file_name for record in items.records_of(number)] for number in range(12)]
    items.replay.load_state_dict(kept, source="")
    # Window 2, steps 6 and 7, took what its ranking says.
    numbers = range(12, 16)
    alone += [[record.file_name for record in items.records_of(number)] for number in numbers]
    taken = [(first, second)[number % 2]["steps"][number // 2] for number in range(16)]
    assert taken == alone
    assert sum(items.replay.replacement(number) is not None for number in numbers) >= 3


def test_processes_that_cannot_share_the_pairs_are_refused(engine, tmp_path, monkeypatch):
    cfg = tiny_config(engine, "fpn", tmp_path)
    training = trainer._Training(cfg, Processes(), resume=False)
    monkeypatch.setattr(training, "processes", Processes(rank=1, world_size=2))
    monkeypatch.setattr(Processes, "wrap", lambda _self, model, _device: model)
    with pytest.raises(ConfigError, match=r"SOLVER\.IMS_PER_BATCH.*2 processes"):
        training.run()


def test_an_interrupted_run_says_how_to_go_on(engine, tmp_path, monkeypatch, caplog):
    cfg = tiny_config(
        engine, "fpn", tmp_path, *("SOLVER.MAX_ITER", "9"), "SOLVER.CHECKPOINT_PERIOD", "2"
    )
    original = trainer._Training._step

    def interrupted(self, model, samples, step):
        if step == 3:
            raise KeyboardInterrupt
        return original(self, model, samples, step)

    monkeypatch.setattr(trainer._Training, "_step", interrupted)
    with caplog.at_level(logging.INFO, "simfrcnn"), pytest.raises(KeyboardInterrupt):
        engine.train(cfg)
    last = tmp_path / "run" / LAST
    assert f"interrupted after step 3; {last} holds step 2" in caplog.text
    assert "--resume" in caplog.text
    assert read_checkpoint(last)["training"]["step"] == 2
    monkeypatch.setattr(trainer._Training, "_step", original)
    engine.train(cfg, resume=True)
    assert read_checkpoint(last)["training"]["step"] == 9


def test_progress_names_losses_pace_and_time_left(engine, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(trainer, "RECORD_PERIOD", 1)
    with caplog.at_level(logging.INFO, "simfrcnn"):
        engine.train(tiny_config(engine, "fpn", tmp_path))
    lines = [record.getMessage() for record in caplog.records if "s/step" in record.getMessage()]
    assert [line.split("  ")[0] for line in lines] == ["step 1/2", "step 2/2"]
    for word in ("loss ", "rpn_top_likelihood ", "similarity ", "lr 0.0003", " left"):
        assert word in lines[0]
    assert "0:00:00 left" in lines[1]
    recorded = metrics_of(tmp_path)
    assert [line["iteration"] for line in recorded] == [0, 1]
    assert all(line["seconds_per_step"] > 0 for line in recorded)


def test_the_learning_rate_follows_the_recipe(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "RECORD_PERIOD", 1)
    schedule = ("SOLVER.WARMUP_ITERS", "2", "SOLVER.WARMUP_FACTOR", "0.5", "SOLVER.STEPS", "[3]")
    engine.train(tiny_config(engine, "fpn", tmp_path, *schedule, "SOLVER.MAX_ITER", "4"))
    rates = [line["lr"] for line in metrics_of(tmp_path)]
    assert rates == pytest.approx([0.00015, 0.000225, 0.0003, 0.00003])


def test_a_resumed_run_takes_its_learning_rate_from_the_config(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "RECORD_PERIOD", 1)
    engine.train(tiny_config(engine, "fpn", tmp_path))
    changed = ("SOLVER.MAX_ITER", "4", "SOLVER.BASE_LR", "0.01", "SOLVER.STEPS", "[3]")
    engine.train(tiny_config(engine, "fpn", tmp_path, *changed), resume=True)
    rates = [line["lr"] for line in metrics_of(tmp_path)]
    assert rates == pytest.approx([0.0003, 0.0003, 0.01, 0.001])


def test_a_step_with_a_bad_loss_changes_nothing(engine, tmp_path, monkeypatch):
    cfg = tiny_config(engine, "fpn", tmp_path)
    training = trainer._Training(cfg, Processes(), resume=False)
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    samples = next(iter(recipe.training_loader(cfg)))
    original = training.model.roi_heads._losses

    def poisoned(*arguments):
        losses = original(*arguments)
        return {**losses, "loss_similarity": losses["loss_similarity"] * float("nan")}

    monkeypatch.setattr(training.model.roi_heads, "_losses", poisoned)
    with pytest.raises(TrainingError, match="step 0: loss_similarity is not finite") as error:
        training._step(training.model, samples, 0)
    assert all(sample.record.file_name in str(error.value) for sample in samples)
    for name, tensor in training.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_full_disk_is_said(engine, tmp_path):
    class Full:
        def __fspath__(self):
            return "/dev/full"

    cfg = tiny_config(engine, "fpn", tmp_path)
    training = trainer._Training(cfg, Processes(), resume=False)
    progress = trainer.Progress(training.folder, 0, 2)
    progress._path = Full()
    with pytest.raises(OutputError, match="cannot write"):
        progress.record_validation(0, {"case/auc": 0.5})
    progress.close()


@pytest.mark.parametrize(("rank", "title"), [(0, "validation"), (1, None)])
def test_only_the_first_process_draws_a_bar(engine, tmp_path, monkeypatch, rank, title):
    cfg = tiny_config(engine, "fpn", tmp_path, "DATASETS.VAL", "[tiny]")
    training = trainer._Training(cfg, Processes(), resume=False)
    training.processes = Processes(rank=rank, world_size=1)
    told = []

    def spied(*arguments, title, **options):
        told.append(title)
        return detect_records(*arguments, title=title, **options)

    monkeypatch.setattr(trainer, "detect_records", spied)
    monkeypatch.setattr(trainer, "quick_report", lambda *_: SimpleNamespace(scalars=dict))
    training._figures(training.validation_sets[0], step=0)
    assert told == [title]


def test_what_stops_one_process_stops_the_other_and_is_named(engine, tmp_path):
    write_tiny_set(tmp_path / "data", n_positives=5, n_normals=3)
    words = ("SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "4")
    cfg = tiny_config(engine, "fpn", tmp_path, *words)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    words = [support.stopped_training.__file__, tmp_path / "config.yaml", tmp_path]
    done = run_program(words, cwd=tmp_path, logs=tmp_path)
    assert done.returncode == 0, done.stderr
    told = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*_[01].json")}
    assert {name: entry["error"] for name, entry in told.items()} == {
        **{"nan_0": "TrainingError", "nan_1": "TrainingError"},
        **{"image_0": "TrainingError", "image_1": "DataError"},
        **{"signal_0": "TrainingInterrupted", "signal_1": "TrainingInterrupted"},
    }
    assert "step 2: process 1 of 2" in told["nan_0"]["message"]
    assert "not finite" in told["nan_1"]["message"]
    assert "step 2: process 1 of 2" in told["image_0"]["message"]
    assert told["image_1"]["message"] == "image7.png is damaged"
    (evidence,) = (tmp_path / "nan").glob("diverged_step*")
    assert evidence.name == "diverged_step0000002_process1.pth"
    # The signal came in step 2, which was finished, in both processes.
    for rank in (0, 1):
        assert "interrupted at step 3; go on with --resume" in told[f"signal_{rank}"]["message"]
    assert read_checkpoint(tmp_path / "signal" / LAST)["training"]["step"] == 3
