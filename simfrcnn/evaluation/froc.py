"""How many findings, or lesions, are found at how many false positives per image?

Detections go down by score. Equal scores are one operating threshold: either all of them are in,
or none. The sensitivity at a rate is the highest at which the false positives per image are at
most that rate, without interpolation; beyond the last point the last value holds.

Shapes: T targets (findings or lesions), F false positives, P patients, K distinct scores of hits,
R rows of bootstrap weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Statistic, per_patient, ratio
from simfrcnn.evaluation.matching import FALSE_POSITIVE, REPEAT, HitCriterion, match_image
from simfrcnn.evaluation.results import NAN, Curve
from simfrcnn.evaluation.truth import Truth, View
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

RATES = (0.1, 0.125, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which the sensitivity is read."""
POPULATIONS = ("all", "normal")
"""Over which images false positives are counted."""
NEVER = -np.inf
"""The hit score of a target that no detection hits."""


@dataclass(frozen=True)
class Targets:
    """What is to be found: ``hit_scores`` (T,), ``NEVER`` where missed; ``patients`` (T,)."""

    hit_scores: FloatArray
    patients: IntArray


@dataclass(frozen=True)
class Events:
    """All that happens in the evaluated images under one hit criterion.

    ``false_positives`` maps a population (:data:`POPULATIONS`) to scores and patients, (F,) each;
    ``image_patients`` to the patients of its images. ``n_lesionless`` findings have no lesion id:
    they are in ``findings`` but in no lesion.
    """

    criterion: HitCriterion
    findings: Targets
    lesions: Targets
    n_lesionless: int
    false_positives: Mapping[str, tuple[FloatArray, IntArray]]
    image_patients: Mapping[str, IntArray]
    n_patients: int


def events_of(
    views: Sequence[View], criterion: HitCriterion, n_patients: int, settings: EvaluationSettings
) -> Events:
    """Match every evaluated image (``views`` holds no unknown ones) once.

    A lesion is found at the highest score at which it is found in any view of its exam.
    """
    false_outcomes = [FALSE_POSITIVE]
    if settings.count_repeats_as_false_positives:
        false_outcomes.append(REPEAT)
    finding_scores: list[float] = []
    finding_patients: list[int] = []
    lesions: dict[tuple[str, str, str], tuple[float, int]] = {}
    false_scores: list[FloatArray] = []
    false_patients: list[IntArray] = []
    is_normal: list[NDArray[np.bool_]] = []
    for view in views:
        outcome = match_image(view.boxes, view.finding_boxes, criterion, view.crowd_boxes)
        for index, finding in enumerate(view.findings):
            hits = view.scores[outcome == index]
            score = float(hits[0]) if len(hits) else NEVER
            finding_scores.append(score)
            finding_patients.append(view.patient)
            if finding.lesion_id is not None:
                key = (view.record.patient_id, view.record.exam_id, finding.lesion_id)
                lesions[key] = (max(score, lesions.get(key, (NEVER, 0))[0]), view.patient)
        is_false = np.isin(outcome, false_outcomes)
        n_false = int(is_false.sum())
        false_scores.append(view.scores[is_false])
        false_patients.append(np.full(n_false, view.patient, dtype=np.intp))
        is_normal.append(np.full(n_false, view.truth is Truth.NORMAL))
    scores = np.concatenate([np.zeros(0), *false_scores])
    patients = np.concatenate([np.zeros(0, np.intp), *false_patients])
    in_normal = np.concatenate([np.zeros(0, np.bool_), *is_normal])
    n_lesionless = sum(f.lesion_id is None for view in views for f in view.findings)
    return Events(
        criterion=criterion,
        findings=Targets(np.array(finding_scores), np.array(finding_patients, dtype=np.intp)),
        lesions=Targets(
            np.array([score for score, _ in lesions.values()], dtype=np.float64),
            np.array([patient for _, patient in lesions.values()], dtype=np.intp),
        ),
        n_lesionless=n_lesionless,
        false_positives={
            "all": (scores, patients),
            "normal": (scores[in_normal], patients[in_normal]),
        },
        image_patients={
            "all": np.array([view.patient for view in views], dtype=np.intp),
            "normal": np.array(
                [view.patient for view in views if view.truth is Truth.NORMAL], dtype=np.intp
            ),
        },
        n_patients=n_patients,
    )


