"""Paired differences against a bootstrap that really duplicates patients, by other libraries."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.bootstrap import resampling_weights
from simfrcnn.evaluation.case import Units, units_of
from simfrcnn.evaluation.comparison import (
    auc_under_permuted_truth,
    compare,
    mean_over_seeds,
    resample,
)
from simfrcnn.evaluation.delong import paired_delong
from simfrcnn.evaluation.metrics import METRICS, specificity_at_sensitivity
from simfrcnn.evaluation.truth import views_of
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image, random_set

SETTINGS = EvaluationSettings(bootstrap_replicates=20, case_by="patient")
SPECIFICITY = "case/specificity_at_sensitivity_0.9"
BOX = (10, 10, 30, 30)


def rescored(detections: DetectionFile, seed: int) -> DetectionFile:
    """The same boxes with other scores: another model, or another seed of one."""
    random = np.random.default_rng(seed)
    images = {
        key: dataclasses.replace(each, scores=random.random(len(each.scores)))
        for key, each in detections.images.items()
    }
    return dataclasses.replace(detections, images=images)


def resampled_set(records, detections, patients, counts):
    """The test set in which each patient occurs as often as it was drawn, under new names."""
    new_records, images = [], []
    for patient, count in zip(patients, counts, strict=True):
        for copy in range(count):
            for record in (r for r in records if r.patient_id == patient):
                number = len(new_records) + 1
                new_records.append(
                    dataclasses.replace(
                        record,
                        image_id=number,
                        patient_id=f"{patient}-{copy}",
                        exam_id=f"{record.exam_id}-{copy}",
                        findings=tuple(
                            dataclasses.replace(f, finding_id=100 * number + i)
                            for i, f in enumerate(record.findings)
                        ),
                    )
                )
                old = detections.images[record.image_id]
                images.append(ImageDetections(number, old.boxes, old.scores, old.categories))
    return new_records, detection_file(*images)


def slow_specificity(scores, is_positive, sensitivity):
    """Over every threshold that is a score."""
    best = math.nan
    for threshold in np.unique(scores):
        is_called = scores >= threshold
        if is_called[is_positive].mean() >= sensitivity - 1e-12:
            specificity = (~is_called[~is_positive]).mean()
            best = specificity if math.isnan(best) else max(best, specificity)
    return best


def slow_values(records, detections):
    """Every metric of a test set, by the evaluator or from the units."""
    settings = dataclasses.replace(SETTINGS, bootstrap_replicates=0)
    values = dict(evaluate(records, detections, settings).scalars())
    views, _ = views_of(records, detections.images, settings)
    cases = units_of(views, "case", settings)
    is_known = cases.truths >= 0
    scores, is_positive = cases.scores[is_known], cases.truths[is_known] == 1
    values[SPECIFICITY] = slow_specificity(scores, is_positive, 0.9)
    assert values["case/auc"] == pytest.approx(roc_auc_score(is_positive, scores))
    return values


@pytest.mark.parametrize("n_levels", [None, 5])
def test_differences_and_intervals_equal_a_bootstrap_that_copies_patients(n_levels):
    records, detections = random_set(1, n_patients=20, n_levels=n_levels)
    first = [rescored(detections, seed) for seed in (10, 11)]
    second = [detections, rescored(detections, 12)]
    judged = [[resample(records, each, SETTINGS) for each in model] for model in (first, second)]
    comparison = compare(*judged)
    mean = mean_over_seeds(judged[0])

    weights = resampling_weights(
        judged[0][0].strata, SETTINGS.bootstrap_replicates, SETTINGS.bootstrap_seed
    )
    rows = [np.ones(len(judged[0][0].patient_ids), int), *weights]
    tables = []
    for row in rows:
        sets = [
            [resampled_set(records, each, judged[0][0].patient_ids, row) for each in model]
            for model in (first, second)
        ]
        tables.append([[slow_values(*each) for each in model] for model in sets])
    for key in METRICS:
        # AP depends on the order of equal scores, which copies of a patient change a little.
        near = 1e-3 if n_levels and key == "finding/ap50" else 1e-9
        values = np.array([[[each[key] for each in model] for model in table] for table in tables])
        differences = (values[:, 0] - values[:, 1]).mean(axis=1)  # mean over the two seeds
        ours = comparison.differences[key]
        assert ours.figure.value == pytest.approx(differences[0], abs=1e-12)
        expected = np.quantile(differences[1:], [0.025, 0.975])
        assert (ours.figure.low, ours.figure.high) == pytest.approx(tuple(expected), abs=near)
        assert ours.by_seed == pytest.approx(tuple(values[0, 0] - values[0, 1]), abs=1e-12)
        assert ours.lowest == min(ours.by_seed)
        assert ours.highest == max(ours.by_seed)
        of_first = values[:, 0].mean(axis=1)
        assert mean[key].value == pytest.approx(of_first[0])
        expected = np.quantile(of_first[1:], [0.025, 0.975])
        assert (mean[key].low, mean[key].high) == pytest.approx(tuple(expected), abs=near)


def test_a_model_compared_with_itself_differs_in_nothing():
    records, detections = random_set(2)
    model = resample(records, detections, SETTINGS)
    for difference in compare([model], [model]).differences.values():
        assert difference.figure.value == 0
        assert (difference.figure.low, difference.figure.high) == (0, 0)


def test_a_difference_is_counted_over_cases_not_over_what_one_model_has_right():
    records, detections = random_set(2)
    models = [resample(records, each, SETTINGS) for each in (detections, rescored(detections, 1))]
    n_positive = int((models[0].cases.truths == 1).sum())
    difference = compare(models[:1], models[1:]).differences["case/sensitivity"].figure
    assert difference.n == {"positive": n_positive}
    assert mean_over_seeds(models)["case/sensitivity"].n == {"positive": n_positive}


def test_pairing_makes_the_interval_narrow():
    """Two models that rank alike: the difference is surer than either AUC."""
    random = np.random.default_rng(0)
    records, images, others = [], [], []
    for number in range(1, 121):
        is_positive = number % 2 == 0
        records.append(image(number, f"p{number:03}", *([finding(BOX, number)] * is_positive)))
        score = float(np.clip(random.normal(0.5 + 0.1 * is_positive, 0.1), 0, 1))
        images.append(found(number, (BOX, score)))
        others.append(found(number, (BOX, float(np.clip(score + random.normal(0, 0.01), 0, 1)))))
    models = [resample(records, detection_file(*each), SETTINGS) for each in (images, others)]
    auc = mean_over_seeds([models[0]])["case/auc"]
    difference = compare([models[0]], [models[1]]).differences["case/auc"].figure
    assert difference.high - difference.low < (auc.high - auc.low) / 4


def test_specificity_at_sensitivity_as_drawn():
    """Eleven positives and four normals by falling score::

        P P P P P n P P P P n P n P n      (the tenth positive: 10/11 = .909, two normals above)

    At .90 ten of the eleven positives are needed: two of the four normals lie above the tenth.
    """
    line = "PPPPPnPPPPnPnPn"
    scores = np.arange(len(line), 0, -1) / 20
    is_positive = np.array([letter == "P" for letter in line])
    patients = np.arange(len(line))
    row = np.ones((1, len(line)))
    at = {s: specificity_at_sensitivity(patients, scores, is_positive, s) for s in (0.9, 0.4, 1.0)}
    assert at[0.9](row).tolist() == [0.5]
    assert at[0.4](row).tolist() == [1.0]
    assert at[1.0](row).tolist() == [0.25]
    row[0, is_positive.nonzero()[0][-2:]] = 0  # without the last two positives nine are left
    assert at[0.9](row).tolist() == [0.75]  # all nine are needed: 8/9 is less than .9


def test_equal_scores_are_one_threshold():
    scores = np.array([0.9, 0.5, 0.5, 0.1])
    is_positive = np.array([True, True, False, False])
    specificity = specificity_at_sensitivity(np.arange(4), scores, is_positive, 0.9)
    assert specificity(np.ones((1, 4))).tolist() == [0.5]


def test_without_normals_nothing_is_said_but_the_reason():
    records = [image(n, f"p{n}", finding(BOX, n)) for n in (1, 2)]
    model = resample(records, detection_file(found(1, (BOX, 0.5)), found(2)), SETTINGS)
    figures = mean_over_seeds([model])
    assert math.isnan(figures[SPECIFICITY].value)
    assert "0 normal" in figures[SPECIFICITY].reason
    assert math.isnan(compare([model], [model]).differences["case/auc"].figure.value)
    assert auc_under_permuted_truth(model.cases) is None


def test_other_truth_is_refused():
    records = [image(n, f"p{n}", *([finding(BOX, n)] * (n < 3))) for n in range(1, 5)]
    changed = [image(n, f"p{n}", *([finding(BOX, n)] * (n < 2))) for n in range(1, 5)]
    detections = detection_file(*(found(n, (BOX, n / 10)) for n in range(1, 5)))
    models = [resample(each, detections, SETTINGS) for each in (records, changed)]
    with pytest.raises(ArtifactError, match="same cases"):
        compare([models[0]], [models[1]])


def test_other_truth_of_an_image_is_refused_where_all_cases_are_alike():
    of_cases = [(1, "p1"), (2, "p1"), (3, "p2"), (4, "p2"), (5, "p3"), (6, "p4")]

    def with_finding_on(*positive):
        return [image(n, p, *([finding(BOX, n)] * (n in positive))) for n, p in of_cases]

    detections = detection_file(*(found(n, (BOX, n / 10)) for n, _ in of_cases))
    models = [resample(with_finding_on(*ids), detections, SETTINGS) for ids in ((1, 3), (2, 3))]
    assert np.array_equal(models[0].cases.truths, models[1].cases.truths)
    with pytest.raises(ArtifactError, match="same cases"):
        compare([models[0]], [models[1]])


@pytest.mark.parametrize("change", [{"bootstrap_seed": 1}, {"score_threshold": 0.7}])
def test_other_resamplings_and_other_rules_are_refused(change):
    records, detections = random_set(5)
    other = dataclasses.replace(SETTINGS, **change)
    models = [resample(records, detections, settings) for settings in (SETTINGS, other)]
    with pytest.raises(ArtifactError, match="same EVAL settings"):
        compare([models[0]], [models[1]])


def test_several_cases_of_a_patient_are_tested_by_obuchowski():
    """Each case twice, as two of one patient, says no more than once."""
    generator = np.random.default_rng(3)
    is_positive = np.repeat([True, False], 30)
    first, second = generator.normal(size=(2, 60)) + is_positive
    once = paired_delong(first, second, is_positive)
    twice = paired_delong(
        np.tile(first, 2),
        np.tile(second, 2),
        np.tile(is_positive, 2),
        patients=np.tile(np.arange(60), 2),
    )
    assert dataclasses.astuple(twice) == pytest.approx(dataclasses.astuple(once))
    wrongly_independent = paired_delong(
        np.tile(first, 2), np.tile(second, 2), np.tile(is_positive, 2)
    )
    assert wrongly_independent.standard_error < 0.75 * once.standard_error


def test_levels_are_tested_each_by_its_own_units():
    records, detections = random_set(5)
    settings = dataclasses.replace(SETTINGS, case_by="exam")
    model = resample(records, detections, settings, with_further=True)
    other = resample(records, rescored(detections, 1), settings, with_further=True)
    compared = compare([model], [other])
    assert list(compared.tests) == ["case", "patient", "breast", "image"]
    for level, (test,) in compared.tests.items():
        assert test.difference == pytest.approx(compared.differences[f"{level}/auc"].figure.value)
        assert "no test with fewer than 20" in test.reason
    assert compared.delong == compared.tests["case"]


def test_permuted_truth_has_an_auc_of_one_half():
    records, images = [], []
    for number in range(1, 61):
        is_positive = number <= 30
        records.append(image(number, f"p{number:02}", *([finding(BOX, number)] * is_positive)))
        images.append(found(number, (BOX, 0.9 if is_positive else 0.2)))
    model = resample(records, detection_file(*images), SETTINGS)
    control = auc_under_permuted_truth(model.cases)
    assert model.values["case/auc"][0] == 1
    assert control.mean == pytest.approx(0.5, abs=0.01)
    # Of the 30 that are called positive h get a high score: the AUC is h/30, h hypergeometric.
    spread = math.sqrt(30 * 0.5 * 0.5 * 30 / 59) / 30
    assert (control.high - control.low) / 2 == pytest.approx(1.96 * spread, rel=0.15)
    assert control.p_value == pytest.approx(1 / 2001)


def test_truth_that_cannot_be_permuted_is_undefined():
    # Every positive patient has two cases, every normal one has one: nothing could change hands.
    records, images = [], []
    for number in range(1, 31):
        is_positive = number <= 20
        patient = f"p{(number + 1) // 2}" if is_positive else f"p{number}"
        boxed = [finding(BOX, number)] * is_positive
        view = dataclasses.replace(image(number, patient, *boxed), exam_id=f"exam{number}")
        records.append(view)
        images.append(found(number, (BOX, 0.9 if is_positive else 0.2)))
    settings = dataclasses.replace(SETTINGS, case_by="exam")
    model = resample(records, detection_file(*images), settings)
    assert model.values["case/auc"][0] == 1
    assert auc_under_permuted_truth(model.cases) is None


def of_patients(truths, scores):
    """Cases of known truth: for each patient a list of truths, and one of scores."""
    patients = [number for number, own in enumerate(truths) for _ in own]
    return Units(
        level="case",
        ids=tuple(f"E{number}" for number in range(len(patients))),
        patients=np.array(patients, dtype=np.intp),
        scores=np.array([score for own in scores for score in own]),
        truths=np.array([truth for own in truths for truth in own], dtype=np.intp),
    )


def test_a_second_exam_that_scores_higher_in_all_patients_does_not_move_the_mean():
    """The second of two exams is positive in half of the patients, the first in none."""
    random = np.random.default_rng(0)
    truths = [(0, number % 2) for number in range(80)]
    scores = [(random.random(), 1 + random.random()) for _ in truths]
    control = auc_under_permuted_truth(of_patients(truths, scores))
    assert control.mean == pytest.approx(0.5, abs=0.005)
    # Alone of its kind, a patient with one exam of each truth is permuted, too.
    alone = auc_under_permuted_truth(of_patients([(0, 1)], [(0.2, 0.8)]))
    assert (alone.mean, alone.low, alone.high) == (pytest.approx(0.5, abs=0.05), 0, 1)


@pytest.mark.parametrize(("n_of_three", "is_there"), [(20, True), (19, False)])
def test_without_one_part_of_positive_cases_there_is_no_control(n_of_three, is_there):
    """Patients with three exams score higher; a third of all cases is positive, or a bit more."""
    truths = [(0, 0, 1)] * n_of_three + [(1, 1, 1)] * (20 - n_of_three)
    truths += [(int(number < 10),) for number in range(30)]
    scores = [tuple(len(own) + np.arange(len(own)) / 10) for own in truths]
    control = auc_under_permuted_truth(of_patients(truths, scores))
    assert (control is not None) == is_there
    if is_there:
        assert control.mean == pytest.approx(0.5, abs=0.005)
