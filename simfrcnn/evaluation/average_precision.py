"""How precise is the list of boxes? COCO's average precision, by pycocotools, with intervals.

pycocotools matches, once; the precision-recall curve is then drawn here from those matches,
because a bootstrap needs it for thousands of re-weightings. With every weight 1 the result is
pycocotools' own.

COCO's rules, which differ from FROC's: a second box on a finding is a false positive; at most 100
detections an image count; equal scores are ranked, not joined; all target classes together are one
category; precision is read at 101 recalls. A detection that meets an ignored finding and hits
nothing is neither true nor false. (pycocotools would let one detection off for each such finding;
it does not get to see them.)

Shapes: T IoU thresholds, D detections of all images by falling score, K of them true positives,
P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.sparse import csr_array

from simfrcnn.evaluation.bootstrap import Statistic, cumulated, per_patient
from simfrcnn.evaluation.matching import box_iou
from simfrcnn.evaluation.results import NAN, Curve
from simfrcnn.evaluation.truth import View
from simfrcnn.outlines import Rle, rle_of, rle_of_box

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

Kind = Literal["bbox", "segm"]
COCO_IOUS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
_CATEGORY = 1
_LARGEST_AREA = 1e10


@dataclass(frozen=True)
class CocoMatches:
    """What pycocotools says of each detection.

    ``is_true`` and ``is_false`` (T, D) by falling score (neither: matched to what is ignored);
    ``scores`` and ``patients`` (D,); ``finding_patients`` one per finding that counts;
    ``iou_thresholds`` (T,).
    """

    iou_thresholds: FloatArray
    is_true: BoolArray
    is_false: BoolArray
    scores: FloatArray
    patients: IntArray
    finding_patients: IntArray


def coco_matches(
    views: Sequence[View], iou_thresholds: FloatArray, *, kind: Kind = "bbox"
) -> CocoMatches:
    """Match the detections of the evaluated images (by image id) at each IoU with pycocotools.

    By boxes or, with ``segm``, by masks, which every detection must have; findings whose outline is
    not known are then crowd regions, neither to be found nor wrong to find. It sees the images in
    which there is anything to match; elsewhere every detection is false.
    """
    with_truth = [view for view in views if view.has_regions]
    coco = run_pycocotools(with_truth, iou_thresholds, kind=kind) if with_truth else None
    matched = {image["image_id"]: image for image in coco.evalImgs if image} if coco else {}
    ends = np.cumsum([0, *(min(len(view.scores), MAX_DETECTIONS) for view in views)])
    scores = np.concatenate([np.zeros(0), *(view.scores[:MAX_DETECTIONS] for view in views)])
    is_matched = np.zeros((len(iou_thresholds), len(scores)), dtype=bool)
    is_ignored = np.zeros_like(is_matched)
    finding_patients = [np.zeros(0, dtype=np.intp)]
    for view, start, end in zip(views, ends, ends[1:], strict=False):
        image = matched.get(view.record.image_id)
        if image is not None:
            is_matched[:, start:end] = image["dtMatches"] > 0
            is_ignored[:, start:end] = image["dtIgnore"] > 0
            n_findings = int((np.asarray(image["gtIgnore"]) == 0).sum())
            finding_patients.append(np.full(n_findings, view.patient, np.intp))
        if len(view.ignored_boxes):
            overlap = box_iou(view.boxes[:MAX_DETECTIONS], view.ignored_boxes).max(axis=1)
            meets_ignored = overlap >= iou_thresholds[:, None]
            is_ignored[:, start:end] |= meets_ignored & ~is_matched[:, start:end]
    order = np.argsort(-scores, kind="mergesort")  # as in COCOeval.accumulate
    patients = np.repeat(np.array([view.patient for view in views], dtype=np.intp), np.diff(ends))
    return CocoMatches(
        iou_thresholds=iou_thresholds,
        is_true=(is_matched & ~is_ignored)[:, order],
        is_false=(~is_matched & ~is_ignored)[:, order],
        scores=scores[order],
        patients=patients[order],
        finding_patients=np.concatenate(finding_patients),
    )


def run_pycocotools(
    views: Sequence[View], iou_thresholds: FloatArray, *, kind: Kind = "bbox"
) -> Any:
    """A COCOeval that has evaluated ``views`` (and not yet accumulated), all sizes, silently."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCOeval(*coco_objects(views, kind), kind)
        coco.params.iouThrs = iou_thresholds
        coco.params.maxDets = [MAX_DETECTIONS]
        coco.params.areaRng = [[0, _LARGEST_AREA]]
        coco.params.areaRngLbl = ["all"]
        coco.params.imgIds = [view.record.image_id for view in views]
        coco.params.catIds = [_CATEGORY]
        coco.evaluate()
    return coco


