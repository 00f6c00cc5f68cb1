"""What is true of an image, a breast and a case, and what was found in it?

Shapes: D detections of target classes in an image, G findings of target classes, C crowd regions,
I findings of ignored classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import ImageDetections
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.matching import falling_order
from simfrcnn.labels import NORMAL, POSITIVE, Tally, tally_of
from simfrcnn.outlines import Rle
from simfrcnn.records import Finding, ImageRecord
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import counted

FloatArray = NDArray[np.float64]

TOLERANCE_PX = 1.0
"""How far a detection may reach beyond its image, by rounding."""


class Truth(IntEnum):
    """What is known of an image, breast or case. The numbers are the bootstrap's strata."""

    UNKNOWN = -1
    NORMAL = 0
    POSITIVE = 1

    @property
    def label(self) -> str:
        """The word for it in a report."""
        return self.name.lower()


@dataclass(frozen=True)
class View:
    """One image as the evaluation sees it: target classes only, detections by falling score.

    ``patient`` numbers the patients from 0. ``boxes`` (D, 4), ``scores`` (D,), ``finding_boxes``
    (G, 4), ``crowd_boxes`` (C, 4), ``ignored_boxes`` (I, 4), in original pixels. ``findings`` are
    without crowd regions, in the order of ``finding_boxes``. ``looks`` (D, 2) are the two scores
    of a model with a second look and ``squares`` (D, 4) what it saw, see
    :class:`~simfrcnn.artifacts.ImageDetections`.
    ``is_located`` is whether it is known where its findings lie, or that there are none; not so
    where a label alone says that the image is positive. ``masks`` (D,) are those of a model with a
    mask head, None for detections that were given none.
    """

    record: ImageRecord
    patient: int
    truth: Truth
    boxes: FloatArray
    scores: FloatArray
    findings: tuple[Finding, ...]
    finding_boxes: FloatArray
    crowd_boxes: FloatArray
    ignored_boxes: FloatArray
    is_located: bool
    looks: FloatArray | None = None
    masks: tuple[Rle | None, ...] | None = None
    squares: FloatArray | None = None

    @property
    def score(self) -> float:
        """The image's score: its highest detection, 0 if there is none (thesis eq. 3.1)."""
        return float(self.scores[0]) if len(self.scores) else 0.0

    @property
    def has_regions(self) -> bool:
        """Whether a detection can be anything but a false positive here."""
        return bool(len(self.finding_boxes) or len(self.crowd_boxes) or len(self.ignored_boxes))


def views_of(
    records: Sequence[ImageRecord],
    detections: Mapping[int, ImageDetections],
    settings: EvaluationSettings,
) -> tuple[list[View], list[str]]:
    """Join records and detections.

    Everything is put in an order of its own (images by id, detections by score, findings by
    place), so that no figure depends on the order of a file.

    Returns:
        The views by image id, and the patients' ids in the order of their numbers.

    Raises:
        ArtifactError: A detection lies outside its image, and ``settings.boxes_outside`` is
            ``refuse``.
    """
    if settings.boxes_outside == "refuse":
        _refuse_boxes_outside(records, detections)
    patient_ids = sorted({record.patient_id for record in records})
    numbers = {patient_id: number for number, patient_id in enumerate(patient_ids)}
    views = [
        _view(record, numbers[record.patient_id], detections[record.image_id], settings)
        for record in sorted(records, key=lambda record: record.image_id)
    ]
    return views, patient_ids


def image_truth(record: ImageRecord, settings: EvaluationSettings) -> Truth:
    """Positive if it has a target box, be it a crowd region, or its labels say that a target is
    visible; normal if known normal, else unknown.

    With ``unknown_images = "normal"`` an unknown image counts as normal (as in the thesis).
    """
    if record.shows_target(settings.target_classes):
        return Truth.POSITIVE
    if record.is_known_normal(settings.target_classes) or settings.unknown_images == "normal":
        return Truth.NORMAL
    return Truth.UNKNOWN


def located(views: Sequence[View]) -> list[View]:
    """The views that FROC, average precision and CorLoc are about: it is known where the findings
    lie, or that there are none.
    """
    return [view for view in views if view.is_located]


_ROLES = {
    Truth.POSITIVE: POSITIVE,
    Truth.NORMAL: NORMAL,
    Truth.UNKNOWN: "of unknown truth: in the scores of their breast and case alone",
}


def tally_of_truth(records: Sequence[ImageRecord], settings: EvaluationSettings) -> Tally:
    """What the labels of a test set come to."""
    return tally_of(
        records,
        [_ROLES[image_truth(record, settings)] for record in records],
        target_classes=settings.target_classes,
        named_classes=settings.ignored_classes,
    )


