"""What do the lists of a prediction say of an image and of a detection? COCO's entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simfrcnn.artifacts import SQUARE
from simfrcnn.workflows.prediction_heat import CLASS_MAPS


def image_entry(image: Mapping[str, Any], exam: Mapping[str, Any]) -> dict[str, Any]:
    """Of the list of images: that of an image in the result of its exam."""
    facts = {name: image[name] for name in ("height", "width", "laterality", "view_position")}
    return {
        "id": image["image_id"],
        "file_name": image["file"],
        **facts,
        "patient_id": exam["patient_id"],
        "exam_id": exam["exam_id"],
        "supervision": "unlabelled",
        **({CLASS_MAPS: image[CLASS_MAPS]} if CLASS_MAPS in image else {}),
    }


_FURTHER = ("first_score", "second_score", "segmentation")
"""What a detection has of a second look and of a mask head."""


def detection_entry(
    image_id: int, found: Mapping[str, Any], numbers: Mapping[str, int]
) -> dict[str, Any]:
    """Of the list of detections: that of a detection in the result of an exam."""
    square = found.get("second_look_xyxy_px")
    return {
        "image_id": image_id,
        "category_id": numbers[found["class"]],
        "bbox": _xywh(found["box_xyxy_px"]),
        "score": found["score"],
        **{name: found[name] for name in _FURTHER if name in found},
        **({} if square is None else {SQUARE: _xywh(square)}),
    }


def _xywh(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
