"""Images that are positive by a label alone: in AUC by image, and in no figure of boxes."""

from __future__ import annotations

import dataclasses

import pytest

from simfrcnn.errors import DataError
from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.inputs import check_labels
from simfrcnn.evaluation.truth import Truth, image_truth
from simfrcnn.records import Supervision
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

SETTINGS = EvaluationSettings(bootstrap_replicates=0)


def example():
    """Two boxed images, two normal ones, one that is positive by its label."""
    boxed = [
        image(1, "a", finding((10, 10, 30, 30), 1)),
        image(2, "b", finding((50, 50, 70, 70), 2)),
    ]
    labelled = dataclasses.replace(
        image(5, "e", supervision=Supervision.IMAGE_LABEL), labels={"malignant": True}
    )
    detections = [
        found(1, ((10, 10, 30, 30), 0.9)),
        found(2, ((0, 0, 9, 9), 0.6)),
        found(3, ((1, 1, 20, 20), 0.5)),
        found(4),
        found(5, ((5, 5, 40, 40), 0.4), ((50, 5, 60, 40), 0.3)),
    ]
    return [*boxed, image(3, "c"), image(4, "d"), labelled], detections


def test_a_labelled_image_counts_by_image_and_by_case_and_nowhere_else():
    records, detections = example()
    report = evaluate(records, detection_file(*detections), SETTINGS)
    without = evaluate(records[:4], detection_file(*detections[:4]), SETTINGS)
    # .9, .6, .4 against .5, 0: five of six pairs are in order.
    assert report.figures["image/auc"].value == pytest.approx(5 / 6)
    assert report.figures["case/auc"].value == pytest.approx(5 / 6)
    of_boxes = [key for key in without.figures if key.startswith(("froc/", "ap/", "finding/"))]
    assert "finding/corloc" in of_boxes
    assert len(of_boxes) > 5
    for key in of_boxes:
        assert report.figures[key].value == pytest.approx(without.figures[key].value, nan_ok=True)
    assert report.counts["images_evaluated_for_boxes"] == 4
    assert report.counts["images"]["positive"] == 3
    assert any("1 image is positive by 'labels' alone" in note for note in report.notes)


def test_a_label_that_is_false_makes_an_image_normal_and_one_that_is_true_no_normal():
    (record,) = [r for r in example()[0] if r.image_id == 5]
    as_thesis = EvaluationSettings(unknown_images="normal")
    assert image_truth(record, as_thesis) is Truth.POSITIVE
    clear = dataclasses.replace(record, labels={"malignant": False})
    assert image_truth(clear, SETTINGS) is Truth.NORMAL
    other = dataclasses.replace(record, labels={"benign": True})
    assert image_truth(other, SETTINGS) is Truth.UNKNOWN


def test_labels_of_another_target_and_in_another_spelling_are_refused():
    mass = EvaluationSettings(target_classes=("mass",))
    normal = dataclasses.replace(image(1, "a"), labels={"mass": True})
    with pytest.raises(DataError, match=r"image 1: supervision is 'normal', but 'labels' says"):
        check_labels([normal], mass)
    check_labels([normal], SETTINGS)
    other = dataclasses.replace(image(1, "a"), labels={"Malignant": False})
    with pytest.raises(DataError, match=r"'labels' speaks of 'Malignant', which would not count"):
        check_labels([other], SETTINGS)
