"""Every figure against a slow definition, or another library, on random test sets."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.bootstrap import clopper_pearson, resampling_weights
from simfrcnn.evaluation.case import levels_of
from simfrcnn.evaluation.evaluator import gather, statistics_of
from simfrcnn.evaluation.froc import POPULATIONS, RATES
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, random_set

NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
SEEDS = range(6)
SCORE_LEVELS = (None, 10, 2)


SEED = st.integers(0, 10**6)
N_LEVELS = st.sampled_from([None, 10, 2])
TWINS = hypothesis_settings(max_examples=15, derandomize=True)
SLOW_TWINS = hypothesis_settings(TWINS, max_examples=8)


def near(value: float):
    return pytest.approx(value, abs=1e-12, nan_ok=True)


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


TARGET = ("malignant",)


def targets_of(record):
    return [f for f in record.findings if f.category in TARGET]


def rows_of(record, detections):
    """(score, box) of the target's detections, highest first."""
    entry = detections.images[record.image_id]
    rows = [
        (float(score), tuple(map(float, box)))
        for box, score, name in zip(entry.boxes, entry.scores, entry.categories, strict=True)
        if name in TARGET
    ]
    return sorted(rows, key=lambda row: (-row[0], row[1]))


def evaluated_of(records):
    return [r for r in records if r.is_positive(TARGET) or r.is_known_normal(TARGET)]


def slow_events(records, detections, criterion: str, settings: EvaluationSettings):
    """(score, image, finding), None for a false positive, by the words of the definition."""
    events = []
    for record in evaluated_of(records):
        is_open = {finding.finding_id: finding for finding in targets_of(record)}
        ignored = [f for f in record.findings if f.category in settings.ignored_classes]
        for score, box in rows_of(record, detections):
            met = [f for f in targets_of(record) if meets(box, f.box, criterion)]
            best = max(
                (f for f in met if f.finding_id in is_open),
                key=lambda f: iou(box, f.box),
                default=None,
            )
            if best is not None:
                del is_open[best.finding_id]
                events.append((score, record, best))
            elif any(meets(box, f.box, criterion) for f in ignored):
                continue
            elif not met or settings.count_repeats_as_false_positives:
                events.append((score, record, None))
    return events


def slow_sensitivity(
    records, events, rate: float, *, population: str, per_lesion: bool = False
) -> float:
    """The highest sensitivity over all thresholds whose false positives are within the rate."""
    evaluated = evaluated_of(records)
    images = [
        r for r in evaluated if population in ("all", ("normal", "positive")[r.is_positive(TARGET)])
    ]

    def target(record, finding):
        if not per_lesion:
            return (record.image_id, finding.finding_id)
        return finding.lesion_id and (record.exam_id, finding.lesion_id)

    targets = {target(r, f) for r in evaluated for f in targets_of(r)} - {None}
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


@SLOW_TWINS
@given(
    seed=SEED,
    n_levels=N_LEVELS,
    with_repeats=st.booleans(),
    ignored=st.sampled_from([(), ("benign",)]),
)
def test_froc_equals_its_definition(
    seed: int, n_levels: int | None, with_repeats: bool, ignored: tuple[str, ...]
) -> None:
    records, detections = random_set(seed, n_levels=n_levels, with_benign=True)
    settings = replace(
        NO_INTERVALS, count_repeats_as_false_positives=with_repeats, ignored_classes=ignored
    )
    figures = evaluate(records, detections, settings).figures
    for criterion in ("iou_0.1", "iou_0.5", "centre"):
        events = slow_events(records, detections, criterion, settings)
        for rate in RATES:
            read = {}
            for population in POPULATIONS:
                for what in ("", "lesion_"):
                    expected = slow_sensitivity(
                        records, events, rate, population=population, per_lesion=bool(what)
                    )
                    key = f"froc/{criterion}/{population}/{what}sensitivity_at_{rate:g}"
                    assert figures[key].value == near(expected), key
                    read[population, what] = expected
            gap = figures[f"froc/{criterion}/gap/sensitivity_at_{rate:g}"].value
            assert gap == near(read["positive", ""] - read["all", ""])


@TWINS
@given(seed=SEED, n_levels=N_LEVELS)
def test_a_froc_curve_holds_every_point_at_which_sensitivity_rises(
    seed: int, n_levels: int | None
) -> None:
    records, detections = random_set(seed, n_levels=n_levels)
    curves = evaluate(records, detections, NO_INTERVALS).froc
    events = slow_events(records, detections, "centre", NO_INTERVALS)
    n_findings = sum(len(targets_of(record)) for record in records)
    for population, curve in ((name, curves[f"centre/{name}"]) for name in POPULATIONS):
        is_in = {
            r.image_id
            for r in evaluated_of(records)
            if population in ("all", ("normal", "positive")[r.is_positive(TARGET)])
        }
        expected = []
        false_scores = [s for s, r, f in events if f is None and r.image_id in is_in]
        hit_scores = [s for s, _, f in events if f is not None]
        for score in sorted({*hit_scores, *([min(false_scores)] if false_scores else [])})[::-1]:
            if score in hit_scores or score < min(hit_scores, default=2.0):
                n_false = sum(other >= score for other in false_scores)
                n_hits = sum(other >= score for other in hit_scores)
                expected.append((score, n_false / len(is_in), n_hits / n_findings))
        if not is_in or not n_findings:
            expected = []
        assert list(zip(curve.scores, curve.x, curve.y, strict=True)) == [
            tuple(map(near, point)) for point in expected
        ]


