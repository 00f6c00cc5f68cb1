"""What must hold for every test set, and at the edges: no positives, no normals, nothing found."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.evaluation import Report, evaluate
from simfrcnn.evaluation.bootstrap import Statistic, figures_of
from simfrcnn.evaluation.case import pool
from simfrcnn.records import Laterality, Pathology, Supervision, ViewPosition
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import (
    CATEGORIES,
    detection_file,
    finding,
    found,
    image,
    random_set,
)

FEW = EvaluationSettings(bootstrap_replicates=50)
NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
BOX = (10, 10, 30, 30)
ELSEWHERE = (60, 60, 80, 80)


def strict_json(report: Report) -> dict:
    """The report through JSON; fails on NaN."""
    return json.loads(json.dumps(report.to_json(), allow_nan=False))


def values(report: Report) -> dict[str, float]:
    return {name: figure.value for name, figure in report.figures.items()}


def shuffled(records, detections: DetectionFile, seed: int):
    generator = random.Random(seed)
    records = [
        replace(r, findings=tuple(generator.sample(r.findings, len(r.findings)))) for r in records
    ]
    generator.shuffle(records)
    images = list(detections.images.values())
    generator.shuffle(images)
    mixed = []
    for entry in images:
        order = generator.sample(range(len(entry.scores)), len(entry.scores))
        mixed.append(
            ImageDetections(
                entry.image_id,
                entry.boxes[order],
                entry.scores[order],
                tuple(entry.categories[i] for i in order),
            )
        )
    return records, detection_file(*mixed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_levels", [None, 3])
def test_the_order_of_files_changes_nothing(seed: int, n_levels: int | None) -> None:
    records, detections = random_set(seed, n_levels=n_levels)
    original = evaluate(records, detections, FEW)
    assert strict_json(evaluate(*shuffled(records, detections, seed), FEW)) == strict_json(original)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_levels", [None, 3])
def test_froc_never_falls_with_the_rate(seed: int, n_levels: int | None) -> None:
    records, detections = random_set(seed, n_levels=n_levels)
    report = evaluate(records, detections, NO_INTERVALS)
    for curve in report.froc.values():
        assert list(curve.x) == sorted(curve.x)
        assert list(curve.y) == sorted(curve.y)
        assert list(curve.scores) == sorted(curve.scores, reverse=True)
    loose, strict = (
        [report.froc[f"{name}/all"].y[-1] for name in pair]
        for pair in (("iou_0.1", "centre"), ("iou_0.5", "iou_0.5"))
    )
    assert loose[0] >= strict[0]


def test_a_monotone_map_of_scores_changes_no_rank_figure() -> None:
    records, detections = random_set(1)
    images = [replace(d, scores=d.scores**3 / 2) for d in detections.images.values()]
    before = values(evaluate(records, detections, NO_INTERVALS))
    after = values(evaluate(records, detection_file(*images), NO_INTERVALS))
    by_rank = [n for n in before if "auc" in n or n.startswith(("froc/", "finding/"))]
    by_rank.remove("finding/corloc_any")  # by the score threshold
    assert len(by_rank) > 100
    assert [before[n] for n in by_rank] == pytest.approx([after[n] for n in by_rank], nan_ok=True)
    assert before["case/sensitivity"] != after["case/sensitivity"]


def test_when_all_are_found_without_false_positives_every_figure_is_1() -> None:
    records, _ = random_set(2)
    perfect = detection_file(
        *(
            found(r.image_id, *((f.box, 0.9 - 0.01 * i) for i, f in enumerate(r.findings)))
            for r in records
        )
    )
    report = evaluate(records, perfect, FEW)
    for name, value in values(report).items():
        if "calibration_" in name:  # scores that separate the kinds have no finite slope
            assert math.isnan(value) == name.endswith("_slope")
            continue
        # The gap is between two sensitivities of 1; the scores are not quite 1 and 0.
        expected = 0.0 if "/gap/" in name or name.endswith("/brier") else 1.0
        assert value == pytest.approx(expected, abs=0.02 if name.endswith("/brier") else 1e-12), (
            name
        )
    assert any("no width" in note for note in report.notes)


def test_without_positives_what_needs_them_is_undefined_with_a_reason() -> None:
    records = [image(1, "A"), image(2, "B"), image(3, "C")]
    detections = detection_file(found(1, (BOX, 0.9)), found(2), found(3))
    report = evaluate(records, detections, FEW)
    defined = {"accuracy", "specificity"}
    for name, figure in report.figures.items():
        if name.endswith("/brier"):
            assert figure.value == pytest.approx(0.9**2 / 3)
        elif name.rpartition("/")[2] in defined:
            assert figure.value == pytest.approx(2 / 3)
            assert figure.method == "clopper-pearson"
        else:
            assert math.isnan(figure.value), name
            assert figure.reason, name
            assert name not in report.scalars()
    document = strict_json(report)
    assert document["figures"]["case/auc"]["value"] is None
    assert "0 positive and 3 normal" in document["figures"]["case/auc"]["reason"]
    assert "no finding of a target class" in document["figures"]["finding/ap50"]["reason"]
    assert all(curve.x == () for curve in report.roc.values())


def test_without_normals_what_needs_them_is_undefined_with_a_reason() -> None:
    records = [image(1, "A", finding(BOX, 1)), image(2, "B", finding(BOX, 2))]
    detections = detection_file(found(1, (BOX, 0.9)), found(2, (BOX, 0.2)))
    report = evaluate(records, detections, FEW)
    assert math.isnan(report.figures["case/specificity"].value)
    assert report.figures["case/sensitivity"].value == 0.5
    assert report.figures["finding/ap50"].value == pytest.approx(1.0)
    assert report.figures["froc/centre/all/sensitivity_at_1"].value == 1.0
    normal_alone = report.figures["froc/centre/normal/sensitivity_at_1"]
    assert math.isnan(normal_alone.value)
    assert normal_alone.reason == "there is no normal image"
    lesion = report.figures["froc/centre/all/lesion_sensitivity_at_1"]
    assert lesion.reason == "no finding has a lesion id"
    strict_json(report)


def test_without_detections_nothing_is_found_and_auc_is_a_half() -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B"), image(3, "A"), image(4, "C")]
    report = evaluate(records, detection_file(*(found(i) for i in (1, 2, 3, 4))), FEW)
    assert report.figures["case/auc"].value == 0.5
    assert report.figures["case/sensitivity"].value == 0.0
    assert report.figures["case/specificity"].value == 1.0
    assert report.figures["finding/ap50"].value == 0.0
    assert report.figures["froc/iou_0.1/all/sensitivity_at_8"].value == 0.0
    strict_json(report)


def test_one_case_alone() -> None:
    report = evaluate([image(1, "A", finding(BOX))], detection_file(found(1, (BOX, 0.7))), FEW)
    assert report.figures["case/sensitivity"].value == 1.0
    assert report.figures["case/sensitivity"].low == pytest.approx(0.025)  # p^1 = .025
    ap = report.figures["finding/ap50"]
    assert ap.value == pytest.approx(1.0)
    assert math.isnan(ap.low)
    assert "single positive" in str(ap.reason)
    assert math.isnan(report.figures["case/auc"].value)


def test_one_patient_of_unknown_truth_gives_no_interval_either() -> None:
    records = [image(1, "A"), image(2, "A"), image(3, "A", supervision=Supervision.UNLABELLED)]
    report = evaluate(records, detection_file(found(1, (BOX, 0.7)), found(2), found(3)), FEW)
    brier = report.figures["image/brier"]
    assert brier.value == pytest.approx(0.49 / 2)
    assert math.isnan(brier.low)
    assert "a single patient" in str(brier.reason)


def test_ten_thousand_detections_in_one_image() -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 80, size=(10_000, 2))
    boxes = np.concatenate([corners, corners + 15], axis=1)
    many = ImageDetections(1, boxes, generator.random(10_000), ("malignant",) * 10_000)
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    report = evaluate(records, detection_file(many, found(2)), NO_INTERVALS)
    assert report.counts["detections"]["of_target_classes"] == 10_000
    # What meets the finding again is no false positive; all else is, spread over two images.
    outcome = report.froc["centre/all"]
    centres = corners + 7.5
    in_box = ((centres >= 10) & (centres < 30)).all(axis=1).sum()
    assert outcome.x[-1] == (10_000 - in_box) / 2
    assert any("more than 100 detections" in note for note in report.notes)


def test_unknown_images_are_left_out_but_count_in_their_case() -> None:
    # A is positive by one view; its other breast is unlabelled, with the case's highest score.
    # B has an unlabelled view alone: unknown at every level.
    records = [
        image(1, "A", finding(BOX)),
        image(2, "A", supervision=Supervision.UNLABELLED, laterality=Laterality.RIGHT),
        image(3, "B", supervision=Supervision.UNLABELLED),
        image(4, "C"),
    ]
    detections = detection_file(
        found(1, (BOX, 0.3)), found(2, (BOX, 0.8)), found(3, (BOX, 0.9)), found(4, (BOX, 0.4))
    )
    report = evaluate(records, detections, NO_INTERVALS)
    assert report.counts["cases"] == {"total": 3, "positive": 1, "normal": 1, "unknown": 1}
    assert report.counts["breasts"] == {"total": 4, "positive": 1, "normal": 1, "unknown": 2}
    assert report.counts["images_evaluated_for_boxes"] == 2
    assert report.figures["case/auc"].value == 1.0  # .8 against .4
    assert report.figures["image/auc"].value == 0.0  # .3 against .4
    assert report.froc["centre/all"].x == (0.5,)  # .4 in image 4, over images 1 and 4
    assert any(note.startswith("2 images of unknown truth are left out") for note in report.notes)

    as_normal = replace(NO_INTERVALS, unknown_images="normal")
    report = evaluate(records, detections, as_normal)
    assert report.counts["cases"] == {"total": 3, "positive": 1, "normal": 2, "unknown": 0}
    assert report.counts["images_evaluated_for_boxes"] == 4
    assert report.froc["centre/all"].x == (0.75,)
    assert report.figures["case/auc"].value == 0.5  # .8 against .9 and .4


def test_a_record_that_says_malignant_makes_its_breast_and_case_positive() -> None:
    # A malignant breast in whose two views nobody could draw the cancer; the other breast is
    # normal.
    records = [
        image(1, "A", supervision=Supervision.IMAGE_LABEL, pathology=Pathology.MALIGNANT),
        image(2, "A", supervision=Supervision.NORMAL, view=ViewPosition.MLO),
        image(3, "A", laterality=Laterality.RIGHT),
    ]
    report = evaluate(records, detection_file(found(1), found(2), found(3)), NO_INTERVALS)
    truth = {level: [u.truth for u in units] for level, units in report.units.items()}
    assert truth == {
        "case": ["positive"],
        "patient": ["positive"],
        "breast": ["positive", "normal"],
        "image": ["unknown", "normal", "normal"],
    }


def test_cases_by_exam_or_by_patient() -> None:
    records = [image(1, "A", finding(BOX), exam="A1"), image(2, "A", exam="A2"), image(3, "B")]
    detections = detection_file(found(1, (BOX, 0.9)), found(2, (BOX, 0.8)), found(3))
    by_exam = evaluate(records, detections, FEW)
    by_patient = evaluate(records, detections, replace(FEW, case_by="patient"))
    assert [unit.unit_id for unit in by_exam.units["case"]] == ["A1", "A2", "B-exam"]
    assert by_exam.figures["case/specificity"].value == 0.5
    assert by_exam.figures["case/accuracy"].method != "clopper-pearson"  # A gives two cases
    assert by_exam.figures["case/specificity"].method == "clopper-pearson"  # of which one is normal
    assert [unit.unit_id for unit in by_patient.units["case"]] == ["A", "B"]
    assert by_patient.figures["case/specificity"].value == 1.0
    assert by_patient.figures["case/specificity"].method == "clopper-pearson"


def test_pooling_by_hand() -> None:
    assert pool([0.2, 0.5, 0.0], "max") == 0.5
    assert pool([0.2, 0.5, 0.2], "mean") == pytest.approx(0.3)
    assert pool([0.2, 0.5], "noisy_or") == pytest.approx(1 - 0.8 * 0.5)
    # A view of score 0 says nothing: 1 - (1 - .1) is not quite .1 in floating point.
    assert pool([0.1, 0.0], "noisy_or") == pool([0.1], "noisy_or") == 0.1


@pytest.mark.parametrize("pooling", ["max", "mean", "noisy_or"])
def test_pooling_keeps_ties_and_scores_at_a_threshold_to_the_last_digit(pooling: str) -> None:
    generator = random.Random(0)
    for _ in range(200):
        scores = [round(generator.random(), 2) for _ in range(generator.randint(2, 5))]
        other_order = generator.sample(scores, len(scores))
        assert pool(scores, pooling) == pool(other_order, pooling)
        assert pool(scores[:1], pooling) == scores[0]
        if pooling != "noisy_or":
            assert pool(scores[:1] * 3, pooling) == scores[0]


def test_another_iou_threshold_gives_its_own_average_precision() -> None:
    # IoU of the only detection is exactly .4: 8 of 20 columns.
    records = [image(1, "A", finding((0, 0, 20, 10))), image(2, "B")]
    detections = detection_file(found(1, ((0, 0, 8, 10), 0.9)), found(2))
    loose = evaluate(records, detections, replace(NO_INTERVALS, iou_threshold=0.3)).figures
    assert loose["finding/ap30"].value == pytest.approx(1.0)
    assert loose["finding/coco_ap"].value == 0.0
    assert evaluate(records, detections, NO_INTERVALS).figures["finding/ap50"].value == 0.0


def fake_statistic(n_undefined: int, n_replicates: int) -> Statistic:
    replicates = np.arange(n_replicates, dtype=float)
    replicates[:n_undefined] = np.nan
    column = iter(np.concatenate([[7.0], replicates]))

    def compute(weights: np.ndarray) -> np.ndarray:
        return np.array([[next(column)] for _ in weights])

    return Statistic(("x",), compute, {"x": {"things": 1}}, {"x": "never"})


def test_undefined_replicates_are_dropped_and_too_many_give_no_interval() -> None:
    strata = np.array([0, 0, 1, 1])
    some = figures_of([fake_statistic(50, 1000)], strata, n_replicates=1000, seed=0)["x"]
    assert (some.value, some.n_dropped, some.method) == (7.0, 50, "bootstrap")
    # 50 ... 999: 2.5% and 97.5% of 949 steps.
    assert (some.low, some.high) == pytest.approx((50 + 0.025 * 949, 50 + 0.975 * 949))
    many = figures_of([fake_statistic(51, 1000)], strata, n_replicates=1000, seed=0)["x"]
    assert (many.value, many.n_dropped, many.method) == (7.0, 51, None)
    assert math.isnan(many.low)
    assert "51 of 1000" in str(many.reason)


def test_intervals_hold_the_value_and_depend_on_the_seed_alone() -> None:
    records, detections = random_set(4, n_patients=30)
    settings = EvaluationSettings(bootstrap_replicates=300)
    report = evaluate(records, detections, settings)
    again = evaluate(records, detections, settings)
    other = evaluate(records, detections, replace(settings, bootstrap_seed=1))
    assert strict_json(report) == strict_json(again)
    assert values(report) == values(other)
    assert report.figures["image/brier"].low != other.figures["image/brier"].low
    assert report.figures["image/auc"] == other.figures["image/auc"]
    methods = {"image/auc": "obuchowski-logit", "patient/auc": "delong-logit"}
    resampled = ("image/brier", "finding/ap50", "froc/centre/all/sensitivity_at_1")
    for name, method in {**methods, **dict.fromkeys(resampled, "bootstrap")}.items():
        figure = report.figures[name]
        assert figure.low < figure.value < figure.high, name
        assert figure.method == method


def test_bootstrap_width_agrees_with_theory() -> None:
    # 200 normal patients with one exam of two views each (so no exact interval by image), 60
    # called: both views alike, hence the standard error is that of 200 patients, not of 400 images.
    records, images = [], []
    for patient in range(200):
        for view in range(2):
            image_id = 2 * patient + view + 1
            records.append(image(image_id, f"P{patient:03d}"))
            images.append(found(image_id, (BOX, 0.9 if patient < 60 else 0.1)))
    report = evaluate(records, detection_file(*images), EvaluationSettings())
    figure = report.figures["image/specificity"]
    assert figure.value == pytest.approx(0.7)
    standard_error = math.sqrt(0.7 * 0.3 / 200)
    assert (figure.high - figure.low) / (2 * 1.96) == pytest.approx(standard_error, rel=0.08)


def test_no_records() -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate([], detection_file(), NO_INTERVALS)


def test_two_records_with_one_id() -> None:
    with pytest.raises(DataError, match="image id 1 stands for"):
        evaluate([image(1, "A"), image(1, "B")], detection_file(found(1)), NO_INTERVALS)


def test_an_image_that_was_not_run() -> None:
    with pytest.raises(ArtifactError, match=r"image 2 \(2.png\) was not run"):
        evaluate([image(1, "A"), image(2, "B")], detection_file(found(1)), NO_INTERVALS)


def test_detections_of_an_image_that_is_not_annotated() -> None:
    with pytest.raises(ArtifactError, match="covers image 9"):
        evaluate([image(1, "A")], detection_file(found(1), found(9)), NO_INTERVALS)


def test_a_model_without_the_target_class() -> None:
    other = DetectionFile(images={1: found(1)}, categories={1: "mass"})
    with pytest.raises(ArtifactError, match=r"does not know the target class 'malignant'.*mass"):
        evaluate([image(1, "A")], other, NO_INTERVALS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score_threshold": 1.5}, "SCORE_THRESHOLD is 1.5"),
        ({"score_threshold": math.nan}, "SCORE_THRESHOLD is nan"),
        ({"iou_threshold": 0.0}, "IOU_THRESHOLD is 0.0"),
        ({"bootstrap_replicates": -1}, "BOOTSTRAP_REPLICATES is -1"),
        ({"bootstrap_seed": -1}, "BOOTSTRAP_SEED is -1"),
        ({"target_classes": ()}, "at least one class name"),
        ({"target_classes": ("cancer",)}, "'cancer' is not among the categories"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate(
            [image(1, "A")],
            detection_file(found(1)),
            replace(NO_INTERVALS, **change),
            categories=CATEGORIES,
        )


def test_notes_on_a_changed_annotation_file_and_a_missing_sidecar() -> None:
    detections = replace(
        detection_file(found(1)), provenance={"annotations_sha256": "a"}, is_coverage_stated=False
    )
    report = evaluate(
        [image(1, "A")], detections, NO_INTERVALS, provenance={"annotations_sha256": "b"}
    )
    assert any("without a sidecar" in note for note in report.notes)
    assert any("hashes differ" in note for note in report.notes)
    assert report.provenance["prediction"] == {"annotations_sha256": "a"}


def test_when_nothing_is_known_every_figure_is_undefined() -> None:
    records = [image(i, f"P{i}", supervision=Supervision.UNLABELLED) for i in (1, 2)]
    report = evaluate(records, detection_file(found(1, (BOX, 0.9)), found(2)), FEW)
    assert report.scalars() == {}
    assert report.counts["images_evaluated_for_boxes"] == 0
    assert report.counts["cases"]["unknown"] == 2
    assert all(figure.reason for figure in report.figures.values())
    strict_json(report)


def test_noisy_or_of_a_case_from_its_views() -> None:
    records = [image(1, "A", finding(BOX)), image(2, "A", view=ViewPosition.MLO), image(3, "B")]
    detections = detection_file(found(1, (BOX, 0.4)), found(2, (BOX, 0.5)), found(3))
    report = evaluate(records, detections, replace(NO_INTERVALS, pooling="noisy_or"))
    assert [unit.score for unit in report.units["case"]] == pytest.approx([0.7, 0.0])
    assert [unit.score for unit in report.units["image"]] == pytest.approx([0.4, 0.5, 0.0])


@pytest.mark.parametrize(("n_replicates", "is_told"), [(0, False), (999, True), (1000, False)])
def test_a_reader_is_told_of_few_resamplings(n_replicates: int, is_told: bool) -> None:
    records, detections = random_set(1, n_patients=6)
    settings = EvaluationSettings(bootstrap_replicates=n_replicates)
    notes = evaluate(records, detections, settings).notes
    assert any("their ends are rough" in note for note in notes) is is_told
