"""Training by Detectron2's loop: killed, resumed, spread over processes, and ended by a NaN."""

import json
import os
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch

from simfrcnn.errors import ConfigError, DataError, OutputError, TrainingError
from simfrcnn.training import recipe
from support.forking import run_program

pytestmark = pytest.mark.detectron2
REPOSITORY = Path(__file__).parents[3]
NO_VAL = ("DATASETS.VAL", "[]")


def train(cfg, **options):
    from simfrcnn.engines import detectron2

    return detectron2.train(cfg, **options)


def weights_of(path):
    return torch.load(path, weights_only=True)["model"]


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert different == []


def steps(folder):
    lines = (folder / "metrics.json").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines]


def test_a_run_leaves_its_folder(make_cfg, tmp_path, capsys):
    cfg = make_cfg("fpn", "SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "2")
    last = train(cfg)
    folder = tmp_path / "run"
    assert last == folder / "model_last.pth"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["engine"] == "detectron2"
    assert checkpoint["training"]["step"] == 4
    assert (folder / "model_best.pth").exists()
    metrics = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert metrics["iteration"] == 3
    assert 0 <= metrics["case/auc"] <= 1
    assert metrics["loss_similarity"] > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["engine"] == "detectron2"
    assert manifest["finished"] is True
    assert manifest["steps_done"] == 4
    assert [entry["images"] for entry in manifest["data"]] == [9, 6]
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / "inference/discs/val/detections.json").exists()
    printed = capsys.readouterr().out
    assert "loss_rpn_top_likelihood" in printed
    assert "eta" in printed
    assert "case AUC on VAL" in printed
    assert (folder / "log.txt").read_text().count("Starting training from iteration 0") == 1
    assert printed.count("Starting training from iteration 0") == 1
    assert list(folder.rglob("*.part")) == []


def test_a_second_run_needs_resume_or_another_folder(make_cfg):
    cfg = make_cfg("fpn", "SOLVER.MAX_ITER", "1", *NO_VAL)
    train(cfg)
    with pytest.raises(OutputError, match="--resume"):
        train(cfg)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_config_that_no_model_can_be_built_of_leaves_no_log(make_cfg, is_new):
    labels = ("DATASETS.LABELS_PER_ITEM", "1", "SOLVER.IMS_PER_BATCH", "3")
    cfg = make_cfg("c4", *labels, "MODEL.RESNETS.NORM", "BN", *NO_VAL)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(exist_ok=True)
    if not is_new:
        (folder / "log.txt").write_text("of a run before\n")
    with (
        mock.patch.object(recipe, "training_items"),
        pytest.raises(ConfigError, match="the box head has a BatchNorm2d"),
    ):
        train(cfg)
    assert [path.name for path in folder.iterdir()] == ([] if is_new else ["log.txt"])
    assert is_new or (folder / "log.txt").read_text().startswith("of a run before\n")


