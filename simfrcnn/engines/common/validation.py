"""How are detections saved, and a model judged on the validation set during a training?

Works on either engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn import artifacts, config
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.results import Report
from simfrcnn.settings import EvaluationSettings
from simfrcnn.structures import Detections

DETECTIONS = "detections.json"


def quick_report(found: Sequence[Detections], cfg: Any, annotated: AnnotatedSet) -> Report:
    """Judge detections in memory, without intervals: for validation during training."""
    categories = category_ids(cfg.DATASETS.CLASSES, annotated)
    images = {image.image_id: image_detections(image, cfg.DATASETS.CLASSES) for image in found}
    return evaluate(
        annotated.records,
        artifacts.DetectionFile(images, categories),
        quick_settings(cfg),
        categories=annotated.categories,
    )


def quick_settings(cfg: Any) -> EvaluationSettings:
    """The rules of a config for a validation set: no intervals, and no parts of the test set."""
    return replace(config.evaluation_settings(cfg), bootstrap_replicates=0, subgroups=())


def mean_over_sets(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of a validation: of several sets the mean, where all of them have the figure."""
    common = [name for name in figures[0] if all(name in one for one in figures)]
    return {name: fmean(one[name] for one in figures) for name in common}


def save_detections(
    path: Path,
    found: Sequence[Detections],
    cfg: Any,
    annotated: AnnotatedSet,
    provenance: dict[str, Any],
) -> None:
    """Write detections as a COCO results list with its sidecar."""
    artifacts.write_detections(
        path,
        [image_detections(image, cfg.DATASETS.CLASSES) for image in found],
        categories=category_ids(cfg.DATASETS.CLASSES, annotated),
        provenance={**provenance, **masks_from(cfg), "annotations_sha256": annotated.sha256},
    )


def masks_from(cfg: Any) -> dict[str, float]:
    """For the provenance of detections: from which score on they have masks; nothing without."""
    return {artifacts.MASKS_FROM: cfg.EVAL.SCORE_THRESHOLD} if cfg.MODEL.MASK_ON else {}


def image_detections(found: Detections, classes: Sequence[str]) -> artifacts.ImageDetections:
    """Class names in place of labels, arrays in place of tensors."""
    return artifacts.ImageDetections(
        image_id=found.image_id,
        boxes=found.boxes.double().numpy(),
        scores=found.scores.double().numpy(),
        categories=tuple(classes[label - 1] for label in found.labels.tolist()),
        looks=_looks_of(found),
        squares=None if found.squares is None else found.squares.double().numpy(),
        masks=found.masks,
    )


def _looks_of(found: Detections) -> NDArray[np.float64] | None:
    if found.first_scores is None or found.second_scores is None:
        return None
    return np.stack([found.first_scores.double(), found.second_scores.double()], axis=1)


def category_ids(classes: Sequence[str], annotated: AnnotatedSet) -> dict[int, str]:
    """COCO id -> name of the model's classes: the annotation file's ids, new ones after them."""
    ids = {name: number for number, name in annotated.categories.items()}
    unused = max(annotated.categories, default=0) + 1
    named = {}
    for name in classes:
        named[ids.get(name, unused)] = name
        unused += name not in ids
    return named
