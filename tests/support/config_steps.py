"""The shipped configs by kind, and the first steps of a training by one."""

from __future__ import annotations

import dataclasses
import importlib

import torch

from simfrcnn.config import is_classifier, load_config, read_keys
from simfrcnn.structures import ImageTargets, Native
from simfrcnn.training import recipe
from simfrcnn.trees import leaves_of
from support.classifier_examples import known
from support.examples import CONFIGS, normals, positives, seeded_model
from support.outlined import outlined


def kind_of(name):
    """What a file configures: a model, a job of two trainings, or a ladder of many."""
    keys = {entry.key.partition(".")[0] for entry in read_keys(CONFIGS / name)}
    return "job" if "STAGE1" in keys else "ladder" if "RUNGS" in keys else "model"


FILES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.yaml")
    if not any(part.startswith("_") for part in path.relative_to(CONFIGS).parts)
)
SHIPPED = [name for name in FILES if kind_of(name) == "model"]
JOBS = [*(name for name in FILES if kind_of(name) == "job"), "ladder/_study_weak.yaml"]
LADDERS = [name for name in FILES if kind_of(name) == "ladder"]
SMOKE = [name for name in SHIPPED if name.startswith("smoke/")]
# A quarter of the input and few regions: the same network in a fraction of the time.
REDUCED = (
    *("MODEL.DEVICE", "cpu", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8", "SOLVER.AMP.ENABLED", "False"),
)


# A classifier has no regions, and the keys of those must be at their defaults.
REDUCED_CLASSIFIER = ("MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False")


def load(engine, name, *overrides):
    return load_config(engine.default_cfg(), CONFIGS / name, list(map(str, overrides)))


def two_steps(engine, cfg):
    """Losses of the first two steps of a training on one pair."""
    return first_steps(engine, cfg, 2)


def first_steps(engine, cfg, n_steps, size_px=64):
    """Losses of the first steps of a training on one pair, ``size_px`` by 160 pixels."""
    model = seeded_model(engine, cfg)
    weights = importlib.import_module(f"simfrcnn.engines.{engine.NAME}.weights")
    weights.load_initial_weights(model, cfg.MODEL.WEIGHTS)
    optimizer = recipe.build_optimizer(cfg, model)
    trained = optimizer.param_groups[0]["params"]
    before = [parameter.clone() for parameter in trained]
    is_pair = cfg.DATASETS.BATCHES == "pairs"
    samples = [*positives(1, size_px), *normals(1, size_px)] if is_pair else positives(2, size_px)
    if cfg.DATASETS.LABELS_PER_ITEM:
        nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), False
        labelled = ImageTargets(*nothing, image_label=1, label_weight=0.5)
        samples += [dataclasses.replace(positives(3, size_px)[2], targets=labelled)]
    if cfg.MODEL.MASK_ON:
        samples = [outlined(sample) for sample in samples]
    samples = [dataclasses.replace(s, image=s.image.repeat(1, 1, 2)[:, :, :160]) for s in samples]
    if is_classifier(cfg):
        n = len(cfg.DATASETS.CLASSES)
        samples = [
            known(s, [1.0] + [0.0] * (n - 1) if s.record.findings else [0.0] * n) for s in samples
        ]
    if cfg.MODEL.SECOND_LOOK.ENABLED:
        stored = [Native(s.image[0].to(torch.uint8), s.frame) for s in samples]
        samples = [dataclasses.replace(s, native=n) for s, n in zip(samples, stored, strict=True)]
    steps = []
    for step in range(n_steps):
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


def keys_of(cfg):
    """A config as key -> value, without its folder."""
    return {key: value for key, value in leaves_of(cfg) if key != "OUTPUT_DIR"}


def changes(first, second):
    """The keys of two configs that differ, with the values of the second."""
    return {key: value for key, value in second.items() if value != first[key]}
