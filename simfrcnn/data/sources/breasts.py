"""Which views look normal in a breast that is known to hold a cancer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simfrcnn.data.splits import is_malignant
from simfrcnn.records import ImageRecord, Supervision


def doubtful_views(records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    """The records that count as normal although another view of their breast is malignant."""
    with_cancer = {r.breast_id for r in records if r.laterality and is_malignant(r)}
    return tuple(
        record
        for record in records
        if record.laterality
        and record.breast_id in with_cancer
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
