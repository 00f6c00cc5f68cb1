"""Is every patient in one split, and every exam one patient's?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Entry,
    Example,
    Severity,
    by_key,
    example,
    found,
)
from simfrcnn.data.spelling import DIFFERENCES, folded


def check_patients(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Patients whose images are in more than one split, or may be under other spellings."""
    yield from found(
        "patient_in_two_splits",
        Severity.ERROR,
        "patients are in more than one split: results would be too good",
        "divide the data by patient (simfrcnn prepare-data), or give patients of two archives "
        "different ids",
        _shared(collection, lambda e: e.record.patient_id, lambda e: e.split, "patient {} is in"),
    )
    yield from found(
        "patient_spelt_in_two_ways",
        Severity.WARNING,
        f"patients of different splits have identifiers that differ only in {DIFFERENCES}: if two "
        "are one person, results would be too good",
        "spell each patient in one way (prepare-data folder and coco refuse two), or give two "
        "patients identifiers that differ more; names of files (--patient image) may stay",
        _spelt_in_two_ways(collection),
    )


def check_exams(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Exams that are said to be of more than one patient."""
    yield from found(
        "exam_of_two_patients",
        Severity.ERROR,
        "exams have more than one patient: evaluation by case would merge them",
        "correct exam_id and patient_id in the annotation files",
        _shared(
            collection, lambda e: e.record.exam_id, lambda e: e.record.patient_id, "exam {} is of"
        ),
    )


def _spelt_in_two_ways(collection: Collection) -> Iterator[Example]:
    """One image of each spelling of a patient who has several, in more than one split."""
    for group in by_key(collection.entries, lambda e: folded(e.record.patient_id)).values():
        first = {entry.record.patient_id: entry for entry in reversed(group)}
        if len(first) > 1 and len({entry.split for entry in group}) > 1:
            detail = f"patients {', '.join(map(repr, sorted(first)))}"
            yield from (example(first[patient], detail) for patient in sorted(first))


def _shared(
    collection: Collection,
    key: Callable[[Entry], str],
    value: Callable[[Entry], str],
    text: str,
) -> Iterator[Example]:
    """One image per value of every group in which there is more than one."""
    for name, group in by_key(collection.entries, key).items():
        first = {value(entry): entry for entry in reversed(group)}
        if len(first) > 1:
            detail = f"{text.format(name)} {', '.join(sorted(first))}"
            yield from (example(first[each], detail) for each in sorted(first))
