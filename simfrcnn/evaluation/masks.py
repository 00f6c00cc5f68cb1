"""How well do masks cover what was outlined? IoU, Dice and COCO's AP of masks.

Binary, in pixels of the stored image. Of an image, the prediction is the union of the masks of all
detections of target classes from the score threshold on, the truth the union of the outlines; an
image in which nothing is predicted has 0. Pixels of crowd regions, of ignored findings and of
findings whose outline is not known leave both sides; an outlined finding of which no pixel is left
takes no part. A detector without a mask head is judged too:
each of its boxes filled. Of a model with one, that is the row to be beaten: an ellipse in a perfect
box has an IoU of .785.

Masks are compared as run lengths: no picture of them is made.

Shapes: N images with an outlined finding, F outlined findings, P patients, R rows of weights.

Reference:
    Dice 1945; Lin 2014 (COCO), whose AP of masks pycocotools gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.average_precision import (
    COCO_IOUS,
    ap_statistic,
    coco_matches,
)
from simfrcnn.evaluation.bootstrap import Statistic, exact_intervals, per_patient, ratio
from simfrcnn.evaluation.matching import box_iou
from simfrcnn.evaluation.results import NAN
from simfrcnn.evaluation.truth import View
from simfrcnn.outlines import Rle, rle_of, rle_of_box, shared_by, union_of
from simfrcnn.records import Finding
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

PREFIX = "mask/"
BOX_PREFIX = "mask/box_"
"""Of the same figures of filled boxes."""
NORMAL_SHARE = "mask/normal_share"
MATCH_IOU = 0.5
"""Of boxes: from which on a detection is compared with a finding's outline."""


@dataclass(frozen=True)
class Overlap:
    """What prediction A and truth B share: numbers of pixels."""

    shared: int
    predicted: int
    true: int

    @property
    def iou(self) -> float:
        """|A n B| / |A u B|, 0 where both are empty."""
        union = self.predicted + self.true - self.shared
        return self.shared / union if union else 0.0

    @property
    def dice(self) -> float:
        """2 |A n B| / (|A| + |B|), 0 where both are empty."""
        total = self.predicted + self.true
        return 2 * self.shared / total if total else 0.0


def overlap_of(predicted: Rle, true: Rle, left_out: Rle) -> Overlap:
    """How two masks of one size overlap, without the pixels that do not count."""

    def counted(*masks: Rle) -> int:
        return shared_by(*masks).area - shared_by(*masks, left_out).area

    return Overlap(counted(predicted, true), counted(predicted), counted(true))


@dataclass(frozen=True)
class OutlinedView:
    """An image whose findings may have outlines; ``masks`` are those of the predictions in use.

    ``boxes`` (D, 4) are theirs, by falling score.
    """

    view: View
    masks: Sequence[Rle]
    boxes: FloatArray

    @cached_property
    def findings(self) -> list[Finding]:
        """Those with an outline of which any pixel counts: of the others nothing can be found."""
        return [f for f in self.view.findings if f.outline and self._counts(_truth(self.view, f))]

    @cached_property
    def left_out(self) -> Rle:
        """The pixels that do not count."""
        height, width = _size(self.view)
        unknown = [f.box for f in self.view.findings if not f.outline]
        boxes = [*unknown, *self.view.crowd_boxes.tolist(), *self.view.ignored_boxes.tolist()]
        return union_of([rle_of_box(tuple(box), height, width) for box in boxes], height, width)

    @property
    def is_drawn(self) -> bool:
        """Whether any pixel that counts is taken for a finding."""
        return any(map(self._counts, self.masks))

    def overlap(self) -> Overlap:
        """Of all predictions with all outlines."""
        height, width = _size(self.view)
        true = union_of([_truth(self.view, f) for f in self.findings], height, width)
        return overlap_of(union_of(self.masks, height, width), true, self.left_out)

    def _counts(self, mask: Rle) -> bool:
        """Whether any of its pixels does."""
        return overlap_of(mask, mask, self.left_out).true > 0

    def matched(self) -> list[Overlap]:
        """Of each finding that a box meets at IoU .5 with the highest such detection."""
        ious = box_iou(self.boxes, np.array([f.box for f in self.findings]).reshape(-1, 4))
        is_free = np.ones(len(self.findings), dtype=bool)
        found = []
        for mask, of_finding in zip(self.masks, ious, strict=True):
            best = int(np.argmax(np.where(is_free, of_finding, -1)))
            if is_free[best] and of_finding[best] >= MATCH_IOU:
                is_free[best] = False
                true = _truth(self.view, self.findings[best])
                found.append(overlap_of(mask, true, self.left_out))
        return found


