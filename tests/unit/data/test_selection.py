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


CROWD = make_record(11, make_finding(finding_id=5, iscrowd=True), patient="c")
STATED = make_record(
    12, make_finding(category="mass", finding_id=6), patient="d", supervision=Supervision.NORMAL
)


def test_an_image_with_crowd_regions_alone_does_not_train() -> None:
    lists = training_lists([*ALL, CROWD], DataSettings())
    assert ids(lists.positives) == [1]
    assert CROWD not in lists.normals
    reason = "boxes: all target boxes are crowd regions (iscrowd 1), which do not train"
    assert lists.excluded[reason] == 1


def test_crowd_regions_alone_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"no box of malignant trains.*iscrowd 0.*prepare-data"):
        training_lists([CROWD, NORMAL], DataSettings(), names=("a/train",))


def test_an_image_with_a_box_and_a_crowd_region_trains_by_its_box() -> None:
    both = make_record(13, make_finding(), make_finding(finding_id=7, iscrowd=True), patient="x")
    lists = training_lists([both, NORMAL], DataSettings())
    assert ids(lists.positives) == [13]
    assert any("1 of 2 boxes of malignant is a crowd region" in n for n in lists.tally.notes())


def test_a_stated_normal_with_a_target_box_does_not_train() -> None:
    settings = DataSettings(classes=("mass",), target_classes=("mass",))
    boxed = make_record(14, make_finding(category="mass", finding_id=8), patient="y")
    lists = training_lists([STATED, boxed, NORMAL], settings)
    assert (ids(lists.positives), ids(lists.normals)) == ([14], [4])
    assert lists.excluded == {"normal: stated to be normal, but has target boxes": 1}


def test_unboxed_views_of_a_patient_with_a_box_of_another_target_are_not_normal() -> None:
    settings = DataSettings(classes=("mass",), target_classes=("mass",), unboxed_views="normal")
    boxed = make_record(14, make_finding(category="mass", finding_id=8), patient="y")
    view = make_record(15, patient="y", supervision=Supervision.UNLABELLED)
    assert ids(training_lists([boxed, view], settings).normals) == [15]


@pytest.mark.parametrize("spelling", ["Malignant", "malignant ", "MALIGNANT", "malig-nant"])
def test_a_trained_class_in_another_spelling_is_refused(spelling: str) -> None:
    other = make_record(16, make_finding(category=spelling, finding_id=9), patient="z")
    with pytest.raises(DataError) as caught:
        training_lists([POSITIVE, NORMAL, other], DataSettings(), names=("a/train",))
    assert f"a/train: 1 box of class {spelling!r} (the first is annotation 9)" in str(caught.value)
    named = DataSettings(classes=("malignant", spelling), target_classes=("malignant", spelling))
    assert ids(training_lists([POSITIVE, NORMAL, other], named).positives) == [1, 16]


def test_the_tally_counts_what_trains() -> None:
    lists = training_lists([*ALL, CROWD], DataSettings(classes=("malignant", "suspected")))
    assert lists.tally.to_dict() == {
        "target_classes": ["malignant"],
        "images": 11,
        "patients": 9,
        "positives": 1,
        "normals": 4,
        "labelled": 0,
        "left_out": dict(lists.excluded),
        "classes": {
            "benign": {
                **{"images": 1, "boxes": 1, "crowd": 0, "below_pixel": 0, "in_normals": 1},
                "is_named": False,
            },
            "malignant": {
                **{"images": 3, "boxes": 3, "crowd": 1, "below_pixel": 0, "in_normals": 0},
                "is_named": True,
            },
            "suspected": {
                **{"images": 1, "boxes": 1, "crowd": 0, "below_pixel": 0, "in_normals": 1},
                "is_named": True,
            },
        },
        "normals_with_boxes_of_other_classes": 1,
        "notes": list(lists.tally.notes()),
    }
    assert lists.tally.notes() == (
        "1 image with boxes of other classes (benign 1) counts as normal",
        "1 of 3 boxes of malignant is a crowd region (iscrowd 1): not trained, and neither to be "
        "found nor wrong to find",
    )
    lines = lists.tally.lines()
    assert lines[0] == "11 images of 9 patients: 1 positive, 4 normal, 6 left out"
    assert "  suspected (class of its own): 1 box in 1 image" in lines
    assert "  benign (background): 1 box in 1 image" in lines
