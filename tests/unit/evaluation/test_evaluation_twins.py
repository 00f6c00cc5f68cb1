"""Every figure against a slow definition, or another library, on random test sets."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.bootstrap import clopper_pearson, resampling_weights
from simfrcnn.evaluation.case import LEVELS, units_of
from simfrcnn.evaluation.evaluator import _statistics, patient_strata
from simfrcnn.evaluation.froc import RATES, events_of
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.truth import Truth, views_of
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, random_set

NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
SEEDS = range(6)
SCORE_LEVELS = (None, 10, 2)


def iou(a, b) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def meets(detection, box, criterion: str) -> bool:
    if criterion == "centre":
        x, y = (detection[0] + detection[2]) / 2, (detection[1] + detection[3]) / 2
        return box[0] <= x < box[2] and box[1] <= y < box[3]
    return iou(detection, box) >= float(criterion.removeprefix("iou_"))


def slow_events(records, detections, criterion: str, *, with_repeats: bool):
    """(score, image, "false") and (score, image, finding) by the words of the definition."""
    events = []
    for record in records:
        if not record.is_positive(("malignant",)) and not record.is_known_normal(("malignant",)):
            continue
        entry = detections.images[record.image_id]
        rows = [
            (float(score), tuple(map(float, box)))
            for box, score, name in zip(entry.boxes, entry.scores, entry.categories, strict=True)
            if name == "malignant"
        ]
        is_open = {finding.finding_id: finding for finding in record.findings}
        for score, box in sorted(rows, key=lambda row: (-row[0], row[1])):
            met = [f for f in record.findings if meets(box, f.box, criterion)]
            best = max(
                (f for f in met if f.finding_id in is_open),
                key=lambda f: iou(box, f.box),
                default=None,
            )
            if best is not None:
                del is_open[best.finding_id]
                events.append((score, record, best))
            elif not met or with_repeats:
                events.append((score, record, None))
    return events


def slow_sensitivity(
    records, events, rate: float, *, normals_alone: bool, per_lesion: bool
) -> float:
    """The highest sensitivity over all thresholds whose false positives are within the rate."""
    classes = ("malignant",)
    evaluated = [r for r in records if r.is_positive(classes) or r.is_known_normal(classes)]
    images = [r for r in evaluated if not (normals_alone and r.is_positive(classes))]

    def target(record, finding):
        if not per_lesion:
            return (record.image_id, finding.finding_id)
        return finding.lesion_id and (record.exam_id, finding.lesion_id)

    targets = {target(r, f) for r in evaluated for f in r.findings} - {None}
    if not targets or not images:
        return math.nan
    best = 0.0
    for threshold in {score for score, _, _ in events}:
        above = [event for event in events if event[0] >= threshold]
        hits = {target(record, finding) for _, record, finding in above if finding} - {None}
        false = sum(finding is None and record in images for _, record, finding in above)
        if false / len(images) <= rate:
            best = max(best, len(hits) / len(targets))
    return best


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n_levels", SCORE_LEVELS)
@pytest.mark.parametrize("with_repeats", [False, True])
def test_froc_equals_its_definition(seed: int, n_levels: int | None, with_repeats: bool) -> None:
    records, detections = random_set(seed, n_levels=n_levels)
    settings = EvaluationSettings(
        bootstrap_replicates=0, count_repeats_as_false_positives=with_repeats
    )
    figures = evaluate(records, detections, settings).figures
    for criterion in ("iou_0.1", "iou_0.5", "centre"):
        events = slow_events(records, detections, criterion, with_repeats=with_repeats)
        for population in ("all", "normal"):
            for what in ("", "lesion_"):
                for rate in RATES:
                    expected = slow_sensitivity(
                        records,
                        events,
                        rate,
                        normals_alone=population == "normal",
                        per_lesion=bool(what),
                    )
                    key = f"froc/{criterion}/{population}/{what}sensitivity_at_{rate:g}"
                    assert figures[key].value == pytest.approx(expected, abs=1e-12), key


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n_levels", SCORE_LEVELS)
@pytest.mark.parametrize("level", LEVELS)
def test_auc_and_roc_equal_scikit_learn(seed: int, n_levels: int | None, level: str) -> None:
    records, detections = random_set(seed, n_levels=n_levels)
    report = evaluate(records, detections, NO_INTERVALS)
    known = [unit for unit in report.units[level] if unit.truth != "unknown"]
    truth = [unit.truth == "positive" for unit in known]
    scores = [unit.score for unit in known]
    assert report.figures[f"{level}/auc"].value == pytest.approx(roc_auc_score(truth, scores))
    one_minus_specificity, sensitivity, _ = roc_curve(truth, scores, drop_intermediate=False)
    # scikit-learn adds the point above all scores.
    assert report.roc[level].x == pytest.approx(one_minus_specificity[1:])
    assert report.roc[level].y == pytest.approx(sensitivity[1:])
    called = np.array(scores) >= 0.5
    assert report.figures[f"{level}/sensitivity"].value == pytest.approx(called[truth].mean())
    assert report.figures[f"{level}/accuracy"].value == pytest.approx((called == truth).mean())


def pycocotools_ap(records, detections) -> tuple[float, float]:
    """AP at .5 and COCO AP by pycocotools alone, from the raw data, ``loadRes`` and all."""
    classes = ("malignant",)
    evaluated = [r for r in records if r.is_positive(classes) or r.is_known_normal(classes)]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": r.image_id} for r in evaluated],
        "categories": [{"id": 1, "name": "malignant"}],
        "annotations": [
            {
                "id": f.finding_id,
                "image_id": r.image_id,
                "category_id": 1,
                "bbox": [f.box[0], f.box[1], f.box[2] - f.box[0], f.box[3] - f.box[1]],
                "area": (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]),
                "iscrowd": 0,
            }
            for r in evaluated
            for f in r.findings
        ],
    }
    results = [
        {
            "image_id": r.image_id,
            "category_id": 1,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": float(score),
        }
        for r in evaluated
        for box, score, name in zip(
            detections.images[r.image_id].boxes,
            detections.images[r.image_id].scores,
            detections.images[r.image_id].categories,
            strict=True,
        )
        if name == "malignant"
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1]), float(evaluation.stats[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_average_precision_equals_pycocotools(seed: int) -> None:
    records, detections = random_set(seed, n_patients=20, n_detections=15)
    figures = evaluate(records, detections, NO_INTERVALS).figures
    ap50, coco_ap = pycocotools_ap(records, detections)
    assert 0 < ap50 < 1
    assert figures["finding/ap50"].value == pytest.approx(ap50, abs=1e-12)
    assert figures["finding/coco_ap"].value == pytest.approx(coco_ap, abs=1e-12)


def resampled(records, detections, patients: list[str]):
    """The test set with each drawn patient as a new one, so that a copy is a patient of its own."""
    new_records, images = [], []
    for copy, patient in enumerate(patients):
        for record in records:
            if record.patient_id == patient:
                image_id = len(new_records) + 1
                # Finding ids stay unique, as COCO wants them.
                findings = tuple(
                    replace(f, finding_id=1000 * image_id + i)
                    for i, f in enumerate(record.findings)
                )
                new_records.append(
                    replace(
                        record,
                        image_id=image_id,
                        patient_id=f"{copy}/{patient}",
                        exam_id=f"{copy}/{record.exam_id}",
                        findings=findings,
                    )
                )
                images.append(replace(detections.images[record.image_id], image_id=image_id))
    return new_records, detection_file(*images)


@pytest.mark.parametrize("n_levels", [None, 5])
def test_each_bootstrap_replicate_equals_an_evaluation_of_the_resampled_set(
    n_levels: int | None,
) -> None:
    records, detections = random_set(3, n_patients=10, n_detections=6, n_levels=n_levels)
    settings = NO_INTERVALS
    views, patient_ids = views_of(records, detections.images, settings)
    evaluated = [view for view in views if view.truth is not Truth.UNKNOWN]
    strata = patient_strata(views, len(patient_ids), settings)
    weights = resampling_weights(strata, 12, seed=5)
    statistics = list(
        _statistics(
            {level: units_of(views, level, settings) for level in LEVELS},
            [events_of(evaluated, c, len(patient_ids), settings) for c in HIT_CRITERIA],
            evaluated,
            len(patient_ids),
            settings,
        )
    )
    fast = [statistic.compute(weights.astype(float)) for statistic in statistics]
    for row, drawn in enumerate(weights):
        patients = [p for p, n in zip(patient_ids, drawn, strict=True) for _ in range(n)]
        slow = evaluate(*resampled(records, detections, patients), settings).figures
        for statistic, values in zip(statistics, fast, strict=True):
            for key, value in zip(statistic.keys, values[row], strict=True):
                # pycocotools ranks equal scores by image number, which a resampled set changes.
                if n_levels and key.startswith("finding/"):
                    continue
                expected = pytest.approx(slow[key].value, abs=1e-12, nan_ok=True)
                assert value == expected, (row, key)


def test_resampling_keeps_the_strata() -> None:
    strata = np.array([1, 0, 0, 1, 0, -1, 1, 0])
    weights = resampling_weights(strata, 500, seed=1)
    for stratum in (-1, 0, 1):
        assert (weights[:, strata == stratum].sum(axis=1) == (strata == stratum).sum()).all()
    # Each patient is drawn once on average; 4 standard errors of a binomial(4, 1/4) mean.
    assert weights[:, strata == 0].mean(axis=0) == pytest.approx(1.0, abs=4 * (0.75 / 500) ** 0.5)
    assert (resampling_weights(strata, 500, seed=1) == weights).all()
    assert (resampling_weights(strata, 500, seed=2) != weights).any()


@pytest.mark.parametrize(
    ("right", "trials"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (83, 143), (999, 1000)]
)
def test_clopper_pearson_equals_scipy(right: int, trials: int) -> None:
    expected = binomtest(right, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(right, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_clopper_pearson_by_hand() -> None:
    # No success in 10: the upper end solves (1 - p)^10 = .025.
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
