"""How are records read from and written to COCO annotation files?

COCO's images carry our facts as further keys (patient, exam, supervision ...), so pycocotools and
every COCO viewer still read the files. Boxes are XYWH in the file and XYXY everywhere else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from simfrcnn import fields
from simfrcnn.errors import AnnotationError, OutputError
from simfrcnn.files import write_json
from simfrcnn.records import (
    Box,
    Finding,
    FindingSource,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)

_N_SHOWN = 5
_TOLERANCE_PX = 1e-2
"""Boxes that leave the image by less are rounding, and are clipped; by more, an error."""
_NO_ATTRIBUTES: Mapping[str, str] = {}

V = TypeVar("V")


class BoxOutsideError(AnnotationError):
    """A box that leaves its image: the commonest defect, with a remedy of its own."""


@dataclass(frozen=True)
class AnnotatedSet:
    """One annotation file: its records in file order, its classes by id, and what identifies it."""

    path: Path
    categories: Mapping[int, str]
    records: tuple[ImageRecord, ...]
    sha256: str
    info: Mapping[str, Any]


def read_coco(
    path: Path, *, check_files: bool = True, refused: list[AnnotationError] | None = None
) -> AnnotatedSet:
    """Read an annotation file strictly: what is not clear is refused, nothing guessed or dropped.

    Args:
        path: A COCO JSON file; ``file_name`` is relative to its folder.
        check_files: Also check that every image file exists.
        refused: Where to put the errors of single entries, which are then left out; to list all
            that is wrong with a file, never to use it.

    Raises:
        AnnotationError: The file is missing or malformed, or contradicts itself; names the file,
            the image or annotation, and the key.
    """
    path = Path(path).absolute()
    content, document = _read_json(path)
    categories = _categories(path, _list_of(path, document, "categories"))
    findings = _findings(path, _list_of(path, document, "annotations"), categories, refused)
    records = _records(path, _list_of(path, document, "images"), findings, refused)
    if check_files:
        _require_files(path, records)
    info = document.get("info") or {}
    if not isinstance(info, dict):
        raise AnnotationError(f"{path}: 'info' must be an object, not {fields.shown(info)}")
    return AnnotatedSet(
        path=path,
        categories=categories,
        records=tuple(records),
        sha256=hashlib.sha256(content).hexdigest(),
        info=info,
    )


def write_coco(
    path: Path,
    records: Sequence[ImageRecord],
    categories: Mapping[int, str],
    info: Mapping[str, Any],
) -> None:
    """Write records as a COCO file, atomically; :func:`read_coco` gives them back.

    Raises:
        AnnotationError: See :func:`as_coco`.
        OutputError: The file cannot be written.
    """
    write_json(path, as_coco(path, records, categories, info))


def as_coco(
    path: Path,
    records: Sequence[ImageRecord],
    categories: Mapping[int, str],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """Records as the document of a COCO file that will lie at ``path``.

    ``file_name`` is made anew from each record's path, relative to the folder of ``path``, so
    records may be written to another folder than they came from.

    Raises:
        AnnotationError: A finding's category is not among ``categories``, or an id is used twice.
    """
    path = Path(path).absolute()
    ids = {name: category_id for category_id, name in categories.items()}
    _require_unique(path, "image", [record.image_id for record in records])
    _require_unique(path, "annotation", [f.finding_id for r in records for f in r.findings])
    return {
        "info": dict(info),
        "images": [_image_entry(path.parent, record) for record in records],
        "annotations": [
            _annotation_entry(path, record, finding, ids)
            for record in records
            for finding in record.findings
        ],
        "categories": [{"id": key, "name": name} for key, name in categories.items()],
    }


def write_extended(
    path: Path,
    source: AnnotatedSet,
    added: Mapping[int, Sequence[Finding]],
    *,
    kept_image_ids: Collection[int],
    new_category: str,
    info: Mapping[str, Any],
) -> None:
    """Write some images of an annotation file anew with further findings, atomically.

    The entries of the source are copied as they stand, with every key and digit; only
    ``file_name`` is made relative to the new folder. The category is new, or that of its name.

    Args:
        path: The new file.
        source: The set that :func:`read_coco` gave; its file must not have changed since.
        added: New findings by image id, of any of the new file's categories; appended after those
            of the source.
        kept_image_ids: The images that the new file has; findings of others are left out.
        new_category: A category that the new file has, also if no finding is of it.
        info: Keys to add to ``info``.

    Raises:
        AnnotationError: The source has changed, or an id would be used twice.
        OutputError: The file cannot be written, or is the source itself.
    """
    path = Path(path).absolute()
    if path.resolve() == source.path.resolve():
        raise OutputError(f"{path} is the file that is extended; give the new one another name")
    content, document = _read_json(source.path)
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise AnnotationError(f"{source.path} has changed since it was read; run again")
    categories = dict(source.categories)
    if new_category not in categories.values():
        number = max(categories, default=0) + 1
        categories[number] = new_category
        document["categories"].append({"id": number, "name": new_category})
    ids = {name: number for number, name in categories.items()}
    wanted = set(kept_image_ids)
    kept = [record for record in source.records if record.image_id in wanted]
    places = {r.image_id: _relative_to(path.parent, r) for r in kept}
    document["info"] = {**source.info, **info}
    document["images"] = [
        {**entry, "file_name": places[entry["id"]]}
        for entry in document["images"]
        if entry["id"] in places
    ]
    document["annotations"] = [
        *(entry for entry in document["annotations"] if entry["image_id"] in places),
        *(
            _annotation_entry(path, record, finding, ids)
            for record in kept
            for finding in added.get(record.image_id, ())
        ),
    ]
    _require_unique(path, "annotation", [entry["id"] for entry in document["annotations"]])
    write_json(path, document)


# Reading


def _read_json(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be opened ({error.strerror})") from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(document, dict):
        raise AnnotationError(
            f"{path}: must hold an object with images, annotations and categories, "
            f"not {fields.shown(document)}"
        )
    return content, document


def _list_of(path: Path, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        found = "is missing" if entries is None else "is not a list of objects"
        raise AnnotationError(f"{path}: '{key}' {found}; a COCO file has a list of objects there")
    return entries


def _categories(path: Path, entries: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    where = [f"{path}: category {entry.get('id')!r}" for entry in entries]
    ids = [fields.whole(place, entry, "id") for place, entry in zip(where, entries, strict=True)]
    names = [fields.text(place, entry, "name") for place, entry in zip(where, entries, strict=True)]
    _require_unique(path, "category", ids)
    _require_unique(path, "category name", names)
    return dict(zip(ids, names, strict=True))


def _each(
    entries: Iterable[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], V],
    refused: list[AnnotationError] | None,
) -> Iterator[V]:
    """``read(entry)`` of every entry; an error is raised, or listed where there is a list."""
    for entry in entries:
        try:
            value = read(entry)
        except AnnotationError as error:
            if refused is None:
                raise
            refused.append(error)
        else:
            yield value


def _findings(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    categories: Mapping[int, str],
    refused: list[AnnotationError] | None,
) -> dict[int, list[Finding]]:
    """The findings by image id, each in file order."""
    by_image: dict[int, list[Finding]] = {}
    read = _each(entries, lambda entry: _finding(path, entry, categories), refused)
    ids: list[int] = []
    for image_id, finding in read:
        ids.append(finding.finding_id)
        by_image.setdefault(image_id, []).append(finding)
    _require_unique(path, "annotation", ids)
    return by_image


def _finding(
    path: Path, entry: Mapping[str, Any], categories: Mapping[int, str]
) -> tuple[int, Finding]:
    """The id of its image, and the finding."""
    where = f"{path}: annotation {entry.get('id')!r}"
    finding_id = fields.whole(where, entry, "id")
    category_id = fields.whole(where, entry, "category_id")
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
    )
    return fields.whole(where, entry, "image_id"), finding


def _is_crowd(where: str, entry: Mapping[str, Any]) -> bool:
    value = entry.get("iscrowd")
    if value not in (None, 0, 1):
        raise AnnotationError(f"{where}: 'iscrowd' must be 0 or 1, not {fields.shown(value)}")
    return bool(value)


def _box(where: str, entry: Mapping[str, Any]) -> Box:
    bbox = fields.present(where, entry, "bbox")
    numbers = isinstance(bbox, list) and all(type(number) in (int, float) for number in bbox)
    if not numbers or len(bbox) != 4 or not all(math.isfinite(number) for number in bbox):
        raise AnnotationError(
            f"{where}: bbox must be four finite numbers, not {fields.shown(bbox)}"
        )
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        raise AnnotationError(
            f"{where}: bbox {bbox} has no area; a box is [x, y, width, height] with both above 0"
        )
    return float(x), float(y), float(x + width), float(y + height)


def _records(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    findings: dict[int, list[Finding]],
    refused: list[AnnotationError] | None,
) -> list[ImageRecord]:
    records = list(_each(entries, lambda entry: _record(path, entry, findings), refused))
    _require_unique(path, "image", [record.image_id for record in records])
    unknown = findings.keys() - {record.image_id for record in records}
    if unknown and not refused:  # else its image may be one that was left out
        image_id = min(unknown)
        raise AnnotationError(
            f"{path}: annotation {findings[image_id][0].finding_id}: image_id {image_id} is not "
            f"among 'images' ({len(unknown)} such images)"
        )
    return records


def _record(
    path: Path, entry: Mapping[str, Any], findings: Mapping[int, list[Finding]]
) -> ImageRecord:
    where = f"{path}: image {entry.get('id')!r}"
    image_id = fields.whole(where, entry, "id")
    height, width = fields.positive(where, entry, "height"), fields.positive(where, entry, "width")
    supervision = fields.enum_member(where, entry, "supervision", Supervision)
    if supervision is None:
        raise AnnotationError(
            f"{where}: 'supervision' is missing; say what the labels mean, one of "
            f"{fields.legal(Supervision)}"
        )
    file_name = fields.text(where, entry, "file_name")
    own = tuple(_inside(path, image_id, f, height, width) for f in findings.get(image_id, ()))
    if supervision is Supervision.NORMAL:
        _require_normal(where, own)
    return ImageRecord(
        image_id=image_id,
        file_name=file_name,
        path=Path(os.path.normpath(os.path.join(path.parent, file_name))),
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
        attributes=_attributes(where, entry),
        prepared=fields.optional(where, entry, "prepared", fields.read_prepared),
    )


def _inside(path: Path, image_id: int, finding: Finding, height: int, width: int) -> Finding:
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
    return Finding(**{**vars(finding), "box": clipped})


def _require_normal(where: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.category == "malignant" or finding.pathology is Pathology.MALIGNANT:
            raise AnnotationError(
                f"{where}: supervision is 'normal', but annotation {finding.finding_id} is "
                "malignant: use 'boxes', or remove the annotation"
            )


def _spacing(where: str, entry: Mapping[str, Any]) -> tuple[float, float] | None:
    spacing = entry.get("pixel_spacing_mm")
    if spacing is None:
        return None
    numbers = isinstance(spacing, list) and all(type(mm) in (int, float) for mm in spacing)
    if not numbers or len(spacing) != 2 or not all(0 < mm < math.inf for mm in spacing):
        raise AnnotationError(
            f"{where}: pixel_spacing_mm must be [row, column] in mm, both above 0, or null, "
            f"not {fields.shown(spacing)}"
        )
    return float(spacing[0]), float(spacing[1])


def _attributes(where: str, entry: Mapping[str, Any]) -> Mapping[str, str]:
    attributes = entry.get("attributes")
    if not attributes:
        return _NO_ATTRIBUTES
    if not isinstance(attributes, dict) or not all(
        isinstance(value, str) for value in attributes.values()
    ):
        raise AnnotationError(f"{where}: 'attributes' must be an object of strings")
    return attributes


def _require_files(path: Path, records: Sequence[ImageRecord]) -> None:
    missing = [record for record in records if not record.path.is_file()]
    if missing:
        shown = "\n  ".join(f"image {r.image_id}: {r.path}" for r in missing[:_N_SHOWN])
        more = f"\n  and {len(missing) - _N_SHOWN} more" if len(missing) > _N_SHOWN else ""
        raise AnnotationError(
            f"{path}: {len(missing)} of {len(records)} image files are missing (file_name is "
            "relative "
            f"to the annotation file's folder):\n  {shown}{more}"
        )


def _require_unique(path: Path, what: str, keys: Sequence[int] | Sequence[str]) -> None:
    if len(set(keys)) < len(keys):
        repeated = [key for key, count in Counter(keys).items() if count > 1]
        shown = ", ".join(map(repr, repeated[:_N_SHOWN]))
        raise AnnotationError(f"{path}: {what} id used more than once: {shown}; ids must be unique")


# Writing


def _image_entry(folder: Path, record: ImageRecord) -> dict[str, Any]:
    spacing = record.pixel_spacing_mm
    # Absent, not null, where the picture is the source's own: such files stay as they always were.
    prepared = {} if record.prepared is None else {"prepared": asdict(record.prepared)}
    return {
        "id": record.image_id,
        "file_name": _relative_to(folder, record),
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
        "attributes": dict(record.attributes),
        **prepared,
    }


def _relative_to(folder: Path, record: ImageRecord) -> str:
    return Path(os.path.relpath(record.path, folder)).as_posix()


def _annotation_entry(
    path: Path, record: ImageRecord, finding: Finding, ids: Mapping[str, int]
) -> dict[str, Any]:
    if finding.category not in ids:
        raise AnnotationError(
            f"{path}: finding {finding.finding_id} of image {record.image_id} is a "
            f"'{finding.category}'; the categories are {', '.join(ids) or 'none'}"
        )
    x1, y1, x2, y2 = finding.box
    return {
        "id": finding.finding_id,
        "image_id": record.image_id,
        "category_id": ids[finding.category],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(finding.iscrowd),
        "pathology": _value(finding.pathology),
        "lesion_id": finding.lesion_id,
        "source": finding.source.value,
        "score": finding.score,
    }


def _value(member: Enum | None) -> str | None:
    return None if member is None else str(member.value)
