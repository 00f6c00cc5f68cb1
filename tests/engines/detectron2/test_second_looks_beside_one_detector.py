"""The benchmark of second looks: each learns beside the shared detector as it would alone."""

import json

import pytest
import torch

from benchmarks import second_looks
from benchmarks.second_looks import DETECTOR, FIRST, KINDS

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
    for kind in (FIRST, "random", "cosine"):
        folder = tmp_path / kind
        cfg = make_cfg("fpn", *SHORT, *KINDS[kind].options, "OUTPUT_DIR", str(folder))
        own = trained(cfg)
        assert any(name.startswith("second_look.") for name in own)
        for name, value in own.items():
            shared = name.replace("second_look.", f"second_look.looks.{kind}.")
            assert torch.equal(both[shared], value), (kind, name)
    name = "second_look.looks.{}.judge.body.block1.0.weight"
    first = both[name.format(FIRST)]
    # Suspicion hardly differs after so few steps, so that "evenly" draws the same places.
    others = [kind for kind in kinds if kind not in (FIRST, "evenly", "features")]
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
