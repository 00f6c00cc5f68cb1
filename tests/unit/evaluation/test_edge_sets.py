"""Test sets at the edge of what can be judged: every report stands, with reasons for what it lacks.

Each set is judged with intervals and as strict JSON: no exception, no warning, no NaN in the file.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile, ImageDetections, read_detections
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation import Report, evaluate
from simfrcnn.records import ImageRecord, Laterality, Supervision
from simfrcnn.settings import EvaluationSettings
from support.data_examples import make_record
from support.evaluation_examples import detection_file, finding, found, image

SETTINGS = EvaluationSettings(bootstrap_replicates=50, prevalence=0.01)
BOX = (10, 10, 30, 30)
ELSEWHERE = (60, 60, 80, 80)
SIDES = (Laterality.LEFT, Laterality.RIGHT)
LEVELS = ("case", "patient", "breast", "image")


def judged(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings = SETTINGS,
) -> Report:
    """The report; fails where a figure lacks both value and reason, or JSON would hold NaN."""
    report = evaluate(records, detections, settings)
    for name, figure in report.figures.items():
        if math.isnan(figure.value) or math.isnan(figure.low):
            assert figure.reason, name
        if not math.isnan(figure.low):
            assert figure.method, name
            assert figure.low <= figure.value <= figure.high, name
    for band in report.bands.values():
        assert not np.isnan([band.low, band.high]).any()
    json.loads(json.dumps(report.to_json(), allow_nan=False))
    return report


def undefined(report: Report) -> set[str]:
    return {name for name, figure in report.figures.items() if math.isnan(figure.value)}


def test_no_positives() -> None:
    records = [image(i, f"P{i}") for i in range(1, 5)]
    detections = detection_file(found(1, (BOX, 0.9)), *(found(i) for i in range(2, 5)))
    report = judged(records, detections)
    for level in LEVELS:
        assert report.figures[f"{level}/specificity"].value == 0.75
        assert report.figures[f"{level}/brier"].value == pytest.approx(0.81 / 4)
        assert f"{level}/sensitivity" in undefined(report)
        assert "0 positive and 4 normal" in str(report.figures[f"{level}/auc"].reason)
        assert [b.observed for b in report.calibration[level]] == [0.0, 0.0]
    assert {"case/ppv", "case/npv", "finding/ap50"} <= undefined(report)
    assert {name for name in report.figures if name.startswith("froc/")} <= undefined(report)
    for name in ("all/", "normal/", "gap/", "all/lesion_"):
        what = "lesion" if "lesion" in name else "finding"
        figure = report.figures[f"froc/centre/{name}sensitivity_at_1"]
        assert figure.reason == f"there is no {what} to be found"
    assert report.bands == {}
    assert all(curve.x == () for curve in (*report.roc.values(), *report.froc.values()))


def test_no_normals() -> None:
    records = [image(i, f"P{i}", finding(BOX, i)) for i in range(1, 5)]
    detections = detection_file(*(found(i, (BOX, 0.2 * i)) for i in range(1, 5)))
    report = judged(records, detections)
    for level in LEVELS:
        assert report.figures[f"{level}/sensitivity"].value == 0.5
        assert f"{level}/specificity" in undefined(report)
        assert "4 positive and 0 normal" in str(report.figures[f"{level}/auc"].reason)
        assert f"roc/{level}" not in report.bands
    assert {"case/ppv", "case/npv"} <= undefined(report)
    assert report.figures["finding/ap50"].value == pytest.approx(1.0)
    assert report.figures["froc/iou_0.5/all/sensitivity_at_0.1"].value == 1.0
    assert report.figures["froc/iou_0.5/normal/sensitivity_at_0.1"].reason == (
        "there is no normal image"
    )


def test_no_detections() -> None:
    records = [image(i, f"P{i}", *([finding(BOX, i)] if i % 2 else [])) for i in range(1, 9)]
    report = judged(records, detection_file(*(found(i) for i in range(1, 9))))
    for level in LEVELS:
        auc = report.figures[f"{level}/auc"]
        assert (auc.value, auc.method) == (0.5, None)
        assert "every patient fares alike" in str(auc.reason)
        assert report.figures[f"{level}/sensitivity"].value == 0.0
        assert report.figures[f"{level}/specificity"].value == 1.0
        assert report.figures[f"{level}/brier"].value == 0.5
        assert report.roc[level].scores == (0.0,)
    assert "case/ppv" in undefined(report)
    assert report.figures["case/npv"].value == pytest.approx(0.99)
    assert report.figures["finding/ap50"].value == 0.0
    assert report.figures["froc/centre/all/sensitivity_at_8"].value == 0.0


def test_all_ties() -> None:
    """One score: a single operating point, at which everything is called."""
    records = [image(i, f"P{i}", *([finding(BOX, i)] if i % 2 else [])) for i in range(1, 9)]
    detections = detection_file(*(found(i, (BOX, 0.7), (ELSEWHERE, 0.7)) for i in range(1, 9)))
    report = judged(records, detections)
    assert report.figures["case/auc"].value == 0.5
    assert (report.roc["case"].x, report.roc["case"].y) == ((1.0,), (1.0,))
    curve = report.froc["iou_0.5/all"]
    # In each positive image a hit and a false positive, in each normal one two.
    assert (curve.scores, curve.x, curve.y) == ((0.7,), (1.5,), (1.0,))
    assert report.figures["froc/iou_0.5/all/sensitivity_at_1"].value == 0.0
    assert report.figures["froc/iou_0.5/all/sensitivity_at_2"].value == 1.0
    assert report.figures["case/ppv"].value == pytest.approx(0.01)  # no better than the prevalence
    assert "case/npv" in undefined(report)


@pytest.mark.parametrize("is_positive", [True, False])
def test_one_case(is_positive: bool) -> None:
    records = [image(1, "A", *([finding(BOX)] if is_positive else []))]
    report = judged(records, detection_file(found(1, (BOX, 0.7))))
    assert report.counts["cases"]["total"] == 1
    own, other = ("sensitivity", "specificity") if is_positive else ("specificity", "sensitivity")
    for level in LEVELS:
        figure = report.figures[f"{level}/{own}"]
        assert figure.value == (1.0 if is_positive else 0.0)
        assert figure.method == "clopper-pearson"
        assert figure.high - figure.low == pytest.approx(0.975)  # one trial says next to nothing
        assert {f"{level}/{other}", f"{level}/auc"} <= undefined(report)
        assert math.isnan(report.figures[f"{level}/brier"].low)
    assert report.bands == {}


def test_one_positive_and_one_normal_case() -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    report = judged(records, detection_file(found(1, (BOX, 0.7)), found(2)))
    auc = report.figures["case/auc"]
    # One pair, won.
    assert (auc.value, auc.high, auc.method) == (1.0, 1.0, "disjoint-pairs")
    assert auc.low == pytest.approx(0.025)


def test_nothing_is_known() -> None:
    records = [image(i, f"P{i}", supervision=Supervision.UNLABELLED) for i in (1, 2, 3)]
    report = judged(records, detection_file(*(found(i, (BOX, 0.9)) for i in (1, 2, 3))))
    assert undefined(report) == set(report.figures)
    assert all(bins == () for bins in report.calibration.values())


def test_both_breasts_of_each_patient() -> None:
    """Several units of a patient: no interval takes them for independent."""
    records, images = [], []
    for patient in range(12):
        for side in range(2):
            image_id = 2 * patient + side + 1
            boxes = [finding(BOX, image_id)] if patient < 6 and side == 0 else []
            records.append(image(image_id, f"P{patient:02d}", *boxes, laterality=SIDES[side]))
            images.append(found(image_id, (BOX, 0.025 * image_id + (0.3 if boxes else 0.0))))
    report = judged(records, detection_file(*images))
    assert report.figures["case/auc"].method == "delong-logit"
    assert report.figures["case/specificity"].method == "clopper-pearson"
    for level in ("breast", "image"):
        assert report.figures[f"{level}/auc"].method == "obuchowski-logit"
        assert report.figures[f"{level}/accuracy"].method == "bootstrap"
        assert report.figures[f"{level}/specificity"].method == "bootstrap"
        # Of the positive breasts no patient has two.
        assert report.figures[f"{level}/sensitivity"].method == "clopper-pearson"


@pytest.mark.parametrize("found_score", [0.9, 0.1])
def test_all_or_no_breasts_right(found_score: float) -> None:
    """Resamplings are all alike; 15 patients do not say that every breast will be right."""
    records, images = [], []
    for patient in range(15):
        for side in range(2):
            image_id = 2 * patient + side + 1
            boxes = [finding(BOX, image_id)] if patient < 5 else []
            records.append(image(image_id, f"P{patient:02d}", *boxes, laterality=SIDES[side]))
            images.append(found(image_id, (BOX, found_score if boxes else 1 - found_score)))
    report = judged(records, detection_file(*images))
    n_patients = {"accuracy": 15, "sensitivity": 5, "specificity": 10}
    for level in ("breast", "image"):
        for name, n in n_patients.items():
            figure, open_end = report.figures[f"{level}/{name}"], 0.025 ** (1 / n)
            expected = (1.0, open_end, 1.0) if found_score > 0.5 else (0.0, 0.0, 1 - open_end)
            assert (figure.value, figure.low, figure.high) == pytest.approx(expected)
            assert figure.method == "clopper-pearson"
    corloc = report.figures["finding/corloc"]
    assert (corloc.value, corloc.low) == pytest.approx((1.0, 0.025 ** (1 / 5)))


def test_ten_thousand_detections_in_one_image() -> None:
    random = np.random.default_rng(0)
    n = 10_000
    corners = random.uniform(0, 80, size=(n, 2))
    boxes = np.concatenate([corners, corners + 15], axis=1)
    many = ImageDetections(1, boxes, random.random(n), ("malignant",) * n)
    records = [image(1, "A", finding(BOX)), image(2, "B"), image(3, "C")]
    start = time.process_time()
    report = judged(records, detection_file(many, found(2, (BOX, 0.1)), found(3)))
    assert time.process_time() - start < 5
    assert report.figures["case/auc"].value == 1.0
    assert report.figures["froc/centre/normal/sensitivity_at_0.1"].value == 1.0
    curve = report.froc["centre/all"]
    assert curve.y == (1.0, 1.0)
    # All that don't meet the finding are false; one more lies in image 2; over three images.
    centres = corners + 7.5
    n_meeting = int(((centres >= 10) & (centres < 30)).all(axis=1).sum())
    assert curve.x[-1] == (n - n_meeting + 1) / 3
    assert any("more than 100 detections" in note for note in report.notes)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_a_score_that_is_no_probability_is_refused(score: float, tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"image 7, detection 1: score .* is not in \[0, 1\]"):
        found(7, (BOX, 0.5), (BOX, score))
    path = tmp_path / "detections.json"
    rows = [{"image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5], "score": score}]
    path.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"detections\.json.*score"):
        read_detections(path, categories={1: "malignant"}, records=[make_record(7)])


@pytest.mark.parametrize("side", [math.nan, math.inf])
def test_a_box_that_is_not_finite_is_refused(side: float) -> None:
    with pytest.raises(ArtifactError, match=r"image 7, detection 0: the box .* is not finite"):
        found(7, ((1, 1, side, 5), 0.5))


def test_boxes_beyond_the_image_are_refused() -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    detections = detection_file(found(1, (BOX, 0.9)), found(2, ((90, 90, 104, 99), 0.8)))
    with pytest.raises(ArtifactError, match=r"image 2 .*104.* outside") as refused:
        evaluate(records, detections, SETTINGS)
    assert "100 x 100 pixels" in str(refused.value)
    assert "clip" in str(refused.value)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, -1, 5, 5), (5, 5, 101, 5), (5, 5, 5, 101)])
def test_a_pixel_beyond_the_image_is_rounding(box: tuple[int, ...]) -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    report = judged(records, detection_file(found(1, (BOX, 0.9)), found(2, (box, 0.8))))
    assert report.counts["detections"]["of_target_classes"] == 2


def test_boxes_beyond_the_image_are_clipped_by_option() -> None:
    # The half of it that lies in the image is the finding: IoU 1/2 before, 1 after.
    records = [image(1, "A", finding((80, 10, 100, 30))), image(2, "B")]
    detections = detection_file(found(1, ((80, 10, 120, 30), 0.9)), found(2))
    clip = replace(SETTINGS, boxes_outside="clip")
    report = judged(records, detections, clip)
    assert report.figures["finding/coco_ap"].value == pytest.approx(1.0)
    assert report.settings.boxes_outside == "clip"
    inside = judged(records, detection_file(found(1, ((80, 10, 100, 30), 0.9)), found(2)), clip)
    assert {n: f.value for n, f in report.figures.items()} == pytest.approx(
        {n: f.value for n, f in inside.figures.items()}, nan_ok=True
    )


@pytest.mark.parametrize("n_replicates", [1, 2, 60])
def test_scores_that_are_all_equal_give_no_interval_of_an_area(n_replicates):
    """Every resampled set has the same value, which says nothing of how sure it is."""
    records = [image(n, f"{n}", *[finding(BOX, n)] * (n <= 22)) for n in range(1, 45)]
    detections = detection_file(*(found(n, (BOX, 0.5)) for n in range(1, 45)))
    settings = EvaluationSettings(bootstrap_replicates=n_replicates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate(records, detections, settings)
    for key in ("case/auc", "case/partial_auc"):
        figure = report.figures[key]
        assert figure.value == 0.5, key
        assert math.isnan(figure.low), key
        assert figure.reason.startswith("no interval: "), key


def test_images_that_do_not_say_their_side_are_noted_where_breasts_are_judged():
    """Both breasts of an exam would otherwise count as one without a word."""
    boxed = [finding(BOX, 1)]

    def notes_of(*sides):
        records = [
            image(n, "p1", *(boxed if n == 1 else []), laterality=side)
            for n, side in enumerate(sides, start=1)
        ]
        detections = detection_file(*(found(n, (BOX, 0.5)) for n in range(1, len(sides) + 1)))
        report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=0))
        return report.counts["breasts"]["total"], [n for n in report.notes if "laterality" in n]

    left, right = Laterality.LEFT, Laterality.RIGHT
    assert notes_of(left, right) == (2, [])
    n_breasts, (note,) = notes_of(left, right, None)
    assert n_breasts == 3
    assert note.startswith("1 image does not say its side (laterality)")
    n_breasts, (note,) = notes_of(None, None)
    assert n_breasts == 1
    assert note.startswith("No image says its side (laterality): a breast is taken to be an exam")


def test_few_patients_with_many_exams_are_noted_as_few():
    records = [
        image(n, f"p{n % 6}", *[finding(BOX, n)] * (n % 2), exam=f"e{n}") for n in range(1, 61)
    ]
    detections = detection_file(*(found(n, (BOX, n / 100)) for n in range(1, 61)))
    report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=20))
    (note,) = (n for n in report.notes if n.startswith("The figures by case rest on"))
    assert "30 positive and 30 normal cases. They are those of 3 and 3 patients." in note