@TWINS
@given(seed=SEED, n_levels=N_LEVELS)
def test_corloc_equals_its_definition(seed: int, n_levels: int | None) -> None:
    records, detections = random_set(seed, n_levels=n_levels, with_benign=True)
    right, any_right = [], []
    for record in records:
        if targets_of(record):
            best = rows_of(record, detections)[:1]
            right.append(any(iou(box, f.box) >= 0.5 for _, box in best for f in targets_of(record)))
            high = [box for score, box in rows_of(record, detections) if score >= 0.5]
            any_right.append(any(iou(b, f.box) >= 0.5 for b in high for f in targets_of(record)))
    figures = evaluate(records, detections, NO_INTERVALS).figures
    assert figures["finding/corloc"].value == near(np.mean(right) if right else math.nan)
    assert figures["finding/corloc_any"].value == near(np.mean(any_right) if right else math.nan)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n_levels", SCORE_LEVELS)
@pytest.mark.parametrize("level", levels_of(NO_INTERVALS))
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


def pycocotools_alone(records, detections, *, ignored: tuple[str, ...] = ()):
    """A COCOeval of the raw data, ``loadRes`` and all, with its own defaults.

    It has no key for an ignored finding: one is taken out of the range of areas, and stands there
    100 times over, because each such finding lets a single detection off.
    """
    evaluated = evaluated_of(records)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": r.image_id} for r in evaluated],
        "categories": [{"id": 1, "name": "malignant"}],
        "annotations": [
            {
                "id": f.finding_id + 10_000 * copy,
                "image_id": r.image_id,
                "category_id": 1,
                "bbox": [f.box[0], f.box[1], f.box[2] - f.box[0], f.box[3] - f.box[1]],
                "area": 1e12 if f.category in ignored else 1.0,
                "iscrowd": 0,
            }
            for r in evaluated
            for f in r.findings
            if f.category in (*TARGET, *ignored)
            for copy in range(100 if f.category in ignored else 1)
        ],
    }
    results = [
        {
            "image_id": r.image_id,
            "category_id": 1,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
        }
        for r in evaluated
        for score, box in rows_of(r, detections)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ignored", [(), ("benign",)])
def test_average_precision_equals_pycocotools(seed: int, ignored: tuple[str, ...]) -> None:
    records, detections = random_set(seed, n_patients=20, n_detections=15, with_benign=True)
    figures = evaluate(records, detections, replace(NO_INTERVALS, ignored_classes=ignored)).figures
    stats = pycocotools_alone(records, detections, ignored=ignored).stats
    assert 0 < stats[1] < 1
    assert figures["finding/ap50"].value == near(stats[1])
    assert figures["finding/coco_ap"].value == near(stats[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_precision_recall_curve_is_that_of_pycocotools(seed: int) -> None:
    records, detections = random_set(seed, n_patients=20, n_detections=15)
    curve = evaluate(records, detections, NO_INTERVALS).precision_recall["0.5"]
    evaluation = pycocotools_alone(records, detections)
    expected = evaluation.eval["precision"][0, :, 0, 0, -1]  # the best from each recall on
    recall, precision = np.array(curve.x), np.array(curve.y)
    assert recall[-1] == near(evaluation.eval["recall"][0, 0, 0, -1])
    for level, height in zip(np.linspace(0, 1, 101), expected, strict=True):
        best = precision[recall >= level].max(initial=0.0)
        assert best == pytest.approx(height, abs=1e-9)


@pytest.mark.parametrize("name", ["froc/centre/all", "precision_recall/0.5"])
def test_a_band_holds_95_percent_of_the_resampled_curves(name: str) -> None:
    records, detections = random_set(1, n_patients=15)
    settings = replace(NO_INTERVALS, bootstrap_replicates=200)
    evidence = gather(records, detections, settings)
    band = evaluate(records, detections, settings).bands[name]
    weights = resampling_weights(evidence.strata, 200, seed=0)
    (statistic,) = [s for s in statistics_of(evidence, settings) if name in s.bands]
    start = len(statistic.keys)
    for other, x in statistic.bands.items():
        if other == name:
            break
        start += len(x)
    heights = statistic.compute(weights.astype(float))[:, start : start + len(band.x)]
    inside = (heights >= np.array(band.low)) & (heights <= np.array(band.high))
    assert (inside.mean(axis=0) >= 0.94).all()
    assert np.array(band.low) == pytest.approx(np.nanquantile(heights, 0.025, axis=0))


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
    settings = replace(NO_INTERVALS, prevalence=0.01)
    chosen = (OperatingPoint("case", "youden", 0.7),)
    evidence = gather(records, detections, settings)
    weights = resampling_weights(evidence.strata, 12, seed=5)
    statistics = list(statistics_of(evidence, settings))
    fast = [statistic.compute(weights.astype(float)) for statistic in statistics]
    for row, drawn in enumerate(weights):
        patients = [p for p, n in zip(evidence.patient_ids, drawn, strict=True) for _ in range(n)]
        resampling = resampled(records, detections, patients)
        slow = evaluate(*resampling, settings, operating_points=chosen).figures
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
    interval = clopper_pearson(right, trials)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert interval.method == "clopper-pearson"


def test_clopper_pearson_by_hand() -> None:
    # No success in 10: the upper end solves (1 - p)^10 = .025.
    interval = clopper_pearson(0, 10)
    assert (interval.low, interval.high) == pytest.approx((0.0, 1 - 0.025**0.1))