def coco_objects(views: Sequence[View], kind: Kind = "bbox") -> tuple[Any, Any]:
    """Truth and detections as pycocotools' objects, all target classes as one category."""
    if kind == "segm":
        return _masked_objects(views)
    truth = [
        _annotation(view, box, facts)
        for view in views
        for boxes, facts in (
            (view.finding_boxes, {}),
            (view.crowd_boxes, {"iscrowd": 1}),
        )
        for box in boxes.tolist()
    ]
    found = [
        _annotation(view, box, {"score": score})
        for view in views
        for box, score in zip(view.boxes.tolist(), view.scores.tolist(), strict=True)
    ]
    images = [{"id": view.record.image_id} for view in views]
    return _coco(images, truth), _coco(images, found)


def _masked_objects(views: Sequence[View]) -> tuple[Any, Any]:
    """The same with the masks of all, as :func:`coco_matches` says."""
    truth, found = [], []
    for view in views:
        size = view.record.height, view.record.width
        for finding in view.findings:
            facts = {} if finding.outline else {"iscrowd": 1}
            mask = rle_of(finding.outline, *size) if facts == {} else rle_of_box(finding.box, *size)
            truth.append(_masked(view, finding.box, mask, facts))
        for box in view.crowd_boxes.tolist():
            truth.append(_masked(view, box, rle_of_box(tuple(box), *size), {"iscrowd": 1}))
        of_view = zip(view.boxes.tolist(), view.scores.tolist(), view.masks or (), strict=True)
        for box, score, mask_found in of_view:
            assert mask_found is not None
            found.append(_masked(view, box, mask_found, {"score": score}))
    images = [
        {"id": v.record.image_id, "height": v.record.height, "width": v.record.width} for v in views
    ]
    return _coco(images, truth), _coco(images, found)


def _masked(
    view: View, box: Sequence[float], mask: Rle, facts: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **_annotation(view, box, facts),
        "segmentation": mask.to_json(),
        "area": mask.area,
    }


def ap_statistic(
    matches: CocoMatches,
    n_patients: int,
    n_images: int,
    iou_threshold: float,
    *,
    with_band: bool = False,
) -> Statistic:
    """AP at ``iou_threshold`` (``finding/ap50`` for .5), and COCO AP, the mean over .50:.05:.95.

    With ``with_band`` also how precision at each of COCO's recalls varies, at ``iou_threshold``.
    """
    wanted = _index_of(matches, iou_threshold)
    n_findings_of = per_patient(matches.finding_patients, n_patients)
    # At few of the detections recall can rise; how many there are before each of these is counted
    # once for all IoUs.
    reached: BoolArray = np.asarray(matches.is_true.any(axis=0))
    before = _before(reached, matches.patients, np.ones_like(reached), n_patients)
    curves = [
        _CurveParts.of(matches, index, reached, n_patients)
        for index in range(len(matches.iou_thresholds))
    ]
    in_coco = np.isin(np.round(matches.iou_thresholds, 6), np.round(COCO_IOUS, 6))

    def compute(weights: FloatArray) -> FloatArray:
        n_found = weights @ n_findings_of
        n_before = cumulated(before, weights)
        by_iou = [_precision_at_recalls(weights, n_found, n_before, curve) for curve in curves]
        means = np.stack([precision.mean(axis=1) for precision in by_iou], axis=1)
        figures = np.stack([means[:, wanted], means[:, in_coco].mean(axis=1)], axis=1)
        return np.concatenate([figures, by_iou[wanted]], axis=1) if with_band else figures

    keys = (ap_key(iou_threshold), "finding/coco_ap")
    return Statistic(
        keys=keys,
        compute=compute,
        n={key: {"findings": len(matches.finding_patients), "images": n_images} for key in keys},
        why_undefined=dict.fromkeys(keys, "there is no finding of a target class"),
        bands={f"precision_recall/{iou_threshold:g}": _RECALLS} if with_band else {},
    )


def ap_key(iou_threshold: float) -> str:
    """The name of the figure: ``finding/ap50`` for .5, ``finding/ap57.5`` for .575.

    In six digits, which is how thresholds are written everywhere in a report.
    """
    return f"finding/ap{100 * float(f'{iou_threshold:g}'):g}"


