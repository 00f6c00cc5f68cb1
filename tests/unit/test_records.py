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


def test_a_breast_is_exam_and_laterality():
    assert record(Supervision.NORMAL, laterality=Laterality.LEFT).breast_id == "e/L"
    assert record(Supervision.NORMAL).breast_id == "e"


def test_records_travel_between_processes():
    # A loading process that cannot send its sample waits forever.
    one = record(Supervision.BOXES, MALIGNANT, attributes={"density": "C"})
    assert pickle.loads(pickle.dumps(one)) == one