def mask_statistics(
    views: Sequence[View], n_patients: int, settings: EvaluationSettings
) -> Iterator[Statistic]:
    """The figures of masks and of filled boxes; none where no finding has an outline.

    Args:
        views: Images in which it is known where findings lie, by image id.
        n_patients: P.
        settings: From which score on detections count, and at which IoU AP is read.

    Raises:
        ArtifactError: A mask is of another size than its image.
    """
    outlined = [view for view in views if OutlinedView(view, (), view.boxes[:0]).findings]
    if not outlined:
        return
    threshold = settings.score_threshold
    if any(view.masks is not None for view in views):
        _require_sizes(views)
        if missing := _without_mask(views, threshold):
            yield _undefined(missing)
        else:
            yield from _overlaps(outlined, threshold, PREFIX)
            yield _share_of_normals(views, n_patients, threshold)
            yield _average_precision(views, n_patients, settings.iou_threshold)
    yield from _overlaps(outlined, threshold, BOX_PREFIX)


def _overlaps(views: Sequence[View], threshold: float, prefix: str) -> Iterator[Statistic]:
    in_use = [_in_use(view, threshold, is_filled=prefix == BOX_PREFIX) for view in views]
    of_images = [one.overlap() for one in in_use]
    patients = np.array([view.patient for view in views], dtype=np.intp)
    for name in ("iou", "dice"):
        values = np.array([getattr(overlap, name) for overlap in of_images])
        keys = f"{prefix}{name}_mean", f"{prefix}{name}_median"
        reason = "there is no image with an outlined finding"
        yield _mean_and_median(keys, values, patients, {"images": len(values)}, reason)
    matched = [one.matched() for one in in_use]
    owners = np.repeat(patients, [len(found) for found in matched])
    of_findings = [overlap for found in matched for overlap in found]
    n_findings = sum(len(one.findings) for one in in_use)
    for name in ("iou", "dice"):
        values = np.array([getattr(overlap, name) for overlap in of_findings])
        keys = f"{prefix}found_{name}_mean", f"{prefix}found_{name}_median"
        counted = {"found": len(values), "findings": n_findings}
        reason = f"no outlined finding is found at IoU {MATCH_IOU:g}"
        yield _mean_and_median(keys, values, owners, counted, reason)


def _in_use(view: View, threshold: float, *, is_filled: bool) -> OutlinedView:
    """The predictions of a view from a score on: its masks, or its boxes filled."""
    n_called = int((view.scores >= threshold).sum())  # scores fall
    boxes = view.boxes[:n_called]
    if is_filled:
        masks = [rle_of_box(tuple(box), *_size(view)) for box in boxes.tolist()]
    else:
        masks = [mask for mask in (view.masks or ())[:n_called] if mask is not None]
    return OutlinedView(view, masks, boxes)


def _mean_and_median(
    keys: tuple[str, str],
    values: FloatArray,
    patients: IntArray,
    counted: Mapping[str, int],
    reason: str,
) -> Statistic:
    """Both over images or findings, each with the weight of its patient."""
    order = np.argsort(values, kind="stable")
    rising, owners = values[order], patients[order]

    def compute(weights: FloatArray) -> FloatArray:
        own = weights[:, owners].astype(np.float64)
        mean = ratio(own @ rising, own.sum(axis=1))
        return np.stack([mean, weighted_median(rising, own)], axis=1)

    return Statistic(
        keys=keys,
        compute=compute,
        n=dict.fromkeys(keys, counted),
        why_undefined=dict.fromkeys(keys, reason),
    )


