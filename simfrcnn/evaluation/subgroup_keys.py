"""What parts a test set: facts of images and of findings, by the key of a subgroup."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from simfrcnn.errors import ConfigError
from simfrcnn.records import Finding, ImageRecord

Value = str | float | None


def _view_position(record: ImageRecord) -> Value:
    return record.view_position.value if record.view_position else None


def _laterality(record: ImageRecord) -> Value:
    return record.laterality.value if record.laterality else None


def _pathology(record: ImageRecord) -> Value:
    return record.pathology.value if record.pathology else None


def _spacing_mm(record: ImageRecord) -> Value:
    """The coarser of row and column spacing."""
    return max(record.pixel_spacing_mm) if record.pixel_spacing_mm else None


def _size_px(record: ImageRecord, finding: Finding) -> Value:
    x1, y1, x2, y2 = finding.box
    return max(x2 - x1, y2 - y1)


def _size_mm(record: ImageRecord, finding: Finding) -> Value:
    """The longest side of the box; spacing is (between rows, between columns)."""
    if record.pixel_spacing_mm is None:
        return None
    x1, y1, x2, y2 = finding.box
    between_rows, between_columns = record.pixel_spacing_mm
    return max((x2 - x1) * between_columns, (y2 - y1) * between_rows)


def _finding_pathology(record: ImageRecord, finding: Finding) -> Value:
    return finding.pathology.value if finding.pathology else None


RECORD_FACTS: Mapping[str, Callable[[ImageRecord], Value]] = {
    "view_position": _view_position,
    "laterality": _laterality,
    "pathology": _pathology,
    "split": lambda record: record.split,
    "supervision": lambda record: record.supervision.value,
    "pixel_spacing_mm": _spacing_mm,
}
FINDING_FACTS: Mapping[str, Callable[[ImageRecord, Finding], Value]] = {
    "lesion_size_mm": _size_mm,
    "lesion_size_px": _size_px,
    "finding_pathology": _finding_pathology,
}


def value_of(record: ImageRecord, key: str) -> Value:
    """A fact of the record or, where it has none of that name, an attribute."""
    if key in RECORD_FACTS:
        return RECORD_FACTS[key](record)
    return record.attributes.get(key, "").strip() or None


def require_key(key: str, records: Sequence[ImageRecord]) -> None:
    """Refuse a key for which no image, or no finding, has a value.

    Raises:
        ConfigError: Names the keys that these images have.
    """
    attributes = {name for record in records for name in record.attributes}
    named = {*RECORD_FACTS, *FINDING_FACTS, *attributes}
    if key in named and _is_stated(key, records):
        return
    legal = sorted(name for name in named if _is_stated(name, records))
    near = difflib.get_close_matches(key, legal, n=1) if key not in named else []
    what = (
        f"no {'finding' if key in FINDING_FACTS else 'image'} states it"
        if key in named
        else "no image has an attribute of that name"
    )
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"subgroup key {key!r}: {what}; {hint}legal in this set: {', '.join(legal)}")


def _is_stated(key: str, records: Sequence[ImageRecord]) -> bool:
    """Whether an image has a value for a key; for one of findings, whether one of them has, or
    there are none.
    """
    fact = FINDING_FACTS.get(key)
    if fact is None:
        return any(value_of(record, key) is not None for record in records)
    of_findings = [fact(record, finding) for record in records for finding in record.findings]
    return not of_findings or any(value is not None for value in of_findings)
