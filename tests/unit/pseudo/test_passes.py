"""Which images are labelled, which stay, and what is refused: a small archive by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.data.selection import training_lists
from simfrcnn.errors import ArtifactError, DataError
from simfrcnn.pseudo.passes import candidates, pseudo_labels, require_candidates
from simfrcnn.records import FindingSource, Supervision
from simfrcnn.settings import DataSettings, InputSettings, PseudoSettings
from simfrcnn.training.loading import load_sample
from support.data_examples import make_finding, make_record

TARGETS = ("malignant",)
NORMAL, BOXES = Supervision.NORMAL, Supervision.BOXES
POSITIVE = make_record(1, make_finding(finding_id=40), patient="m")
SURE = make_record(2, patient="n1", supervision=NORMAL)
UNSURE = make_record(3, patient="n2", supervision=NORMAL)
COMPLETE = make_record(4, patient="n3", supervision=BOXES)  # complete boxes: none
OTHER_VIEW = make_record(5, patient="m", supervision=Supervision.UNLABELLED)
UNKNOWN = make_record(6, patient="u", supervision=Supervision.UNLABELLED)
ALL = (POSITIVE, SURE, UNSURE, COMPLETE, OTHER_VIEW, UNKNOWN)

SQUARE, OTHER = (10.0, 10.0, 30.0, 30.0), (40.0, 40.0, 60.0, 60.0)
FOUND = {
    1: [(OTHER, 0.99)],  # a positive image: never labelled
    2: [(SQUARE, 0.95), ((11, 10, 31, 30), 0.9), (OTHER, 0.8)],  # the second repeats the first
    3: [(SQUARE, 0.79)],
    4: [(OTHER, 0.85), (SQUARE, 0.1)],
    5: [(SQUARE, 0.9)],
    6: [(SQUARE, 0.9)],
}


def file_of(found, category="malignant"):
    images = {
        image_id: ImageDetections(
            image_id,
            np.asarray([box for box, _ in entries], dtype=np.float64).reshape(-1, 4),
            np.asarray([score for _, score in entries], dtype=np.float64),
            (category,) * len(entries),
        )
        for image_id, entries in found.items()
    }
    return DetectionFile(images, {1: category})


def label(records=ALL, found=FOUND, **settings):
    return pseudo_labels(records, file_of(found), TARGETS, PseudoSettings(**settings))


def with_boxes(records, labels):
    """The records of the new file."""
    return [
        replace(record, findings=(*record.findings, *labels.added.get(record.image_id, ())))
        for record in records
        if record.image_id in labels.kept_image_ids
    ]


def test_sure_detections_of_known_normals_become_boxes_and_nothing_else():
    labels = label()
    assert {i: [(f.box, f.score) for f in fs] for i, fs in labels.added.items()} == {
        2: [(SQUARE, 0.95), (OTHER, 0.8)],  # at the threshold counts
        4: [(OTHER, 0.85)],
    }
    findings = [finding for of_image in labels.added.values() for finding in of_image]
    assert [finding.finding_id for finding in findings] == [41, 42, 43]
    assert {(f.category, f.source, f.pathology) for f in findings} == {
        ("suspected", FindingSource.PSEUDO, None)
    }
    assert labels.kept_image_ids == (1, 2, 4)
    assert (labels.n_boxes, labels.n_candidates, labels.n_positives) == (3, 3, 1)
    assert (labels.n_target_boxes, labels.n_dropped, labels.highest_score) == (1, 3, 0.95)


def test_the_histogram_counts_what_suppression_left_by_score():
    counts = label().score_counts
    assert {index: int(n) for index, n in enumerate(counts) if n} == {
        2: 1, 15: 1, 16: 1, 17: 1, 19: 1,
    }  # fmt: skip
    assert label(found={**FOUND, 3: [(SQUARE, 1.0)]}).score_counts[19] == 2


def test_images_without_a_box_stay_on_request():
    labels = label(keep_unlabelled=True)
    assert labels.kept_image_ids == (1, 2, 3, 4, 5, 6)
    assert set(labels.added) == {2, 4}


def test_unboxed_views_of_patients_with_cancer_are_labelled_on_request_only():
    assert [r.image_id for r in candidates(ALL, TARGETS, include_unknown=False)] == [2, 3, 4]
    assert [r.image_id for r in candidates(ALL, TARGETS, include_unknown=True)] == [2, 3, 4, 5]
    labels = label(include_unknown=True)
    assert set(labels.added) == {2, 4, 5}
    assert labels.kept_image_ids == (1, 2, 4, 5)
    trained = training_lists(with_boxes(ALL, labels), DataSettings(unboxed_views="normal"))
    assert [record.image_id for record in trained.normals] == [2, 4, 5]


def test_a_view_whose_label_states_a_finding_gets_no_box_of_something_suspected():
    stated = replace(OTHER_VIEW, supervision=Supervision.IMAGE_LABEL, labels={"malignant": True})
    absent = replace(stated, labels={"malignant": False})
    for view, is_candidate in ((stated, False), (absent, True)):
        records = (POSITIVE, SURE, view)
        found = [r.image_id for r in candidates(records, TARGETS, include_unknown=True)]
        assert (view.image_id in found) is is_candidate


def test_a_higher_threshold_gives_a_subset():
    before = None
    for threshold in (0.05, 0.5, 0.8, 0.9, 1.0):
        boxes = {(i, f.box) for i, fs in label(score_threshold=threshold).added.items() for f in fs}
        assert before is None or boxes <= before
        before = boxes
    assert before == set()


def test_none_above_the_threshold_leaves_the_positives():
    labels = label(score_threshold=0.99)
    assert labels.added == {}
    assert labels.kept_image_ids == (1,)
    assert labels.highest_score == 0.95


def test_labelled_normals_stay_normal_images_and_train_as_boxed_ones(tmp_path):
    import cv2

    records = [
        replace(record, path=tmp_path / f"{record.image_id}.png")
        for record in with_boxes(ALL, label(keep_unlabelled=True))
    ]
    data = DataSettings(classes=("malignant", "suspected"), target_classes=TARGETS)
    lists = training_lists(records, data)
    assert [record.image_id for record in lists.positives] == [1]
    assert [record.image_id for record in lists.normals] == [2, 3, 4]
    for record, is_normal, labels in zip(
        lists.normals, (False, True, False), ([2, 2], [], [2]), strict=True
    ):
        cv2.imwrite(str(record.path), np.full((100, 80), 90, np.uint8))
        settings = InputSettings((64, 64), crop_to_breast=False)
        sample = load_sample(record, input_settings=settings, classes=data.classes, training=True)
        assert sample.targets is not None
        assert sample.targets.is_normal is is_normal
        assert sample.targets.labels.tolist() == labels


def test_detections_that_miss_an_image_are_refused():
    found = {image_id: entries for image_id, entries in FOUND.items() if image_id != 3}
    with pytest.raises(ArtifactError, match=r"1 of the 3 images .* \(image 3\)"):
        label(found=found)


def test_detections_of_other_classes_are_refused():
    with pytest.raises(ArtifactError, match=r"\['calcification'\].*malignant"):
        pseudo_labels(ALL, file_of(FOUND, "calcification"), TARGETS, PseudoSettings())


def require(*records, force=False):
    return require_candidates("set.json", records, TARGETS, include_unknown=False, force=force)


def test_radiologists_boxes_on_positives_are_as_they_should_be():
    assert require(*ALL) == (SURE, UNSURE, COMPLETE)


def test_a_set_without_known_normals_is_refused_even_by_force():
    for force in (False, True):
        with pytest.raises(DataError, match=r"set\.json: none of its 2 images is known"):
            require(POSITIVE, UNKNOWN, force=force)


def test_boxes_on_normal_images_are_refused_unless_forced():
    benign = make_record(7, make_finding(category="benign", finding_id=9), supervision=NORMAL)
    with pytest.raises(DataError, match=r"1 of its 2 normal images .* \(image 7: benign"):
        require(POSITIVE, SURE, benign)
    assert require(POSITIVE, SURE, benign, force=True) == (SURE, benign)


@pytest.mark.parametrize("facts", [{"source": FindingSource.PSEUDO}, {"category": "suspected"}])
def test_pseudo_boxes_are_refused_unless_forced(facts):
    finding = make_finding(**{"category": "suspected", "finding_id": 9, **facts})
    labelled = make_record(7, finding, supervision=NORMAL)
    with pytest.raises(DataError, match=r"pseudo-boxes already \(image 7, annotation 9\)"):
        require(POSITIVE, SURE, labelled)
    assert require(POSITIVE, SURE, labelled, force=True) == (SURE, labelled)


def test_labelling_the_result_again_by_force_adds_nothing():
    once = with_boxes(ALL, label())
    again = label(records=once)
    assert again.added == {}
    assert again.kept_image_ids == (1, 2, 4)
