"""From which score on is a case called positive? Chosen on a validation set, applied to others.

A threshold that is chosen on the set on which it is judged makes sensitivity and specificity look
better than they are. So it is chosen here, on validation, written into a file with all that its
meaning hangs on, and refused where that does not hold.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError, ConfigError
from simfrcnn.evaluation.found_alike import (
    changes_no_score,
    found_otherwise,
    keys_stated_by,
)
from simfrcnn.evaluation.recalibration import Recalibration, fit_recalibration, lines_from
from simfrcnn.evaluation.results import OperatingPoint, Report
from simfrcnn.evaluation.thresholds import RULES, choose_point
from simfrcnn.files import write_json
from simfrcnn.settings import EvaluationSettings

OPERATING_POINTS_SCHEMA_VERSION = 1
FILE_NAME = "operating_points.json"
_KIND = "simfrcnn-operating-points"
_RECALIBRATION = "recalibration"
_SETTINGS = (
    "target_classes",
    "pooling",
    "case_by",
    "unknown_images",
    "operating_sensitivity",
    "operating_specificity",
)
"""The rules that make a unit's score and truth, and those that were asked of the points."""


@dataclass(frozen=True)
class ValidationSet:
    """A data set on which points were chosen, and the hash of its annotation file if known."""

    name: str
    annotations_sha256: str | None


@dataclass(frozen=True)
class ChosenPoints:
    """The operating points of a model, and all that their meaning hangs on.

    ``missing`` says by key (``breast/youden``, ``breast/recalibration``) why there is none.
    ``recalibrations`` turn the scores of a level into probabilities. ``settings`` are those of
    :class:`EvaluationSettings` that matter, in JSON types. ``checkpoint_sha256`` is that of the
    model whose scores the thresholds cut, None where the detections did not say it.
    ``detected_with`` are the keys of detection under which that model gave them, with their values;
    None where the detections, of an earlier version or combined, do not say it.
    """

    points: tuple[OperatingPoint, ...]
    missing: Mapping[str, str]
    settings: Mapping[str, Any]
    chosen_on: tuple[ValidationSet, ...]
    checkpoint_sha256: str | None
    recalibrations: Mapping[str, Recalibration] = field(default_factory=dict)
    detected_with: Mapping[str, Any] | None = None


def choose_operating_points(reports: Mapping[str, Report]) -> ChosenPoints:
    """Choose a threshold by each rule at each level, from the scores of validation sets.

    Several sets are one here: their units are put together, so that there is one threshold, and a
    large set counts for more than a small one.

    Args:
        reports: What :func:`simfrcnn.evaluation.evaluate` said of each validation set, by name;
            intervals are not needed.

    Raises:
        ConfigError: There is no report, or they were made under different settings.
        ArtifactError: The detections are of different checkpoints, or found under different keys.
    """
    if not reports:
        raise ConfigError("operating points are chosen on a validation set; none was given")
    settings, *others = (_settings_that_matter(report.settings) for report in reports.values())
    if any(other != settings for other in others):
        raise ConfigError(
            f"the evaluations of {_and(reports)} follow different rules; evaluate them alike"
        )
    checkpoints = {_checkpoint_of(report) for report in reports.values()}
    if len(checkpoints) > 1:
        raise ArtifactError(
            f"the detections on {_and(reports)} are of different checkpoints; an operating point "
            "belongs to one"
        )
    first = next(iter(reports.values()))
    points: list[OperatingPoint] = []
    missing: dict[str, str] = {}
    lines: dict[str, Recalibration] = {}
    for level in first.units:
        units = [unit for report in reports.values() for unit in report.units[level]]
        for rule in RULES:
            choice = choose_point(units, level, rule, first.settings, chosen_on=_and(reports))
            if isinstance(choice, OperatingPoint):
                points.append(choice)
            else:
                missing[f"{level}/{rule}"] = choice
        line = fit_recalibration(units, level, chosen_on=_and(reports))
        if isinstance(line, Recalibration):
            lines[level] = line
        else:
            missing[f"{level}/{_RECALIBRATION}"] = line
    return ChosenPoints(
        points=tuple(points),
        missing=missing,
        settings=settings,
        chosen_on=tuple(
            ValidationSet(name, report.provenance.get("annotations_sha256"))
            for name, report in reports.items()
        ),
        checkpoint_sha256=checkpoints.pop(),
        recalibrations=lines,
        detected_with=_detected_alike(reports),
    )


def _detected_alike(reports: Mapping[str, Report]) -> dict[str, Any] | None:
    """All keys of detection that any set states; an error where two state different values."""
    stated: dict[str, Any] | None = None
    for report in reports.values():
        own = keys_stated_by(report.provenance.get("prediction", {}))
        if keys := found_otherwise(stated, own):
            raise ArtifactError(
                f"the detections on {_and(reports)} were found with different values of "
                f"{', '.join(keys)}: detect on all of them alike"
            )
        if own is not None:
            stated = {**(stated or {}), **own}
    return stated


# Applying them


