"""Which images train, and in which of the lists?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from simfrcnn.errors import DataError
from simfrcnn.image_labels import (
    bag_classes,
    bag_of,
    image_roles,
    is_unknown,
    require_agreeing_labels,
    require_both_kinds,
)
from simfrcnn.labels import (
    ALL_CROWD,
    NORMAL,
    POSITIVE,
    TRAINED,
    UNKNOWN,
    Tally,
    require_one_spelling,
    tally_of,
    training_roles,
)
from simfrcnn.records import ImageRecord
from simfrcnn.settings import DataSettings


@dataclass(frozen=True)
class Bag:
    """Images of which it is known that one of them shows a finding of a class, but not where.

    ``label`` is in 1..K. Most bags are of one image.
    """

    records: tuple[ImageRecord, ...]
    label: int


@dataclass(frozen=True)
class TrainingLists:
    """Positive and normal images and labelled bags in their given order, those of which nothing is
    known, where a teacher takes them, and what all labels come to.
    """

    positives: tuple[ImageRecord, ...]
    normals: tuple[ImageRecord, ...]
    tally: Tally
    labelled: tuple[Bag, ...] = ()
    unknown: tuple[ImageRecord, ...] = ()

    @property
    def excluded(self) -> Mapping[str, int]:
        """How many images were left out, by reason."""
        return self.tally.left_out


def training_lists(
    records: Sequence[ImageRecord],
    settings: DataSettings,
    *,
    names: Sequence[str] = (),
    unlabelled_per_item: int = 0,
) -> TrainingLists:
    """Divide training images into positives, normals and bags; what is not known does not train.

    A positive has complete boxes and at least one of a target class that is no crowd region. A
    normal is stated normal, or its boxes are complete and none is a target's. An image without
    boxes from a malignant patient is *not* known to be normal: it joins the normals only with
    ``unboxed_views: normal``, as in the thesis. With ``labels_per_item`` an image with a label and
    no box trains in a bag (see :func:`simfrcnn.image_labels.bag_classes`).

    Args:
        records: All records of the training sets.
        settings: Target classes, kind of batch, and the key for unboxed views.
        names: The data sets' names, for messages.
        unlabelled_per_item: How many images a teacher takes of which nothing is known; with 0 they
            are left out.

    Raises:
        DataError: There is no positive, pairs are asked for and there is no normal, labelled or
            unlabelled images are and there is none, labels contradict boxes, or boxes or labels are
            of a class that is a trained one in another spelling.
    """
    where = ", ".join(names) or "the training set"
    named = (*settings.target_classes, *settings.classes)
    require_one_spelling(where, records, named)
    require_agreeing_labels(where, records, named, settings.target_classes)
    known = bag_classes(records, settings)
    roles = training_roles(records, settings.target_classes, settings.unboxed_views, known)
    if unlabelled_per_item:
        roles = [
            UNKNOWN if role not in TRAINED and is_unknown(record, settings) else role
            for record, role in zip(records, roles, strict=True)
        ]
    of_role = {
        role: tuple(r for r, own in zip(records, roles, strict=True) if own == role)
        for role in (POSITIVE, NORMAL, UNKNOWN)
    }
    tally = tally_of(
        records, roles, target_classes=settings.target_classes, named_classes=settings.classes
    )
    bags = _bags(records, known, settings)
    lists = TrainingLists(of_role[POSITIVE], of_role[NORMAL], tally, bags, of_role[UNKNOWN])
    _require_trainable(lists, settings, where, unlabelled_per_item)
    return lists


def image_lists(
    records: Sequence[ImageRecord], settings: DataSettings, *, names: Sequence[str] = ()
) -> TrainingLists:
    """The same for a whole-image classifier, to which a label is worth a box.

    Positive is what shows a target, by a box or by its label; normal, what is known to show none
    (see :func:`simfrcnn.image_labels.image_roles`). There are no bags.

    Args:
        records: All records of the training sets.
        settings: Classes and target classes.
        names: The data sets' names, for messages.

    Raises:
        DataError: A class has no image that shows it, or none that does not; labels contradict
            boxes, or are of a class in another spelling.
    """
    where = ", ".join(names) or "the training set"
    named = (*settings.target_classes, *settings.classes)
    require_one_spelling(where, records, named)
    require_agreeing_labels(where, records, named, settings.target_classes)
    roles = image_roles(records, settings.target_classes)
    positives, normals = (
        tuple(r for r, own in zip(records, roles, strict=True) if own == role)
        for role in (POSITIVE, NORMAL)
    )
    require_both_kinds(where, (*positives, *normals), settings.classes, settings.target_classes)
    if not normals:
        raise DataError(
            f"{where}: {len(positives)} positive images, and none that is known to show no target "
            f"({', '.join(settings.target_classes)}): a batch of pairs needs such images"
        )
    tally = tally_of(
        records, roles, target_classes=settings.target_classes, named_classes=settings.classes
    )
    return TrainingLists(positives, normals, tally)


def _bags(
    records: Sequence[ImageRecord],
    known: Sequence[str | None],
    settings: DataSettings,
) -> tuple[Bag, ...]:
    images: dict[Hashable, list[ImageRecord]] = {}
    labels: dict[Hashable, int] = {}
    for record, name in zip(records, known, strict=True):
        if name is not None:
            bag = bag_of(record, settings)
            images.setdefault(bag, []).append(record)
            labels[bag] = settings.classes.index(name) + 1
    return tuple(Bag(tuple(of_bag), labels[bag]) for bag, of_bag in images.items())


def _require_trainable(
    lists: TrainingLists, settings: DataSettings, where: str, unlabelled_per_item: int
) -> None:
    left_out = "; ".join(f"{count} {reason}" for reason, count in lists.excluded.items()) or "none"
    found = (
        f"{where}: {len(lists.positives)} positive and {len(lists.normals)} normal images (left "
        f"out: {left_out})"
    )
    targets = ", ".join(settings.target_classes)
    if not lists.positives and ALL_CROWD in lists.excluded:
        raise DataError(
            f"{found}: no box of {targets} trains, because all of them are crowd regions, as some "
            "tools write masks: export them again as objects (iscrowd 0), or convert the file "
            "(simfrcnn prepare-data coco takes crowd boxes as boxes)"
        )
    if not lists.positives:
        raise DataError(
            f"{found}: no image has supervision 'boxes' and a box of {targets}; check "
            "DATASETS.TRAIN and the target classes"
        )
    if settings.batch_kind == "pairs" and not lists.normals:
        raise DataError(
            f"{found}: a batch of pairs needs normal images; add a data set that holds some to "
            "DATASETS.TRAIN, or train on positives only"
        )
    if settings.labels_per_item and not lists.labelled:
        raise DataError(
            f"{found}: DATASETS.LABELS_PER_ITEM is {settings.labels_per_item}, but no image trains "
            "by its label: that needs supervision 'image_label', no box, and 'labels' that say "
            f"true of one of {', '.join(settings.classes)} (or, with DATASETS.LABEL_BAGS breast, "
            "such a pathology and a laterality); set it to 0, or give such images (simfrcnn weaken "
            "makes some)"
        )
    if unlabelled_per_item and not lists.unknown:
        raise DataError(
            f"{found}: MODEL.SIMFRCNN.LABELS.TEACHER.UNLABELLED_PER_ITEM is {unlabelled_per_item}, "
            "but no image is unlabelled: that needs supervision 'unlabelled' (or 'image_label' "
            f"without a label that trains), no box of {', '.join(settings.classes)}, no label that "
            f"denies {targets}, and no pathology benign or normal; set it to 0, or give such images"
        )