def iou_of_key(key: str) -> float:
    """The threshold of :func:`ap_key`."""
    return float(f"{float(key.removeprefix('finding/ap')) / 100:g}")


def precision_recall_curve(matches: CocoMatches, iou_threshold: float) -> Curve:
    """Precision against recall at each score at which recall rises; empty without findings."""
    index = _index_of(matches, iou_threshold)
    n_findings = len(matches.finding_patients)
    is_true = matches.is_true[index]
    if not n_findings:
        return Curve((), (), ())
    n_true = np.cumsum(is_true)[is_true]
    n_false = np.cumsum(matches.is_false[index])[is_true]
    return Curve(
        tuple(matches.scores[is_true].tolist()),
        tuple((n_true / n_findings).tolist()),
        tuple((n_true / (n_true + n_false)).tolist()),
    )


def iou_thresholds_with(iou_threshold: float) -> FloatArray:
    """COCO's ten IoUs, and ``iou_threshold`` if it is none of them."""
    if np.isclose(COCO_IOUS, iou_threshold, atol=1e-9).any():
        return COCO_IOUS
    return np.sort(np.append(COCO_IOUS, iou_threshold))


def _index_of(matches: CocoMatches, iou_threshold: float) -> int:
    return int(np.argmin(np.abs(matches.iou_thresholds - iou_threshold)))


@dataclass(frozen=True)
class _CurveParts:
    """What makes the precision-recall curve at one IoU.

    K true positives, by falling score: their ``patients`` and their ``places`` (K,) among the
    detections at which recall can rise at some IoU. ``ignored`` (of all these places, P) are the
    detections that count as neither true nor false, or None.
    """

    patients: IntArray
    places: IntArray
    ignored: csr_array | None

    @classmethod
    def of(
        cls, matches: CocoMatches, index: int, reached: BoolArray, n_patients: int
    ) -> _CurveParts:
        """Those at ``matches.iou_thresholds[index]``."""
        is_true = matches.is_true[index]
        is_ignored = ~is_true & ~matches.is_false[index]
        return cls(
            matches.patients[is_true],
            np.flatnonzero(is_true[reached]),
            _before(reached, matches.patients, is_ignored, n_patients)
            if is_ignored.any()
            else None,
        )


def _precision_at_recalls(
    weights: FloatArray, n_findings: FloatArray, n_before: FloatArray, curve: _CurveParts
) -> FloatArray:
    """(R, 101) the best precision from each recall on, NaN where a set has no finding.

    Only true positives can raise recall or be the best precision from some recall on, so the curve
    is drawn at these alone: (R, K). ``n_before`` (R, U) are all detections down to each place.
    """
    n_true = np.cumsum(weights[:, curve.patients], axis=1)
    n_counted = n_before[:, curve.places]
    if curve.ignored is not None:
        n_counted = n_counted - cumulated(curve.ignored, weights)[:, curve.places]
    precision = n_true / (n_counted + np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The column after the last is what holds beyond the highest recall reached: precision 0.
    best_from_here = np.concatenate([best_from_here, np.zeros((len(weights), 1))], axis=1)
    values = np.full((len(weights), len(_RECALLS)), NAN)
    for row in np.flatnonzero(n_findings):
        recall = n_true[row] / n_findings[row]
        values[row] = best_from_here[row, np.searchsorted(recall, _RECALLS, side="left")]
    return values


def _before(
    reached: BoolArray, patients: IntArray, is_counted: BoolArray, n_patients: int
) -> csr_array:
    """(U, P): the counted detections from behind each of the U reached ones to the next; sparse."""
    n_above: IntArray = np.cumsum(reached) - reached  # reached ones, at each detection
    place = n_above[is_counted]
    n_reached = int(reached.sum())
    is_in = place < n_reached
    cells = (place[is_in], patients[is_counted][is_in])
    return csr_array((np.ones(int(is_in.sum())), cells), shape=(n_reached, n_patients))


def _annotation(view: View, box: Sequence[float], facts: Mapping[str, Any]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "image_id": view.record.image_id,
        "category_id": _CATEGORY,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        **facts,
    }


def _coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Any:
    """A COCO object in memory; pycocotools takes 0 for "unmatched", so ids start at 1."""
    coco = COCO()
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    coco.dataset = {
        "images": images,
        "categories": [{"id": _CATEGORY, "name": "target"}],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
