"""Which views look normal in a breast that is known to hold a cancer?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from simfrcnn.labels import is_malignant
from simfrcnn.records import ImageRecord, Laterality, Supervision


def doubtful_views(records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    """The records that count as normal although another view of their breast is malignant."""
    with_cancer = {(r.patient_id, r.breast_id) for r in records if r.laterality and is_malignant(r)}
    return tuple(
        record
        for record in records
        if record.laterality
        and (record.patient_id, record.breast_id) in with_cancer
        and not is_malignant(record)
        and record.is_known_normal(("malignant",))
    )


def without_doubtful(records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    """The records in their order, doubtful ones as ``image_label``."""
    doubtful = {record.image_id for record in doubtful_views(records)}
    return tuple(
        replace(record, supervision=Supervision.IMAGE_LABEL)
        if record.image_id in doubtful
        else record
        for record in records
    )


def without_guesses(
    records: Sequence[ImageRecord], guessed: Collection[int], *, knows_patients: bool = True
) -> list[ImageRecord]:
    """Images that count as normal by an option, not by word, are ``image_label`` beside a cancer.

    Args:
        records: All images; beside is the same exam, and not certainly the other breast.
        guessed: Ids of the images that an option made normal.
        knows_patients: Whether equal exam ids of two patients are two exams. They are one where
            each image counts as a patient.
    """

    def breast(record: ImageRecord, side: Laterality | None) -> tuple[str, str, Laterality | None]:
        return record.patient_id if knows_patients else "", record.exam_id, side

    cancers = {
        breast(record, side)
        for record in records
        if is_malignant(record)
        for side in ((record.laterality, None) if record.laterality else (*Laterality, None))
    }
    return [
        replace(record, supervision=Supervision.IMAGE_LABEL)
        if record.image_id in guessed and breast(record, record.laterality) in cancers
        else record
        for record in records
    ]
