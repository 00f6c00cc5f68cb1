"""Which detections of one image become pseudo-boxes: by hand, and against properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simfrcnn.artifacts import ImageDetections
from simfrcnn.evaluation.matching import box_iou
from simfrcnn.pseudo.select import SUSPECTED, Suspect, suppress, suspects_of
from simfrcnn.records import FindingSource, Supervision
from support.data_examples import make_finding, make_record

NORMAL = make_record(1, supervision=Supervision.NORMAL, width=100, height=100)


def found(*entries, image_id=1):
    """Detections from (box, score, category)."""
    boxes, scores, names = zip(*entries, strict=True) if entries else ((), (), ())
    return ImageDetections(
        image_id,
        np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        np.asarray(scores, dtype=np.float64),
        tuple(names),
    )


def test_of_overlapping_boxes_the_highest_stays_and_those_apart_stay():
    boxes = np.asarray([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [0, 0, 10, 3]], float)
    # IoU with the first: .8, 0, .3
    scores = np.asarray([0.9, 0.95, 0.5, 0.85])
    assert suppress(boxes, scores, iou_threshold=0.3).tolist() == [1, 2]  # .3 / .8 = .375
    assert suppress(boxes, scores, iou_threshold=0.4).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, iou_threshold=0.8).tolist() == [1, 0, 3, 2]  # above, not at


def test_a_box_that_was_suppressed_suppresses_nothing():
    chain = np.asarray([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], float)
    # neighbours overlap by 6 / 14 = .43, the ends by 2 / 18 = .11
    assert suppress(chain, np.asarray([0.9, 0.8, 0.7]), iou_threshold=0.3).tolist() == [0, 2]


def test_settled_boxes_come_first():
    boxes = np.asarray([[0, 0, 10, 10], [50, 50, 60, 60]], float)
    settled = np.asarray([[1, 0, 11, 10]], float)
    kept = suppress(boxes, np.asarray([1.0, 0.1]), iou_threshold=0.3, settled=settled)
    assert kept.tolist() == [1]


def test_nothing_gives_nothing():
    assert suppress(np.zeros((0, 4)), np.zeros(0), iou_threshold=0.3).tolist() == []
    assert suspects_of(NORMAL, found(), target_classes=["malignant"], nms_threshold=0.3) == []


@pytest.mark.torchvision
@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_that_of_torchvision(seed):
    from torchvision.ops import nms

    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (60, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 40, (60, 2))])
    scores = rng.permutation(60) / 60.0
    kept = suppress(boxes, scores, iou_threshold=0.3)
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3)
    assert kept.tolist() == expected.tolist()
    overlap = box_iou(boxes[kept], boxes[kept])
    assert (overlap[~np.eye(len(kept), dtype=bool)] <= 0.3).all()


def test_equal_scores_do_not_depend_on_the_order_in_the_file():
    boxes = np.asarray([[0, 0, 10, 10], [2, 0, 12, 10]], float)
    scores = np.asarray([0.5, 0.5])
    one = boxes[suppress(boxes, scores, iou_threshold=0.3)]
    other = boxes[::-1][suppress(boxes[::-1].copy(), scores, iou_threshold=0.3)]
    assert one.tolist() == other.tolist() == [[0, 0, 10, 10]]


def test_only_target_classes_count_and_boxes_stay_inside():
    detections = found(
        ([10, 10, 30, 30], 0.9, "malignant"),
        ([50, 50, 70, 70], 0.99, "benign"),
        ([-5, 60, 20, 120], 0.8, "malignant"),
        ([99.5, 0, 120, 30], 0.95, "malignant"),  # half a pixel wide inside the image
    )
    assert suspects_of(NORMAL, detections, target_classes=["malignant"], nms_threshold=0.3) == [
        Suspect((10.0, 10.0, 30.0, 30.0), 0.9),
        Suspect((0.0, 60.0, 20.0, 100.0), 0.8),
    ]


def test_a_pseudo_box_that_is_there_suppresses_and_a_benign_box_does_not():
    there = make_finding((10, 10, 30, 30), SUSPECTED, 7, source=FindingSource.PSEUDO, score=0.9)
    benign = make_finding((50, 50, 70, 70), "benign", 8)
    record = make_record(1, there, benign, supervision=Supervision.NORMAL, width=100, height=100)
    detections = found(([11, 10, 31, 30], 0.99, "malignant"), ([50, 50, 70, 71], 0.9, "malignant"))
    suspects = suspects_of(record, detections, target_classes=["malignant"], nms_threshold=0.3)
    assert [suspect.box for suspect in suspects] == [(50.0, 50.0, 70.0, 71.0)]
