"""Which images train, and in which of the two lists?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simfrcnn.data.splits import is_malignant
from simfrcnn.errors import DataError
from simfrcnn.records import ImageRecord, Supervision
from simfrcnn.settings import DataSettings


@dataclass(frozen=True)
class TrainingLists:
    """Positive and normal images in their given order, and how many were left out, by reason."""

    positives: tuple[ImageRecord, ...]
    normals: tuple[ImageRecord, ...]
    excluded: Mapping[str, int]


def training_lists(
    records: Sequence[ImageRecord], settings: DataSettings, *, names: Sequence[str] = ()
) -> TrainingLists:
    """Divide the training images into positives and normals; what is not known does not train.

    A positive has complete boxes and at least one of a target class. A normal is stated normal, or
    its boxes are complete and none is a target's. An image without boxes from a malignant patient
    is *not* known to be normal: it joins the normals only with ``unboxed_views: normal``, as in the
    thesis.

    Args:
        records: All records of the training sets.
        settings: Target classes, kind of batch, and the key for unboxed views.
        names: The data sets' names, for messages.

    Raises:
        DataError: There is no positive, or pairs are asked for and there is no normal.
    """
    malignant_patients = {record.patient_id for record in records if is_malignant(record)}
    positives: list[ImageRecord] = []
    normals: list[ImageRecord] = []
    excluded: Counter[str] = Counter()
    for record in records:
        positive = record.is_positive(settings.target_classes)
        if positive and record.supervision is Supervision.BOXES:
            positives.append(record)
        elif record.is_known_normal(settings.target_classes):
            normals.append(record)
        elif positive:
            excluded[f"{record.supervision.value}: has target boxes, perhaps not all"] += 1
        elif record.patient_id not in malignant_patients:
            excluded[f"{record.supervision.value}: not known to be normal"] += 1
        elif settings.unboxed_views == "normal":
            normals.append(record)
        else:
            excluded[f"{record.supervision.value}: unboxed view of a malignant patient"] += 1
    lists = TrainingLists(tuple(positives), tuple(normals), dict(sorted(excluded.items())))
    _require_trainable(lists, settings, names)
    return lists


def _require_trainable(lists: TrainingLists, settings: DataSettings, names: Sequence[str]) -> None:
    left_out = "; ".join(f"{count} {reason}" for reason, count in lists.excluded.items()) or "none"
    found = (
        f"{', '.join(names) or 'the training set'}: {len(lists.positives)} positive and "
        f"{len(lists.normals)} normal images (left out: {left_out})"
    )
    if not lists.positives:
        raise DataError(
            f"{found}: no image has supervision 'boxes' and a box of "
            f"{', '.join(settings.target_classes)}; check DATASETS.TRAIN and the target classes"
        )
    if settings.batch_kind == "pairs" and not lists.normals:
        raise DataError(
            f"{found}: a batch of pairs needs normal images; add a data set that holds some to "
            "DATASETS.TRAIN, or train on positives only"
        )
