"""What do the labels of images without boxes say, do they agree with the rest, and which train?

A label (:attr:`ImageRecord.labels`) says that a finding of a category is visible in an image, or
that none is; where it lies nobody need have said. A *bag* is what a label is known of: one image,
or all views of a breast that nobody has boxed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence

from simfrcnn.errors import DataError
from simfrcnn.labels import NORMAL, POSITIVE, misspelt
from simfrcnn.records import FindingSource, ImageRecord, Pathology, Supervision
from simfrcnn.settings import DataSettings


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


def require_drawn_truth(
    where: str, records: Iterable[ImageRecord], target_classes: tuple[str, ...]
) -> None:
    """Refuse a set to judge a model on whose target boxes a model has proposed.

    Raises:
        DataError: Names the first box.
    """
    for record in records:
        for finding in record.findings_of(target_classes):
            if finding.source is FindingSource.PSEUDO:
                raise DataError(
                    f"{where}: annotation {finding.finding_id} of image {record.image_id} is a "
                    f"pseudo-box of the target class {finding.category!r}: a model has proposed "
                    "it, so it is no truth to judge a model by; use the file that it was made from"
                )


def image_roles(records: Sequence[ImageRecord], target_classes: tuple[str, ...]) -> list[str]:
    """What each image is to a whole-image classifier, or why it is left out.

    A positive shows a target, by a box or by its label; of a normal one it is known that it shows
    none. Where a finding lies nobody need have said.

    Args:
        records: N images.
        target_classes: What makes an image positive.

    Returns:
        (N,) ``positive``, ``normal``, or the reason.
    """
    return [_image_role(record, target_classes) for record in records]


def _image_role(record: ImageRecord, target_classes: tuple[str, ...]) -> str:
    if record.supervision is Supervision.NORMAL and record.is_positive(target_classes):
        return "normal: stated to be normal, but has target boxes"
    if record.shows_target(target_classes):
        return POSITIVE
    if record.is_known_normal(target_classes):
        return NORMAL
    return f"{record.supervision.value}: not known to show a target or to show none"


def presence_of(
    record: ImageRecord, classes: tuple[str, ...], target_classes: tuple[str, ...]
) -> list[float]:
    """Of each class 1 if a finding of it is visible in an image, 0 if none is, NaN if not known."""
    known = (record.label_of(name, target_classes) for name in classes)
    return [math.nan if each is None else float(each) for each in known]


def require_both_kinds(
    where: str,
    records: Iterable[ImageRecord],
    classes: tuple[str, ...],
    target_classes: tuple[str, ...],
) -> None:
    """Refuse a class that all images of a training show, or none: there is nothing to learn.

    Raises:
        DataError: Names the class, how many images show it, and what to do.
    """
    rows = [presence_of(record, classes, target_classes) for record in records]
    for place, name in enumerate(classes):
        column = [row[place] for row in rows]
        n_shown, n_free = column.count(1.0), column.count(0.0)
        if not n_shown or not n_free:
            raise DataError(
                f"{where}: of the class {name!r} {n_shown} training images show a finding, "
                f"{n_free} are known to show none, of {len(rows) - n_shown - n_free} that is not "
                "known: a class needs both kinds to be learnt. Give images that have it (boxes, or "
                "true in 'labels') and such that do not (false in 'labels', or, of a target, "
                "supervision 'normal'), or leave it out of DATASETS.CLASSES"
            )


def bag_of(record: ImageRecord, settings: DataSettings) -> Hashable:
    """What tells the bags of a data set apart: equal for the images of one bag."""
    if settings.label_bags == "breast" and record.laterality is not None:
        return record.patient_id, record.breast_id
    return record.patient_id, str(record.path)


def bag_classes(records: Sequence[ImageRecord], settings: DataSettings) -> list[str | None]:
    """By which class a label trains each image: that of its bag.

    It is the first target class that is known to be visible in the bag, else the first of the
    trained classes. An image is in a bag if its supervision is ``image_label``, it has no box of a
    trained class, and its own labels do not deny the class. One that is known to be normal is in a
    bag only by a true label of its own: a benign mass that it shows is no background.

    A breast is a bag only if nobody has boxed one of its views: where the finding was seen in one
    view, the others may not show it. Its label is that of any of its views, or its pathology. Where
    it is not known which breast an image shows, the pathology says nothing of the image. A
    pseudo-box is a guess, and takes nothing from what is known of the breast: its view trains as a
    boxed image, and stays in the bag with the others.

    Args:
        records: N images, of all training sets.
        settings: Trained and target classes, and what is a bag.

    Returns:
        (N,) a class, or None where no label trains the image.
    """
    if not settings.labels_per_item:
        return [None] * len(records)
    by_breast = settings.label_bags == "breast"
    stated: dict[Hashable, set[str]] = {}
    boxed: set[Hashable] = set()
    unboxed: set[Hashable] = set()
    for record in records:
        bag = bag_of(record, settings)
        if _is_labelled(record, settings):
            unboxed.add(bag)
        is_guess = by_breast and is_boxed_by_a_guess(record, settings.classes)
        if record.findings_of(settings.classes) and not is_guess:
            boxed.add(bag)
        names = stated.setdefault(bag, set())
        names.update(name for name, is_visible in record.labels.items() if is_visible)
        if is_guess and record.supervision is Supervision.BOXES:
            names.update(finding.category for finding in record.findings_of(settings.classes))
        if by_breast and record.laterality is not None and record.pathology is not None:
            names.add(record.pathology.value)
    classes = {
        bag: next((c for c in (*settings.target_classes, *settings.classes) if c in names), None)
        for bag, names in stated.items()
        if bag in unboxed and bag not in boxed
    }
    known = [
        classes.get(bag_of(record, settings))
        if _is_labelled(record, settings) or (by_breast and _is_guessed(record, settings))
        else None
        for record in records
    ]
    return [
        None if name is None or record.labels.get(name) is False else name
        for record, name in zip(records, known, strict=True)
    ]


def is_unknown(record: ImageRecord, settings: DataSettings) -> bool:
    """Whether an image without a box of a trained class may show a target or none.

    Nobody has boxed it completely or called it normal, no label denies a target, and its breast is
    not called benign or normal.
    """
    is_open = record.supervision in (Supervision.UNLABELLED, Supervision.IMAGE_LABEL)
    is_free = record.pathology in (Pathology.BENIGN, Pathology.NORMAL)
    denied = any(record.labels.get(name) is False for name in settings.target_classes)
    return is_open and not (is_free or denied or record.findings_of(settings.classes))


def is_boxed_by_a_guess(record: ImageRecord, classes: tuple[str, ...]) -> bool:
    """Whether the image has boxes of these classes, all of which a model has proposed."""
    found = record.findings_of(classes)
    return bool(found) and all(finding.source is FindingSource.PSEUDO for finding in found)


def _is_guessed(record: ImageRecord, settings: DataSettings) -> bool:
    is_boxed = record.supervision is Supervision.BOXES
    return is_boxed and is_boxed_by_a_guess(record, settings.target_classes)


def _is_labelled(record: ImageRecord, settings: DataSettings) -> bool:
    if record.supervision is not Supervision.IMAGE_LABEL:
        return False
    shows = any(record.labels.get(name) for name in settings.classes)
    return shows or not record.is_known_normal(settings.target_classes)
