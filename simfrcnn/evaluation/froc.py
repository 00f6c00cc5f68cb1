"""How many findings, or lesions, are found at how many false positives per image?

Detections go down by score. Equal scores are one operating threshold: either all of them are in,
or none. The sensitivity at a rate is the highest at which the false positives per image are at
most that rate, without interpolation; beyond the last point the last value holds.

Shapes: T targets (findings or lesions), F false positives, P patients, K distinct scores of hits,
R rows of bootstrap weights, Q rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from simfrcnn.evaluation.bootstrap import Statistic, cumulated, per_patient, ratio
from simfrcnn.evaluation.matching import FALSE_POSITIVE, REPEAT, HitCriterion, match_by_all
from simfrcnn.evaluation.results import NAN, Curve
from simfrcnn.evaluation.truth import Truth, View
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

RATES = (0.1, 0.125, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which the sensitivity is read."""
POPULATIONS = ("all", "normal", "positive")
"""Over which images false positives are counted: all evaluated ones, or one kind alone."""
CURVE_RATES = np.geomspace(0.05, 10, 60)
"""Where the band round a curve is drawn, in false positives per image."""
FINDINGS, LESIONS = "", "lesion_"
"""What is found; how the names of figures begin."""
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

    ``false_scores``, ``false_patients``, ``is_false_in_normal`` and ``is_repeat`` (F,): the false
    positives, whether each lies in a normal image, and whether it is one only because repeats on a
    finding count as such. ``false_views`` (F,) are the places of their images among the views that
    were matched. ``image_patients`` maps a population (:data:`POPULATIONS`) to the patients of its
    images. ``n_lesionless`` findings have no lesion id: they are in ``findings`` but in no lesion.
    """

    criterion: HitCriterion
    findings: Targets
    lesions: Targets
    n_lesionless: int
    false_views: IntArray
    false_scores: FloatArray
    false_patients: IntArray
    is_false_in_normal: BoolArray
    is_repeat: BoolArray
    image_patients: Mapping[str, IntArray]
    n_patients: int

    def false_positives(self, population: str) -> tuple[FloatArray, IntArray]:
        """Scores and patients of the false positives in the images of a population."""
        if population == "all":
            return self.false_scores, self.false_patients
        is_in = self.is_false_in_normal == (population == "normal")
        return self.false_scores[is_in], self.false_patients[is_in]


def events_of(
    views: Sequence[View], criterion: HitCriterion, n_patients: int, settings: EvaluationSettings
) -> Events:
    """Match every image once; ``views`` are those of :func:`~simfrcnn.evaluation.truth.located`.

    A lesion is found at the highest score at which it is found in any view of its exam.
    """
    return events_by_all(views, (criterion,), n_patients, settings)[0]


def events_by_all(
    views: Sequence[View],
    criteria: Sequence[HitCriterion],
    n_patients: int,
    settings: EvaluationSettings,
) -> list[Events]:
    """:func:`events_of` by each of ``criteria``; boxes are laid over each other once."""
    by_view = [
        match_by_all(view.boxes, view.finding_boxes, criteria, view.crowd_boxes, view.ignored_boxes)
        for view in views
        if view.has_regions
    ]
    return [
        _events(views, [outcomes[place] for outcomes in by_view], criterion, n_patients, settings)
        for place, criterion in enumerate(criteria)
    ]


def _events(
    views: Sequence[View],
    outcomes: Sequence[IntArray],
    criterion: HitCriterion,
    n_patients: int,
    settings: EvaluationSettings,
) -> Events:
    """From the outcomes in the views that have regions."""
    matched = iter(outcomes)
    finding_scores: list[float] = []
    finding_patients: list[int] = []
    lesions: dict[tuple[str, str, str], tuple[float, int]] = {}
    false_scores: list[FloatArray] = []
    repeats: list[BoolArray] = []
    for view in views:
        if not view.has_regions:
            false_scores.append(view.scores)
            repeats.append(np.zeros(len(view.scores), dtype=np.bool_))
            continue
        outcome = next(matched)
        is_false = outcome == FALSE_POSITIVE
        if settings.count_repeats_as_false_positives:
            is_false |= outcome == REPEAT
        false_scores.append(view.scores[is_false])
        repeats.append(outcome[is_false] == REPEAT)
        scores = np.full(len(view.findings), NEVER)
        is_hit = outcome >= 0
        scores[outcome[is_hit]] = view.scores[is_hit]
        for finding, score in zip(view.findings, scores.tolist(), strict=True):
            finding_scores.append(score)
            finding_patients.append(view.patient)
            if finding.lesion_id is not None:
                key = (view.record.patient_id, view.record.exam_id, finding.lesion_id)
                lesions[key] = (max(score, lesions.get(key, (NEVER, 0))[0]), view.patient)
    n_false = [len(scores) for scores in false_scores]
    numbers = np.arange(len(views), dtype=np.intp)
    patients = np.array([view.patient for view in views], dtype=np.intp)
    is_normal = np.array([view.truth is Truth.NORMAL for view in views], dtype=np.bool_)
    return Events(
        criterion=criterion,
        findings=Targets(np.array(finding_scores), np.array(finding_patients, dtype=np.intp)),
        lesions=Targets(
            np.array([score for score, _ in lesions.values()], dtype=np.float64),
            np.array([patient for _, patient in lesions.values()], dtype=np.intp),
        ),
        n_lesionless=sum(f.lesion_id is None for view in views for f in view.findings),
        false_views=np.repeat(numbers, n_false),
        false_scores=np.concatenate([np.zeros(0), *false_scores]),
        false_patients=np.repeat(patients, n_false),
        is_false_in_normal=np.repeat(is_normal, n_false),
        is_repeat=np.concatenate([np.zeros(0, dtype=np.bool_), *repeats]),
        image_patients={
            "all": patients,
            "normal": patients[is_normal],
            "positive": patients[~is_normal],
        },
        n_patients=n_patients,
    )


def froc_statistic(
    events: Events, *, populations: Iterable[str] = POPULATIONS, with_bands: bool = False
) -> Statistic:
    """The sensitivity per finding and per lesion at every rate of :data:`RATES`.

    With ``all`` and ``positive`` among the populations, also the gap: by how much the sensitivity
    at a rate falls when the normal images join the positive ones in the test set.

    Args:
        events: What :func:`events_of` gave.
        populations: Some of :data:`POPULATIONS`.
        with_bands: Read the curves per finding at :data:`CURVE_RATES` as well.
    """
    populations = tuple(populations)
    counts = _Counts.of(events)
    rates = np.concatenate([RATES, CURVE_RATES]) if with_bands else np.array(RATES)
    name = events.criterion.name
    has_gap = {"all", "positive"} <= set(populations)
    read = [(population, kind) for population in populations for kind in (FINDINGS, LESIONS)]
    keys = [_keys(f"{name}/{population}", kind) for population, kind in read]
    n = {key: _n(events, *each) for each, group in zip(read, keys, strict=True) for key in group}
    why = {
        key: _why(events, *each) for each, group in zip(read, keys, strict=True) for key in group
    }
    if has_gap:
        keys.append(_keys(f"{name}/gap", FINDINGS))
        n.update(dict.fromkeys(keys[-1], _n(events, "all", FINDINGS)))
        why.update(dict.fromkeys(keys[-1], _why(events, "positive", FINDINGS)))

    def compute(weights: FloatArray) -> FloatArray:
        readings = counts.sensitivities(weights, populations, rates)
        figures = [readings[each][:, : len(RATES)] for each in read]
        if has_gap:
            figures.append(
                (readings["positive", FINDINGS] - readings["all", FINDINGS])[:, : len(RATES)]
            )
        if with_bands:
            figures += [
                readings[population, FINDINGS][:, len(RATES) :] for population in populations
            ]
        return np.concatenate(figures, axis=1)

    return Statistic(
        keys=tuple(key for group in keys for key in group),
        compute=compute,
        n=n,
        why_undefined=why,
        bands={f"froc/{name}/{population}": CURVE_RATES for population in populations}
        if with_bands
        else {},
    )


def froc_curve(events: Events, population: str) -> Curve:
    """Sensitivity per finding against false positives per image; empty if undefined.

    The points where sensitivity rises, and the one at the lowest score of all.
    """
    n_images, n_targets = len(events.image_patients[population]), n_findings(events)
    if not n_images or not n_targets:
        return Curve((), (), ())
    hit_scores = np.sort(events.findings.hit_scores)
    false_scores = np.sort(events.false_positives(population)[0])
    levels = np.unique(hit_scores[hit_scores != NEVER])[::-1]
    lowest = np.concatenate([levels[-1:], false_scores[:1]])
    if len(lowest) and (not len(levels) or lowest.min() < levels[-1]):
        levels = np.append(levels, lowest.min())
    n_hits = len(hit_scores) - np.searchsorted(hit_scores, levels, side="left")
    n_false = len(false_scores) - np.searchsorted(false_scores, levels, side="left")
    return Curve(
        tuple(levels.tolist()),
        tuple((n_false / n_images).tolist()),
        tuple((n_hits / n_targets).tolist()),
    )


def n_findings(events: Events) -> int:
    """How many findings there are to be found."""
    return len(events.findings.patients)


@dataclass(frozen=True)
class _Counts:
    """How many events each patient has between one hit score and the next higher one.

    ``false_positives`` are (K, P) by kind of image and ``hits`` (K, P) by kind of target, over the
    distinct hit scores, falling; sparse, so that a million events of thousands of patients fit.
    ``n_targets`` (P,) is by kind of target, ``n_images`` (P,) by population.
    """

    false_positives: Mapping[str, csr_array]
    hits: Mapping[str, csr_array]
    n_targets: Mapping[str, FloatArray]
    n_images: Mapping[str, FloatArray]

    @classmethod
    def of(cls, events: Events) -> _Counts:
        n_patients = events.n_patients
        targets = {FINDINGS: events.findings, LESIONS: events.lesions}
        # A lesion's score is that of one of its findings: these are the levels of both.
        levels = np.unique(events.findings.hit_scores)[::-1]
        levels = levels[levels != NEVER]
        return cls(
            false_positives={
                kind: _by_level(levels, *events.false_positives(kind), n_patients)
                for kind in ("normal", "positive")
            },
            hits={
                kind: _by_level(levels, each.hit_scores, each.patients, n_patients)
                for kind, each in targets.items()
            },
            n_targets={
                kind: per_patient(each.patients, n_patients) for kind, each in targets.items()
            },
            n_images={
                population: per_patient(patients, n_patients)
                for population, patients in events.image_patients.items()
            },
        )

    def sensitivities(
        self, weights: FloatArray, populations: Sequence[str], rates: FloatArray
    ) -> dict[tuple[str, str], FloatArray]:
        """(R, Q) by population and kind of target; NaN where undefined."""
        n_false = {kind: cumulated(n, weights) for kind, n in self.false_positives.items()}
        n_false["all"] = n_false["normal"] + n_false["positive"]
        found = {kind: self._found(kind, weights) for kind in self.hits}
        readings = {}
        for population in populations:
            n_images = weights @ self.n_images[population]
            within = _n_levels_within(n_false[population], n_images, rates)
            for kind, sensitivity in found.items():
                values = np.take_along_axis(sensitivity, within, axis=1)
                readings[population, kind] = np.where(n_images[:, None] > 0, values, NAN)
        return readings

    def _found(self, kind: str, weights: FloatArray) -> FloatArray:
        """(R, 1 + K) sensitivity from each level on; the first column is above all scores."""
        n_hits = cumulated(self.hits[kind], weights)
        n_hits = np.concatenate([np.zeros((len(weights), 1)), n_hits], axis=1)
        return ratio(n_hits, (weights @ self.n_targets[kind])[:, None])


def _by_level(
    levels: FloatArray, scores: FloatArray, patients: IntArray, n_patients: int
) -> csr_array:
    """(K, P): each score counts at the first of the falling ``levels`` that it reaches."""
    level = np.searchsorted(-levels, -scores, side="left")
    is_in = level < len(levels)
    ones = np.ones(int(is_in.sum()))
    shape = (len(levels), n_patients)
    return csr_array((ones, (level[is_in], patients[is_in])), shape=shape)


def _n_levels_within(
    n_false: FloatArray, n_images: FloatArray, rates: FloatArray
) -> NDArray[np.intp]:
    """(R, Q): on how many levels the false positives per image are at most each rate.

    They rise along the levels, and so does the sensitivity: the last level within a rate is the
    best one.
    """
    fppi = ratio(n_false, n_images[:, None])
    rows = [np.searchsorted(row, rates, side="right") for row in fppi]
    return np.array(rows, dtype=np.intp).reshape(len(n_false), len(rates))


def _keys(where: str, kind: str) -> list[str]:
    return [f"froc/{where}/{kind}sensitivity_at_{rate:g}" for rate in RATES]


def _n(events: Events, population: str, kind: str) -> dict[str, int]:
    images = {"images": len(events.image_patients[population])}
    if kind == LESIONS:
        return {"lesions": len(events.lesions.patients), **images}
    return {"findings": n_findings(events), **images}


def _why(events: Events, population: str, kind: str) -> str:
    """The reason where a figure of the test set itself is undefined."""
    if not n_findings(events):
        return f"there is no {'lesion' if kind == LESIONS else 'finding'} to be found"
    if kind == LESIONS and not len(events.lesions.patients):
        return "no finding has a lesion id"
    return f"there is no {'evaluated' if population == 'all' else population} image"