def all_points(
    levels: Sequence[str], settings: EvaluationSettings, given: Sequence[OperatingPoint]
) -> tuple[OperatingPoint, ...]:
    """At each level the fixed ``score_threshold``, then the given points in their order.

    Raises:
        ConfigError: A point of an unknown level, or two by one rule.
    """
    of_levels: dict[str, list[OperatingPoint]] = {
        level: [OperatingPoint(level, "fixed", settings.score_threshold)] for level in levels
    }
    for point in given:
        if point.level not in of_levels:
            raise ConfigError(
                f"an operating point is of level {point.level!r}; legal are {', '.join(levels)}"
            )
        if point.key in {other.key for other in of_levels[point.level]}:
            raise ConfigError(f"there are two operating points {point.key}; one is legal")
        of_levels[point.level].append(point)
    return tuple(itertools.chain.from_iterable(of_levels.values()))


@dataclass(frozen=True)
class Applied:
    """What :func:`simfrcnn.evaluation.evaluate` is given of chosen points."""

    points: tuple[OperatingPoint, ...] = ()
    recalibrations: Mapping[str, Recalibration] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def apply_to(
    chosen: ChosenPoints,
    detections: DetectionFile,
    settings: EvaluationSettings,
    annotations_sha256: str,
) -> Applied:
    """Check that points fit what is to be judged (:func:`points_for`), and say where they are from.

    Args:
        chosen: From :func:`choose_operating_points` or :func:`read_operating_points`.
        detections: What is to be judged.
        settings: The rules of that evaluation.
        annotations_sha256: Hash of the annotation file that it uses.

    Raises:
        ConfigError: The points were chosen under other settings.
        ArtifactError: They were chosen for another model, or for other keys of detection.
    """
    sha256 = detections.provenance.get("checkpoint_sha256")
    detected_with = keys_stated_by(detections.provenance)
    return Applied(
        points=points_for(
            chosen,
            settings,
            checkpoint_sha256=sha256,
            detected_with=detected_with,
            n_classes=len(detections.categories),
        ),
        recalibrations=chosen.recalibrations,
        notes=tuple(notes_on(chosen, annotations_sha256, sha256, detected_with=detected_with)),
        provenance={
            "operating_points": {
                "chosen_on": [dataclasses.asdict(one) for one in chosen.chosen_on],
                "checkpoint_sha256": chosen.checkpoint_sha256,
            }
        },
    )


def points_for(
    chosen: ChosenPoints,
    settings: EvaluationSettings,
    *,
    checkpoint_sha256: str | None,
    detected_with: Mapping[str, Any] | None = None,
    n_classes: int | None = None,
) -> tuple[OperatingPoint, ...]:
    """The points, if they mean the same under these settings and for this model.

    Args:
        chosen: From :func:`choose_operating_points` or :func:`read_operating_points`.
        settings: The rules of the evaluation to come.
        checkpoint_sha256: Hash of the model that made the detections to be judged; None if unknown.
        detected_with: Its keys of detection, with their values; None if unknown.
        n_classes: How many classes it tells apart; None if unknown.

    Raises:
        ConfigError: The points were chosen under other settings.
        ArtifactError: They were chosen for another model, or for other keys of detection.
    """
    wanted = _settings_that_matter(settings)
    for name, value in wanted.items():
        if chosen.settings[name] != value:
            raise ConfigError(
                f"the operating points were chosen with {name} {chosen.settings[name]!r}, but "
                f"{value!r} is in use: evaluate with the settings they were chosen under, or "
                "choose them again"
            )
    if checkpoint_sha256 and chosen.checkpoint_sha256 not in (None, checkpoint_sha256):
        raise ArtifactError(
            "the operating points were chosen for another checkpoint than the one that made the "
            f"detections (sha256 {str(chosen.checkpoint_sha256)[:12]}... and "
            f"{checkpoint_sha256[:12]}...): a score means something else there; choose them on "
            "validation detections of this checkpoint"
        )
    for key, (then, now) in found_otherwise(chosen.detected_with, detected_with).items():
        if changes_no_score(key, detected_with or {}, n_classes or 0):
            continue
        raise ArtifactError(
            f"the operating points were chosen on detections made with {key} {then!r}, and those "
            f"judged here were made with {now!r}: a score may mean something else there; choose "
            "them on validation detections made alike"
        )
    return chosen.points


