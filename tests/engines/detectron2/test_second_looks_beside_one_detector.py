"""The benchmark of second looks: each learns beside the shared detector as it would alone."""

import json

import pytest
import torch

from benchmarks import second_looks
from benchmarks.second_look_kinds import DETECTOR, FIRST, KINDS, beside_one_detector
from simfrcnn.errors import OutputError
from simfrcnn.second_look import SecondLook

pytestmark = pytest.mark.detectron2
ON = ("MODEL.SECOND_LOOK.ENABLED", "True", "TEST.BEST_BY", "last")
STEPS = ("SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "2")
SHORT = (*ON, *STEPS, "DATASETS.VAL", "[]", "DATASETS.TEST", "[discs/val]")


def trained(cfg):
    from simfrcnn.engines import detectron2

    return torch.load(detectron2.train(cfg), weights_only=True)["model"]


def entries(path):
    return {
        (entry["image_id"], *entry["bbox"], entry["score"])
        for entry in json.loads(path.read_text())
    }


def test_each_kind_learns_what_it_would_learn_alone(make_cfg, tmp_path):
    kinds = list(KINDS)
    cfg = make_cfg("fpn", *SHORT, "OUTPUT_DIR", str(tmp_path / "both"))
    second_looks.train_and_test(cfg, tmp_path / "out", kinds)
    both = torch.load(tmp_path / "both/model_last.pth", weights_only=True)["model"]
    plain = [kind for kind in kinds if KINDS[kind].form is SecondLook]
    assert len(plain) == 6
    for kind in plain:
        folder = tmp_path / kind
        cfg = make_cfg("fpn", *SHORT, *KINDS[kind].options, "OUTPUT_DIR", str(folder))
        own = trained(cfg)
        assert any(name.startswith("second_look.") for name in own)
        for name, value in own.items():
            shared = name.replace("second_look.", f"second_look.looks.{kind}.")
            assert torch.equal(both[shared], value), (kind, name)
    name = "second_look.looks.{}.judge.body.block1.0.weight"
    first = both[name.format(FIRST)]
    # Suspicion hardly differs after so few steps, so that "evenly" draws the same places; and no
    # disc is benign.
    others = [kind for kind in kinds if kind not in (FIRST, "evenly", "graded", "features")]
    assert not any(torch.equal(both[name.format(kind)], first) for kind in others)


def test_detections_are_those_of_the_model_with_that_second_look_alone(make_cfg, tmp_path):
    from simfrcnn.engines import detectron2
    from simfrcnn.workflows.training import judge

    cfg = make_cfg("fpn", *SHORT, "OUTPUT_DIR", str(tmp_path / "both"))
    second_looks.train_and_test(cfg, tmp_path / "out", [FIRST, "input", "features"])
    for kind in (FIRST, "input"):
        cfg = make_cfg("fpn", *SHORT, *KINDS[kind].options, "OUTPUT_DIR", str(tmp_path / kind))
        detectron2.train(cfg)
        judge(tmp_path / kind / "config.yaml", engine="detectron2")
        product = tmp_path / kind / "inference/discs/val/detections.json"
        assert entries(second_looks.detections_in(tmp_path / "out", kind)) == entries(product)
    found = json.loads(product.read_text())
    first = {(e["image_id"], *e["bbox"], e["first_score"]) for e in found}
    assert entries(second_looks.detections_in(tmp_path / "out", DETECTOR)) == first
    others = entries(second_looks.detections_in(tmp_path / "out", "features"))
    assert {entry[:5] for entry in others} == {entry[:5] for entry in first}
    assert others != first


def test_a_training_that_was_ended_goes_on_as_if_it_had_not_been(make_cfg, tmp_path):
    """With the squares that each remembers."""
    from simfrcnn.engines import detectron2

    kinds = [FIRST, "unbalanced", "features"]
    states = []
    for stops in ((), (2,)):
        folder = str(tmp_path / f"run{len(stops)}")
        with beside_one_detector(kinds):
            for last in stops:
                detectron2.train(
                    make_cfg("fpn", *SHORT, "SOLVER.MAX_ITER", str(last), "OUTPUT_DIR", folder)
                )
            cfg = make_cfg("fpn", *SHORT, "SOLVER.MAX_ITER", "3", "OUTPUT_DIR", folder)
            path = detectron2.train(cfg, resume=True)
        states.append(torch.load(path, weights_only=True))
    whole, resumed = states
    for name, value in whole["model"].items():
        assert torch.equal(resumed["model"][name], value), name
    memories = whole["training"]["second_look"]
    assert list(memories) == kinds
    assert len(memories[FIRST]["positive"]["labels"]) > 0


def test_detections_of_another_config_are_refused(make_cfg, tmp_path, monkeypatch):
    cfg = make_cfg("fpn", *SHORT, "OUTPUT_DIR", str(tmp_path / "out/seed_0/training"))
    second_looks.train_and_test(cfg, tmp_path / "out/seed_0", [FIRST])
    with pytest.raises(OutputError, match=r"of the kinds second_look; .* by --kinds, or another -"):
        second_looks.train_and_test(cfg, tmp_path / "out/seed_0", [FIRST, "graded"])
    other = cfg.clone()
    other.defrost()
    other.SOLVER.MAX_ITER = 20_000
    monkeypatch.setattr(second_looks, "config_of", lambda *_: cfg)
    assert list(second_looks.judged(tmp_path / "out", ())) == [FIRST, DETECTOR]
    monkeypatch.setattr(second_looks, "config_of", lambda *_: other)
    with pytest.raises(OutputError, match=r"detections\.json is of another config or test set"):
        second_looks.judged(tmp_path / "out", ())
    monkeypatch.undo()
    monkeypatch.setattr(second_looks, "checked_training", lambda *words: ("detectron2", other))
    with pytest.raises(OutputError, match=r"other settings \(SOLVER\.MAX_ITER was 3, is 20000"):
        second_looks.config_of(tmp_path / "out", 0, ())
