"""Records: what is positive, what is known to be normal, and that they travel between processes."""

import pickle
from pathlib import Path

import pytest

from simfrcnn.records import Finding, ImageRecord, Laterality, Supervision

MALIGNANT = Finding((1, 1, 5, 5), "malignant", 1)
BENIGN = Finding((1, 1, 5, 5), "benign", 2)


def record(supervision, *findings, **facts):
    return ImageRecord(
        image_id=1, file_name="a.png", path=Path("a.png"), height=9, width=9, patient_id="p",
        exam_id="e", supervision=supervision, findings=findings, **facts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("supervision", "findings", "is_positive", "is_normal"),
    [
        (Supervision.BOXES, (MALIGNANT,), True, False),
        (Supervision.BOXES, (BENIGN,), False, True),
        (Supervision.BOXES, (BENIGN, MALIGNANT), True, False),
        (Supervision.BOXES, (), False, True),
        (Supervision.NORMAL, (), False, True),
        (Supervision.NORMAL, (BENIGN,), False, True),
        (Supervision.IMAGE_LABEL, (), False, False),
        (Supervision.UNLABELLED, (), False, False),
    ],
)
def test_positive_and_normal_for_the_target_malignant(
    supervision, findings, is_positive, is_normal
):
    one = record(supervision, *findings)
    assert one.is_positive(("malignant",)) is is_positive
    assert one.is_known_normal(("malignant",)) is is_normal


@pytest.mark.parametrize(
    ("supervision", "findings", "labels", "of_malignant", "of_benign"),
    [
        (Supervision.IMAGE_LABEL, (), {"malignant": True}, True, None),
        (Supervision.IMAGE_LABEL, (), {"benign": True, "malignant": False}, False, True),
        (Supervision.IMAGE_LABEL, (BENIGN,), {}, None, True),
        (Supervision.UNLABELLED, (), {"malignant": False}, False, None),
        # A normal image may show an unmarked benign mass: nothing is said of it.
        (Supervision.NORMAL, (), {}, False, None),
        (Supervision.NORMAL, (), {"benign": False}, False, False),
        (Supervision.BOXES, (MALIGNANT,), {"malignant": True}, True, None),
        (Supervision.BOXES, (), {}, False, None),
    ],
)
def test_what_labels_boxes_and_supervision_say_together(
    supervision, findings, labels, of_malignant, of_benign
):
    one, targets = record(supervision, *findings, labels=labels), ("malignant",)
    assert one.label_of("malignant", targets) is of_malignant
    assert one.label_of("benign", targets) is of_benign
    assert one.shows_target(targets) is (of_malignant is True)
    assert one.is_known_normal(targets) is (of_malignant is False)


def test_an_image_is_normal_if_every_target_is_stated_false():
    both = ("malignant", "benign")
    one = record(Supervision.IMAGE_LABEL, labels={"malignant": False})
    assert not one.is_known_normal(both)
    one = record(Supervision.IMAGE_LABEL, labels={"malignant": False, "benign": False})
    assert one.is_known_normal(both)


def test_a_breast_is_exam_and_laterality():
    assert record(Supervision.NORMAL, laterality=Laterality.LEFT).breast_id == "e/L"
    assert record(Supervision.NORMAL).breast_id == "e"


def test_records_travel_between_processes():
    # A loading process that cannot send its sample waits forever.
    one = record(Supervision.BOXES, MALIGNANT, attributes={"density": "C"})
    assert pickle.loads(pickle.dumps(one)) == one
