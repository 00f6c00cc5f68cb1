"""The cases drawn and worked out in cases/README.md."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.evaluation import Report, evaluate
from simfrcnn.evaluation.matching import (
    FALSE_POSITIVE,
    HIT_CRITERIA,
    IGNORED,
    REPEAT,
    box_iou,
    falling_order,
    match_image,
)
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
BOX = (10, 10, 30, 30)
ELSEWHERE = (60, 60, 80, 80)
IOU_1, IOU_5, CENTRE = HIT_CRITERIA


def sensitivities(report: Report, population: str, what: str = "", criterion: str = "iou_0.5"):
    rates = (0.1, 0.125, 0.2, 0.25, 0.3, 0.5, 1, 2, 4, 8)
    prefix = f"froc/{criterion}/{population}/{what}sensitivity_at_"
    return [report.figures[f"{prefix}{rate:g}"].value for rate in rates]


@pytest.mark.parametrize("repeats_are_false", [False, True])
def test_case_a_a_repeat_is_neither_hit_nor_false_positive(repeats_are_false: bool) -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    detections = detection_file(
        found(1, (BOX, 0.9), (ELSEWHERE, 0.7), (BOX, 0.6)), found(2, (ELSEWHERE, 0.8))
    )
    settings = EvaluationSettings(
        bootstrap_replicates=0, count_repeats_as_false_positives=repeats_are_false
    )
    report = evaluate(records, detections, settings)
    assert sensitivities(report, "all") == [1.0] * 10
    last = (0.6, 1.5, 1.0) if repeats_are_false else (0.7, 1.0, 1.0)
    curve = report.froc["iou_0.5/all"]
    assert list(zip(curve.scores, curve.x, curve.y, strict=True)) == [(0.9, 0.0, 1.0), last]
    curve = report.froc["iou_0.5/normal"]
    assert list(zip(curve.scores, curve.x, curve.y, strict=True)) == [
        (0.9, 0.0, 1.0),
        (0.8, 1.0, 1.0),
    ]


def case_b() -> Report:
    records = [
        image(1, "A", finding(BOX, 1, lesion_id="L")),
        image(2, "A", finding(BOX, 2, lesion_id="L")),
        image(3, "B"),
        image(4, "C"),
    ]
    detections = detection_file(
        found(1, (BOX, 0.9)),
        found(2, (BOX, 0.5)),
        found(3, (ELSEWHERE, 0.8), (BOX, 0.4)),
        found(4),
    )
    return evaluate(records, detections, NO_INTERVALS)


def test_case_b_froc_per_finding_and_per_lesion() -> None:
    report = case_b()
    for criterion in ("iou_0.1", "iou_0.5", "centre"):
        assert sensitivities(report, "all", criterion=criterion) == [0.5] * 3 + [1.0] * 7
        assert sensitivities(report, "normal", criterion=criterion) == [0.5] * 5 + [1.0] * 5
        assert sensitivities(report, "all", "lesion_", criterion) == [1.0] * 10
    assert report.counts["lesions"] == 1
    assert report.counts["findings"] == 2
    for name, n in (
        ("all/sensitivity", {"findings": 2, "images": 4}),
        ("normal/sensitivity", {"findings": 2, "images": 2}),
        ("positive/lesion_sensitivity", {"lesions": 1, "images": 2}),
        ("gap/sensitivity", {"findings": 2, "images": 4}),
    ):
        assert report.figures[f"froc/centre/{name}_at_1"].n == n
    assert report.figures["finding/ap50"].n == {"findings": 2, "images": 4}


def test_case_b_by_case_and_average_precision() -> None:
    figures = case_b().figures
    assert figures["case/auc"].value == 1.0
    assert figures["case/sensitivity"].value == 1.0
    assert figures["case/specificity"].value == 0.5
    assert figures["case/accuracy"].value == pytest.approx(2 / 3)
    assert figures["finding/ap50"].value == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    # The boxes are exact, so that the matches are the same at every IoU.
    assert figures["finding/coco_ap"].value == pytest.approx(figures["finding/ap50"].value)


def test_case_c_equal_scores_are_one_operating_threshold() -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    detections = detection_file(found(1, (BOX, 0.5)), found(2, (ELSEWHERE, 0.5)))
    report = evaluate(records, detections, NO_INTERVALS)
    assert sensitivities(report, "all") == [0.0] * 5 + [1.0] * 5
    assert sensitivities(report, "normal") == [0.0] * 6 + [1.0] * 4
    assert report.figures["image/auc"].value == 0.5
    assert report.figures["case/sensitivity"].value == 1.0  # .5 >= .5 is positive


def test_case_d_each_detection_takes_the_open_finding_that_it_meets_best() -> None:
    findings = np.array([[0, 0, 10, 10], [8, 0, 18, 10]], dtype=float)
    detections = np.array([[6, 0, 16, 10], [7, 0, 17, 10]], dtype=float)
    assert match_image(detections, findings, IOU_1).tolist() == [1, 0]
    assert match_image(detections, findings, IOU_5).tolist() == [1, REPEAT]
    assert match_image(detections, findings, CENTRE).tolist() == [1, REPEAT]


@pytest.mark.parametrize("scores", [[0.9, 0.5, 0.5, 0.5], [0.5] * 4, [0.1, 0.4, 0.2, 0.3]])
def test_detections_go_down_by_score_and_equal_scores_by_their_boxes(scores: list[float]) -> None:
    boxes = [(0, 0, 9, 9), (5, 0, 9, 9), (1, 0, 9, 9), (1, 0, 8, 9)]
    expected = sorted(range(4), key=lambda index: (-scores[index], boxes[index]))
    assert falling_order(np.array(boxes, float), np.array(scores)).tolist() == expected


def test_the_ends_of_a_half_open_box() -> None:
    # The centre (10, 5) lies on the right edge, which belongs to no box; (0, 5) on the left,
    # which does.
    findings = np.array([[0, 0, 10, 10]], dtype=float)
    on_right = np.array([[8, 0, 12, 10]], dtype=float)
    on_left = np.array([[-2, 0, 2, 10]], dtype=float)
    assert match_image(on_right, findings, CENTRE).tolist() == [FALSE_POSITIVE]
    assert match_image(on_left, findings, CENTRE).tolist() == [0]


def test_iou_exactly_at_the_criterion_is_a_hit() -> None:
    # Half of the finding: intersection 50, union 100.
    findings = np.array([[0, 0, 10, 10]], dtype=float)
    half = np.array([[0, 0, 5, 10]], dtype=float)
    assert match_image(half, findings, IOU_5).tolist() == [0]


def test_a_detection_in_a_crowd_region_is_neither_hit_nor_false_positive() -> None:
    crowd = finding((50, 50, 90, 90), 2, iscrowd=True)
    records = [image(1, "A", finding(BOX), crowd), image(2, "B")]
    detections = detection_file(found(1, (BOX, 0.9), ((60, 60, 70, 70), 0.8)), found(2))
    report = evaluate(records, detections, NO_INTERVALS)
    assert report.froc["iou_0.5/all"].x == (0.0,)
    # pycocotools adds the smallest float to a denominator.
    assert report.figures["finding/ap50"].value == pytest.approx(1.0)
    assert report.counts["findings"] == 1
    assert report.counts["crowd_regions"] == 1


def test_other_classes_are_neither_targets_nor_detections() -> None:
    records = [image(1, "A", finding(BOX)), image(2, "B", finding(BOX, 2, category="benign"))]
    detections = detection_file(
        found(1, (BOX, 0.9)), found(2, (BOX, 0.95, "benign"), (ELSEWHERE, 0.1))
    )
    report = evaluate(records, detections, NO_INTERVALS)
    assert report.counts["findings"] == 1
    assert report.counts["images"]["normal"] == 1
    assert report.counts["detections"] == {"of_target_classes": 2, "of_other_classes": 1}
    assert report.figures["image/auc"].value == 1.0
    assert report.figures["case/specificity"].value == 1.0


def test_average_precision_passes_over_what_lies_in_a_crowd_region() -> None:
    # Ranks: crowd .95 (passed over), false .93, hit .9: the precision is 1/2 at every recall.
    crowd = finding((50, 50, 90, 90), 2, iscrowd=True)
    records = [image(1, "A", finding(BOX), crowd), image(2, "B")]
    detections = detection_file(
        found(1, ((60, 60, 70, 70), 0.95), (BOX, 0.9)), found(2, (ELSEWHERE, 0.93))
    )
    report = evaluate(records, detections, NO_INTERVALS)
    assert report.figures["finding/ap50"].value == pytest.approx(0.5)


@pytest.mark.parametrize(("n_above", "precision"), [(99, 0.01), (100, 0.0)])
def test_the_first_100_detections_of_an_image_count_for_average_precision(
    n_above: int, precision: float
) -> None:
    # The hit is the last of 100, then the 101st.
    records = [image(1, "A", finding(BOX)), image(2, "B")]
    false = [(ELSEWHERE, 0.9 - number / 1000) for number in range(n_above)]
    report = evaluate(records, detection_file(found(1, *false, (BOX, 0.1)), found(2)), NO_INTERVALS)
    assert report.figures["finding/ap50"].value == pytest.approx(precision)
    assert report.figures["froc/iou_0.5/normal/sensitivity_at_1"].value == 1.0


def test_a_box_without_area_overlaps_nothing() -> None:
    line, box = np.array([[10.0, 10, 10, 30]]), np.array([BOX], dtype=float)
    assert box_iou(line, np.concatenate([line, box])).tolist() == [[0, 0]]
    assert match_image(line, line[:0], IOU_1, crowds=box).tolist() == [FALSE_POSITIVE]
    assert match_image(line, line[:0], CENTRE, crowds=box).tolist() == [IGNORED]
    # One of less than a pixel does.
    small = np.array([[12.0, 12, 12.5, 12.5]])
    assert box_iou(small, small).tolist() == [[1]]
    assert match_image(small, small[:0], IOU_1, crowds=box).tolist() == [IGNORED]


@pytest.mark.parametrize("is_ignored", [True, False])
def test_case_e_an_ignored_finding_is_neither_missed_nor_wrong_to_find(is_ignored: bool) -> None:
    records = [
        image(1, "A", finding(BOX, 1), finding(ELSEWHERE, 2, category="benign")),
        image(2, "B", finding(BOX, 3, category="benign")),
    ]
    detections = detection_file(
        found(1, (BOX, 0.7), (ELSEWHERE, 0.9)), found(2, (BOX, 0.8), (ELSEWHERE, 0.6))
    )
    settings = EvaluationSettings(
        bootstrap_replicates=0, ignored_classes=("benign",) if is_ignored else ()
    )
    report = evaluate(records, detections, settings)
    for criterion in ("iou_0.1", "iou_0.5", "centre"):
        expected = [1.0] * 10 if is_ignored else [0.0] * 6 + [1.0] * 4
        assert sensitivities(report, "all", criterion=criterion) == expected
    expected_ap = 1.0 if is_ignored else 1 / 3
    assert report.figures["finding/ap50"].value == pytest.approx(expected_ap)
    assert report.counts["findings"] == 1
    assert report.counts["ignored_findings"] == (2 if is_ignored else 0)
    assert [unit.score for unit in report.units["image"]] == [0.9, 0.8]
    assert report.figures["case/specificity"].value == 0.0


def test_all_that_meets_an_ignored_finding_is_ignored_not_the_first_box_alone() -> None:
    # .9 and .8 lie on one benign mass, and .85 on one in an image that has nothing else.
    records = [
        image(1, "A", finding(BOX, 1), finding(ELSEWHERE, 2, category="benign")),
        image(2, "B", finding(BOX, 3, category="benign")),
        image(3, "C", finding(BOX, 4, category="benign")),
    ]
    detections = detection_file(
        found(1, (ELSEWHERE, 0.9), (ELSEWHERE, 0.8), (BOX, 0.7)),
        found(2, (BOX, 0.85), (BOX, 0.84)),
        found(3),
    )
    report = evaluate(records, detections, replace(NO_INTERVALS, ignored_classes=("benign",)))
    assert sensitivities(report, "all", criterion="iou_0.5") == [1.0] * 10
    assert report.precision_recall["0.5"].y == (1.0,)
    assert report.figures["finding/coco_ap"].value == pytest.approx(1.0)


def test_case_f_normal_images_make_a_gap_at_the_same_rate() -> None:
    records = [
        image(1, "A", finding(BOX, 1)),
        image(2, "A", finding(BOX, 2)),
        image(3, "B"),
        image(4, "B"),
    ]
    detections = detection_file(
        found(1, (BOX, 0.6), (ELSEWHERE, 0.7)),
        found(2, (ELSEWHERE, 0.5)),
        found(3, (BOX, 0.9)),
        found(4, (BOX, 0.8)),
    )
    report = evaluate(records, detections, NO_INTERVALS)
    assert sensitivities(report, "positive") == [0.0] * 5 + [0.5] * 5
    assert sensitivities(report, "all") == [0.0] * 6 + [0.5] * 4
    assert sensitivities(report, "gap") == [0.0] * 5 + [0.5] + [0.0] * 4
    assert report.figures["finding/corloc"].value == 0.0
    assert report.figures["finding/corloc"].n == {"localised": 0, "images": 2}
