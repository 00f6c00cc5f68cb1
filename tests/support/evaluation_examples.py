"""Small test sets for the tests of the evaluation: built by hand, or drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.evaluation import operating
from simfrcnn.evaluation.operating import ChosenPoints, ValidationSet
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.images.hanging import HungPicture
from simfrcnn.records import Finding, ImageRecord, Laterality, Pathology, Supervision, ViewPosition

CATEGORIES = {1: "malignant", 2: "benign"}


def finding(
    box: Sequence[float],
    finding_id: int = 1,
    *,
    category: str = "malignant",
    lesion_id: str | None = None,
    iscrowd: bool = False,
) -> Finding:
    """A finding with a box (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = (float(side) for side in box)
    return Finding((x1, y1, x2, y2), category, finding_id, lesion_id=lesion_id, iscrowd=iscrowd)


def image(
    image_id: int,
    patient: str,
    *findings: Finding,
    exam: str | None = None,
    supervision: Supervision | None = None,
    laterality: Laterality = Laterality.LEFT,
    view: ViewPosition = ViewPosition.CC,
    pathology: Pathology | None = None,
) -> ImageRecord:
    """A record of 100 x 100 pixels; by default boxed if it has findings, normal if not."""
    return ImageRecord(
        image_id=image_id,
        file_name=f"{image_id}.png",
        path=Path(f"/nowhere/{image_id}.png"),
        height=100,
        width=100,
        patient_id=patient,
        exam_id=exam or f"{patient}-exam",
        supervision=supervision or (Supervision.BOXES if findings else Supervision.NORMAL),
        laterality=laterality,
        view_position=view,
        pathology=pathology,
        findings=findings,
    )


def found(image_id: int, *detections: tuple[Sequence[float], float] | tuple) -> ImageDetections:
    """Detections (box, score) or (box, score, category) of an image."""
    return ImageDetections(
        image_id=image_id,
        boxes=np.array([detection[0] for detection in detections], dtype=float).reshape(-1, 4),
        scores=np.array([detection[1] for detection in detections], dtype=float),
        categories=tuple(d[2] if len(d) > 2 else "malignant" for d in detections),
    )


def detection_file(*images: ImageDetections) -> DetectionFile:
    """Detections in memory."""
    return DetectionFile(images={image.image_id: image for image in images}, categories=CATEGORIES)


def random_set(
    seed: int,
    *,
    n_patients: int = 12,
    n_detections: int = 8,
    n_levels: int | None = None,
    side_px: int = 100,
    with_benign: bool = False,
) -> tuple[list[ImageRecord], DetectionFile]:
    """Patients with up to three images each, findings, and detections near and far from them.

    ``n_levels`` rounds scores to so many values, which makes ties; None leaves them all different.
    ``with_benign`` makes about every third finding benign.
    """
    random = np.random.default_rng(seed)
    records: list[ImageRecord] = []
    images: list[ImageDetections] = []
    for patient in range(n_patients):
        is_positive = patient % 3 == 0 or random.random() < 0.3
        for view in range(int(random.integers(1, 4))):
            image_id = len(records) + 1
            n_findings = int(random.integers(0, 4)) if is_positive else 0
            findings = [
                finding(
                    _random_box(random, side_px),
                    10 * image_id + index,
                    lesion_id=f"L{index}" if random.random() < 0.8 else None,
                    category="benign" if with_benign and random.random() < 0.35 else "malignant",
                )
                for index in range(n_findings)
            ]
            is_unknown = not findings and random.random() < 0.2
            records.append(
                image(
                    image_id,
                    f"patient-{patient:03d}",
                    *findings,
                    exam=f"exam-{patient:03d}-{view // 2}",
                    supervision=Supervision.UNLABELLED if is_unknown else None,
                    laterality=Laterality.LEFT if view % 2 else Laterality.RIGHT,
                )
            )
            detections = []
            for _ in range(int(random.integers(0, n_detections + 1))):
                box = _random_box(random, side_px)
                if findings and random.random() < 0.5:
                    near = findings[int(random.integers(len(findings)))]
                    box = np.array(near.box) + random.normal(0, 3, size=4)
                    box = np.concatenate(
                        [np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])]
                    )
                box = np.clip(box, 0, side_px)
                score = float(random.random())
                if n_levels is not None:
                    score = round(score * n_levels) / n_levels
                detections.append((box, score, "benign" if random.random() < 0.1 else "malignant"))
            images.append(found(image_id, *detections))
    return records, detection_file(*images)


def _random_box(random: np.random.Generator, side_px: int) -> np.ndarray:
    corner = random.uniform(0, side_px * 0.7, size=2)
    size = random.uniform(side_px * 0.05, side_px * 0.3, size=2)
    return np.concatenate([corner, corner + size])


def grey_pictures(records: Sequence[ImageRecord]) -> list[HungPicture]:
    """A grey JPEG in place of each image; those with even ids are mirrored."""
    return [
        HungPicture(
            cv2.imencode(".jpg", np.full((20, 20), 90, dtype=np.uint8))[1].tobytes(),
            "image/jpeg",
            is_mirrored=record.image_id % 2 == 0,
        )
        for record in records
    ]


def chosen_points(checkpoint_sha256: str | None) -> ChosenPoints:
    """One operating point of a checkpoint, chosen on ``a/val``, and one that could not be."""
    return ChosenPoints(
        points=(OperatingPoint("case", "youden", 0.375, None, "a/val", 0.8, 0.9),),
        missing={"case/specificity": "none was good enough"},
        settings={name: [] for name in operating._SETTINGS},
        chosen_on=(ValidationSet("a/val", "a" * 64),),
        checkpoint_sha256=checkpoint_sha256,
    )