def unit_truth(views: Sequence[View], settings: EvaluationSettings) -> Truth:
    """The truth of a breast, case or patient, from all its views.

    Positive if any view is, or if any record's pathology is a target class (a malignant breast can
    have a view, or two, in which nobody could draw the cancer). Normal if every view is. Else
    unknown.
    """
    truth = Truth.NORMAL
    for view in views:
        pathology = view.record.pathology
        if view.truth is Truth.POSITIVE or (
            pathology is not None and pathology.value in settings.target_classes
        ):
            return Truth.POSITIVE
        if view.truth is Truth.UNKNOWN:
            truth = Truth.UNKNOWN
    return truth


def patient_strata(
    views: Sequence[View], n_patients: int, settings: EvaluationSettings
) -> NDArray[np.intp]:
    """(P,) truth of each patient: what the bootstrap keeps the numbers of."""
    by_patient: list[list[View]] = [[] for _ in range(n_patients)]
    for view in views:
        by_patient[view.patient].append(view)
    return np.array([unit_truth(group, settings) for group in by_patient], dtype=np.intp)


def _view(
    record: ImageRecord, patient: int, found: ImageDetections, settings: EvaluationSettings
) -> View:
    found = _of_targets(found, settings.target_classes)
    boxes, scores, looks, masks = found.boxes, found.scores, found.looks, found.masks
    if settings.boxes_outside == "clip":
        boxes = boxes.clip(0, (record.width, record.height) * 2)
    order = falling_order(boxes, scores)
    targets = sorted(
        record.findings_of(settings.target_classes), key=lambda f: (f.box, f.finding_id)
    )
    findings = tuple(finding for finding in targets if not finding.iscrowd)
    ignored = record.findings_of(settings.ignored_classes)
    truth = image_truth(record, settings)
    return View(
        record=record,
        patient=patient,
        truth=truth,
        boxes=boxes[order],
        scores=scores[order],
        findings=findings,
        finding_boxes=_boxes(findings),
        crowd_boxes=_boxes([finding for finding in (*targets, *ignored) if finding.iscrowd]),
        ignored_boxes=_boxes([finding for finding in ignored if not finding.iscrowd]),
        looks=None if looks is None else looks[order],
        masks=None if masks is None else tuple(masks[place] for place in order.tolist()),
        squares=None if found.squares is None else found.squares[order],
        is_located=truth is Truth.NORMAL or _has_all_boxes(record, settings.target_classes),
    )


def _has_all_boxes(record: ImageRecord, target_classes: Sequence[str]) -> bool:
    """Whether there is a box of a target, and of every target that a label says is visible."""
    stated = [name for name in target_classes if record.labels.get(name)]
    return record.is_positive(tuple(target_classes)) and all(
        record.is_positive((one,)) for one in stated
    )


def _of_targets(found: ImageDetections, target_classes: Sequence[str]) -> ImageDetections:
    """The detections of the target classes."""
    if set(target_classes).issuperset(found.categories):
        return found
    places = [place for place, name in enumerate(found.categories) if name in target_classes]
    return dataclasses.replace(
        found,
        boxes=found.boxes[places],
        scores=found.scores[places],
        categories=tuple(found.categories[place] for place in places),
        looks=None if found.looks is None else found.looks[places],
        masks=None if found.masks is None else tuple(found.masks[place] for place in places),
        squares=None if found.squares is None else found.squares[places],
    )


def _refuse_boxes_outside(
    records: Sequence[ImageRecord], detections: Mapping[int, ImageDetections]
) -> None:
    """One pass over all boxes at once: there may be a million."""
    found = [detections[record.image_id] for record in records]
    boxes = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in found)])
    sizes = np.array([(record.width, record.height) for record in records], dtype=np.float64)
    limits = np.repeat(sizes, [len(image.scores) for image in found], axis=0)
    is_outside = (boxes[:, :2] < -TOLERANCE_PX) | (boxes[:, 2:] > limits + TOLERANCE_PX)
    outside = np.flatnonzero(is_outside.any(axis=1))
    if not len(outside):
        return
    first = int(outside[0])
    ends = np.cumsum([len(image.scores) for image in found])
    record = records[int(np.searchsorted(ends, first, side="right"))]
    box = ", ".join(f"{side:g}" for side in boxes[first])
    raise ArtifactError(
        f"image {record.image_id} ({record.file_name}): the detection ({box}) lies outside the "
        f"image of {record.width} x {record.height} pixels "
        f"({counted(len(outside), 'such [detection|detections]')}); boxes must be in pixels of the "
        "stored image. --boxes-outside clip (EVAL.BOXES_OUTSIDE) cuts them at its edges"
    )


def _boxes(findings: Sequence[Finding]) -> FloatArray:
    if not findings:
        return _NO_BOXES
    return np.array([finding.box for finding in findings], dtype=np.float64)


_NO_BOXES = np.zeros((0, 4))
