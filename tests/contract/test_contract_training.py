"""What a training run leaves behind on every engine, and what a kill, a NaN or a mistake does."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml

from simfrcnn.config import load_config
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.common.checkpoints import BEST, LAST, Identity, read_checkpoint
from simfrcnn.errors import CheckpointError, DataError, OutputError, TrainingError
from support.examples import (
    RESNET_C4,
    ROOT,
    positives,
    tiny_config,
    write_tiny_set,
)
from support.forking import kill_program_once
from support.labelled_examples import LABELS_ON, label_two_images
from support.once import made_once
from support.outlined import tiny_mask_config


def weights_of(path):
    return read_checkpoint(path)["model"]


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    assert [name for name, tensor in one.items() if not torch.equal(tensor, two[name])] == []


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.fixture
def begun(engine, tmp_path, tmp_path_factory):
    """The folder of a run of one step and its data, a copy in ``tmp_path`` of one training."""

    def make(folder):
        engine.train(tiny_config(engine, "fpn", folder, "SOLVER.MAX_ITER", "1"))

    once = made_once(tmp_path_factory, f"one_step_{engine.NAME}", make)
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_a_run_folder_says_everything(engine, tmp_path):
    tiny = tmp_path / "data" / "tiny.json"
    write_tiny_set(tiny.parent)
    # One step: over several, Detectron2 writes medians, which do not add up.
    cfg = tiny_config(engine, "fpn", tmp_path, "DATASETS.VAL", "[tiny]", "SOLVER.MAX_ITER", "1")
    last = engine.train(cfg)
    folder = tmp_path / "run"
    assert last == folder / LAST
    content = read_checkpoint(last, Identity.of(engine.NAME, cfg))
    assert (folder / BEST).exists()
    best = read_checkpoint(folder / BEST, Identity.of(engine.NAME, cfg))
    assert content["training"]
    assert best["training"] is None  # people hand it on: no squares of training images
    for described in (content, best):
        assert described["config"] == cfg.dump()
        assert described["classes"] == described["target_classes"] == ["malignant"]
        card = described["card"]
        assert card["steps"] == 1
        assert card["input"]["pixel_mean"] == list(cfg.MODEL.PIXEL_MEAN)
        (trained_on,) = card["trained_on"]
        assert trained_on["name"] == "tiny"
        assert trained_on["boxes"] == {"malignant": 3}
        assert trained_on["supervision"] == {"boxes": 3, "normal": 3}
        assert str(tmp_path) not in str(card)
    assert 0 <= best["card"]["validation_in_training"]["case/auc"] <= 1

    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["engine"] == engine.NAME
    assert manifest["command"] is None  # Python called
    assert manifest["steps_done"] == 1
    assert manifest["finished"] is True
    expected = [each.key for each in engine.DEVIATIONS if each.key != "MODEL.MASK_ON"]
    assert [each["key"] for each in manifest["deviations"]] == expected
    assert {Path(entry["path"]) for entry in manifest["data"]} == {tiny}

    again = load_config(engine.default_cfg(), folder / "config.yaml")
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    assert list(folder.glob("events.out.tfevents.*"))
    training = [line for line in lines_of(folder) if "total_loss" in line]
    assert training
    for line in training:
        total = sum(line[key] for key in LOSS_KEYS)
        assert line["total_loss"] == pytest.approx(total, rel=1e-4)
    assert any("case/auc" in key for line in lines_of(folder) for key in line)


def test_without_validation_there_is_no_best(begun):
    assert (begun / LAST).exists()
    assert not (begun / BEST).exists()


def test_a_run_from_the_beginning_removes_the_best_of_the_run_before(engine, tmp_path, caplog):
    best = tmp_path / "run" / BEST
    best.parent.mkdir()
    best.write_bytes(b"of a run that was killed before its first checkpoint")
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "1")
    with pytest.raises(OutputError, match="--resume"):
        engine.train(cfg)
    assert best.exists()
    engine.train(cfg, resume=True)
    assert not best.exists()
    assert "is removed" in caplog.text


def test_a_finished_run_is_not_overwritten(engine, begun, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "1")
    weights = weights_of(begun / LAST)
    with pytest.raises(OutputError, match="--resume"):
        engine.train(cfg)
    assert_same_weights(weights_of(engine.train(cfg, resume=True)), weights)


@pytest.mark.parametrize("heads", ["c4", "fpn"])
def test_resuming_continues_exactly(engine, heads, tmp_path):
    schedule = ("SOLVER.WARMUP_ITERS", "3", "SOLVER.STEPS", "[2]")
    one, two = tmp_path / "one", tmp_path / "two"
    whole = tiny_config(engine, heads, one, *schedule, "SOLVER.MAX_ITER", "4")
    uninterrupted = weights_of(engine.train(whole))
    engine.train(tiny_config(engine, heads, two, *schedule, "SOLVER.MAX_ITER", "2"))
    part = tiny_config(engine, heads, two, *schedule, "SOLVER.MAX_ITER", "4")
    before = weights_of(two / "run" / LAST)
    resumed = weights_of(engine.train(part, resume=True))
    assert any(not torch.equal(tensor, resumed[name]) for name, tensor in before.items())
    assert_same_weights(resumed, uninterrupted)
    steps = [line["iteration"] for line in lines_of(two / "run") if "total_loss" in line]
    assert steps == sorted(set(steps))


REPLAY = (
    *("DATASETS.REPLAY.FRACTION", "0.9", "DATASETS.REPLAY.PERIOD", "2"),
    *("SOLVER.CHECKPOINT_PERIOD", "7", "DATALOADER.NUM_WORKERS", "1"),
)


def test_resuming_with_replay_continues_exactly(engine, tmp_path):
    end = ("SOLVER.MAX_ITER", "9")
    folders = {steps_before: tmp_path / str(steps_before) for steps_before in (0, 4, 7)}
    for folder in folders.values():
        write_tiny_set(folder / "data", n_normals=4)
    ends = {}
    for steps_before, folder in folders.items():
        if steps_before:
            part = ("SOLVER.MAX_ITER", str(steps_before))
            engine.train(tiny_config(engine, "fpn", folder, *REPLAY, *part))
        cfg = tiny_config(engine, "fpn", folder, *REPLAY, *end)
        ends[steps_before] = read_checkpoint(engine.train(cfg, resume=steps_before > 0))
    uninterrupted = ends.pop(0)
    memory = uninterrupted["training"]["replay"]
    assert memory["published"][:, 0].tolist() == [1, 1]  # a quarter of four
    for steps_before, resumed in ends.items():
        assert_same_weights(resumed["model"], uninterrupted["model"])
        for key, value in memory.items():
            other = torch.as_tensor(resumed["training"]["replay"][key])
            assert torch.equal(torch.as_tensor(value), other), key
        lines = lines_of(folders[steps_before] / "run")
        recorded = [line for line in lines if "replay/hard_score" in line]
        assert recorded
        assert all(0 < line["replay/mean_score"] <= line["replay/hard_score"] for line in recorded)


def test_replay_may_be_switched_on_in_a_resumed_run(engine, begun, tmp_path, caplog):
    last = begun / LAST
    older = torch.load(last, weights_only=True)
    assert older["training"].pop("replay") == {}  # as it was written before there was a replay
    torch.save(older, last)
    cfg = tiny_config(engine, "fpn", tmp_path, *REPLAY, "SOLVER.MAX_ITER", "2")
    with caplog.at_level("WARNING", "simfrcnn"):
        engine.train(cfg, resume=True)
    assert "remembers no normal images" in caplog.text
    assert int((~read_checkpoint(last)["training"]["replay"]["scores"].isnan()).sum()) == 1


def test_a_checkpoint_of_another_optimiser_is_not_resumed(engine, begun, tmp_path):
    kept = (begun / LAST).read_bytes()
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.OPTIMIZER", "sgd")
    with pytest.raises(CheckpointError, match=r"SOLVER\.OPTIMIZER"):
        engine.train(cfg, resume=True)
    assert (begun / LAST).read_bytes() == kept


@pytest.mark.usefixtures("begun")
def test_a_checkpoint_of_another_architecture_is_not_resumed(engine, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, "MODEL.ROI_BOX_HEAD.FC_DIM", "128")
    with pytest.raises(CheckpointError, match=r"MODEL\.ROI_BOX_HEAD\.FC_DIM"):
        engine.train(cfg, resume=True)


def test_a_checkpoint_without_the_state_of_a_training_is_not_resumed(engine, begun, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "1")
    last = begun / LAST
    content = read_checkpoint(last)
    torch.save({**content, "training": None}, last)
    with pytest.raises(CheckpointError, match=r"model_last\.pth.*MODEL\.WEIGHTS"):
        engine.train(cfg, resume=True)
    torch.save({"schema": content["schema"]}, last)
    with pytest.raises(CheckpointError, match=r"model_last\.pth is not a checkpoint"):
        engine.train(cfg, resume=True)
    last.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model_last\.pth is damaged.*too early"):
        engine.train(cfg, resume=True)


def test_a_resumed_run_with_less_to_do_than_is_done_changes_nothing(engine, tmp_path):
    engine.train(tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "2"))
    folder = tmp_path / "run"
    names = ("model_last.pth", "manifest.json", "config.yaml", "metrics.json")
    before = [(folder / name).read_bytes() for name in names]
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "1")
    assert engine.train(cfg, resume=True) == folder / LAST
    assert [(folder / name).read_bytes() for name in names] == before


def test_a_resumed_run_forgets_what_was_recorded_after_its_checkpoint(engine, begun, tmp_path):
    with open(begun / "metrics.json", "a") as stream:
        stream.write('{"iteration": 1, "total_loss": 99}\n{"iteration": 2, "torn": ')
    engine.train(tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "2"), resume=True)
    recorded = lines_of(begun)
    assert [line["iteration"] for line in recorded if "total_loss" in line] == [0, 1]
    assert all(line["total_loss"] != 99 for line in recorded)


def test_the_manifest_owns_up_to_a_change_of_seed(engine, begun, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "2", "SEED", "7")
    engine.train(cfg, resume=True)
    manifest = json.loads((begun / "manifest.json").read_text())
    assert manifest["seed"] == 7
    (earlier,) = manifest["earlier_parts"]
    assert earlier == "manifest_to_step0000001.json"
    assert json.loads((begun / earlier).read_text())["seed"] == 0


@pytest.mark.parametrize("part", ["TRAIN", "VAL"])
def test_an_image_that_a_loading_process_cannot_read_is_named(engine, tmp_path, part):
    words = ("DATALOADER.NUM_WORKERS", "1", f"DATASETS.{part}", "[untouchable]")
    cfg = tiny_config(engine, "fpn", tmp_path, *words, "SOLVER.MAX_ITER", "1")
    with pytest.raises(DataError) as error:
        engine.train(cfg)
    message = str(error.value)
    assert str(tmp_path / "test" / "image") in message
    assert "Traceback" not in message
    assert "\n" not in message


def test_a_loss_that_is_not_finite_names_itself_and_its_images(engine, tmp_path):
    diverging = ("SOLVER.BASE_LR", "1e30", "SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "1")
    cfg = tiny_config(engine, "fpn", tmp_path, *diverging)
    with pytest.raises(TrainingError, match=r"step \d.*not finite") as error:
        engine.train(cfg)
    message = str(error.value)
    (evidence,) = (tmp_path / "run").glob("diverged_step*.pth")
    assert str(evidence) in message
    assert "--resume" in message
    content = torch.load(evidence, weights_only=True)["training"]
    assert len(content["images"]) == 2
    assert all(name in message for name in content["images"])
    assert content["cause"] in message
    assert [tuple(image.shape) for image in content["inputs"]] == [(3, 128, 128)] * 2
    kept = read_checkpoint(tmp_path / "run" / LAST)
    assert kept["training"]["step"] == content["step"]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["steps_done"] == content["step"]
    assert manifest["finished"] is False
    assert manifest["wall_seconds_this_process"] > 0
    assert manifest["peak_memory_mb"] > 0


def signals_at(step, *numbers):
    """A step number -> the signals that this process gets while it is under way."""

    def send(at):
        if at == step:
            for number in numbers:
                os.kill(os.getpid(), number)

    return send


@pytest.fixture
def send_at_step(engine, monkeypatch):
    """Have a function called with the number of each step, in the middle of it."""

    def install(send):
        module = importlib.import_module(f"{engine.__name__}.trainer")
        if engine.NAME == "torchvision":
            owner, name = module._Training, "_losses"
            original = owner._losses

            def spied(self, model, samples, step):
                send(step)
                return original(self, model, samples, step)
        else:
            owner, name = module.Trainer, "run_step"
            original = owner.run_step

            def spied(self):
                original(self)
                send(self.iter)

        monkeypatch.setattr(owner, name, spied)

    return install


def test_an_interrupted_run_loses_no_step_and_resumes_exactly(engine, tmp_path, send_at_step):
    many = ("SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "100")
    uninterrupted = weights_of(engine.train(tiny_config(engine, "fpn", tmp_path / "whole", *many)))
    cfg = tiny_config(engine, "fpn", tmp_path, *many)
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    # Two at once are one Ctrl-C, which a launcher has passed on as well.
    send_at_step(signals_at(1, signal.SIGTERM, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"interrupted at step 2; go on with --resume"):
        engine.train(cfg)
    assert {n: signal.getsignal(n) for n in before} == before
    last = tmp_path / "run" / LAST
    assert read_checkpoint(last)["training"]["step"] == 2
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["steps_done"] == 2
    assert manifest["finished"] is False
    assert_same_weights(weights_of(engine.train(cfg, resume=True)), uninterrupted)


def test_a_second_signal_ends_at_once(engine, tmp_path, send_at_step, monkeypatch):
    from simfrcnn.engines.common import stopping

    monkeypatch.setattr(stopping, "SAME_SIGNAL_SECONDS", -1.0)
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "4")
    send_at_step(signals_at(1, signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"interrupted after step \d; no checkpoint"):
        engine.train(cfg)
    assert not (tmp_path / "run" / LAST).exists()


def test_a_signal_in_the_last_step_is_not_lost(engine, tmp_path, send_at_step):
    cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", "1")
    send_at_step(signals_at(0, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="interrupted at step 1; go on"):
        engine.train(cfg)
    assert read_checkpoint(tmp_path / "run" / LAST)["training"]["step"] == 1


def test_a_validation_set_that_a_model_has_boxed_is_refused_before_anything_is_written(
    engine, tmp_path
):
    words = ("DATASETS.VAL", "[untouchable]", "DATASETS.TEST", "[]")
    cfg = tiny_config(engine, "fpn", tmp_path, *words)
    path = tmp_path / "test" / "tiny.json"
    content = json.loads(path.read_text())
    content["annotations"][1].update(source="pseudo", score=0.9)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"tiny\.json: annotation 200 of image 2 is a pseudo-box"):
        engine.train(cfg)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_very_weights_of_an_uninterrupted_one(engine, tmp_path):
    """With a mask head, so that its weights and its optimiser's state are among them."""
    many = ("SOLVER.MAX_ITER", "12", "SOLVER.CHECKPOINT_PERIOD", "2")
    whole = tiny_mask_config(engine, "fpn", tmp_path / "whole", *many)
    uninterrupted = weights_of(engine.train(whole))
    assert any(".mask_" in name for name in uninterrupted)
    killed = tmp_path / "killed"
    cfg = tiny_mask_config(engine, "fpn", killed, *many)
    (killed / "config.yaml").write_text(cfg.dump())
    script = (
        "import sys; from simfrcnn.config import load_config; "
        "from simfrcnn.engines import load_engine; engine = load_engine(sys.argv[1]); "
        "engine.train(load_config(engine.default_cfg(), sys.argv[2]))"
    )
    last = killed / "run" / LAST
    (killed / "train.py").write_text(script)
    words = [killed / "train.py", engine.NAME, killed / "config.yaml"]
    kill_program_once(last.exists, words, cwd=ROOT, logs=killed)
    step = read_checkpoint(last)["training"]["step"]
    assert 2 <= step < 12
    assert_same_weights(weights_of(engine.train(cfg, resume=True)), uninterrupted)


