"""Do the names of patients, exams and lesions tell them apart?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from simfrcnn.data.sources.coco.documents import Picture
from simfrcnn.data.sources.table import require_none
from simfrcnn.data.spelling import DIFFERENCES, folded, problem_of_name
from simfrcnn.records import ImageRecord


def require_known(
    document: Path, pictures: Sequence[Picture], records: Sequence[ImageRecord]
) -> None:
    """Refuse a name of several images that is nobody's."""
    images: dict[tuple[str, str], list[Picture]] = {}
    for picture, record in zip(pictures, records, strict=True):
        for named in dict.fromkeys(_names(record)):
            images.setdefault(named, []).append(picture)
    problems = (
        (found[0], key, problem_of_name(name, len(found))) for (key, name), found in images.items()
    )
    errors = [f"{one.where}: {key!r} {problem}" for one, key, problem in problems if problem]
    require_none(document, errors)


def _names(record: ImageRecord) -> Iterator[tuple[str, str]]:
    yield "patient_id", record.patient_id
    if record.exam_id != record.patient_id:
        yield "exam_id", record.exam_id
    for finding in record.findings:
        if finding.lesion_id:
            yield "lesion_id", finding.lesion_id


def require_one_spelling(
    document: Path, pictures: Sequence[Picture], records: Sequence[ImageRecord]
) -> None:
    """Refuse one patient in two spellings, whom two splits could share."""
    first_of: dict[str, tuple[Picture, str]] = {}
    errors: list[str] = []
    for picture, record in zip(pictures, records, strict=True):
        own = picture, record.patient_id
        first, patient = first_of.setdefault(folded(record.patient_id), own)
        if patient != record.patient_id:
            errors.append(
                f"{picture.where}: its patient differs from that of {first.where} only in "
                f"{DIFFERENCES}: spell both alike, or, of two patients, give one another name"
            )
    require_none(document, errors)


def with_own_exams(
    records: Sequence[ImageRecord], *, all_of_them: bool = False
) -> tuple[list[ImageRecord], list[str]]:
    """Equal exam ids of two patients are two exams; and the file of an image of each such id.

    Args:
        records: With the exams as they are named.
        all_of_them: Whether every exam gets its patient's name, not only those of several.
    """
    of_exam: dict[str, dict[str, ImageRecord]] = {}
    for record in records:
        of_exam.setdefault(record.exam_id, {}).setdefault(record.patient_id, record)
    shared = {exam: found for exam, found in of_exam.items() if len(found) > 1}
    renamed = {exam for exam in of_exam if all_of_them or exam in shared}
    return [
        replace(record, exam_id=f"{record.patient_id}/{record.exam_id}")
        if record.exam_id in renamed and record.exam_id != record.patient_id
        else record
        for record in records
    ], [next(iter(found.values())).file_name for found in shared.values()]
