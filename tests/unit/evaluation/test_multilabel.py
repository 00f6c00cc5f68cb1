"""AUC of several labels, against scikit-learn and a slow twin; what is unknown or missing."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.data.coco import write_coco
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.comparison import resample
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.multilabel import (
    is_multilabel,
    label_scores,
    require_same_labels,
)
from simfrcnn.evaluation.ranking import compare_all
from simfrcnn.evaluation.reporting.report import summary_lines
from simfrcnn.evaluation.reporting.wording import label_of
from simfrcnn.records import ImageRecord, Supervision
from simfrcnn.settings import EvaluationSettings
from simfrcnn.workflows.compare import compare
from support.examples import record

NAMES = ("Mass", "Nodule", "Edema")
SETTINGS = EvaluationSettings(target_classes=NAMES, bootstrap_replicates=0)


def films(n, rate=0.4, seed=0):
    """Films of two a patient, labels drawn at random; every seventh label is not stated."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(1, n + 1):
        labels = {
            name: bool(rng.random() < rate)
            for place, name in enumerate(NAMES)
            if (3 * number + place) % 7
        }
        made.append(
            dataclasses.replace(
                record(number),
                patient_id=f"p{number // 2}",
                supervision=Supervision.IMAGE_LABEL,
                pathology=None,
                labels=labels,
            )
        )
    return made


def found(image: ImageRecord, scores: dict[str, float]) -> ImageDetections:
    boxes = np.tile([0.0, 0.0, image.width, image.height], (len(scores), 1))
    return ImageDetections(image.image_id, boxes, np.array(list(scores.values())), tuple(scores))


def file_of(images, scores, names=NAMES):
    """Detections by falling score, as a model gives them."""
    detections = {
        image.image_id: found(
            image, dict(sorted(zip(names, row, strict=True), key=lambda each: -each[1]))
        )
        for image, row in zip(images, scores.tolist(), strict=True)
    }
    return DetectionFile(detections, dict(enumerate(names, 1)), {})


def slow_auc(scores, truths):
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, n in itertools.product(
            [s for s, t in zip(scores, truths, strict=True) if t is True],
            [s for s, t in zip(scores, truths, strict=True) if t is False],
        )
    ]
    return sum(wins) / len(wins)


def drawn_scores(images, seed=1):
    rng = np.random.default_rng(seed)
    return np.round(rng.random((len(images), len(NAMES))), 1)  # with ties


def test_each_label_and_their_mean_by_two_other_ways():
    images = films(60)
    scores = drawn_scores(images)
    report = evaluate(images, file_of(images, scores), SETTINGS)
    aucs = []
    for place, name in enumerate(NAMES):
        truths = [image.labels.get(name) for image in images]
        expected = slow_auc(scores[:, place].tolist(), truths)
        is_known = [truth is not None for truth in truths]
        by_sklearn = roc_auc_score(
            [t for t in truths if t is not None], scores[np.array(is_known), place]
        )
        figure = report.figures[f"label/{name}/auc"]
        assert figure.value == pytest.approx(expected) == pytest.approx(by_sklearn)
        assert figure.n == {"positive": truths.count(True), "normal": truths.count(False)}
        aucs.append(expected)
    assert report.figures["labels/auc"].value == pytest.approx(np.mean(aucs))
    assert report.figures["labels/auc"].n == {"classes": 3}


def test_the_mean_has_an_interval_over_patients_and_each_label_its_own():
    images = films(80)
    settings = dataclasses.replace(SETTINGS, bootstrap_replicates=300)
    report = evaluate(images, file_of(images, drawn_scores(images)), settings)
    mean = report.figures["labels/auc"]
    assert mean.method == "bootstrap"
    assert mean.low < mean.value < mean.high
    one = report.figures["label/Mass/auc"]
    assert one.method == "obuchowski-logit"  # two films a patient
    assert mean.high - mean.low < one.high - one.low  # of three labels, nearly independent
    assert any(line.startswith("Mean AUC over the labels") for line in summary_lines(report))
    assert label_of("label/Mass/auc") == "AUC of Mass"


