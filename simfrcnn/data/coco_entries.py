"""What does one entry of a COCO file say, and what is written of one record or finding?

Boxes are XYWH in the file and XYXY everywhere else. Every message begins with the file and the
entry.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Any

from simfrcnn import fields, outlines
from simfrcnn.errors import AnnotationError
from simfrcnn.image_labels import contradiction_of
from simfrcnn.images.names import Finder
from simfrcnn.records import (
    Box,
    Finding,
    FindingSource,
    ImageRecord,
    Laterality,
    Outline,
    Pathology,
    Supervision,
    ViewPosition,
)
from simfrcnn.wording import agreeing

REQUIRED = {
    "images": ("id", "file_name", "height", "width", "patient_id", "exam_id", "supervision"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
"""List of the file -> the keys that each of its entries has."""
KINDS = {"images": "image", "annotations": "annotation", "categories": "category"}
"""List of the file -> what to call one entry of it."""
_TOLERANCE_PX = 1e-2
"""Boxes that leave the image by less are rounding, and are clipped; by more, an error."""
_LONGEST_SIDE_PX = 1_000_000
_NO_ATTRIBUTES: Mapping[str, str] = {}
_NO_LABELS: Mapping[str, bool] = {}
_MALIGNANT = "malignant"
_REMEDY = (
    "correct it, or leave the key out: the outline is then not known (simfrcnn prepare-data coco "
    "mends such outlines)"
)


class BoxOutsideError(AnnotationError):
    """A box that leaves its image: the commonest defect, with a remedy of its own."""


class RemediedError(AnnotationError):
    """What was found, and what to do, apart: for those who show the two in different places."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found, remedy)
        self.found, self.remedy = found, remedy

    def __str__(self) -> str:
        return f"{self.found}; {self.remedy}"


class SubPixelError(RemediedError):
    """All boxes of a file are smaller than a pixel: mostly they are fractions of the image."""


class MissingKeysError(RemediedError):
    """Entries lack keys; ``of`` is its list of the file, its id, the keys. None for several."""

    of: tuple[str, Any, tuple[str, ...]] | None = None


# Reading


def number_of(where: str, entry: Mapping[str, Any], key: str) -> int:
    """An id; of a text, the message says what to do."""
    try:
        return fields.whole(where, entry, key)
    except AnnotationError as error:
        if not isinstance(entry.get(key), str):
            raise
        raise AnnotationError(f"{error}; simfrcnn prepare-data coco numbers text ids") from None


def read_category(path: Path, entry: Mapping[str, Any]) -> tuple[int, str]:
    """Id and name of a class."""
    where = f"{path}: category {entry.get('id')!r}"
    return number_of(where, entry, "id"), fields.text(where, entry, "name")


def read_finding(
    path: Path,
    entry: Mapping[str, Any],
    categories: Mapping[int, str],
    sizes: Mapping[Any, tuple[Any, Any]],
) -> tuple[int, Finding]:
    """The id of its image, and the finding; ``sizes`` are the images' (height, width) by id."""
    where = f"{path}: annotation {entry.get('id')!r}"
    finding_id = number_of(where, entry, "id")
    category_id = number_of(where, entry, "category_id")
    if category_id not in categories:
        legal = ", ".join(f"{key} ({name})" for key, name in categories.items()) or "none"
        raise AnnotationError(
            f"{where}: category_id {category_id} is unknown; 'categories' has {legal}"
        )
    finding = Finding(
        box=_box(where, entry),
        category=categories[category_id],
        finding_id=finding_id,
        pathology=fields.enum_member(where, entry, "pathology", Pathology),
        lesion_id=fields.optional(where, entry, "lesion_id", fields.text),
        source=fields.enum_member(where, entry, "source", FindingSource)
        or FindingSource.RADIOLOGIST,
        score=fields.optional(where, entry, "score", fields.number),
        iscrowd=_is_crowd(where, entry),
        outline=_outline(where, entry, sizes),
        weight=fields.optional(where, entry, "lesion_weight", fields.above_zero),
    )
    return number_of(where, entry, "image_id"), finding


def _outline(where: str, entry: Mapping[str, Any], sizes: Mapping[Any, tuple[Any, Any]]) -> Outline:
    """What ``segmentation`` says; whether it lies in the image is checked with the box."""
    value = entry.get("segmentation")
    if not value:
        return ()
    image_id = entry.get("image_id")
    size = sizes.get(image_id) if fields.is_whole(image_id) else None
    height, width = size or (None, None)
    try:
        return outlines.read_segmentation(value, height, width).outline
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}; {_REMEDY}") from None


def _is_crowd(where: str, entry: Mapping[str, Any]) -> bool:
    value = entry.get("iscrowd")
    if value not in (None, 0, 1):
        raise AnnotationError(f"{where}: 'iscrowd' must be 0 or 1, not {fields.shown(value)}")
    return bool(value)


