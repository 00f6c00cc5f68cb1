"""Which image goes into which training list: every kind of record by hand."""

from __future__ import annotations

import pytest

from simfrcnn.data.selection import training_lists
from simfrcnn.errors import DataError
from simfrcnn.records import FindingSource, ImageRecord, Pathology, Supervision
from simfrcnn.settings import DataSettings
from support.data_examples import make_finding, make_record

POSITIVE = make_record(1, make_finding(), patient="m")
BENIGN = make_record(2, make_finding(category="benign", finding_id=2), patient="b")
EMPTY = make_record(3, patient="e")
NORMAL = make_record(4, patient="n", supervision=Supervision.NORMAL)
OTHER_VIEW = make_record(5, patient="m", supervision=Supervision.UNLABELLED)
LABELLED_VIEW = make_record(6, patient="m", supervision=Supervision.IMAGE_LABEL)
UNKNOWN = make_record(7, patient="u", supervision=Supervision.UNLABELLED)
BENIGN_LABEL = make_record(
    8, patient="l", supervision=Supervision.IMAGE_LABEL, pathology=Pathology.BENIGN
)
PARTLY_BOXED = make_record(
    9, make_finding(finding_id=3), patient="q", supervision=Supervision.IMAGE_LABEL
)
PSEUDO = make_record(
    10,
    make_finding(category="suspected", finding_id=4, source=FindingSource.PSEUDO, score=0.9),
    patient="s",
    supervision=Supervision.NORMAL,
)
ALL = [
    POSITIVE, BENIGN, EMPTY, NORMAL, OTHER_VIEW, LABELLED_VIEW, UNKNOWN, BENIGN_LABEL, PARTLY_BOXED,
    PSEUDO,
]  # fmt: skip


def ids(records: tuple[ImageRecord, ...]) -> list[int]:
    return [record.image_id for record in records]


def test_unknown_images_do_not_train_by_default() -> None:
    lists = training_lists(ALL, DataSettings())
    assert ids(lists.positives) == [1]
    assert ids(lists.normals) == [2, 3, 4, 10]
    assert lists.excluded == {
        "image_label: has target boxes, perhaps not all": 1,
        "image_label: not known to be normal": 1,
        "image_label: unboxed view of a malignant patient": 1,
        "unlabelled: not known to be normal": 1,
        "unlabelled: unboxed view of a malignant patient": 1,
    }


def test_unboxed_views_of_malignant_patients_join_by_key_and_no_others() -> None:
    lists = training_lists(ALL, DataSettings(unboxed_views="normal"))
    assert ids(lists.normals) == [2, 3, 4, 5, 6, 10]
    assert sum(lists.excluded.values()) == 3


def test_with_benign_as_a_target_its_images_are_positive() -> None:
    both = ("malignant", "benign")
    lists = training_lists(ALL, DataSettings(classes=both, target_classes=both))
    assert ids(lists.positives) == [1, 2]
    assert ids(lists.normals) == [3, 4, 10]


def test_every_record_is_in_one_place() -> None:
    lists = training_lists(ALL, DataSettings())
    n_counted = len(lists.positives) + len(lists.normals) + sum(lists.excluded.values())
    assert n_counted == len(ALL)


def test_no_positive_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        training_lists([NORMAL, PARTLY_BOXED], DataSettings(), names=("clinic/train",))
    message = str(caught.value)
    assert message.startswith("clinic/train: 0 positive and 1 normal images")
    assert "1 image_label: has target boxes" in message
    assert "a box of malignant" in message


def test_pairs_without_a_normal_are_refused_but_positives_alone_are_not() -> None:
    with pytest.raises(DataError, match=r"a/train: 1 positive and 0 normal.*pairs needs normal"):
        training_lists([POSITIVE, UNKNOWN], DataSettings(), names=("a/train",))
    alone = training_lists([POSITIVE, UNKNOWN], DataSettings(batch_kind="positives"))
    assert ids(alone.positives) == [1]
