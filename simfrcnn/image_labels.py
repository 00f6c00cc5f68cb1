"""What do the labels of images without boxes say, and do they agree with the rest?

A label (:attr:`ImageRecord.labels`) says that a finding of a category is visible in an image, or
that none is; where it lies nobody need have said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from simfrcnn.errors import DataError
from simfrcnn.labels import misspelt
from simfrcnn.records import ImageRecord, Supervision


def contradiction_of(record: ImageRecord, target_classes: tuple[str, ...]) -> str | None:
    """How the labels of an image contradict its boxes or its supervision; None if they do not."""
    for name, is_visible in record.labels.items():
        boxes = record.findings_of((name,))
        if boxes and not is_visible:
            return (
                f"'labels' says false of {name!r}, but annotation {boxes[0].finding_id} is a box "
                "of it: correct one of them"
            )
        if not is_visible or boxes or name not in target_classes:
            continue
        if record.supervision is Supervision.NORMAL:
            return f"supervision is 'normal', but 'labels' says true of {name!r}: correct one"
        if record.supervision is Supervision.BOXES:
            return (
                f"supervision is 'boxes', by which every finding of {name!r} is boxed, but "
                "'labels' says true of it and there is no box: use 'image_label', or add the box"
            )
    return None


def require_agreeing_labels(
    where: str,
    records: Iterable[ImageRecord],
    named_classes: Collection[str],
    target_classes: tuple[str, ...],
) -> None:
    """Refuse labels that contradict the boxes, or name a class in another spelling.

    A reader of files knows ``malignant`` alone; here the targets are known.

    Args:
        where: The annotation file or data set, for the message.
        records: Its images.
        named_classes: Target, trained and ignored classes.
        target_classes: Of them the targets.

    Raises:
        DataError: Names the first image.
    """
    for record in records:
        if not record.labels:
            continue
        if contradiction := contradiction_of(record, target_classes):
            raise DataError(f"{where}: image {record.image_id}: {contradiction}")
        unnamed = [name for name in record.labels if name not in named_classes]
        for other, name in misspelt(unnamed, named_classes):
            raise DataError(
                f"{where}: image {record.image_id}: 'labels' speaks of {other!r}, which would not "
                f"count as {name!r}: give both one name"
            )