def _box(where: str, entry: Mapping[str, Any]) -> Box:
    bbox = fields.present(where, entry, "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(fields.is_finite, bbox)):
        raise AnnotationError(
            f"{where}: bbox must be four finite numbers, not {fields.shown(bbox)}"
        )
    x, y, width, height = map(float, bbox)
    if width <= 0 or height <= 0:
        raise AnnotationError(
            f"{where}: bbox {bbox} has no area; a box is [x, y, width, height] with both above 0"
        )
    return x, y, x + width, y + height


def read_record(
    path: Path, entry: Mapping[str, Any], findings: Mapping[int, Sequence[Finding]], files: Finder
) -> ImageRecord:
    """One image with its findings, of all those by image id; ``files`` are those of the folder."""
    where = f"{path}: image {entry.get('id')!r}"
    image_id = number_of(where, entry, "id")
    height, width = _side(where, entry, "height"), _side(where, entry, "width")
    supervision = fields.enum_member(where, entry, "supervision", Supervision)
    if supervision is None:
        raise AnnotationError(f"{where}: 'supervision' is missing; {supervision_help()}")
    file_name = fields.text(where, entry, "file_name")
    own = tuple(
        _inside(path, image_id, finding, height, width) for finding in findings.get(image_id, ())
    )
    if supervision is Supervision.NORMAL:
        _require_normal(where, own)
    record = ImageRecord(
        image_id=image_id,
        file_name=file_name,
        path=files.resolve(file_name),
        height=height,
        width=width,
        patient_id=fields.text(where, entry, "patient_id"),
        exam_id=fields.text(where, entry, "exam_id"),
        supervision=supervision,
        laterality=fields.enum_member(where, entry, "laterality", Laterality),
        view_position=fields.enum_member(where, entry, "view_position", ViewPosition),
        pixel_spacing_mm=_spacing(where, entry),
        pathology=fields.enum_member(where, entry, "pathology", Pathology),
        split=fields.optional(where, entry, "split", fields.text),
        findings=own,
        labels=read_labels(where, entry),
        attributes=_attributes(where, entry),
        prepared=fields.optional(where, entry, "prepared", fields.read_prepared),
    )
    if contradiction := contradiction_of(record, (_MALIGNANT,)):
        raise AnnotationError(f"{where}: {contradiction}")
    return record


def _side(where: str, entry: Mapping[str, Any], key: str) -> int:
    side = fields.positive(where, entry, key)
    if side > _LONGEST_SIDE_PX:
        raise AnnotationError(
            f"{where}: '{key}' is {fields.shown(side)}; pictures of up to {_LONGEST_SIDE_PX} "
            "pixels are legal"
        )
    return side


def supervision_help() -> str:
    """What to write as ``supervision``."""
    return f"it says what the labels mean, one of {fields.legal(Supervision)}"


def missing_keys(
    path: Path, missing: Sequence[tuple[str, Any, list[str]]], lists: Mapping[str, Sequence[Any]]
) -> MissingKeysError:
    """Which keys are missing, where, and what to do.

    Args:
        path: The file.
        missing: List of the file, id and missing keys of each entry that lacks some.
        lists: All entries by list.
    """
    keys = Counter((name, key) for name, _, lacks in missing for key in lacks)
    name, number, lacks = missing[0]
    first = f"{KINDS[name]} {number!r}"
    if len(missing) == 1:
        words = f"{first}: {keys_are_missing(lacks)}"
    else:
        parts = (
            f"'{key}' in {count} of {len(lists[name])} {name}"
            for (name, key), count in keys.items()
        )
        words = f"keys are missing: {', '.join(parts)} (the first is {first})"
    remedy = "simfrcnn prepare-data coco completes plain COCO files"
    if ("images", "supervision") in keys:
        remedy = f"of 'supervision', {supervision_help()}; {remedy}"
    error = MissingKeysError(f"{path}: {words}", remedy)
    if len(missing) == 1:
        error.of = name, number, tuple(lacks)
    return error


def keys_are_missing(keys: Sequence[str]) -> str:
    """Such as "'id', 'bbox' are missing"."""
    return f"{', '.join(map(repr, keys))} {agreeing(len(keys), '[is|are]')} missing"


def _inside(path: Path, image_id: int, finding: Finding, height: int, width: int) -> Finding:
    if finding.outline:
        finding = replace(finding, outline=_legal_outline(path, image_id, finding, height, width))
    x1, y1, x2, y2 = finding.box
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return finding
    slack = _TOLERANCE_PX
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    within = x1 >= -slack and y1 >= -slack and x2 <= width + slack and y2 <= height + slack
    if not within or clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise BoxOutsideError(
            f"{path}: annotation {finding.finding_id}: bbox [{x1:g}, {y1:g}, {x2 - x1:g}, "
            f"{y2 - y1:g}] (XYWH) leaves image {image_id}, which is {width} wide and {height} "
            "high: clip it or correct the size"
        )
    return replace(finding, box=clipped)


def _legal_outline(path: Path, image_id: int, finding: Finding, height: int, width: int) -> Outline:
    problem = outlines.problem_of(finding.outline, height, width)
    if problem is not None:
        raise AnnotationError(
            f"{path}: annotation {finding.finding_id} of image {image_id}: 'segmentation' "
            f"{problem}; {_REMEDY}"
        )
    return outlines.clean(finding.outline, height, width)


def _require_normal(where: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.category == _MALIGNANT or finding.pathology is Pathology.MALIGNANT:
            raise AnnotationError(
                f"{where}: supervision is 'normal', but annotation {finding.finding_id} is "
                "malignant: use 'boxes', or remove the annotation"
            )


def _spacing(where: str, entry: Mapping[str, Any]) -> tuple[float, float] | None:
    spacing = entry.get("pixel_spacing_mm")
    if spacing is None:
        return None
    numbers = isinstance(spacing, list) and all(map(fields.is_finite, spacing))
    if not numbers or len(spacing) != 2 or not all(mm > 0 for mm in spacing):
        raise AnnotationError(
            f"{where}: pixel_spacing_mm must be [row, column] in mm, both above 0, or null, "
            f"not {fields.shown(spacing)}"
        )
    return float(spacing[0]), float(spacing[1])


def read_labels(where: str, entry: Mapping[str, Any]) -> Mapping[str, bool]:
    """What an image's key ``labels`` says: category -> whether a finding of it is visible.

    Raises:
        AnnotationError: It is no object, or a value is not true or false.
    """
    labels = entry.get("labels")
    if labels is None:
        return _NO_LABELS
    if not isinstance(labels, dict):
        raise AnnotationError(
            f"{where}: 'labels' must be an object such as {{\"malignant\": true}}, not "
            f"{fields.shown(labels)}"
        )
    for name, value in labels.items():
        if not isinstance(value, bool):
            raise AnnotationError(
                f"{where}: 'labels' says {fields.shown(value)} of {name!r}; legal are true and "
                "false, and a name that is left out is not known"
            )
    return labels


def _attributes(where: str, entry: Mapping[str, Any]) -> Mapping[str, str]:
    attributes = entry.get("attributes")
    if not attributes:
        return _NO_ATTRIBUTES
    if not isinstance(attributes, dict) or not all(
        isinstance(value, str) for value in attributes.values()
    ):
        raise AnnotationError(f"{where}: 'attributes' must be an object of strings")
    return attributes


# Writing


def image_entry(folder: Path, record: ImageRecord) -> dict[str, Any]:
    """What is written of an image, in a file that lies in ``folder``."""
    spacing = record.pixel_spacing_mm
    # Absent, not null, where there is nothing to say: such files stay as they always were.
    labels = {"labels": dict(record.labels)} if record.labels else {}
    prepared = {} if record.prepared is None else {"prepared": asdict(record.prepared)}
    return {
        "id": record.image_id,
        "file_name": relative_to(folder, record),
        "height": record.height,
        "width": record.width,
        "patient_id": record.patient_id,
        "exam_id": record.exam_id,
        "laterality": _value(record.laterality),
        "view_position": _value(record.view_position),
        "pixel_spacing_mm": list(spacing) if spacing else None,
        "pathology": _value(record.pathology),
        "supervision": record.supervision.value,
        "split": record.split,
        **labels,
        "attributes": dict(record.attributes),
        **prepared,
    }


def relative_to(folder: Path, record: ImageRecord) -> str:
    """``file_name`` of a record in a file that lies in ``folder``."""
    return Path(os.path.relpath(record.path, folder)).as_posix()


def annotation_entry(
    path: Path, record: ImageRecord, finding: Finding, ids: Mapping[str, int]
) -> dict[str, Any]:
    """What is written of a finding; ``ids`` are those of the classes, by name."""
    if finding.category not in ids:
        raise AnnotationError(
            f"{path}: finding {finding.finding_id} of image {record.image_id} is a "
            f"'{finding.category}'; the categories are {', '.join(ids) or 'none'}"
        )
    x1, y1, x2, y2 = finding.box
    area, segmentation = (x2 - x1) * (y2 - y1), {}
    if finding.outline:
        area = float(outlines.rle_of(finding.outline, record.height, record.width).area)
        segmentation = {"segmentation": outlines.as_segmentation(finding.outline)}
    return {
        "id": finding.finding_id,
        "image_id": record.image_id,
        "category_id": ids[finding.category],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": area,
        **segmentation,
        "iscrowd": int(finding.iscrowd),
        "pathology": _value(finding.pathology),
        "lesion_id": finding.lesion_id,
        "source": finding.source.value,
        "score": finding.score,
        **({} if finding.weight is None else {"lesion_weight": finding.weight}),
    }


def _value(member: Enum | None) -> str | None:
    return None if member is None else str(member.value)
