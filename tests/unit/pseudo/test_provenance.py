"""What is said of a pseudo-labelling: counts, histogram, warnings, origin."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from simfrcnn.artifacts import DetectionFile
from simfrcnn.pseudo.passes import N_BINS, PseudoLabels
from simfrcnn.pseudo.provenance import provenance_of, summary_lines, summary_of, warnings_of
from simfrcnn.records import Finding, FindingSource
from simfrcnn.settings import PseudoSettings


def labels_with(n_boxes, *, n_target_boxes=3, highest=0.9):
    counts = np.zeros(N_BINS, dtype=np.int64)
    counts[16], counts[0] = n_boxes, 50
    findings = tuple(
        Finding((0, 0, 5, 5), "suspected", i + 1, source=FindingSource.PSEUDO, score=0.82)
        for i in range(n_boxes)
    )
    return PseudoLabels(
        added={7: findings} if n_boxes else {},
        kept_image_ids=(1, 7),
        score_counts=counts,
        highest_score=highest,
        n_images=9,
        n_positives=1,
        n_candidates=6,
        n_target_boxes=n_target_boxes,
    )


def origin(labels, **made_by):
    return provenance_of(
        labels,
        PseudoSettings(),
        DetectionFile({}, {1: "malignant"}, made_by),
        target_classes=("malignant",),
        detections_sha256="d" * 64,
        annotations="train.json",
        annotations_sha256="a" * 64,
    )


def test_provenance_names_checkpoint_detections_annotations_config_and_thresholds():
    told = origin(
        labels_with(2), checkpoint_sha256="c" * 64, config={"SEED": 3}, engine="torchvision"
    )
    assert told["checkpoint_sha256"] == "c" * 64
    assert told["detections_sha256"] == "d" * 64
    assert (told["annotations"], told["annotations_sha256"]) == ("train.json", "a" * 64)
    assert told["config"] == {"SEED": 3}
    assert (told["score_threshold"], told["nms_threshold"]) == (0.8, 0.3)
    assert told["detections"] == {"engine": "torchvision"}
    assert set(told["versions"]) == {"simfrcnn", "numpy"}
    json.dumps(told, allow_nan=False)


def test_what_the_detections_do_not_state_is_null():
    told = origin(labels_with(2))
    assert told["checkpoint_sha256"] is None
    assert told["config"] is None


def test_summary_counts_and_histogram():
    labels = labels_with(2)
    summary = summary_of(labels, origin(labels))
    assert summary["counts"] == {
        "images": 9,
        "positive_images": 1,
        "normal_images": 6,
        "normal_images_with_pseudo_boxes": 1,
        "pseudo_boxes": 2,
        "target_boxes": 3,
        "images_dropped": 7,
        "images_in_the_new_file": 2,
    }
    edges, counts = summary["scores"]["bin_edges"], summary["scores"]["counts"]
    assert len(edges) == len(counts) + 1
    assert (edges[0], edges[16], edges[-1]) == (0.0, 0.8, 1.0)
    assert (counts[16], sum(counts)) == (2, 52)
    assert summary["warnings"] == []


def test_the_terminal_shows_counts_and_bins_from_the_highest_down():
    lines = summary_lines(labels_with(2), 0.8)
    assert lines[0].startswith("2 pseudo-boxes on 1 of 6 normal images, beside 3 target boxes")
    bins = [line for line in lines if line.startswith("  0.")]
    assert bins[0].split()[:2] == ["0.80-0.85", "2"]
    assert bins[0].endswith("<- threshold")
    assert bins[-1].split()[:2] == ["0.00-0.05", "50"]
    assert bins[-1].count("#") > bins[0].count("#") > 0 == bins[1].count("#")


def test_more_pseudo_boxes_than_target_boxes_is_a_warning():
    assert warnings_of(labels_with(3), 0.8) == []
    (text,) = warnings_of(labels_with(4), 0.8)
    assert "4 pseudo-boxes, but only 3 target boxes" in text


def test_no_pseudo_box_is_a_warning_with_the_highest_score():
    (text,) = warnings_of(labels_with(0, highest=0.61), 0.8)
    assert "reaches 0.8 (the highest score is 0.610)" in text
    nothing = replace(labels_with(0, highest=None), score_counts=np.zeros(N_BINS, dtype=np.int64))
    assert "nothing was found at all" in summary_lines(nothing, 0.8)[-1]
