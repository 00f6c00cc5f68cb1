"""Whole-image classifiers: a tiny config, and images of which it is known what they show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from simfrcnn.config import load_config
from simfrcnn.data.coco import write_coco
from simfrcnn.engines.common.weights import torchvision_name
from simfrcnn.records import Supervision
from simfrcnn.structures import Sample
from support.examples import CONFIGS, normals, positives, record, write_tiny_set

FPN = (
    *("MODEL.CLASSIFIER.HEAD", "fpn", "MODEL.RESNETS.OUT_FEATURES", "[res3,res4,res5]"),
    *("MODEL.CLASSIFIER.HEAD_CHANNELS", 16),
)
HEADS = {
    "plain": (),
    "fpn": FPN,
    "psp": ("MODEL.CLASSIFIER.HEAD", "psp", "MODEL.CLASSIFIER.HEAD_CHANNELS", 16),
    "multi_scale": ("MODEL.CLASSIFIER.HEAD", "multi_scale"),
}
TWO_CLASSES = (
    *("DATASETS.CLASSES", "[malignant,benign]"),
    *("DATASETS.TARGET_CLASSES", "[malignant,benign]"),
)
TINY = (
    *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_convnext"),
    *("MODEL.RESNETS.NORM", ""),
)
UNKNOWN = float("nan")


def resnet_classifier(engine: Any, *overrides: Any) -> Any:
    """The smoke config of a classifier, a ResNet-18, with KEY VALUE overrides."""
    words = ["SEED", "0", *map(str, overrides)]
    return load_config(engine.default_cfg(), CONFIGS / "smoke" / "classifier_r18.yaml", words)


def classifier_config(engine: Any, *overrides: Any) -> Any:
    """The same with a tiny backbone."""
    return resnet_classifier(engine, *TINY, *overrides)


def by_common_name(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a classifier of either engine, by what torchvision calls them."""
    named = {}
    for name, tensor in state.items():
        common = torchvision_name(name.removeprefix("backbone."))
        named[name if common is None else f"backbone.body.{common}"] = tensor
    return named


def known(sample: Sample, present: Sequence[float]) -> Sample:
    """A sample of which that is known of the classes."""
    assert sample.targets is not None
    targets = dataclasses.replace(sample.targets, present=torch.tensor(present))
    return dataclasses.replace(sample, targets=targets)


def known_pairs(n: int = 2) -> list[Sample]:
    """Positives and normals of one class."""
    return [known(s, [1.0]) for s in positives(n)] + [known(s, [0.0]) for s in normals(n)]


def tiny_classifier(engine: Any, folder: Path, *overrides: Any) -> Any:
    """The tiny classifier on the tiny set, two of whose positives have a label and no box."""
    path = folder / "data" / "tiny.json"
    if not path.exists():
        write_labelled_set(path.parent)
    return classifier_config(
        engine,
        *("DATASETS.FILES", f"[tiny={path}]", "DATASETS.TRAIN", "[tiny]"),
        *("DATASETS.VAL", "[]", "DATASETS.TEST", "[tiny]", "INPUT.MAMMO.CROP_TO_BREAST", "False"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", folder / "run"),
        *overrides,
    )


def write_labelled_set(folder: Path) -> Path:
    """Three positives, two of them by their label alone, and three normals."""
    write_tiny_set(folder)
    records = [record(1, boxes=[(20.0, 30.0, 50.0, 62.0)], path=folder)]
    records += [
        dataclasses.replace(
            record(image_id, path=folder),
            supervision=Supervision.IMAGE_LABEL,
            labels={"malignant": True},
        )
        for image_id in (2, 3)
    ]
    records += [record(51 + i, path=folder) for i in range(3)]
    path = folder / "tiny.json"
    write_coco(path, records, {1: "malignant"}, {"description": "labels", "version": "1"})
    return path
