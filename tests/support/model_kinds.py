"""Checkpoints of what is no plain detector: a classifier, and a detector with a mask head."""

from __future__ import annotations

from pathlib import Path

import torch

from simfrcnn.engines.common.checkpoints import (
    Description,
    Identity,
    read_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from support.classifier_examples import TWO_CLASSES, classifier_config
from support.examples import engine_named, seeded_model
from support.outlined import SMALL_MASKS
from support.untrained import write_untrained

KINDS = {
    "classifier": "whole-image classifier (SimClassifier)",
    "masks": "detector with a mask head (SimFasterRCNN)",
}
"""Kind -> what `show` calls it."""


def write_model(path: Path, kind: str, engine_name: str) -> Path:
    """A checkpoint with weights that are large enough to say something."""
    if kind == "masks":
        write_untrained(path, *SMALL_MASKS, "EVAL.SCORE_THRESHOLD", 0.0, engine=engine_name)
    else:
        engine = engine_named(engine_name)
        cfg = classifier_config(engine, *TWO_CLASSES, "INPUT.MAMMO.SIZE", "[96, 64]")
        identity, described = Identity.of(engine.NAME, cfg), Description.of(cfg, {})
        save_checkpoint(path, seeded_model(engine, cfg), identity, description=described)
    content = read_checkpoint(path)
    drawn = torch.Generator().manual_seed(3)
    for name, tensor in content["model"].items():
        if ".mask_" in name or name == "head.classify.weight":
            tensor.add_(torch.randn(tensor.shape, generator=drawn) * 0.3)
    write_checkpoint(path, content)
    return path