def weighted_median(rising: FloatArray, weights: FloatArray) -> FloatArray:
    """The median of values (N,) that come as often as each row of weights (R, N) says; NaN of none.

    Of an even number it is the mean of the two in the middle.
    """
    if not len(rising):
        return np.full(len(weights), NAN)
    before = np.cumsum(weights, axis=1)
    half = before[:, -1:] / 2
    low = rising[np.argmax(before >= half, axis=1)]
    high = rising[np.argmax(before > half, axis=1)]
    return np.where(before[:, -1] > 0, (low + high) / 2, NAN)


def _share_of_normals(views: Sequence[View], n_patients: int, threshold: float) -> Statistic:
    """The share of images without a finding in which any pixel is taken for one."""
    clear = [view for view in views if not len(view.finding_boxes) and not len(view.crowd_boxes)]
    is_drawn = np.array(
        [_in_use(view, threshold, is_filled=False).is_drawn for view in clear], dtype=np.bool_
    )
    patients = np.array([view.patient for view in clear], dtype=np.intp)
    n_drawn, n_clear = (per_patient(each, n_patients) for each in (patients[is_drawn], patients))
    return Statistic(
        keys=(NORMAL_SHARE,),
        compute=lambda weights: ratio(weights @ n_drawn, weights @ n_clear)[:, None],
        n={NORMAL_SHARE: {"with a mask": int(is_drawn.sum()), "images": len(clear)}},
        why_undefined={NORMAL_SHARE: "there is no image without a finding"},
        intervals=exact_intervals((NORMAL_SHARE,), (n_drawn,), n_clear),
    )


def _average_precision(views: Sequence[View], n_patients: int, iou_threshold: float) -> Statistic:
    """COCO's AP of the detections that have a mask: from the score on from which they are made."""
    masked = [_masked(view) for view in views]
    ious = np.unique(np.append(COCO_IOUS, iou_threshold).round(6))
    of_boxes = ap_statistic(
        coco_matches(masked, ious, kind="segm"), n_patients, len(views), iou_threshold
    )
    renamed = {key: f"{PREFIX}{key.partition('/')[2]}" for key in of_boxes.keys}
    return dataclasses.replace(
        of_boxes,
        keys=tuple(renamed.values()),
        n={renamed[key]: n for key, n in of_boxes.n.items()},
        why_undefined={renamed[key]: why for key, why in of_boxes.why_undefined.items()},
    )


def _masked(view: View) -> View:
    """The view with those detections alone that have a mask."""
    masks = view.masks or ()
    places = [place for place, mask in enumerate(masks) if mask is not None]
    return dataclasses.replace(
        view,
        boxes=view.boxes[places],
        scores=view.scores[places],
        looks=None if view.looks is None else view.looks[places],
        squares=None if view.squares is None else view.squares[places],
        masks=tuple(masks[place] for place in places),
    )


def _undefined(reason: str) -> Statistic:
    keys = (f"{PREFIX}iou_mean", f"{PREFIX}dice_mean")
    return Statistic(
        keys=keys,
        compute=lambda weights: np.full((len(weights), len(keys)), NAN),
        n={key: {} for key in keys},
        why_undefined=dict.fromkeys(keys, reason),
    )


def _without_mask(views: Sequence[View], threshold: float) -> str | None:
    """Why masks cannot be judged at a threshold: detections above it were given none."""
    lacking = [
        score
        for view in views
        for score, mask in zip(view.scores.tolist(), view.masks or (), strict=False)
        if mask is None and score >= threshold
    ]
    if not lacking:
        return None
    return (
        f"detections of score {max(lacking):.3g} have no mask, and the score threshold is "
        f"{threshold:g}: predict again with EVAL.SCORE_THRESHOLD {threshold:g} (of rescored "
        "detections, the first model with a lower one, and combine again)"
    )


def _require_sizes(views: Sequence[View]) -> None:
    for view in views:
        height, width = _size(view)
        for mask in view.masks or ():
            if mask is not None and (mask.height, mask.width) != (height, width):
                raise ArtifactError(
                    f"image {view.record.image_id} ({view.record.file_name}): a mask of "
                    f"{mask.height} x {mask.width} pixels (height x width); the image has {height} "
                    f"x {width}"
                )


def _truth(view: View, finding: Finding) -> Rle:
    return rle_of(finding.outline, *_size(view))


def _size(view: View) -> tuple[int, int]:
    return view.record.height, view.record.width
