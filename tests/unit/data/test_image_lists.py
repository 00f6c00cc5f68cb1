"""What trains a whole-image classifier, and what is known of each class of an image."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from simfrcnn.data.selection import image_lists
from simfrcnn.errors import DataError
from simfrcnn.image_labels import presence_of
from simfrcnn.records import Supervision
from simfrcnn.settings import AugmentationSettings, DataSettings, InputSettings
from simfrcnn.training.items import TrainingItems
from simfrcnn.training.loading import load_sample
from support.classifier_examples import write_labelled_set
from support.data_examples import make_finding, make_record

LABEL, UNLABELLED = Supervision.IMAGE_LABEL, Supervision.UNLABELLED
NORMAL = Supervision.NORMAL
BOXED = make_record(1, make_finding(), patient="a")
LABELLED = dataclasses.replace(
    make_record(2, patient="b", supervision=LABEL), labels={"malignant": True}
)
FREE = make_record(3, patient="c", supervision=NORMAL)
STATED_FREE = dataclasses.replace(
    make_record(4, patient="d", supervision=UNLABELLED), labels={"malignant": False}
)
UNKNOWN = make_record(5, patient="e", supervision=UNLABELLED)
OTHER_VIEW = make_record(6, patient="a", supervision=UNLABELLED)
CONTRADICTING = make_record(7, make_finding(finding_id=9), patient="f", supervision=NORMAL)
ALL = [BOXED, LABELLED, FREE, STATED_FREE, UNKNOWN, OTHER_VIEW, CONTRADICTING]


def ids(records):
    return [record.image_id for record in records]


def test_a_label_is_worth_a_box_and_what_is_not_known_is_left_out():
    lists = image_lists(ALL, DataSettings())
    assert ids(lists.positives) == [1, 2]
    assert ids(lists.normals) == [3, 4]
    assert lists.labelled == ()
    assert lists.excluded == {
        "normal: stated to be normal, but has target boxes": 1,
        "unlabelled: not known to show a target or to show none": 2,
    }


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([FREE, STATED_FREE], "0 training images show a finding, 2 are known to show none"),
        ([BOXED, LABELLED], "2 training images show a finding, 0 are known to show none"),
        ([UNKNOWN, OTHER_VIEW], "0 training images show a finding, 0 are known to show none"),
    ],
)
def test_a_class_needs_both_kinds(records, found):
    with pytest.raises(DataError, match=f"of the class 'malignant' {found}"):
        image_lists(records, DataSettings(), names=("a/train",))


def test_false_never_follows_for_a_class_that_is_no_target():
    classes, targets = ("malignant", "benign"), ("malignant",)
    benign = make_record(8, make_finding(category="benign", finding_id=3))
    rows = [presence_of(r, classes, targets) for r in (BOXED, FREE, benign, UNKNOWN)]
    assert [row[0] for row in rows[:3]] == [1.0, 0.0, 0.0]
    assert [math.isnan(row[1]) for row in rows] == [True, True, False, True]
    assert rows[2][1] == 1.0
    with pytest.raises(DataError, match=r"'benign' 1 training images.*0 are known.*2 that is"):
        image_lists([BOXED, FREE, benign], DataSettings(classes, targets))


def test_items_are_pairs_that_say_what_is_known(tmp_path):
    from simfrcnn.data.coco import read_coco

    records = read_coco(write_labelled_set(tmp_path)).records
    data = DataSettings()
    lists = image_lists(records, data)
    items = TrainingItems(
        lists,
        seed=0,
        data=data,
        input_settings=InputSettings((128, 128), crop_to_breast=False),
        augmentation=AugmentationSettings(),
        whole_images=True,
    )
    for number in range(4):
        first, second = items[number]
        assert first.targets.present.tolist() == [1.0]
        assert second.targets.present.tolist() == [0.0]
        assert not first.targets.is_normal
        assert second.targets.is_normal
        assert len(first.targets.boxes) == (first.record.image_id == 1)
    again, _ = items[2]
    assert np.array_equal(again.image, items[2][0].image)
    plain = load_sample(
        records[0],
        input_settings=InputSettings((128, 128)),
        classes=data.classes,
        training=True,
    )
    assert plain.targets.present is None  # of a detector
