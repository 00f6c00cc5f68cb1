"""Is an exam positive? The model's operating point, applied to the scores of its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.case import pool
from simfrcnn.evaluation.operating import ChosenPoints, points_from
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.exam import Call, ImageResult
from simfrcnn.settings import EvaluationSettings, Pooling

DEFAULT = "case/youden"
_OF_AN_EXAM = ("case", "exam", "patient")
"""Levels at which one exam is judged as a whole."""


@dataclass(frozen=True)
class Decision:
    """An operating point and where it comes from; or, without ``point``, why there is none."""

    point: OperatingPoint | None
    pooling: Pooling = "max"
    origin: str = ""
    why_none: str | None = None

    def call(self, images: Sequence[ImageResult]) -> Call | None:
        """Whether an exam of these images is positive; None without a point or an image."""
        if self.point is None or not images:
            return None
        point = self.point
        score = self._score(images, point.level)
        return Call(
            is_positive=score >= point.score_threshold,
            score=score,
            score_threshold=point.score_threshold,
            level=point.level,
            rule=point.rule,
            origin=self.origin,
            chosen_on=point.chosen_on,
            sensitivity=point.sensitivity,
            specificity=point.specificity,
        )

    def to_dict(self) -> dict[str, Any]:
        """What decides a call, in JSON types."""
        if self.point is None:
            return {"operating_point": None, "why": self.why_none}
        return {
            "operating_point": f"{self.point.level}/{self.point.rule}",
            "score_threshold": self.point.score_threshold,
            "pooling": self.pooling,
            "origin": self.origin,
        }

    def _score(self, images: Sequence[ImageResult], level: str) -> float:
        """The score of the exam, or the highest of its breasts or images."""
        if level in _OF_AN_EXAM:
            return pool([image.score for image in images], self.pooling)
        units: dict[object, list[float]] = defaultdict(list)
        for number, image in enumerate(images):
            units[number if level == "image" else image.laterality].append(image.score)
        return max(pool(scores, self.pooling) for scores in units.values())


def decision_of(
    asked: str | float | None,
    document: Mapping[str, Any] | None,
    settings: EvaluationSettings,
    *,
    checkpoint_sha256: str,
    where: str,
    changed_keys: Sequence[str] = (),
) -> Decision:
    """The decision of a model.

    Args:
        asked: An operating point such as ``case/youden``, a score threshold of your own for the
            exam, or None for ``case/youden`` if the model has it.
        document: The model's operating points, None if it has none.
        settings: Those in use: points that were chosen under other rules mean something else.
        checkpoint_sha256: Of the model in use.
        where: Where the document is from.
        changed_keys: Of detection: those that have another value than when the points were chosen.

    Raises:
        ConfigError: What was asked for is not there, or does not fit.
        ArtifactError: The document is damaged.
    """
    threshold = _as_number(asked)
    if threshold is not None:
        if not 0 < threshold <= 1:
            raise ConfigError(
                f"the operating point is {threshold:g}; a score threshold in (0, 1] is legal"
            )
        point = OperatingPoint("case", "fixed", threshold)
        return Decision(point, settings.pooling, "given by the user")
    chosen = None if document is None else points_from(document, source=Path(where))
    found = _chosen(str(asked or DEFAULT), chosen, settings, checkpoint_sha256, where, changed_keys)
    if isinstance(found, Decision):
        return found
    if asked is not None:
        raise ConfigError(f"operating point {asked}: {found}")
    return Decision(None, why_none=found)


def _chosen(
    key: str,
    chosen: ChosenPoints | None,
    settings: EvaluationSettings,
    checkpoint_sha256: str,
    where: str,
    changed_keys: Sequence[str],
) -> Decision | str:
    """The decision at one point, or why it cannot be taken."""
    if chosen is None:
        return (
            "the model has no operating point: it was trained without a validation set "
            "(DATASETS.VAL), its operating_points.json is not beside it, or `export --set` changed "
            "its keys of detection and left the points out; a score threshold can be given "
            "(--operating-point 0.5; in Python, operating_point=0.5)"
        )
    if chosen.checkpoint_sha256 not in (None, checkpoint_sha256):
        return f"{where} were chosen for another checkpoint, whose scores differ"
    if chosen.settings["target_classes"] != sorted(settings.target_classes):
        return (
            f"{where} were chosen for the classes {chosen.settings['target_classes']}, "
            f"and {sorted(settings.target_classes)} are in use"
        )
    if changed_keys:
        return (
            f"{where} were chosen with other values of {', '.join(changed_keys)}, under "
            "which a score may mean something else; leave the keys as they were, choose points on "
            "validation detections made so, or give a score threshold (--operating-point 0.5; in "
            "Python, operating_point=0.5)"
        )
    points = {point.key: point for point in chosen.points}
    if key not in points:
        reason = chosen.missing.get(key)
        return (
            f"there is no {key}{f' ({reason})' if reason else ''}; give "
            f"{''.join(f'{name}, ' for name in points)}or a score threshold in (0, 1], such as 0.3"
        )
    point = points[key]
    return Decision(point, chosen.settings["pooling"], f"chosen on {point.chosen_on}; {where}")


def _as_number(asked: str | float | None) -> float | None:
    try:
        return None if asked is None else float(asked)
    except ValueError:
        return None
