"""Self-training: which labelled images get their best detection as a box, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile, ImageDetections, write_detections
from simfrcnn.config import add_simfrcnn_config, portable_defaults
from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.selection import training_lists
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.evaluation.inputs import check_inputs
from simfrcnn.pseudo.labels import boxes_of_labels, labelled_images, require_labelled
from simfrcnn.pseudo.provenance import warnings_of
from simfrcnn.records import FindingSource, Supervision
from simfrcnn.settings import DataSettings, EvaluationSettings, PseudoSettings
from simfrcnn.workflows.pseudo_label import label_from_file, label_from_model, summary_beside
from support.data_examples import make_finding, make_record

TARGETS, BOTH = ("malignant",), ("malignant", "benign")
BOXED = make_record(1, make_finding(finding_id=40), patient="m")
NORMAL = make_record(2, patient="n", supervision=Supervision.NORMAL)


def labelled(image_id, *names):
    return make_record(
        image_id,
        patient=f"p{image_id}",
        supervision=Supervision.IMAGE_LABEL,
        labels=dict.fromkeys(names, True),
        path=Path(f"/nowhere/{image_id}.png"),
    )


ALL = (
    BOXED, NORMAL, labelled(3, "malignant"), labelled(4, "malignant"), labelled(5, "malignant"),
    labelled(6, "malignant"), labelled(7, "benign"), labelled(8, "malignant"),
)  # fmt: skip
SQUARE, OTHER = (10.0, 10.0, 30.0, 30.0), (40.0, 40.0, 60.0, 60.0)
FOUND = {
    3: [(SQUARE, 0.9, "malignant"), (OTHER, 0.8, "malignant")],
    4: [(OTHER, 0.6, "malignant")],
    5: [(SQUARE, 0.6, "malignant")],
    6: [(SQUARE, 0.95, "benign"), (OTHER, 0.9, "malignant")],  # its best is of another class
    7: [((70.0, 50.0, 90.0, 110.0), 0.3, "benign")],  # leaves the image, which is 80 x 100
    8: [],
}


def file_of(found=FOUND):
    images = {
        image_id: ImageDetections(
            image_id,
            np.asarray([box for box, *_ in entries], dtype=np.float64).reshape(-1, 4),
            np.asarray([score for _, score, _ in entries], dtype=np.float64),
            tuple(name for *_, name in entries),
        )
        for image_id, entries in found.items()
    }
    return DetectionFile(images, {1: "malignant", 2: "benign"})


def chosen(**settings):
    settings = PseudoSettings(of="labels", **settings)
    return boxes_of_labels(ALL, file_of(), BOTH, TARGETS, settings)


def boxes(labels):
    return {number: (f.box, f.category, f.score) for number, (f,) in labels.added.items()}


def test_the_most_confident_half_of_each_class_gets_its_best_box():
    labels = chosen()
    # Three malignant images agree: two of them, of equal scores the lower id. In the benign one
    # a malignant finding may hide: with a box it would count as known to hold none.
    assert boxes(labels) == {3: (SQUARE, "malignant", 0.9), 4: (OTHER, "malignant", 0.6)}
    assert labels.kept_image_ids == (1, 2, 3, 4)
    assert [f.finding_id for (f,) in labels.added.values()] == [41, 42]
    assert all(f.source is FindingSource.PSEUDO for (f,) in labels.added.values())
    assert (labels.n_candidates, labels.n_boxes, labels.n_positives) == (6, 2, 1)
    assert int(labels.score_counts.sum()) == 5
    assert chosen(keep_unlabelled=True).kept_image_ids == tuple(r.image_id for r in ALL)


def test_of_two_targets_a_box_of_one_is_enough_where_the_other_is_stated_absent():
    stated = replace(labelled(7, "benign"), labels={"benign": True, "malignant": False})
    records, settings = (*ALL[:6], stated), PseudoSettings(of="labels", fraction=1)
    labels = boxes_of_labels(records, file_of(), BOTH, BOTH, settings)
    assert boxes(labels) == {7: ((70.0, 50.0, 80.0, 100.0), "benign", 0.3)}


def test_images_in_which_another_target_may_hide_are_said_and_counted():
    benign, settings = labelled(7, "benign"), PseudoSettings(of="labels", fraction=1)

    def warnings(*records):
        return warnings_of(boxes_of_labels(records, file_of(), BOTH, TARGETS, settings), 0.8)

    assert warnings(*ALL[:6]) == []
    (one,) = warnings(*ALL[:6], benign)
    assert re.match(r"1 labelled image gets no box.*do not say false of every other target", one)
    (none,) = warnings(benign)
    assert re.match(r"no pseudo-box: the second training.*; 1 labelled image gets no box", none)
    (none,) = warnings(ALL[5])  # its best detection is of another class
    assert re.match(r"no pseudo-box: .*; in no labelled image the best.*Train for longer", none)


def test_a_benign_image_that_is_known_to_show_no_target_gets_its_box():
    stated = replace(labelled(7, "benign"), labels={"benign": True, "malignant": False})
    settings = PseudoSettings(of="labels", fraction=1)
    found = boxes_of_labels((*ALL[:6], stated), file_of(), BOTH, TARGETS, settings)
    assert boxes(found)[7] == ((70.0, 50.0, 80.0, 100.0), "benign", 0.3)


def test_saved_detections_of_other_classes_count_as_those_of_a_model_do(tmp_path):
    """Of the best detection of an image, whatever its class: image 6 shows something benign."""
    source, output = tmp_path / "train.json", tmp_path / "train_pseudo.json"
    write_coco(source, ALL, {1: "malignant", 2: "benign"}, {})
    images = file_of().images.values()
    write_detections(tmp_path / "found.json", images, categories={1: "malignant", 2: "benign"})
    settings = PseudoSettings(of="labels", fraction=1)
    done = label_from_file(f"t={source}", tmp_path / "found.json", output, settings=settings)
    assert boxes(done) == boxes(chosen(fraction=1))
    assert set(boxes(done)) == {3, 4, 5}


def test_a_share_is_counted_exactly():
    many = tuple(labelled(number, "malignant") for number in range(101, 201))
    found = file_of({r.image_id: [(SQUARE, 0.5, "malignant")] for r in many})
    settings = PseudoSettings(of="labels", fraction=0.55)
    assert len(boxes_of_labels(many, found, BOTH, TARGETS, settings).added) == 55


def test_all_or_none():
    assert set(boxes(chosen(fraction=1))) == {3, 4, 5}
    assert boxes(chosen(fraction=0)) == {}
    assert chosen(fraction=0).kept_image_ids == (1, 2)


def test_labels_of_classes_that_the_model_does_not_know_are_left_alone():
    assert [record.image_id for record, _ in labelled_images(ALL, TARGETS, TARGETS)] == [
        *(3, 4, 5, 6),
        8,
    ]
    with pytest.raises(ArtifactError, match=r"labels speak of calcification"):
        boxes_of_labels(
            ALL, file_of(), (*BOTH, "calcification"), TARGETS, PseudoSettings(of="labels")
        )
    left = {key: value for key, value in FOUND.items() if key != 8}
    with pytest.raises(ArtifactError, match=r"1 of the 6 images to label was not run"):
        boxes_of_labels(ALL, file_of(left), BOTH, TARGETS, PseudoSettings(of="labels"))


def test_labels_of_breasts_become_no_boxes(tmp_path):
    cfg = portable_defaults()
    add_simfrcnn_config(cfg)
    cfg.PSEUDO.OF, cfg.DATASETS.LABEL_BAGS, cfg.DATASETS.LABELS_PER_ITEM = "labels", "breast", 1
    with pytest.raises(ConfigError, match="which view of a breast shows the finding is not known"):
        label_from_model("missing", None, cfg, tmp_path / "none.pth", tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_files_without_labels_or_with_pseudo_boxes_are_refused():
    with pytest.raises(DataError, match=r"set\.json: no image has a label and no box"):
        require_labelled("set.json", [BOXED, NORMAL], BOTH, TARGETS, force=False)
    pseudo = make_record(9, make_finding(finding_id=50, source=FindingSource.PSEUDO, score=0.5))
    with pytest.raises(DataError, match="has pseudo-boxes already"):
        require_labelled("set.json", [*ALL, pseudo], BOTH, TARGETS, force=False)
    assert len(require_labelled("set.json", [*ALL, pseudo], BOTH, TARGETS, force=True)) == 6


def test_the_new_file_trains_and_is_no_truth_to_judge_by(tmp_path):
    source, output = tmp_path / "train.json", tmp_path / "train_pseudo.json"
    write_coco(source, ALL, {1: "malignant", 2: "benign"}, {})
    found = {
        number: [(b, s, n) for b, s, n in own if n == "malignant"] for number, own in FOUND.items()
    }
    images = file_of(found).images.values()
    write_detections(tmp_path / "found.json", images, categories={1: "malignant", 2: "benign"})
    label_from_file(
        f"t={source}",
        tmp_path / "found.json",
        output,
        settings=PseudoSettings(of="labels", keep_unlabelled=True),
    )
    records = read_coco(output, check_files=False).records
    lists = training_lists(records, DataSettings(labels_per_item=1))
    # With one class image 6 agrees too: half of four, the most confident.
    assert [r.image_id for r in lists.positives] == [1, 3, 6]
    assert [bag.records[0].image_id for bag in lists.labelled] == [4, 5, 8]
    assert [r.image_id for r in lists.normals] == [2]
    assert "labelled_images_with_pseudo_boxes" in summary_beside(output).read_text()
    with pytest.raises(DataError, match="is a pseudo-box of the target class 'malignant'"):
        check_inputs(records, file_of(), EvaluationSettings())
