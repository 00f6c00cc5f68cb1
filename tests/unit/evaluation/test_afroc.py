"""AFROC, wAFROC and LROC: by hand, and against slow definitions.

``test_afroc_published`` holds them against the figures that RJafroc publishes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from unit.evaluation.test_evaluation_twins import (
    N_LEVELS,
    NO_INTERVALS,
    SEED,
    SLOW_TWINS,
    TARGET,
    near,
    slow_events,
    targets_of,
)

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.bootstrap import clopper_pearson
from simfrcnn.evaluation.delong import auc_interval
from simfrcnn.evaluation.evaluator import gather, statistics_of
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.reporting.wording import label_of
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import (
    CATEGORIES,
    detection_file,
    finding,
    found,
    image,
    random_set,
)

NEVER = float("-inf")
LEFT, RIGHT, FAR = (0, 0, 20, 20), (40, 40, 60, 60), (70, 70, 90, 90)


def wins(positive: float, normal: float) -> float:
    return 1.0 if positive > normal else 0.5 if positive == normal else 0.0


def slow_figures(records, detections, criterion: str, level: str, settings) -> dict[str, float]:
    """By the words of the definitions: every lesion against every normal unit."""
    units: dict[tuple[str, str], list] = {}
    for record in records:
        own = str(record.image_id) if level == "image" else record.exam_id
        units.setdefault((record.patient_id, own), []).append(record)
    known = {
        key: group
        for key, group in units.items()
        if all(r.is_positive(TARGET) or r.is_known_normal(TARGET) for r in group)
    }
    hits: dict[tuple, float] = {}
    false: dict[tuple, float] = {}
    unit_of = {r.image_id: key for key, group in known.items() for r in group}
    for score, record, what in slow_events(records, detections, criterion, settings):
        unit = unit_of.get(record.image_id)
        if unit is None:
            continue
        if what is None:
            false[unit] = max(score, false.get(unit, NEVER))
        else:
            hits[record.image_id, what.finding_id] = score
    normal = [false.get(k, NEVER) for k, g in known.items() if not any(targets_of(r) for r in g)]
    afroc, wafroc, lroc, localised = [], [], [], []
    for key, group in known.items():
        lesions: dict[tuple, float] = {}
        for record in group:
            for one in targets_of(record):
                shared = level == "case" and one.lesion_id
                name = (one.lesion_id,) if shared else (record.image_id, one.finding_id)
                score = hits.get((record.image_id, one.finding_id), NEVER)
                lesions[name] = max(score, lesions.get(name, NEVER))
        if not lesions:
            continue
        won = [np.mean([wins(score, other) for other in normal]) for score in lesions.values()]
        afroc += won
        wafroc.append(np.mean(won))
        best = max(lesions.values())
        is_localised = best > false.get(key, NEVER)
        localised.append(best >= settings.score_threshold)
        lroc.append(np.mean([is_localised and wins(best, max(other, -1.0)) for other in normal]))
    figures = {"afroc": afroc, "wafroc": wafroc, "lroc": lroc}
    if level == "case":
        figures["sensitivity"] = localised
    return {name: np.mean(values) for name, values in figures.items()}


@SLOW_TWINS
@given(seed=SEED, n_levels=N_LEVELS)
def test_they_are_what_their_definitions_say(seed, n_levels):
    records, detections = random_set(seed, n_patients=16, n_levels=n_levels)
    figures = evaluate(records, detections, NO_INTERVALS).figures
    for criterion, level in itertools.product(HIT_CRITERIA, ("case", "image")):
        start = f"localised/{criterion.name}/{level}"
        if f"{start}/afroc" not in figures:
            continue
        slow = slow_figures(records, detections, criterion.name, level, NO_INTERVALS)
        for name, value in slow.items():
            assert figures[f"{start}/{name}"].value == near(value), name


def test_by_hand():
    """Two lesions of a case, one of them missed; a false positive above one normal of two."""
    records = [
        image(1, "a", finding(LEFT, 1), finding(RIGHT, 2)),
        image(2, "b", finding(LEFT, 3)),
        image(3, "c"),
        image(4, "d"),
    ]
    detections = detection_file(
        found(1, (LEFT, 0.6)),  # one of two lesions
        found(2, (FAR, 0.9), (LEFT, 0.4)),  # recalled for the wrong place
        found(3, (FAR, 0.5)),
        found(4),
    )
    figures = evaluate(records, detections, NO_INTERVALS).figures
    # Lesions .6, none, .4 against normal images .5, none: 2 + 1/2 + 1 of 6 pairs.
    assert figures["localised/centre/image/afroc"].value == near(3.5 / 6)
    # Images weigh alike: ((2 + 1/2) / 2 + 1) / 2 of 2 normal images.
    assert figures["localised/centre/image/wafroc"].value == near((2.5 / 2 + 1) / 4)
    # Image 1 wins both pairs; image 2 has its highest mark beside the lesion.
    assert figures["localised/centre/image/lroc"].value == near(2 / 4)
    assert figures["localised/centre/image/wafroc"].n == {"lesions": 3, "positive": 2, "normal": 2}
    # At .5 the mark of case b is beside its lesion: recalled, but not found.
    assert figures["localised/centre/case/sensitivity"].value == near(1 / 2)
    assert figures["localised/centre/case/sensitivity"].n == {"right": 1, "positive": 2}
    assert figures["case/sensitivity"].value == 1
    # ROC does not mind the wrong place.
    assert figures["case/auc"].value == 1


@pytest.mark.parametrize("counts_repeats", [False, True])
def test_a_repeat_on_the_lesion_is_in_the_right_place(counts_repeats):
    records = [image(1, "a", finding(LEFT, 1)), image(2, "b")]
    detections = detection_file(
        found(1, (LEFT, 0.9), ((1, 1, 20, 20), 0.9)), found(2, (FAR, 0.5), (LEFT, 0.4))
    )
    settings = EvaluationSettings(
        bootstrap_replicates=0, count_repeats_as_false_positives=counts_repeats
    )
    figures = evaluate(records, detections, settings).figures
    assert figures["localised/centre/image/lroc"].value == 1
    false = figures["froc/centre/positive/sensitivity_at_0.5"]
    assert false.value == (0 if counts_repeats else 1)


@pytest.mark.parametrize("pooling", ["max", "mean", "noisy_or"])
def test_localised_sensitivity_is_of_cases_recalled_for_their_highest_mark(pooling):
    """One of two views has a mark: its case has .4 by the mean, below the threshold of .5."""
    records = [image(n, "a", finding(LEFT, n)) for n in (1, 2)] + [image(3, "b")]
    detections = detection_file(found(1, (LEFT, 0.8)), found(2), found(3))
    settings = EvaluationSettings(bootstrap_replicates=0, pooling=pooling)
    figures = evaluate(records, detections, settings).figures
    assert figures["case/sensitivity"].value == (0 if pooling == "mean" else 1)
    localised = {key for key in figures if key.startswith("localised/centre/case/")}
    assert ("localised/centre/case/sensitivity" in localised) == (pooling == "max")
    assert "localised/centre/case/wafroc" in localised


def test_lesions_count_by_the_weights_of_the_annotations():
    weigh = dataclasses.replace
    heavy, light = weigh(finding(LEFT, 1), weight=3.0), weigh(finding(RIGHT, 2), weight=1.0)
    records = [image(1, "a", heavy, light), image(2, "b"), image(3, "c", finding(LEFT, 3))]
    detections = detection_file(found(1, (LEFT, 0.6)), found(2, (FAR, 0.5)), found(3))
    figures = evaluate(records, detections, NO_INTERVALS).figures
    assert figures["localised/centre/image/wafroc"].value == near((0.75 + 0) / 2)
    assert figures["localised/centre/image/afroc"].value == near(1 / 3)
    with pytest.raises(DataError, match="2 lesions, 1 of them with a 'lesion_weight'"):
        evaluate(
            [image(1, "a", heavy, finding(RIGHT, 2)), image(2, "b")],
            detection_file(found(1), found(2)),
            NO_INTERVALS,
        )
    two_views = [
        image(1, "a", weigh(finding(LEFT, 1, lesion_id="L"), weight=1.0)),
        image(2, "a", weigh(finding(LEFT, 2, lesion_id="L"), weight=2.0)),
        image(3, "b"),
    ]
    with pytest.raises(DataError, match=r"'L' of exam a-exam has the weights 1\.0 and 2\.0"):
        evaluate(two_views, detection_file(found(1), found(2), found(3)), NO_INTERVALS)


def test_a_resampled_set_counts_its_patients_as_often_as_they_are_drawn():
    """Weights of patients give what a set with so many copies of them gives."""
    records, detections = random_set(5, n_patients=9)
    evidence = gather(records, detections, NO_INTERVALS)
    drawn = np.random.default_rng(0).integers(0, 3, len(evidence.patient_ids))
    copies, images = [], []
    for record in records:
        for copy in range(drawn[evidence.patient_ids.index(record.patient_id)]):
            number = 1000 * copy + record.image_id
            changed = dataclasses.replace(
                record,
                image_id=number,
                file_name=f"{number}.png",
                patient_id=f"{record.patient_id}-{copy}",
                exam_id=f"{record.exam_id}-{copy}",
            )
            copies.append(changed)
            images.append(dataclasses.replace(detections.images[record.image_id], image_id=number))
    whole = evaluate(copies, detection_file(*images), NO_INTERVALS).figures
    n_checked = 0
    for statistic in statistics_of(evidence, NO_INTERVALS):
        if statistic.keys[0].startswith("localised/"):
            values = statistic.compute(drawn[None].astype(float))[0]
            for key, value in zip(statistic.keys, values, strict=True):
                assert value == near(whole[key].value), key
                n_checked += 1
    assert n_checked == 21


def test_they_are_left_out_where_nothing_is_to_be_found_or_left_alone():
    only_positive = [image(1, "a", finding(LEFT)), image(2, "b", finding(LEFT, 2))]
    only_normal = [image(1, "a"), image(2, "b")]
    for records in (only_positive, only_normal):
        figures = evaluate(records, detection_file(found(1), found(2)), NO_INTERVALS).figures
        left = {key for key in figures if key.startswith("localised/")}
        # Sensitivity needs no normal unit.
        assert {key.split("/")[-1] for key in left} == (
            {"sensitivity"} if records is only_positive else set()
        )


def test_a_weight_of_two_is_two_units_of_the_patient():
    random = np.random.default_rng(3)
    patients = random.integers(0, 20, 60)
    is_positive = patients % 3 == 0
    scores = random.normal(size=60) + is_positive
    twice = random.random(60) < 0.4
    weighted = auc_interval(patients, scores, is_positive, np.where(twice, 2.0, 1.0))
    again = np.concatenate([np.arange(60), np.flatnonzero(twice)])
    repeated = auc_interval(patients[again], scores[again], is_positive[again])
    assert (weighted.low, weighted.high) == pytest.approx((repeated.low, repeated.high), abs=1e-12)
    alike = auc_interval(patients, scores, is_positive, np.ones(60))
    plain = auc_interval(patients, scores, is_positive)
    assert (alike.low, alike.high) == pytest.approx((plain.low, plain.high), abs=1e-12)


def test_the_intervals_are_those_of_an_auc_over_patients():
    records, detections = random_set(2, n_patients=40)
    report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=20))
    for key, figure in report.figures.items():
        if key.startswith("localised/") and not key.endswith("sensitivity"):
            assert figure.method == "obuchowski-logit", (key, figure)
            assert 0 < figure.low < figure.value < figure.high < 1


def test_localised_sensitivity_has_the_exact_interval_and_every_operating_point():
    records = [image(n, f"{n}", finding(LEFT, n)) for n in (1, 2, 3)] + [image(4, "4")]
    detections = detection_file(
        found(1, (LEFT, 0.9)), found(2, (LEFT, 0.4)), found(3, (FAR, 0.9)), found(4)
    )
    point = OperatingPoint("case", "youden", 0.3, None, "val", 1.0, 1.0)
    settings = EvaluationSettings(bootstrap_replicates=10)
    figures = evaluate(records, detections, settings, operating_points=[point]).figures
    fixed = figures["localised/centre/case/sensitivity"]
    expected = clopper_pearson(1, 3)
    assert (fixed.value, fixed.low, fixed.high) == (1 / 3, expected.low, expected.high)
    assert figures["localised/centre/case/youden/sensitivity"].value == near(2 / 3)
    assert label_of("localised/centre/case/youden/sensitivity") == (
        "Localised SEN by case (centre in box, Youden)"
    )
    assert label_of("localised/iou_0.1/image/wafroc") == "wAFROC by image (IoU >= 0.1)"


def test_weights_of_lesions_are_read_and_written(tmp_path):
    weighed = dataclasses.replace(finding(LEFT, 1), weight=2.5)
    path = tmp_path / "test.json"
    write_coco(path, [image(1, "a", weighed, finding(RIGHT, 2))], CATEGORIES, {"version": "1"})
    entries = json.loads(path.read_text())["annotations"]
    assert [entry.get("lesion_weight") for entry in entries] == [2.5, None]
    assert "lesion_weight" not in entries[1]
    (record,) = read_coco(path, check_files=False).records
    assert [one.weight for one in record.findings] == [2.5, None]
    path.write_text(path.read_text().replace("2.5", "0"))
    with pytest.raises(AnnotationError, match="'lesion_weight' must be above 0, not 0"):
        read_coco(path, check_files=False)
