"""Which rung is the detector of another rung's trainings, so that it need not be trained?

The loss of a second look reaches its own network alone, and leaves every draw and loss of the
detector as it is, to the last bit. So a training with a second look holds the training without it
of the same seed: the same boxes, ranked by the detector's own score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simfrcnn.artifacts import DetectionFile
from simfrcnn.config import LAST_COUNTS
from simfrcnn.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from simfrcnn.ladder.plan import Rung

_KEY = "DETECTOR_OF"
_BESIDE = {"BELOW", _KEY}


def read_detector_of(tree: Mapping[str, Any], where: str) -> str | None:
    """The rung that ``DETECTOR_OF`` of a rung names.

    Raises:
        ConfigError: The rung has further keys: its settings are those of the other one.
    """
    if tree.get(_KEY) is None:
        return None
    if further := sorted(set(tree) - _BESIDE):
        raise ConfigError(
            f"{where}: {_KEY} takes the settings of that rung; leave out {', '.join(further)}"
        )
    return str(tree[_KEY])


def source_of(rung: Rung, rungs: Sequence[Rung], path: Path) -> Rung:
    """The rung whose trainings hold this one: itself, unless it has ``DETECTOR_OF``.

    Raises:
        ConfigError: No such rung is trained by itself on the labels as annotated.
    """
    if rung.detector_of is None:
        return rung
    legal = {
        each.name: each
        for each in rungs
        if each.kind == "train" and each.detector_of is None and not each.permute_labels
    }
    if rung.detector_of not in legal:
        raise ConfigError(
            f"{path}: rung {rung.name}: {_KEY} is {rung.detector_of!r}; legal is a rung that is "
            f"trained: {', '.join(legal)}"
        )
    return legal[rung.detector_of]


def require_a_second_look(cfg: Any, where: str) -> None:
    """Check that a training's detector can be told from its second look.

    Raises:
        ConfigError: There is no second look, or it has a say in the training or in the choice of
            the checkpoint, or in what is one box.
    """
    if not cfg.MODEL.SECOND_LOOK.ENABLED:
        raise ConfigError(f"{where}: {_KEY} names a rung without MODEL.SECOND_LOOK.ENABLED")
    labels = cfg.MODEL.SIMFRCNN.LABELS
    if cfg.DATASETS.LABELS_PER_ITEM and labels.CHOOSER == "second_look":
        raise ConfigError(f"{where}: {_KEY} names a rung whose second look chooses what it learns")
    if cfg.SOLVER.AMP.ENABLED:
        raise ConfigError(
            f"{where}: {_KEY} names a rung with SOLVER.AMP.ENABLED, whose one loss scale (float16 "
            "on a GPU) the second look moves; set it to False. SOLVER.AMP.AUTO_ON_CPU may be True: "
            "bfloat16 needs no scale"
        )
    if cfg.TEST.FLIPS != "none":
        raise ConfigError(
            f"{where}: {_KEY} names a rung with TEST.FLIPS {cfg.TEST.FLIPS}, whose boxes are "
            "joined by both scores; set TEST.FLIPS none"
        )
    if cfg.TEST.EVAL_PERIOD > 0 and cfg.TEST.BEST_BY != LAST_COUNTS:
        raise ConfigError(
            f"{where}: {_KEY} names a rung whose checkpoint is chosen by both scores; with "
            "TEST.EVAL_PERIOD 0 or TEST.BEST_BY last the last one is tested, which is that of the "
            "detector too"
        )


def by_first_score(detections: DetectionFile) -> DetectionFile:
    """The same boxes with the detector's own scores.

    Raises:
        ArtifactError: They are not of a model with a second look.
    """
    images = {}
    for image_id, found in detections.images.items():
        if found.looks is None and len(found.scores):
            raise ArtifactError(f"{detections.name}, image {image_id}: first_score is missing")
        scores = found.scores if found.looks is None else found.looks[:, 0]
        images[image_id] = dataclasses.replace(found, scores=scores, looks=None, squares=None)
    return dataclasses.replace(detections, images=images)
