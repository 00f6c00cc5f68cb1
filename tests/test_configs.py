"""Every shipped config loads on both engines, and those of the thesis take two steps."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.training import recipe
from support.examples import (
    CONFIGS,
    ENGINE_PARAMETERS,
    engine_named,
    normals,
    positives,
    seeded_model,
)
from support.imagenet import write_imagenet_pth

SHIPPED = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.yaml")
    if not any(part.startswith("_") for part in path.relative_to(CONFIGS).parts)
)
OF_THE_THESIS = [name for name in SHIPPED if Path(name).stem.find("_r101") >= 0]
SMOKE = [name for name in SHIPPED if name.startswith("smoke/")]
# A quarter of the input and few regions: the same network in a fraction of the time.
REDUCED = (
    *("MODEL.DEVICE", "cpu", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8", "SOLVER.AMP.ENABLED", "False"),
)


@pytest.fixture(params=ENGINE_PARAMETERS)
def engine(request):
    return engine_named(request.param)


@pytest.fixture(scope="module")
def resnet101(tmp_path_factory):
    path = write_imagenet_pth(tmp_path_factory.mktemp("weights") / "resnet101.pth", depth=101)
    yield path
    path.unlink()


def load(engine, name, *overrides):
    return load_config(engine.default_cfg(), CONFIGS / name, list(map(str, overrides)))


def two_steps(engine, cfg):
    """Losses of the first two steps of a training on one pair."""
    model = seeded_model(engine, cfg)
    weights = importlib.import_module(f"simfrcnn.engines.{engine.NAME}.weights")
    weights.load_initial_weights(model, cfg.MODEL.WEIGHTS)
    optimizer = recipe.build_optimizer(cfg, model)
    trained = optimizer.param_groups[0]["params"]
    before = [parameter.clone() for parameter in trained]
    is_pair = cfg.DATASETS.BATCHES == "pairs"
    samples = [*positives(1), *normals(1)] if is_pair else positives(2)
    samples = [dataclasses.replace(s, image=s.image.repeat(1, 1, 2)[:, :, :160]) for s in samples]
    steps = []
    for step in range(2):
        recipe.seed_step(cfg.SEED, step)
        optimizer.zero_grad()
        losses = engine.training_losses(model, samples)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        steps.append({name: float(loss.detach()) for name, loss in losses.items()})
    moved = [
        not torch.equal(a, b)
        for a, b in zip(before, optimizer.param_groups[0]["params"], strict=True)
    ]
    assert any(moved)
    return steps


def test_there_are_configs():
    assert {"sim_r101.yaml", "tl_r101.yaml", "faster_r101.yaml"} <= set(OF_THE_THESIS)
    assert "faster_positives_r101.yaml" in OF_THE_THESIS
    assert len(SMOKE) >= 2


@pytest.mark.parametrize("name", SHIPPED)
def test_every_config_loads_and_runs_into_a_folder_of_its_own(engine, name):
    cfg = load(engine, name)
    assert cfg.DATASETS.TRAIN
    assert Path(cfg.OUTPUT_DIR).parts[0] == "output"
    assert Path(cfg.OUTPUT_DIR).name == Path(name).stem


@pytest.mark.parametrize("name", SMOKE)
def test_smoke_configs_take_two_steps(engine, name):
    for losses in two_steps(engine, load(engine, name, *REDUCED)):
        assert tuple(losses) == LOSS_KEYS
        assert all(0 <= loss < 10 for loss in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_THE_THESIS)
def test_configs_of_the_thesis_take_two_steps_from_imagenet_weights(engine, name, resnet101):
    cfg = load(engine, name, *REDUCED, "MODEL.WEIGHTS", resnet101)
    assert cfg.MODEL.RESNETS.NORM == "FrozenBN"
    for losses in two_steps(engine, cfg):
        assert tuple(losses) == LOSS_KEYS
        assert all(0 <= loss < 10 for loss in losses.values()), losses
