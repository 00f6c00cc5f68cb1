"""How precise is the list of boxes? COCO's average precision, by pycocotools, with intervals.

pycocotools matches, once; the precision-recall curve is then drawn here from those matches,
because a bootstrap needs it for thousands of re-weightings. With every weight 1 the result is
pycocotools' own.

COCO's rules, which differ from FROC's: a second box on a finding is a false positive; at most 100
detections an image count; equal scores are ranked, not joined; all target classes together are one
category; precision is read at 101 recalls.

Shapes: T IoU thresholds, D detections of all images by falling score, K of them true positives,
P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from simfrcnn.evaluation.bootstrap import Statistic, per_patient
from simfrcnn.evaluation.results import NAN
from simfrcnn.evaluation.truth import View

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

COCO_IOUS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
_CATEGORY = 1


@dataclass(frozen=True)
class CocoMatches:
    """What pycocotools found out about each detection.

    ``is_true`` and ``is_false`` (T, D) by falling score (neither: matched to a crowd region);
    ``patients`` (D,); ``finding_patients`` one per finding that counts; ``iou_thresholds`` (T,).
    """

    iou_thresholds: FloatArray
    is_true: BoolArray
    is_false: BoolArray
    patients: IntArray
    finding_patients: IntArray


def coco_matches(views: Sequence[View], iou_thresholds: FloatArray) -> CocoMatches:
    """Match all detections of the evaluated images at each IoU with pycocotools."""
    coco = run_pycocotools(views, iou_thresholds)
    patient_of = {view.record.image_id: view.patient for view in views}
    images = [image for image in coco.evalImgs if image is not None]
    if not images:
        empty = np.zeros((len(iou_thresholds), 0), dtype=bool)
        nobody = np.zeros(0, dtype=np.intp)
        return CocoMatches(iou_thresholds, empty, empty, nobody, nobody)
    scores = np.concatenate([image["dtScores"] for image in images])
    order = np.argsort(-scores, kind="mergesort")  # as in COCOeval.accumulate
    is_matched = np.concatenate([image["dtMatches"] for image in images], axis=1)[:, order] > 0
    is_ignored = np.concatenate([image["dtIgnore"] for image in images], axis=1)[:, order] > 0
    patients = [np.full(len(i["dtIds"]), patient_of[i["image_id"]], np.intp) for i in images]
    finding_patients = [
        np.full(int((np.asarray(i["gtIgnore"]) == 0).sum()), patient_of[i["image_id"]], np.intp)
        for i in images
    ]
    return CocoMatches(
        iou_thresholds=iou_thresholds,
        is_true=is_matched & ~is_ignored,
        is_false=~is_matched & ~is_ignored,
        patients=np.concatenate(patients)[order],
        finding_patients=np.concatenate(finding_patients),
    )


def run_pycocotools(views: Sequence[View], iou_thresholds: FloatArray) -> Any:
    """A COCOeval that has evaluated ``views`` (and not yet accumulated), all sizes, silently."""
    images = [{"id": view.record.image_id} for view in views]
    truth = [
        _annotation(view, box, iscrowd=int(is_crowd))
        for view in views
        for boxes, is_crowd in ((view.finding_boxes, False), (view.crowd_boxes, True))
        for box in boxes
    ]
    found = [
        _annotation(view, box, score=float(score))
        for view in views
        for box, score in zip(view.boxes, view.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCOeval(_coco(images, truth), _coco(images, found), "bbox")
        coco.params.iouThrs = iou_thresholds
        coco.params.maxDets = [MAX_DETECTIONS]
        coco.params.areaRng = [[0, 1e10]]
        coco.params.areaRngLbl = ["all"]
        coco.params.imgIds = [view.record.image_id for view in views]
        coco.params.catIds = [_CATEGORY]
        coco.evaluate()
    return coco


def ap_statistic(
    matches: CocoMatches, n_patients: int, n_images: int, iou_threshold: float
) -> Statistic:
    """AP at ``iou_threshold`` (``finding/ap50`` for .5), and COCO AP, the mean over .50:.05:.95."""
    wanted = int(np.argmin(np.abs(matches.iou_thresholds - iou_threshold)))
    n_findings_of = per_patient(matches.finding_patients, n_patients)
    curves = [
        (matches.patients[is_true], _false_before(matches.patients, is_true, is_false, n_patients))
        for is_true, is_false in zip(matches.is_true, matches.is_false, strict=True)
    ]
    in_coco = np.isin(np.round(matches.iou_thresholds, 6), np.round(COCO_IOUS, 6))

    def compute(weights: FloatArray) -> FloatArray:
        n_found = weights @ n_findings_of
        by_iou = np.stack(
            [_average_precision(weights, n_found, *curve) for curve in curves], axis=1
        )
        return np.stack([by_iou[:, wanted], by_iou[:, in_coco].mean(axis=1)], axis=1)

    keys = (f"finding/ap{100 * iou_threshold:g}", "finding/coco_ap")
    return Statistic(
        keys=keys,
        compute=compute,
        n={key: {"findings": len(matches.finding_patients), "images": n_images} for key in keys},
        why_undefined=dict.fromkeys(keys, "there is no finding of a target class"),
    )


def iou_thresholds_with(iou_threshold: float) -> FloatArray:
    """COCO's ten IoUs, and ``iou_threshold`` if it is none of them."""
    if np.isclose(COCO_IOUS, iou_threshold, atol=1e-9).any():
        return COCO_IOUS
    return np.sort(np.append(COCO_IOUS, iou_threshold))


def _average_precision(
    weights: FloatArray, n_findings: FloatArray, true_patients: IntArray, false_before: FloatArray
) -> FloatArray:
    """(R,) average precision of each re-weighted set, NaN where it has no finding.

    Only true positives can raise recall or be the best precision from some recall on, so the curve
    is drawn at these alone: (R, K).
    """
    n_true = np.cumsum(weights[:, true_patients], axis=1)
    n_false = weights @ false_before
    precision = n_true / (n_true + n_false + np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The column after the last is what holds beyond the highest recall reached: precision 0.
    best_from_here = np.concatenate([best_from_here, np.zeros((len(weights), 1))], axis=1)
    values = np.full(len(weights), NAN)
    for row in np.flatnonzero(n_findings):
        recall = n_true[row] / n_findings[row]
        at = np.searchsorted(recall, _RECALLS, side="left")
        values[row] = best_from_here[row, at].mean()
    return values


def _false_before(
    patients: IntArray, is_true: BoolArray, is_false: BoolArray, n_patients: int
) -> FloatArray:
    """(P, K): how many of each patient's false positives rank above each true positive."""
    n_true = int(is_true.sum())
    counts = np.zeros((n_patients, n_true + 1))
    next_true = np.cumsum(is_true)  # at a false positive: the number of true ones above it
    np.add.at(counts, (patients[is_false], next_true[is_false]), 1)
    return np.cumsum(counts, axis=1)[:, :n_true]


def _annotation(view: View, box: FloatArray, **facts: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return {
        "image_id": view.record.image_id,
        "category_id": _CATEGORY,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        **facts,
    }


def _coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Any:
    """A COCO object in memory; pycocotools takes 0 for "unmatched", so ids start at 1."""
    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": [{"id": _CATEGORY, "name": "target"}],
        "annotations": [
            {"iscrowd": 0, **annotation, "id": number}
            for number, annotation in enumerate(annotations, start=1)
        ],
    }
    coco.createIndex()
    return coco