# The first steps in half precision may overflow: they are skipped, the schedule goes on.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.gpu
@pytest.mark.parametrize("has_labels", [False, True])
def test_mixed_precision_trains_and_resumes_on_a_gpu(engine, heads, has_labels, tmp_path):
    on_gpu = ("MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", "True")
    if has_labels:
        on_gpu += LABELS_ON
    if has_labels and heads == "c4":  # a box head without batch statistics
        on_gpu += RESNET_C4
    cfg = tiny_config(engine, heads, tmp_path, *on_gpu)
    if has_labels:
        label_two_images(tmp_path / "data" / "tiny.json")
    engine.train(cfg)
    cfg = tiny_config(engine, heads, tmp_path, *on_gpu, "SOLVER.MAX_ITER", "4")
    last = engine.train(cfg, resume=True)
    content = read_checkpoint(last)
    assert content["training"]["step"] == 4
    for name, tensor in content["model"].items():
        assert not tensor.is_floating_point() or tensor.dtype == torch.float32, name
        assert bool(torch.isfinite(tensor).all()), name
    model = engine.build_model(cfg)
    engine.load_weights(model, last)
    (found,) = engine.detect(model, positives(1))
    assert found.boxes.device.type == "cpu"
    assert found.boxes.dtype == torch.float32
