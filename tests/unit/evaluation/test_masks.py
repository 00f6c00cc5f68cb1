"""IoU, Dice and AP of masks: by hand, by counting pixels, and by the library."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.average_precision import coco_objects
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.masks import Overlap, weighted_median
from simfrcnn.evaluation.truth import located, views_of
from simfrcnn.outlines import rle_of, rle_of_box
from simfrcnn.records import Finding, Supervision
from simfrcnn.settings import EvaluationSettings
from support.examples import record
from support.outlined import ellipse_in

SIZE = 128
SETTINGS = EvaluationSettings(bootstrap_replicates=0)
IGNORING = EvaluationSettings(bootstrap_replicates=0, ignored_classes=("benign",))


def outlined(number, *boxes, n_known=None, crowd=()):
    """A record with an ellipse in each box, of the first ``n_known`` alone; crowds have none."""
    made = record(number, boxes=boxes)
    findings = [
        dataclasses.replace(
            finding,
            outline=ellipse_in(finding.box) if n_known is None or place < n_known else (),
            iscrowd=place in crowd,
        )
        for place, finding in enumerate(made.findings)
    ]
    return dataclasses.replace(made, findings=tuple(findings))


def found(number, *detections, masked=True):
    """Detections (box, score, mask); a mask of None is none."""
    boxes = np.array([box for box, *_ in detections], dtype=float).reshape(-1, 4)
    scores = np.array([score for _, score, *_ in detections], dtype=float)
    masks = tuple(mask for _, _, mask in detections) if masked else None
    return ImageDetections(number, boxes, scores, ("malignant",) * len(scores), masks=masks)


def figures(records, detections, settings=SETTINGS):
    classes = {1: "malignant", 2: "benign"}
    file = DetectionFile({one.image_id: one for one in detections}, classes)
    report = evaluate(records, file, settings)
    return {key: f for key, f in report.figures.items() if key.startswith("mask/")}


def ellipse(box):
    return rle_of(ellipse_in(box), SIZE, SIZE)


BOX, OTHER = (20.0, 20.0, 60.0, 50.0), (80.0, 70.0, 110.0, 100.0)


def test_perfect_masks_and_their_boxes_filled():
    records = [outlined(1, BOX), record(2)]
    nothing = found(2, masked=False)  # without a detection there need be no list of masks
    got = figures(records, [found(1, (BOX, 0.9, ellipse(BOX))), nothing])
    assert got["mask/iou_mean"].value == got["mask/dice_median"].value == 1
    assert got["mask/found_iou_mean"].n == {"found": 1, "findings": 1}
    # An ellipse in its box: pi / 4, and 2 pi / (pi + 4).
    assert got["mask/box_iou_mean"].value == pytest.approx(np.pi / 4, abs=0.01)
    assert got["mask/box_dice_mean"].value == pytest.approx(0.880, abs=0.01)
    assert got["mask/ap50"].value == pytest.approx(1)
    assert got["mask/coco_ap"].value == pytest.approx(1)
    assert got["mask/normal_share"].value == 0


def test_overlaps_are_those_of_counted_pixels():
    rng = np.random.default_rng(2)
    records, detections, ious, dices = [], [], [], []
    for number in range(1, 8):
        boxes = [BOX, OTHER][: rng.integers(1, 3)]
        records.append(outlined(number, *boxes))
        shifted = [tuple(np.array(box) + rng.integers(-9, 9)) for box in boxes]
        scores = rng.random(len(boxes)).round(2)
        detections.append(
            found(number, *((b, s, ellipse(b)) for b, s in zip(shifted, scores, strict=True)))
        )
        predicted = np.zeros((SIZE, SIZE), bool)
        for box, score in zip(shifted, scores, strict=True):
            if score >= SETTINGS.score_threshold:
                predicted |= ellipse(box).to_array()
        true = np.zeros((SIZE, SIZE), bool)
        for box in boxes:
            true |= ellipse(box).to_array()
        ious.append((predicted & true).sum() / (predicted | true).sum())
        dices.append(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))
    got = figures(records, detections)
    assert got["mask/iou_mean"].value == pytest.approx(np.mean(ious))
    assert got["mask/iou_median"].value == pytest.approx(np.median(ious))
    assert got["mask/dice_mean"].value == pytest.approx(np.mean(dices))
    assert got["mask/dice_median"].value == pytest.approx(np.median(dices))
    assert 0 in ious  # some score is below the threshold


def test_of_several_detections_of_a_finding_the_highest_is_compared():
    at_threshold = (OTHER, SETTINGS.score_threshold, ellipse(OTHER))
    filled = rle_of_box(BOX, SIZE, SIZE)
    detections = found(1, (BOX, 0.9, ellipse(BOX)), (BOX, 0.8, filled), at_threshold)
    got = figures([outlined(1, BOX, OTHER)], [detections])
    assert got["mask/found_iou_mean"].n == {"found": 2, "findings": 2}
    assert got["mask/found_iou_mean"].value == 1
    true = ellipse(BOX).area + ellipse(OTHER).area
    whole = filled.area + ellipse(OTHER).area
    assert got["mask/iou_mean"].value == pytest.approx(true / whole)
    half = (20.0, 20.0, 40.0, 50.0)  # its IoU with the box is 1/2
    got = figures([outlined(1, BOX)], [found(1, (half, 0.9, ellipse(half)))])
    assert got["mask/found_iou_mean"].n == {"found": 1, "findings": 1}


def test_nothing_predicted_is_0_and_found_findings_are_undefined():
    got = figures([outlined(1, BOX), record(2)], [found(1), found(2)])
    assert got["mask/iou_mean"].value == 0
    assert np.isnan(got["mask/found_dice_mean"].value)
    assert got["mask/found_dice_mean"].reason == "no outlined finding is found at IoU 0.5"


def test_what_does_not_count_leaves_both_sides():
    """A crowd region, and a finding whose outline is not known."""
    records = [outlined(1, BOX, OTHER, n_known=1), outlined(2, BOX, OTHER, crowd=(1,))]
    both = ((BOX, 0.9, ellipse(BOX)), (OTHER, 0.8, ellipse(OTHER)))
    got = figures(records, [found(1, *both), found(2, *both)])
    assert got["mask/iou_mean"].value == 1
    assert got["mask/found_iou_mean"].n == {"found": 2, "findings": 2}
    assert got["mask/ap50"].value == pytest.approx(1)


def test_a_finding_of_which_no_pixel_counts_takes_no_part():
    around = Finding((10.0, 10.0, 70.0, 60.0), "benign", 99)
    hidden = outlined(1, BOX)
    hidden = dataclasses.replace(hidden, findings=(*hidden.findings, around))
    perfect = [found(number, (BOX, 0.9, ellipse(BOX))) for number in (1, 2)]
    own = figures([hidden, outlined(2, BOX)], perfect, IGNORING)
    assert {
        own[f"mask/{name}"].value for name in ("iou_mean", "dice_median", "found_iou_mean")
    } == {1}
    assert own["mask/iou_mean"].n == {"images": 1}
    assert own["mask/found_iou_mean"].n == {"found": 1, "findings": 1}
    alone = figures([outlined(2, BOX)], perfect[1:], IGNORING)
    assert own["mask/box_iou_mean"].value == alone["mask/box_iou_mean"].value
    assert not figures([hidden], perfect[:1], IGNORING)


def test_a_mask_in_pixels_that_do_not_count_draws_nothing_on_a_clear_image():
    around = Finding((10.0, 10.0, 70.0, 60.0), "benign", 99)
    clear = dataclasses.replace(record(3), findings=(around,), supervision=Supervision.BOXES)
    for box, share in ((BOX, 0), (OTHER, 1)):
        drawn = found(3, (box, 0.9, ellipse(box)))
        own = figures([outlined(2, BOX), clear], [found(2), drawn], IGNORING)
        assert own["mask/normal_share"].value == share


def test_a_mask_on_a_clear_image_is_told():
    records = [outlined(1, BOX), record(2), record(3)]
    pixel = (5.0, 5.0, 6.0, 6.0)
    for box, mask in ((OTHER, ellipse(OTHER)), (pixel, rle_of_box(pixel, SIZE, SIZE))):
        got = figures(records, [found(1), found(2, (box, 0.7, mask)), found(3)])
        assert got["mask/normal_share"].value == 0.5
        assert got["mask/normal_share"].n == {"with a mask": 1, "images": 2}


def test_no_mask_on_nine_clear_images_does_not_say_that_there_never_will_be_one():
    settings = EvaluationSettings(bootstrap_replicates=20)
    records = [*(outlined(n, BOX) for n in (1, 2)), *(record(n) for n in range(3, 12))]
    share = figures(records, [found(n) for n in range(1, 12)], settings)["mask/normal_share"]
    assert (share.value, share.low, share.method) == (0, 0, "clopper-pearson")
    assert share.high == pytest.approx(1 - 0.025 ** (1 / 9))


def test_two_empty_masks_share_nothing():
    assert (Overlap(0, 0, 0).iou, Overlap(0, 0, 0).dice) == (0, 0)


def test_a_detector_of_boxes_gets_the_row_of_boxes_alone():
    got = figures([outlined(1, BOX)], [found(1, (BOX, 0.9, None), masked=False)])
    assert len(got) == 8
    assert all(key.startswith("mask/box_") for key in got)
    true = ellipse(BOX).area
    area = rle_of_box(BOX, SIZE, SIZE).area
    assert got["mask/box_found_iou_mean"].value == pytest.approx(true / area)


def test_without_outlines_a_report_has_no_such_figures():
    assert not figures([record(1, boxes=[BOX])], [found(1, (BOX, 0.9, ellipse(BOX)))])


def test_masks_from_a_higher_score_on_are_not_judged_at_a_lower_one():
    records = [outlined(1, BOX)]
    got = figures(records, [found(1, (BOX, 0.6, None))])
    assert np.isnan(got["mask/iou_mean"].value)
    assert "EVAL.SCORE_THRESHOLD 0.5" in got["mask/iou_mean"].reason
    assert "the first model with a lower one" in got["mask/iou_mean"].reason


def test_a_mask_of_another_size_is_refused():
    wrong = rle_of_box(BOX, SIZE, SIZE + 1)
    with pytest.raises(ArtifactError, match=r"image 1 .*128 x 129 pixels"):
        figures([outlined(1, BOX)], [found(1, (BOX, 0.9, wrong))])


def test_ap_is_the_library_s():
    rng = np.random.default_rng(5)
    records, detections = [], []
    for number in range(1, 9):
        records.append(outlined(number, BOX, OTHER) if number % 4 else record(number))
        shifted = [tuple(np.array(box) + rng.integers(-6, 6)) for box in (BOX, OTHER)]
        scores = 0.5 + rng.random(2) / 2
        detections.append(
            found(number, *((b, s, ellipse(b)) for b, s in zip(shifted, scores, strict=True)))
        )
    got = figures(records, detections)
    views, _ = views_of(records, {one.image_id: one for one in detections}, SETTINGS)
    library = COCOeval(*coco_objects(located(views), "segm"), "segm")
    library.params.maxDets = [1, 10, 100]
    library.evaluate()
    library.accumulate()
    library.summarize()
    assert got["mask/coco_ap"].value == pytest.approx(library.stats[0], abs=1e-9)
    assert got["mask/ap50"].value == pytest.approx(library.stats[1], abs=1e-9)
    assert 0.1 < library.stats[0] < 0.9


def test_intervals_are_over_patients_and_the_median_is_weighted():
    records = [outlined(number, BOX) for number in range(1, 9)]
    shifts = np.arange(8)
    boxes = [tuple(np.array(BOX) + shift) for shift in shifts]
    detections = [found(number + 1, (box, 0.9, ellipse(box))) for number, box in enumerate(boxes)]
    settings = EvaluationSettings(bootstrap_replicates=200)
    got = figures(records, detections, settings)["mask/iou_median"]
    assert got.method == "bootstrap"
    assert got.low < got.value < got.high
    values = np.array([0.1, 0.4, 0.5, 0.9])
    for weights in ([1, 1, 1, 1], [0, 3, 1, 0], [2, 0, 0, 2], [0, 0, 0, 5]):
        expected = np.median(np.repeat(values, weights))
        assert weighted_median(values, np.array([weights], float))[0] == expected
    assert np.isnan(weighted_median(values, np.zeros((1, 4)))[0])


def test_unlabelled_images_stay_out():
    unlabelled = dataclasses.replace(record(2), supervision=Supervision.UNLABELLED)
    detections = [found(1, (BOX, 0.9, ellipse(BOX))), found(2, (BOX, 0.9, ellipse(BOX)))]
    got = figures([outlined(1, BOX), unlabelled], detections)
    assert got["mask/normal_share"].n["images"] == 0
