"""What labels mean: words for classes, truth and training by one definition, and the notes."""

from __future__ import annotations

import logging

import pytest

from simfrcnn.errors import DataError
from simfrcnn.evaluation.inputs import check_labels, check_settings
from simfrcnn.evaluation.truth import Truth, image_truth, tally_of_truth
from simfrcnn.labels import (
    NORMAL,
    POSITIVE,
    alike,
    near,
    patients_with_target,
    same_word,
    tally_of,
    training_roles,
)
from simfrcnn.pseudo.passes import candidates, require_candidates
from simfrcnn.records import Finding, ImageRecord, Pathology, Supervision
from simfrcnn.settings import EvaluationSettings
from support.data_examples import make_finding, make_record

TARGETS = ("malignant",)
CROWD = make_finding(finding_id=2, iscrowd=True)


@pytest.mark.parametrize(
    ("one", "other", "is_same", "is_alike"),
    [
        ("malignant", "Malignant", True, True),
        ("malignant", "malignant ", True, True),
        ("benign mass", "Benign_Mass", True, True),
        ("mass", "masses", False, True),
        ("calcification", "Calcifications", False, True),
        ("malignant", "Cancer", False, True),
        ("malignant", "mass malignant", False, True),
        ("malignant", "carcinomas", False, True),
        ("malignant", "benign", False, False),
        ("malignant", "malignant_other", False, False),
        ("malignant", "non-malignant", False, False),
        ("mass", "malignant mass", False, False),
        ("abscess", "absces", False, False),
    ],
)
def test_words_for_classes(one: str, other: str, is_same: bool, is_alike: bool) -> None:
    assert same_word(one, other) is same_word(other, one) is is_same
    assert alike(one, other) is alike(other, one) is is_alike


def test_a_missing_class_names_what_may_be_meant() -> None:
    assert near("malignant", ["benign", "Cancer"]) == " (did you mean 'Cancer'?)"
    assert near("malignant", ["benign"]) == ""
    with pytest.raises(Exception, match=r"\['Malignant'\] \(did you mean 'Malignant'\?\)"):
        check_settings(EvaluationSettings(), {1: "Malignant"})


@pytest.mark.parametrize(
    ("supervision", "findings", "role", "truth"),
    [
        (Supervision.BOXES, (make_finding(),), POSITIVE, Truth.POSITIVE),
        (Supervision.BOXES, (make_finding(), CROWD), POSITIVE, Truth.POSITIVE),
        (Supervision.BOXES, (CROWD,), "boxes: all target boxes are crowd", Truth.POSITIVE),
        (Supervision.BOXES, (), NORMAL, Truth.NORMAL),
        (Supervision.BOXES, (make_finding(category="benign"),), NORMAL, Truth.NORMAL),
        (Supervision.NORMAL, (), NORMAL, Truth.NORMAL),
        (Supervision.NORMAL, (make_finding(),), "normal: stated to be", Truth.POSITIVE),
        (Supervision.IMAGE_LABEL, (CROWD,), "image_label: has target", Truth.POSITIVE),
        (Supervision.UNLABELLED, (), "unlabelled: not known", Truth.UNKNOWN),
    ],
)
def test_training_and_evaluation_agree(
    supervision: Supervision, findings: tuple[Finding, ...], role: str, truth: Truth
) -> None:
    record = make_record(1, *findings, supervision=supervision)
    (own,) = training_roles([record], TARGETS, "exclude")
    assert own.startswith(role)
    assert image_truth(record, EvaluationSettings()) is truth
    is_candidate = candidates([record], TARGETS, include_unknown=False) == (record,)
    assert is_candidate is (own == NORMAL)


def test_pseudo_labels_take_the_unboxed_views_that_training_takes() -> None:
    records = [
        make_record(1, make_finding(), patient="boxed", supervision=Supervision.IMAGE_LABEL),
        make_record(2, patient="boxed", supervision=Supervision.UNLABELLED),
        make_record(3, patient="told", supervision=Supervision.IMAGE_LABEL,
                    pathology=Pathology.MALIGNANT),
        make_record(4, patient="told", supervision=Supervision.UNLABELLED),
        make_record(5, patient="other", supervision=Supervision.UNLABELLED),
    ]  # fmt: skip
    assert patients_with_target(records, TARGETS) == {"boxed", "told"}
    roles = training_roles(records, TARGETS, "normal")
    normals = tuple(r for r, role in zip(records, roles, strict=True) if role == NORMAL)
    assert [record.image_id for record in normals] == [2, 3, 4]
    assert candidates(records, TARGETS, include_unknown=True) == normals


def other_words() -> list[ImageRecord]:
    return [
        make_record(1, make_finding(finding_id=1), patient="a"),
        make_record(2, make_finding(category="Cancer", finding_id=2), patient="b"),
        make_record(3, make_finding(category="mass", finding_id=3), patient="c"),
        make_record(4, patient="d", pathology=Pathology.MALIGNANT),
        make_record(5, patient="e", supervision=Supervision.UNLABELLED),
    ]


def test_what_a_report_says_of_labels() -> None:
    tally = tally_of_truth(other_words(), EvaluationSettings())
    assert (tally.positives, tally.normals, sum(tally.left_out.values())) == (1, 3, 1)
    assert tally.notes() == (
        "2 images with boxes of other classes (Cancer 1, mass 1) count as normal: is 'Cancer' "
        "another word for 'malignant'?",
        "1 image called malignant, without a target box, counts as normal by 'supervision' "
        "(simfrcnn data check lists them)",
    )
    ignored = EvaluationSettings(ignored_classes=("mass",))
    assert tally_of_truth(other_words(), ignored).others == {"Cancer": 1}


def test_evaluation_and_pseudo_labels_refuse_another_spelling() -> None:
    records = [*other_words(), make_record(6, make_finding(category="MALIGNANT", finding_id=4))]
    words = r"1 box of class 'MALIGNANT' \(the first is annotation 4\) would not count as 'malig"
    others = r"Cancer 1, mass 1, MALIGNANT 1\): put these boxes into category 'malignant' \("
    with pytest.raises(DataError, match=rf"set.json: {words}.*{others}"):
        check_labels(records, EvaluationSettings(), "set.json")
    check_labels(records, EvaluationSettings(ignored_classes=("MALIGNANT",)), "set.json")
    with pytest.raises(DataError, match=words):
        require_candidates("set", records, TARGETS, include_unknown=False, force=True)


def test_notes_are_logged_as_warnings(caplog: pytest.LogCaptureFixture) -> None:
    small = make_record(1, make_finding((1, 1, 1.5, 1.5)), patient="a")
    tally = tally_of([small], [POSITIVE], target_classes=TARGETS)
    with caplog.at_level(logging.INFO, logger="labels"):
        tally.log(logging.getLogger("labels"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "1 image of 1 patient: 1 positive, 0 normal, 0 left out"),
        ("INFO", "  malignant (target): 1 box in 1 image"),
        ("WARNING", "  note: 1 of 1 box of malignant is smaller than a pixel"),
    ]
