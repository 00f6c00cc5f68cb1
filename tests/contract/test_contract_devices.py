"""What a GPU is to show on every engine; reduced, the same code runs on the CPU."""

from __future__ import annotations

import resource
import sys
import time

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.engines.contract import loss_keys
from simfrcnn.structures import OF_SECOND_LOOK
from simfrcnn.training import recipe
from support.classifier_examples import classifier_config
from support.examples import CONFIGS, normals, positives, seeded_model, tiny_config
from support.native_examples import with_native

LOOK = ("MODEL.SECOND_LOOK.ENABLED", True)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_of_the_thesis_says_what_it_takes(engine, device, capsys):
    """R101-C4 on a pair of 512 x 512; on the CPU of 64 x 64 and with few regions."""
    side = 512 if device == "cuda" else 64
    words = ["SEED", "0", "MODEL.DEVICE", device, "SOLVER.AMP.ENABLED", "False"]
    words += ["INPUT.MAMMO.SIZE", f"[{side},{side}]", "SOLVER.IMS_PER_BATCH", "2"]
    if device == "cpu":
        words += ["MODEL.RPN.POST_NMS_TOPK_TRAIN", "20"]
        words += ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8"]
    cfg = load_config(engine.default_cfg(), CONFIGS / "sim_r101.yaml", words)
    assert (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.ROI_HEADS.NAME) == (101, "SimRes5ROIHeads")
    samples = [*positives(1, side), *normals(1, side)]
    model = seeded_model(engine, cfg)
    optimizer = recipe.build_optimizer(cfg, model)
    for _ in range(2 if device == "cuda" else 1):  # the first one chooses algorithms
        _wait_for(device)
        start = time.perf_counter()
        losses = engine.training_losses(model, samples)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        _wait_for(device)
        seconds = time.perf_counter() - start
    assert tuple(losses) == loss_keys(cfg)
    assert all(bool(torch.isfinite(loss.detach())) for loss in losses.values())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.device.type == device for p in trained)
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in trained)
    memory = peak_memory_mb(device)
    assert seconds > 0
    assert memory > 100  # the weights and their gradients alone take more
    with capsys.disabled():
        print(
            f"\n{engine.NAME}, R101, 2 images of {side} x {side} on {device}: "
            f"{seconds:.2f} s a step, {memory:.0f} MiB at most"
        )


def _wait_for(device):
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory_mb(device):
    """Of this process, since it started."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


@pytest.mark.parametrize("device", DEVICES)
def test_it_trains_and_detects_on_a_device(engine, device, tmp_path):
    """Squares are cut on the CPU, judged where the model is, and come back to the CPU."""
    cfg = tiny_config(engine, "fpn", tmp_path, *LOOK, "MODEL.DEVICE", device)
    last = engine.train(cfg)
    content = read_checkpoint(last)
    assert content["training"]["step"] == 2
    remembered = content["training"]["second_look"]
    assert len(remembered["positive"]["labels"]) == len(remembered["other"]["labels"]) == 4
    samples, found = with_native(positives(1, 128)), {}
    for where in dict.fromkeys((device, "cpu")):
        model = engine.build_model(
            tiny_config(engine, "fpn", tmp_path, *LOOK, "MODEL.DEVICE", where)
        )
        engine.load_weights(model, last)
        assert {p.device.type for p in model.second_look.parameters()} == {where}
        (found[where],) = engine.detect(model, samples)
        values = (getattr(found[where], name) for name in ("boxes", "scores", *OF_SECOND_LOOK))
        assert {(each.device.type, each.dtype) for each in values} == {("cpu", torch.float32)}
        looked = found[where].second_scores[:5]
        assert len(looked) == 5
        assert bool(((looked > 0) & (looked < 1)).all())
    torch.testing.assert_close(found[device].scores[:5], found["cpu"].scores[:5], rtol=1e-2, atol=0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_classifier_with_a_second_look_detects_on_a_device(engine, device):
    """Its detections are on the CPU before the second look has judged where the model is."""
    looks = (*LOOK, "MODEL.SECOND_LOOK.SOURCE", "input", "MODEL.DEVICE", device)
    model = seeded_model(engine, classifier_config(engine, *looks))
    assert {p.device.type for p in model.parameters()} == {device}
    for found in engine.detect(model, positives(2)):
        assert found.scores.device.type == found.second_scores.device.type == "cpu"
        assert 0 < float(found.second_scores[0]) < 1
