"""Figures of cases, breasts and images against scikit-learn, Bayes and slow definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.bootstrap import (
    all_weights,
    figures_and_bands,
    resampling_weights,
    values_of,
)
from simfrcnn.evaluation.calibration import brier_statistic, calibration_bins
from simfrcnn.evaluation.case import (
    Units,
    confusion_of,
    levels_of,
    predictive_values,
    threshold_statistic,
)
from simfrcnn.evaluation.results import Confusion, OperatingPoint
from simfrcnn.evaluation.roc import ROC_GRID, auc_function, roc_statistic
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image, random_set

NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
BOX = (10, 10, 30, 30)
AT_HALF = OperatingPoint("case", "fixed", 0.5)


def units_of_scores(truths, scores, patients=None, level: str = "case") -> Units:
    """Units with truths 1, 0 and -1, one per patient unless ``patients`` says whose they are."""
    n = len(truths)
    own = np.arange(n) if patients is None else patients
    return Units(
        level=level,
        ids=tuple(f"unit-{i}" for i in range(n)),
        patients=np.array(own, dtype=np.intp),
        scores=np.array(scores, dtype=float),
        truths=np.array(truths, dtype=np.intp),
    )


def random_units(seed: int, n: int = 60, n_patients: int = 25, n_levels: int | None = None):
    random = np.random.default_rng(seed)
    truths = random.choice([1, 0, -1], size=n, p=[0.35, 0.5, 0.15])
    scores = np.clip(random.normal(0.4 + 0.2 * truths, 0.2), 0, 1)
    if n_levels:
        scores = np.round(scores * n_levels) / n_levels
    return units_of_scores(truths, scores, random.integers(0, n_patients, n))


def test_levels() -> None:
    assert levels_of(NO_INTERVALS) == ("case", "patient", "breast", "image")
    by_patient = replace(NO_INTERVALS, case_by="patient")
    assert levels_of(by_patient) == ("case", "exam", "breast", "image")


def test_the_same_figures_whether_a_level_is_the_case_or_not() -> None:
    records, detections = random_set(1, n_patients=20)
    by_exam = evaluate(records, detections, NO_INTERVALS)
    by_patient = evaluate(records, detections, replace(NO_INTERVALS, case_by="patient"))
    for name in ("auc", "accuracy", "sensitivity", "specificity", "brier"):
        case, other = by_exam.figures[f"case/{name}"], by_patient.figures[f"exam/{name}"]
        assert case.value == other.value
        case, other = by_patient.figures[f"case/{name}"], by_exam.figures[f"patient/{name}"]
        assert case.value == other.value
    assert by_exam.counts["cases"] == by_patient.counts["exams"]
    assert by_exam.counts["cases"]["total"] > by_patient.counts["cases"]["total"] == 20


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_levels", [None, 4])
def test_resampled_auc_and_roc_equal_scikit_learns_with_weights(
    seed: int, n_levels: int | None
) -> None:
    units = random_units(seed, n_levels=n_levels)
    weights = resampling_weights(np.zeros(25, np.intp), 10, seed)
    statistic = roc_statistic(units, with_band=True)
    values = values_of(statistic, weights)
    assert values.shape == (10, 1 + len(ROC_GRID))
    assert statistic.keys == ("case/auc",)
    is_known = units.truths >= 0
    truth, scores = units.truths[is_known] == 1, units.scores[is_known]
    for row, heights in zip(weights, values, strict=True):
        of_units = row[units.patients[is_known]]
        auc = roc_auc_score(truth, scores, sample_weight=of_units)
        assert heights[0] == pytest.approx(auc, abs=1e-12)
        x, y, _ = roc_curve(truth, scores, sample_weight=of_units, drop_intermediate=False)
        # At a jump numpy takes the last of equal x: the upper end. The sums of scikit-learn may
        # miss a jump by rounding: look just behind it.
        assert heights[1:] == pytest.approx(np.interp(ROC_GRID + 1e-9, x, y), abs=1e-6)


def test_a_roc_curve_by_hand() -> None:
    # Positives .9, .5; normals .7, .5: (0, 1/2), then (1/2, 1/2), then a tie up to (1, 1).
    units = units_of_scores([1, 1, 0, 0], [0.9, 0.5, 0.7, 0.5])
    auc, *heights = values_of(roc_statistic(units, with_band=True), np.ones((1, 4), np.int32))[0]
    assert auc == (1 + 0.5 + 0 + 1) / 4
    at = dict(zip(ROC_GRID.tolist(), heights, strict=True))
    assert (at[0.0], at[0.3], at[0.5], at[0.75], at[1.0]) == (0.5, 0.5, 0.5, 0.75, 1.0)


def test_the_band_holds_the_curve_and_is_the_percentile_at_each_place() -> None:
    units = random_units(7, n=200, n_patients=200)
    strata = np.zeros(200, np.intp)
    strata[units.patients] = units.truths
    statistic = roc_statistic(units, with_band=True)
    _, bands = figures_and_bands([statistic], strata, n_replicates=400, seed=3)
    band = bands["roc/case"]
    assert band.x == tuple(ROC_GRID.tolist())
    curve = values_of(statistic, np.ones((1, 200), np.int32))[0, 1:]
    assert all(low <= y <= high for low, y, high in zip(band.low, curve, band.high, strict=True))
    assert (band.low[-1], band.high[-1]) == (1.0, 1.0)
    replicates = values_of(statistic, resampling_weights(strata, 400, seed=3))[:, 1 + 30]
    assert (band.low[30], band.high[30]) == pytest.approx(
        tuple(np.quantile(replicates, [0.025, 0.975]))
    )


def test_no_band_without_intervals_or_without_normals() -> None:
    units = random_units(0)
    statistic = roc_statistic(units, with_band=True)
    strata = np.array([0, 1] * 13)[:25]
    assert figures_and_bands([statistic], strata, n_replicates=0, seed=0)[1] == {}
    all_positive = roc_statistic(units_of_scores([1, 1], [0.2, 0.3]), with_band=True)
    figures, bands = figures_and_bands([all_positive], np.ones(2, np.intp), n_replicates=9, seed=0)
    assert bands == {}
    assert figures["case/auc"].reason == (
        "needs a positive and a normal case; there are 2 positive and 0 normal ones"
    )


def test_an_auc_that_needs_no_resampling_is_not_resampled() -> None:
    units = random_units(2)
    rows = []
    statistic = roc_statistic(units)

    def counting(weights):
        rows.append(len(weights))
        return statistic.compute(weights)

    strata = np.array([0, 1] * 13)[:25]
    figures, _ = figures_and_bands(
        [replace(statistic, compute=counting)], strata, n_replicates=500, seed=0
    )
    assert rows == [1]
    assert figures["case/auc"].low < figures["case/auc"].value < figures["case/auc"].high
    assert figures["case/auc"].method == "obuchowski-logit"


def test_predictive_values_by_hand() -> None:
    # Of 10,000 women 100 have cancer: 90 are called; of 9,900 without, 1 in 10 is: 990.
    ppv, npv = predictive_values(np.array([0.9]), np.array([0.9]), 0.01)
    assert ppv[0] == pytest.approx(90 / (90 + 990))
    assert npv[0] == pytest.approx(8910 / (8910 + 10))


@pytest.mark.parametrize("seed", range(4))
def test_predictive_values_are_those_of_a_set_with_the_stated_prevalence(seed: int) -> None:
    """Bayes by counting: every normal unit as often as the prevalence asks, then plain shares."""
    units = random_units(seed)
    prevalence = 0.07
    statistic = threshold_statistic(units, 25, AT_HALF, prevalence)
    assert statistic.keys == tuple(
        f"case/{name}"
        for name in (
            "accuracy", "sensitivity", "specificity", "ppv", "npv", "recalls_per_1000",
            "cancers_per_1000",
        )
    )  # fmt: skip
    values = values_of(statistic, np.ones((1, 25), np.int32))[0]
    got = dict(zip(statistic.keys, values, strict=True))
    confusion = confusion_of(units, AT_HALF)
    n_positive = confusion.true_positives + confusion.false_negatives
    n_normal = confusion.true_negatives + confusion.false_positives
    times = n_positive * (1 - prevalence) / prevalence / n_normal
    called = confusion.true_positives + times * confusion.false_positives
    cleared = confusion.false_negatives + times * confusion.true_negatives
    assert got["case/ppv"] == pytest.approx(confusion.true_positives / called)
    assert got["case/npv"] == pytest.approx(times * confusion.true_negatives / cleared)
    scale = 1000 / (n_positive + times * n_normal)
    assert got["case/recalls_per_1000"] == pytest.approx(called * scale)
    assert got["case/cancers_per_1000"] == pytest.approx(confusion.true_positives * scale)
    assert got["case/sensitivity"] == confusion.true_positives / n_positive
    right = confusion.true_positives + confusion.true_negatives
    assert got["case/accuracy"] == right / (n_positive + n_normal)


def test_predictive_values_in_a_report() -> None:
    records = [image(i, f"P{i:02d}", *([finding(BOX, i)] if i < 10 else [])) for i in range(40)]
    images = [found(i, (BOX, 0.9 if i < 8 else 0.1)) for i in range(40)]
    settings = EvaluationSettings(bootstrap_replicates=50, prevalence=0.01)
    figures = evaluate(records, detection_file(*images), settings).figures
    ppv = figures["case/ppv"]
    # No normal case is called, yet 30 of them do not say that none ever will be.
    assert (ppv.value, ppv.high, ppv.method) == (1.0, 1.0, "clopper-pearson")
    tail = (1 - math.sqrt(0.95)) / 2
    found_low, spared_low = beta.ppf(tail, 8, 3), beta.ppf(tail, 30, 1)
    expected = found_low * 0.01 / (found_low * 0.01 + (1 - spared_low) * 0.99)
    assert ppv.low == pytest.approx(expected)
    assert ppv.low < 0.06
    assert figures["case/npv"].value == pytest.approx(0.99 / (0.99 + 0.2 * 0.01))
    assert "image/ppv" not in figures  # the prevalence is that of cases
    without = evaluate(records, detection_file(*images), NO_INTERVALS).figures
    assert "case/ppv" not in without


def test_the_intervals_of_recalls_and_cancers_by_hand() -> None:
    # 8 of 10 positives and 3 of 30 normals are called; of 1,000, 20 have cancer.
    units = units_of_scores([1] * 10 + [0] * 30, [0.9] * 8 + [0.1] * 2 + [0.9] * 3 + [0.1] * 27)
    statistic = threshold_statistic(units, 40, AT_HALF, 0.02)
    figures, _ = figures_and_bands([statistic], units.truths, n_replicates=20, seed=0)
    found_low, found_high = beta.ppf(0.025, 8, 3), beta.ppf(0.975, 9, 2)
    cancers = figures["case/cancers_per_1000"]
    assert (cancers.value, cancers.method) == (pytest.approx(16), "clopper-pearson")
    assert (cancers.low, cancers.high) == pytest.approx((20 * found_low, 20 * found_high))
    called_low, called_high = beta.ppf(0.025, 3, 28), beta.ppf(0.975, 4, 27)
    below = math.hypot(20 * (0.8 - found_low), 980 * (0.1 - called_low))
    above = math.hypot(20 * (found_high - 0.8), 980 * (called_high - 0.1))
    recalls = figures["case/recalls_per_1000"]
    assert (recalls.value, recalls.method) == (pytest.approx(16 + 98), "mover")
    assert (recalls.low, recalls.high) == pytest.approx((114 - below, 114 + above))
    assert cancers.n == recalls.n == {"positive": 10, "normal": 30}


def test_cancers_are_as_sure_as_the_sensitivity_where_a_patient_has_two() -> None:
    """All three are found, in two patients: every resampled set would say 10 of 10."""
    units = units_of_scores([1, 1, 1, 0, 0], [0.9] * 4 + [0.1], patients=[0, 0, 1, 2, 3])
    statistic = threshold_statistic(units, 4, AT_HALF, 0.01)
    figures, _ = figures_and_bands([statistic], np.array([1, 1, 0, 0]), n_replicates=20, seed=0)
    low = 0.025**0.5
    assert (figures["case/sensitivity"].low, figures["case/sensitivity"].high) == (
        pytest.approx(low),
        1.0,
    )
    cancers = figures["case/cancers_per_1000"]
    assert (cancers.value, cancers.low, cancers.high) == pytest.approx((10, 10 * low, 10))
    assert cancers.method == "clopper-pearson"
    # A patient's cases are not independent: these are resampled, as are those of patients
    # who have a positive and a normal case.
    assert not {f"case/{name}" for name in ("ppv", "npv", "recalls_per_1000")} & set(
        statistic.intervals
    )
    both = threshold_statistic(
        units_of_scores([1, 0], [0.9, 0.1], patients=[0, 0]), 1, AT_HALF, 0.01
    )
    assert {name.split("/")[1] for name in both.intervals} == {
        *("accuracy", "sensitivity", "specificity", "cancers_per_1000"),
    }


def test_a_predictive_value_that_nobody_is_called_for_is_undefined() -> None:
    units = units_of_scores([1, 0, 0], [0.1, 0.2, 0.3])
    statistic = threshold_statistic(units, 3, AT_HALF, 0.01)
    figures, _ = figures_and_bands([statistic], units.truths, n_replicates=20, seed=0)
    assert math.isnan(figures["case/ppv"].value)
    assert "one that is called positive" in str(figures["case/ppv"].reason)
    assert figures["case/npv"].value == pytest.approx(0.99)


def test_the_interval_of_a_predictive_value_holds_the_truth() -> None:
    # 40 positives of sensitivity .9, 60 normals of specificity .8, prevalence 5%.
    random = np.random.default_rng(0)
    truths = [1] * 40 + [0] * 60
    ppv, npv = (v[0] for v in predictive_values(np.array([0.9]), np.array([0.8]), 0.05))
    n_held = np.zeros(2)
    for _ in range(400):
        scores = np.where(random.random(100) < np.repeat([0.9, 0.2], [40, 60]), 0.9, 0.1)
        intervals = threshold_statistic(
            units_of_scores(truths, scores), 100, AT_HALF, 0.05
        ).intervals
        for index, (key, value) in enumerate((("case/ppv", ppv), ("case/npv", npv))):
            interval = intervals[key]()
            n_held[index] += interval.low <= value <= interval.high
    assert (n_held / 400 > 0.95).all()


def test_keys_of_a_chosen_point() -> None:
    units = units_of_scores([1, 1, 0, -1], [0.9, 0.4, 0.4, 0.9])
    point = OperatingPoint("case", "youden", 0.4, chosen_on="validation")
    statistic = threshold_statistic(units, 4, point)
    assert statistic.keys == ("case/youden/accuracy", *statistic.keys[1:])
    values = values_of(statistic, np.ones((1, 4), np.int32))[0]
    assert values.tolist() == [2 / 3, 1.0, 0.0]  # at the threshold itself: called
    assert statistic.n["case/youden/sensitivity"] == {"right": 2, "positive": 2}
    assert confusion_of(units, point) == Confusion(2, 0, 1, 0)


@pytest.mark.parametrize("level", levels_of(NO_INTERVALS))
def test_brier_score_and_bins_equal_scikit_learn(level: str) -> None:
    records, detections = random_set(3, n_patients=60)
    report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=100))
    known = [unit for unit in report.units[level] if unit.truth != "unknown"]
    truth = np.array([unit.truth == "positive" for unit in known])
    scores = np.array([unit.score for unit in known])
    brier = report.figures[f"{level}/brier"]
    assert brier.value == pytest.approx(brier_score_loss(truth, scores))
    assert brier.low < brier.value < brier.high
    observed, mean_score = calibration_curve(truth, scores, n_bins=10, strategy="uniform")
    bins = report.calibration[level]
    assert [b.observed for b in bins] == pytest.approx(observed.tolist())
    assert [b.mean_score for b in bins] == pytest.approx(mean_score.tolist())
    assert sum(b.n for b in bins) == len(known)
    assert all(b.observed_low <= b.observed <= b.observed_high for b in bins)


def test_the_brier_score_by_hand() -> None:
    units = units_of_scores([1, 0, -1], [0.8, 0.5, 0.9])
    values = values_of(brier_statistic(units, 3), np.array([[1, 1, 1], [2, 1, 0]], np.int32))
    assert values[:, 0] == pytest.approx([(0.04 + 0.25) / 2, (0.08 + 0.25) / 3])


def test_bins_by_hand() -> None:
    # The edge .3 opens a bin; 1 is in the last; .1 + .2 is just above .3.
    truths, scores = [0, 1, 1, 0, 1, -1], [0.0, 0.3, 0.1 + 0.2, 0.29, 1.0, 0.95]
    bins = calibration_bins(units_of_scores(truths, scores))
    assert [(b.low, b.high, b.n, b.observed) for b in bins] == [
        (0.0, 0.1, 1, 0.0),
        (0.2, 0.3, 1, 0.0),
        (0.3, 0.4, 2, 1.0),
        (0.9, 1.0, 1, 1.0),
    ]
    assert bins[2].observed_low == pytest.approx(0.025**0.5)  # two of two
    assert calibration_bins(units_of_scores([-1], [0.5])) == ()


def test_the_interval_of_a_bin_does_not_shrink_with_copies_of_a_unit() -> None:
    truths, scores = [1, 0, 1], [0.55, 0.55, 0.55]
    (once,) = calibration_bins(units_of_scores(truths, scores))
    (copies,) = calibration_bins(
        units_of_scores(truths * 4, scores * 4, patients=[0, 1, 2] * 4, level="image")
    )
    assert (copies.n, once.n) == (12, 3)
    assert (copies.observed_low, copies.observed_high) == pytest.approx(
        (once.observed_low, once.observed_high)
    )
    # One patient with two images, two with one: 4^2 / (4 + 1 + 1) = 2.67 patients' worth.
    (uneven,) = calibration_bins(
        units_of_scores([1, 1, 0, 1], [0.55] * 4, patients=[0, 0, 1, 2], level="image")
    )
    assert uneven.observed_low == pytest.approx(beta.ppf(0.025, 2.0, 8 / 3 - 2 + 1))


def test_an_auc_of_one_hundred_thousand_units_equals_scikit_learn() -> None:
    random = np.random.default_rng(0)
    n = 100_000
    is_positive = random.random(n) < 0.1
    scores = np.round(random.normal(is_positive * 0.5), 2)
    own = np.arange(n, dtype=np.intp)
    (auc,) = auc_function(own, scores, is_positive)(np.ones((1, n)))
    assert auc == pytest.approx(roc_auc_score(is_positive, scores), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least_specificity", [0.0, 0.5, 0.9, 0.97])
def test_the_partial_auc_is_mcclishs(seed: int, least_specificity: float) -> None:
    """As scikit-learn's, which is of the part up to a false positive rate; ties and weights too."""
    units = random_units(seed, n_levels=12)
    patients, scores, is_positive = units.known()
    weights = np.random.default_rng(seed).integers(0, 3, size=(3, 25))
    weights[0] = 1
    statistic = roc_statistic(units, least_specificity=least_specificity)
    assert statistic.keys == ("case/auc", "case/partial_auc")
    for row, (_, value) in zip(
        weights, values_of(statistic, weights.astype(np.int32)), strict=True
    ):
        max_fpr = None if least_specificity == 0 else 1 - least_specificity
        expected = roc_auc_score(is_positive, scores, sample_weight=row[patients], max_fpr=max_fpr)
        assert value == pytest.approx(expected)