def test_a_finished_run_that_is_resumed_stays_as_it_is(make_cfg):
    cfg = make_cfg("fpn", "SOLVER.MAX_ITER", "2", *NO_VAL)
    path = train(cfg)
    before = path.read_bytes()
    assert train(cfg, resume=True) == path
    assert path.read_bytes() == before


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_cfg, tmp_path, monkeypatch
):
    words = ("SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.STEPS", "[3]")
    words += ("DATALOADER.NUM_WORKERS", "1", "TEST.EVAL_PERIOD", "1")
    whole = train(make_cfg("fpn", *words, "OUTPUT_DIR", str(tmp_path / "whole")))

    from simfrcnn.engines.detectron2 import Trainer

    original = Trainer.run_step

    def interrupted(self):
        if self.iter == 3:
            raise KeyboardInterrupt
        original(self)

    cfg = make_cfg("fpn", *words, "OUTPUT_DIR", str(tmp_path / "parts"))
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(cfg)
    parts = tmp_path / "parts/model_last.pth"
    assert torch.load(parts, weights_only=True)["training"]["step"] == 2
    assert "--resume" in (tmp_path / "parts/log.txt").read_text()
    train(cfg, resume=True)

    one, two = (torch.load(path, weights_only=True) for path in (whole, parts))
    assert_same_weights(one["model"], two["model"])
    assert one["training"]["best"] == two["training"]["best"]
    states = [c["training"]["optimizer"] for c in (one, two)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert states[0]["param_groups"][0]["lr"] == pytest.approx(0.1 * cfg.SOLVER.BASE_LR)
    for left, right in zip(states[0]["state"].values(), states[1]["state"].values(), strict=True):
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert_same_weights(
        weights_of(whole.parent / "model_best.pth"), weights_of(parts.parent / "model_best.pth")
    )
    iterations = steps(tmp_path / "parts")
    assert iterations == sorted(set(iterations))


def test_resume_without_a_checkpoint_starts_at_the_beginning(make_cfg):
    path = train(make_cfg("fpn", "SOLVER.MAX_ITER", "1", *NO_VAL), resume=True)
    assert torch.load(path, weights_only=True)["training"]["step"] == 1


def test_a_resumed_run_takes_the_learning_rate_of_the_config(make_cfg):
    words = ("SOLVER.CHECKPOINT_PERIOD", "1", *NO_VAL)
    train(make_cfg("fpn", "SOLVER.MAX_ITER", "1", *words))
    cfg = make_cfg("fpn", "SOLVER.MAX_ITER", "2", "SOLVER.BASE_LR", "1e-5", *words)
    path = train(cfg, resume=True)
    group = torch.load(path, weights_only=True)["training"]["optimizer"]["param_groups"][0]
    assert group["lr"] == pytest.approx(1e-5)


def test_the_best_checkpoint_is_the_first_of_the_highest(make_cfg, tmp_path, monkeypatch):
    from simfrcnn.engines.detectron2 import Trainer

    figures = iter([0.5, 0.7, 0.7, 0.6])
    monkeypatch.setattr(Trainer, "validate", lambda self: {"case/auc": next(figures)})
    train(make_cfg("fpn", "SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "1"))
    best = torch.load(tmp_path / "run/model_best.pth", weights_only=True)
    assert best["card"]["steps"] == 2
    last = torch.load(tmp_path / "run/model_last.pth", weights_only=True)
    assert last["training"]["best"] == {"value": 0.7, "step": 2, "figure": "case/auc"}


def test_test_is_never_read_in_training(make_cfg, data_files, monkeypatch):
    from simfrcnn.engines.detectron2 import trainer

    read = []
    original = trainer.build_test_loader
    monkeypatch.setattr(
        trainer.Trainer,
        "build_test_loader",
        staticmethod(lambda cfg, name: read.append(name) or original(cfg, name)),
    )
    train(make_cfg("fpn", "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[discs/train]"))
    assert read == ["discs/val"]


@pytest.mark.parametrize("where", ["loss_cls", "rpn"])
def test_a_nan_ends_the_training_before_the_optimiser(make_cfg, tmp_path, monkeypatch, where):
    from simfrcnn.engines.detectron2 import Trainer
    from simfrcnn.engines.detectron2.roi_heads import SimFastRCNNOutputLayers
    from simfrcnn.engines.detectron2.rpn import TopLikelihoodRPN

    steps_taken = []
    original = Trainer.run_step
    monkeypatch.setattr(
        Trainer, "run_step", lambda self: steps_taken.append(self.iter) or original(self)
    )
    if where == "rpn":
        forward = TopLikelihoodRPN.forward

        def broken_forward(self, images, features, *args, **kwargs):
            poisoned = steps_taken == [0, 1]
            features = {k: v * float("nan") if poisoned else v for k, v in features.items()}
            return forward(self, images, features, *args, **kwargs)

        monkeypatch.setattr(TopLikelihoodRPN, "forward", broken_forward)
    else:
        losses = SimFastRCNNOutputLayers.losses

        def broken_losses(self, *args):
            found = losses(self, *args)
            factor = float("nan") if steps_taken == [0, 1] else 1.0
            return {**found, where: found[where] * factor}

        monkeypatch.setattr(SimFastRCNNOutputLayers, "losses", broken_losses)
    cfg = make_cfg("fpn", "SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "1", *NO_VAL)
    named = "loss_cls" if where == "loss_cls" else "box or score of the RPN"
    with pytest.raises(TrainingError, match=rf"step 1: .*{named}.*train_\d\.png.*train_\d\.png"):
        train(cfg)
    folder = tmp_path / "run"
    (evidence,) = folder.glob("diverged_step0000001.pth")
    assert_same_weights(weights_of(evidence), weights_of(folder / "model_last.pth"))
    assert len(torch.load(evidence, weights_only=True)["training"]["inputs"]) == 2
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_faults_in_the_data_show_before_anything_is_written(make_cfg, tmp_path):
    with pytest.raises(DataError, match="discs/missing"):
        train(make_cfg("fpn", "DATASETS.TEST", "[discs/missing]"))
    assert not (tmp_path / "run").exists()


PAIRS_OF_EACH_PROCESS = """
import json, sys
import torch
torch.set_num_threads(1)
from support.forking import fork_processes
from pathlib import Path
from detectron2.utils import comm
from simfrcnn.config import load_config
from simfrcnn.engines import detectron2 as engine
from simfrcnn.engines.detectron2 import trainer
original = trainer.Trainer.run_step
def spied(self):
    original(self)
    names = [Path(entry["file_name"]).name for entry in self.data_loader.batch]
    total = sum(float(p.double().sum()) for p in self.bare_model.parameters())
    replay = self.data_loader.replay
    if replay and self.iter + 1 == self.max_iter:
        replay.merge(trainer._of_all_processes)
        torch.save(replay.state_dict(), f"{self.cfg.OUTPUT_DIR}/rank{comm.get_rank()}.pth")
    with open(f"{self.cfg.OUTPUT_DIR}/rank{comm.get_rank()}.txt", "a") as stream:
        stream.write(json.dumps([names, total.hex()]) + "\\n")
trainer.Trainer.run_step = spied
if __name__ == "__main__":
    fork_processes()
    cfg = load_config(engine.default_cfg(), sys.argv[1])
    print(engine.launch_training(cfg, num_gpus=int(sys.argv[2])))
"""


def run_two_processes(cfg, tmp_path):
    """Train in two processes; what each of them took at each step, and its weights' sum."""
    config_file, script = tmp_path / "two.yaml", tmp_path / "two.py"
    config_file.write_text(cfg.dump())
    script.write_text(PAIRS_OF_EACH_PROCESS)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    words = [script, config_file, "2"]
    done = run_program(words, cwd=REPOSITORY, logs=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    return [
        [json.loads(line) for line in (tmp_path / f"run/rank{rank}.txt").read_text().splitlines()]
        for rank in (0, 1)
    ]


@pytest.mark.slow
def test_two_processes_draw_the_pairs_of_one_replay_alike_and_stay_equal(make_cfg, tmp_path):
    words = ("SOLVER.MAX_ITER", "8", "SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", "1")
    words += (
        "DATASETS.REPLAY.FRACTION",
        "0.9",
        "DATASETS.REPLAY.PERIOD",
        "3",
        "TEST.EVAL_PERIOD",
        "0",
        "MODEL.SECOND_LOOK.ENABLED",
        "True",
    )
    cfg = make_cfg("fpn", *words)
    ranks = run_two_processes(cfg, tmp_path)
    memories = [torch.load(tmp_path / f"run/rank{rank}.pth") for rank in (0, 1)]
    kept = torch.load(tmp_path / "run/model_last.pth")["training"]["replay"]
    for key in ("scores", "published"):
        assert torch.equal(memories[0][key], memories[1][key])
        assert torch.equal(memories[0][key], kept[key])
    assert bool(((kept["scores"] > 0) & (kept["scores"] < 1)).all())
    items = recipe.training_items(cfg)
    ordinary = [[record.path.name for record in items.records_of(number)] for number in range(16)]
    items.replay.load_state_dict(kept, source="")
    replayed = [[record.path.name for record in items.records_of(number)] for number in range(16)]
    taken = [ranks[number % 2][number // 2][0] for number in range(16)]
    assert taken[:12] == ordinary[:12]
    assert taken[12:] == replayed[12:]  # window 2
    assert sum(items.replay.replacement(number) is not None for number in range(12, 16)) >= 3
    assert [step[1] for step in ranks[0]] == [step[1] for step in ranks[1]]
    assert ranks[0][0][1] != ranks[0][2][1]
    remembered = torch.load(tmp_path / "run/model_last.pth")["training"]["second_look"]
    assert len(remembered["positive"]["labels"]) == len(remembered["other"]["labels"]) == 16
    detections = json.loads((tmp_path / "run/inference/discs/val/detections.meta.json").read_text())
    assert detections["image_ids"] == [1, 2, 3, 4, 5, 6]
    assert json.loads((tmp_path / "run/manifest.json").read_text())["world_size"] == 2


def test_an_error_in_a_process_reaches_the_user_as_it_is(make_cfg, monkeypatch):
    from simfrcnn.engines.detectron2 import launch_training

    # Forked: two processes that import torch take half a minute to come to their error.
    forked = partial(torch.multiprocessing.start_processes, start_method="fork")
    monkeypatch.setattr(torch.multiprocessing, "start_processes", forked)
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH is 2, .* 2 processes"):
        launch_training(make_cfg("fpn"), num_gpus=2)


def test_more_processes_than_gpus_are_refused(make_cfg, monkeypatch):
    from simfrcnn.engines.detectron2 import launch_training

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="--num-gpus is 2; this machine has 1"):
        launch_training(make_cfg("fpn", "MODEL.DEVICE", "cuda"), num_gpus=2)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES"):
        launch_training(make_cfg("fpn"), num_gpus=2)
    with pytest.raises(ConfigError, match="dist-url"):
        launch_training(make_cfg("fpn"), num_machines=2)


INTERRUPTED = """
import os, signal, sys, threading, time
import torch
torch.set_num_threads(1)
from support.forking import fork_processes
from simfrcnn.config import load_config
from simfrcnn.engines import detectron2 as engine
from simfrcnn.engines.common.stopping import TrainingInterrupted
if __name__ == "__main__":
    fork_processes()
    cfg = load_config(engine.default_cfg(), sys.argv[1])
    def interrupt():
        while not os.path.exists(f"{cfg.OUTPUT_DIR}/model_last.pth"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        engine.launch_training(cfg, num_gpus=2)
    except TrainingInterrupted as error:
        sys.exit(str(error))
"""


@pytest.mark.slow
def test_a_signal_to_the_parent_stops_both_processes_after_a_step(make_cfg, tmp_path):
    words = ("SOLVER.MAX_ITER", "500", "SOLVER.IMS_PER_BATCH", "4", *NO_VAL)
    cfg = make_cfg("fpn", *words, "SOLVER.CHECKPOINT_PERIOD", "2")
    config_file, script = tmp_path / "two.yaml", tmp_path / "two.py"
    config_file.write_text(cfg.dump())
    script.write_text(INTERRUPTED)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = run_program([script, config_file], cwd=REPOSITORY, logs=tmp_path, env=environment)
    step = torch.load(tmp_path / "run/model_last.pth", weights_only=True)["training"]["step"]
    assert 2 <= step < 500
    assert f"interrupted at step {step}; go on with --resume" in done.stderr
    assert done.returncode == 1
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["steps_done"] == step


def test_only_training_passes_are_in_mixed_precision_however_they_end():
    from simfrcnn.engines.detectron2.mixed_precision import autocast_training
    from simfrcnn.training.precision import Precision

    class Telling(torch.nn.Module):
        def forward(self, fails):
            told.append(torch.is_autocast_enabled("cpu"))
            if fails:
                raise ValueError("a bad batch")

    told = []
    model = Telling()
    autocast_training(model, Precision("mixed", "bfloat16", "for the test"))
    model(False)
    with pytest.raises(ValueError, match="a bad batch"):
        model(True)
    assert not torch.is_autocast_enabled("cpu")
    model.eval()
    model(False)
    assert told == [True, True, False]


def test_the_librarys_pooler_gets_boxes_that_are_not_rounded(make_cfg):
    from detectron2.layers import ROIAlign

    from simfrcnn.engines.detectron2.mixed_precision import ExactROIAlign
    from simfrcnn.engines.detectron2.model import build_model

    for heads, n_levels in (("fpn", 4), ("c4", 1)):
        model = build_model(make_cfg(heads))
        found = [type(part) for part in model.modules() if isinstance(part, ROIAlign)]
        assert found == [ExactROIAlign] * n_levels