def notes_on(
    chosen: ChosenPoints,
    annotations_sha256: str | None,
    checkpoint_sha256: str | None,
    *,
    detected_with: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """What a reader must know about points that are applied to a test set.

    Args:
        chosen: The points, with the sets that they were chosen on.
        annotations_sha256: Hash of the test set's annotation file.
        checkpoint_sha256: Hash of the model that made the detections to be judged; None if unknown.
        detected_with: Its keys of detection, with their values; None if unknown.
    """
    for validation in chosen.chosen_on:
        if annotations_sha256 and validation.annotations_sha256 == annotations_sha256:
            yield (
                f"OPTIMISTIC: the operating points were chosen on {validation.name}, the very set "
                "that is judged here; their sensitivity and specificity, and how good "
                "probabilities and net benefit are, must not be quoted as a test result."
            )
    if not (chosen.checkpoint_sha256 and checkpoint_sha256):
        yield (
            "The detections on which the operating points were chosen, or those judged here, do "
            "not name their checkpoint: that both are of one model is taken on trust."
        )
    elif not (chosen.detected_with and detected_with):
        yield (
            "The detections on which the operating points were chosen, or those judged here, do "
            "not state the keys that they were found under (input, flips, non-maximum suppression, "
            "second look): that both were found alike is taken on trust."
        )
    for reason in dict.fromkeys(chosen.missing.values()):
        keys = [
            key
            for key, why in chosen.missing.items()
            if why == reason and not key.endswith(f"/{_RECALIBRATION}")
        ]
        if keys:
            yield f"There is no operating point {', '.join(keys)}: {reason}."
    no_line = chosen.missing.get(f"case/{_RECALIBRATION}")
    if no_line is not None:
        yield (
            f"Scores by case were not turned into probabilities, and there is no net benefit: "
            f"{no_line}, on {_and({one.name: one for one in chosen.chosen_on})}."
        )


def lines_on(chosen: ChosenPoints) -> list[str]:
    """The points by case, and why there is none, one line each, for a terminal."""
    lines = [
        f"{point.key}: positive from score {point.score_threshold:.4f} on (sensitivity "
        f"{point.sensitivity:.3f}, specificity {point.specificity:.3f} on {point.chosen_on})"
        for point in chosen.points
        if point.level == "case"
    ]
    reasons = (f"{k}: none; {why}" for k, why in chosen.missing.items() if k.startswith("case/"))
    return [*lines, *reasons]


# The file


def write_operating_points(path: Path, chosen: ChosenPoints) -> None:
    """Write points as JSON, atomically; :func:`read_operating_points` gives them back."""
    write_json(path, document_of(chosen))


def document_of(chosen: ChosenPoints) -> dict[str, Any]:
    """The points in JSON types, as their file and a checkpoint hold them."""
    version = {"kind": _KIND, "schema_version": OPERATING_POINTS_SCHEMA_VERSION}
    return dict(json.loads(json.dumps({**version, **dataclasses.asdict(chosen)})))


def read_operating_points(path: Path) -> ChosenPoints:
    """Read points that were chosen before.

    Raises:
        ArtifactError: The file is missing, another kind of file, of another schema version, or
            damaged.
    """
    return points_from(_read_json(Path(path)), source=path)


def points_from(content: Any, *, source: Path) -> ChosenPoints:
    """The points of a document that was read from ``source``, a file of points or a checkpoint.

    Raises:
        ArtifactError: Another kind of document, of another schema version, or damaged.
    """
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise ArtifactError(f"{source} holds no operating points (its 'kind' must be {_KIND!r})")
    if content.get("schema_version") != OPERATING_POINTS_SCHEMA_VERSION:
        raise ArtifactError(
            f"{source} has schema version {content.get('schema_version')!r}; this program reads "
            f"{OPERATING_POINTS_SCHEMA_VERSION}: choose the points again with this version"
        )
    try:
        chosen = ChosenPoints(
            points=tuple(OperatingPoint(**point) for point in content["points"]),
            missing=dict(content["missing"]),
            settings={name: content["settings"][name] for name in _SETTINGS},
            chosen_on=tuple(ValidationSet(**one) for one in content["chosen_on"]),
            checkpoint_sha256=content["checkpoint_sha256"],
            recalibrations=lines_from(content.get("recalibrations", {})),
            detected_with=keys_stated_by(content),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{source} is damaged ({type(error).__name__}: {error}): choose the points again"
        ) from error
    for point in chosen.points:
        _check_point(point, source)
    return chosen


def _read_json(path: Path) -> Any:
    what = f"a file of operating points ({FILE_NAME} of a run folder)"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}); {what} was expected there"
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not {what}: it is not valid JSON ({error})") from error


def _check_point(point: OperatingPoint, path: Path) -> None:
    if point.rule not in RULES:
        raise ArtifactError(f"{path}: the rule {point.rule!r} is none of {', '.join(RULES)}")
    threshold = point.score_threshold
    if not isinstance(threshold, float | int) or not 0 < threshold <= 1:
        raise ArtifactError(
            f"{path}: the score threshold of {point.key} is {threshold!r}; a number in (0, 1] is "
            "legal"
        )


def _settings_that_matter(settings: EvaluationSettings) -> dict[str, Any]:
    """In JSON types, the classes in an order of their own."""
    values = {name: getattr(settings, name) for name in _SETTINGS}
    return {**values, "target_classes": sorted(settings.target_classes)}


def _checkpoint_of(report: Report) -> str | None:
    sha256 = report.provenance.get("prediction", {}).get("checkpoint_sha256")
    return None if sha256 is None else str(sha256)


def _and(names: Mapping[str, Any]) -> str:
    return " and ".join(names)
