"""Which images train, and in which of the two lists?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simfrcnn.errors import DataError
from simfrcnn.labels import (
    ALL_CROWD,
    NORMAL,
    POSITIVE,
    Tally,
    require_one_spelling,
    tally_of,
    training_roles,
)
from simfrcnn.records import ImageRecord
from simfrcnn.settings import DataSettings


@dataclass(frozen=True)
class TrainingLists:
    """Positive and normal images in their given order, and what all labels come to."""

    positives: tuple[ImageRecord, ...]
    normals: tuple[ImageRecord, ...]
    tally: Tally

    @property
    def excluded(self) -> Mapping[str, int]:
        """How many images were left out, by reason."""
        return self.tally.left_out


def training_lists(
    records: Sequence[ImageRecord], settings: DataSettings, *, names: Sequence[str] = ()
) -> TrainingLists:
    """Divide the training images into positives and normals; what is not known does not train.

    A positive has complete boxes and at least one of a target class that is no crowd region. A
    normal is stated normal, or its boxes are complete and none is a target's. An image without
    boxes from a malignant patient is *not* known to be normal: it joins the normals only with
    ``unboxed_views: normal``, as in the thesis.

    Args:
        records: All records of the training sets.
        settings: Target classes, kind of batch, and the key for unboxed views.
        names: The data sets' names, for messages.

    Raises:
        DataError: There is no positive, pairs are asked for and there is no normal, or boxes are of
            a class that is a trained one in another spelling.
    """
    where = ", ".join(names) or "the training set"
    named = (*settings.target_classes, *settings.classes)
    require_one_spelling(where, records, named)
    roles = training_roles(records, settings.target_classes, settings.unboxed_views)
    of_role = {
        role: tuple(r for r, own in zip(records, roles, strict=True) if own == role)
        for role in (POSITIVE, NORMAL)
    }
    tally = tally_of(
        records, roles, target_classes=settings.target_classes, named_classes=settings.classes
    )
    lists = TrainingLists(of_role[POSITIVE], of_role[NORMAL], tally)
    _require_trainable(lists, settings, where)
    return lists


def _require_trainable(lists: TrainingLists, settings: DataSettings, where: str) -> None:
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