def test_a_partial_auc_of_separated_scores_has_no_interval_of_no_width() -> None:
    truths = [1] * 25 + [0] * 30
    for scores in (0.1 + 0.8 * np.array(truths), 0.9 - 0.8 * np.array(truths)):
        units = units_of_scores(truths, scores)
        statistic = roc_statistic(units, least_specificity=0.9)
        figures, _ = figures_and_bands([statistic], units.truths, n_replicates=50, seed=0)
        figure = figures["case/partial_auc"]
        assert math.isnan(figure.low)
        assert "the scores separate positive from normal units" in str(figure.reason)
        assert not math.isnan(figures["case/auc"].low)
    one_lost = units_of_scores([*truths, 0], [*(0.1 + 0.8 * np.array(truths)), 0.95])
    figures, _ = figures_and_bands(
        [roc_statistic(one_lost, least_specificity=0.9)], one_lost.truths, n_replicates=50, seed=0
    )
    figure = figures["case/partial_auc"]
    assert figure.method == "bootstrap-logit"
    # The one normal unit is half of the top tenth or none of it: nearly anything is possible.
    assert figure.low == pytest.approx((1 - 0.005 / 0.095) / 2)  # no area at all
    assert figure.value < figure.high < 1


def test_the_interval_of_a_partial_auc_is_normal_on_the_logit() -> None:
    random = np.random.default_rng(3)
    truths = [1] * 25 + [0] * 30
    units = units_of_scores(truths, random.normal(0.3 + 0.3 * np.array(truths), 0.1))
    statistic = roc_statistic(units, least_specificity=0.9)
    figure = figures_and_bands([statistic], units.truths, n_replicates=200, seed=0)[0]
    values = values_of(statistic, all_weights(units.truths, 200, seed=0))[:, 1]
    floor = 0.25 / (25 * 30 * 0.1)  # a quarter of one of the 75 pairs that the part is made of
    assert values.max() > 1 - floor  # such replicates count as 1 - floor
    logits = np.log(values.clip(floor, 1 - floor) / (1 - values.clip(floor, 1 - floor)))
    half = norm.ppf(0.975) * logits[1:].std(ddof=1)
    ends = 1 / (1 + np.exp(-(logits[0] + np.array([-half, half]))))
    got = figure["case/partial_auc"]
    assert (got.value, got.low, got.high) == pytest.approx((values[0], *ends))