def test_models_are_compared_by_the_mean_of_their_labels():
    """The difference is that of the two reports, and its interval is paired over patients."""
    images = films(80)
    settings = dataclasses.replace(SETTINGS, bootstrap_replicates=100)
    files = [file_of(images, drawn_scores(images, seed)) for seed in (1, 2)]
    models = {
        name: resample(images, each, settings, with_further=True)
        for name, each in zip(("one", "other"), files, strict=True)
    }
    compared = compare_all(models, "labels/auc")
    reports = [evaluate(images, each, settings).figures["labels/auc"].value for each in files]
    difference = compared.difference("one", "other", "labels/auc")
    assert difference.value == pytest.approx(reports[0] - reports[1])
    of_both = models["one"].values["labels/auc"] - models["other"].values["labels/auc"]
    ends = np.quantile(of_both[1:], [0.025, 0.975])
    assert (difference.low, difference.high) == pytest.approx(tuple(ends))
    assert compared.ranking[0].figure.value == pytest.approx(max(reports))
    plain = resample(images, files[0], settings)
    assert "labels/auc" not in plain.metrics


def test_a_label_of_one_kind_is_undefined_with_a_reason_and_out_of_the_mean_which_says_so():
    images = [
        dataclasses.replace(image, labels={**image.labels, "Nodule": False}) for image in films(40)
    ]
    report = evaluate(images, file_of(images, drawn_scores(images)), SETTINGS)
    nodule = report.figures["label/Nodule/auc"]
    assert np.isnan(nodule.value)
    assert (
        nodule.reason
        == "needs an image that shows Nodule and one that does not; there are 0 and 40"
    )
    others = [report.figures[f"label/{name}/auc"].value for name in ("Mass", "Edema")]
    assert report.figures["labels/auc"].value == pytest.approx(np.mean(others))
    (note,) = (note for note in report.notes if note.startswith("The mean AUC"))
    assert "over 2 classes of 3" in note
    assert "do: Nodule." in note


def test_a_class_without_a_detection_scores_nothing_and_of_several_the_highest_counts():
    (image,) = films(1)
    row = [{"Mass": 0.4}]
    boxes = np.tile([0.0, 0.0, 9.0, 9.0], (3, 1))
    several = ImageDetections(
        image.image_id, boxes, np.array([0.9, 0.7, 0.2]), ("Edema", "Edema", "Other")
    )
    labels = label_scores([image], {image.image_id: found(image, row[0])}, SETTINGS)
    assert labels.scores.tolist() == [[0.4, 0.0, 0.0]]
    labels = label_scores([image], {image.image_id: several}, SETTINGS)
    assert labels.scores.tolist() == [[0.0, 0.0, 0.9]]


def test_files_without_labels_and_single_targets_have_the_figures_of_before():
    images = [record(1, boxes=[(2.0, 2.0, 30.0, 30.0)]), record(2)]
    settings = EvaluationSettings(target_classes=("malignant", "Mass"), bootstrap_replicates=0)
    assert not is_multilabel(images, settings)
    assert not is_multilabel(films(3), EvaluationSettings(target_classes=("Mass",)))
    report = evaluate(
        images,
        file_of(images, np.array([[0.3, 0.2], [0.1, 0.2]]), ("malignant", "Mass")),
        settings,
    )
    assert not [key for key in report.figures if key.startswith("label")]


def test_fifteen_labels_are_not_compared_with_fourteen():
    fourteen = [f"label{number}" for number in range(1, 15)]
    files = {
        "ours": DetectionFile({}, dict(enumerate(fourteen, 1)), {}),
        "theirs": DetectionFile({}, dict(enumerate([*fourteen, "No Finding"], 1)), {}),
    }
    with pytest.raises(
        ArtifactError,
        match=r"ours says of 14 labels, theirs of 15 labels \(theirs alone knows No Finding\)",
    ):
        require_same_labels(files)
    require_same_labels({"ours": files["ours"], "again": files["ours"]})


def test_compare_refuses_them_before_it_judges(tmp_path):
    images = films(12)
    categories = {**dict(enumerate(NAMES, 1)), 4: "No Finding"}
    write_coco(tmp_path / "test.json", images, categories, {})
    scores = drawn_scores(images)
    wider = np.hstack([scores, scores[:, :1]])
    files = {
        "three": file_of(images, scores),
        "four": file_of(images, wider, (*NAMES, "No Finding")),
    }
    with pytest.raises(ArtifactError, match="three says of 3 labels, four of 4 labels"):
        compare(tmp_path / "test.json", files, settings=SETTINGS, pictures=False)