def froc_statistic(events: Events, population: str, *, of_lesions: bool) -> Statistic:
    """The sensitivity at every rate of :data:`RATES`."""
    targets = events.lesions if of_lesions else events.findings
    hits, false_positives, _ = _cumulated(events, targets, population)
    n_targets = per_patient(targets.patients, events.n_patients)
    n_images = per_patient(events.image_patients[population], events.n_patients)

    def compute(weights: FloatArray) -> FloatArray:
        sensitivity = ratio(weights @ hits, (weights @ n_targets)[:, None])
        fppi = ratio(weights @ false_positives, (weights @ n_images)[:, None])
        is_undefined = ((weights @ n_targets) == 0) | ((weights @ n_images) == 0)
        rows = np.arange(len(weights))
        # Both rise along K, so the best point within a rate is the last one within it; column 0
        # is the point above all scores, where nothing is found.
        sensitivity = np.concatenate([np.zeros((len(weights), 1)), sensitivity], axis=1)
        readings = [sensitivity[rows, (fppi <= rate).sum(axis=1)] for rate in RATES]
        return np.where(is_undefined[:, None], NAN, np.stack(readings, axis=1))

    what = "lesion" if of_lesions else "finding"
    prefix = "lesion_" if of_lesions else ""
    keys = tuple(
        f"froc/{events.criterion.name}/{population}/{prefix}sensitivity_at_{rate:g}"
        for rate in RATES
    )
    n = {f"{what}s": len(targets.patients), "images": len(events.image_patients[population])}
    which = "evaluated" if population == "all" else "normal"
    reason = f"there is no {which} image"
    if not len(targets.patients):
        has_findings = of_lesions and n_findings(events) > 0
        reason = "no finding has a lesion id" if has_findings else f"there is no {what} to be found"
    return Statistic(
        keys=keys,
        compute=compute,
        n=dict.fromkeys(keys, n),
        why_undefined=dict.fromkeys(keys, reason),
    )


def froc_curve(events: Events, population: str) -> Curve:
    """Sensitivity per finding against false positives per image; empty if undefined.

    The points where sensitivity rises, and the one at the lowest score of all.
    """
    n_images, n_targets = len(events.image_patients[population]), n_findings(events)
    if not n_images or not n_targets:
        return Curve((), (), ())
    hits, false_positives, levels = _cumulated(events, events.findings, population)
    n_hits, n_false = hits.sum(axis=0), false_positives.sum(axis=0)
    false_scores, _ = events.false_positives[population]
    lowest = min([*levels[-1:], *false_scores], default=None)
    if lowest is not None and (not len(levels) or lowest < levels[-1]):
        levels = np.append(levels, lowest)
        n_hits = np.append(n_hits, n_hits[-1] if len(n_hits) else 0)
        n_false = np.append(n_false, len(false_scores))
    return Curve(
        tuple(levels.tolist()),
        tuple((n_false / n_images).tolist()),
        tuple((n_hits / n_targets).tolist()),
    )


def n_findings(events: Events) -> int:
    """How many findings there are to be found."""
    return len(events.findings.patients)


def _cumulated(
    events: Events, targets: Targets, population: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Hits (P, K) and false positives (P, K) of each patient at or above each hit score (K,)."""
    is_hit = targets.hit_scores != NEVER
    hit_scores, hit_patients = targets.hit_scores[is_hit], targets.patients[is_hit]
    levels = np.unique(hit_scores)[::-1]
    scores, patients = events.false_positives[population]
    return (
        _at_or_above(levels, hit_scores, hit_patients, events.n_patients),
        _at_or_above(levels, scores, patients, events.n_patients),
        levels,
    )


def _at_or_above(
    levels: FloatArray, scores: FloatArray, patients: IntArray, n_patients: int
) -> FloatArray:
    """(P, K): how many of each patient's ``scores`` are at least each of the falling ``levels``."""
    counts = np.zeros((n_patients, len(levels) + 1))
    first_level = np.searchsorted(-levels, -scores, side="left")
    np.add.at(counts, (patients, first_level), 1)
    return np.cumsum(counts, axis=1)[:, : len(levels)]
