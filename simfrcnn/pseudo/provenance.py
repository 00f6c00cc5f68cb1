"""What is recorded about a pseudo-labelling: in the new file, in a summary beside it, on screen?

The annotation file's ``info`` gets a key ``pseudo`` that says where its pseudo-boxes come from. The
summary has the same, with counts and the histogram of scores. Neither holds a time: the same inputs
give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from simfrcnn.artifacts import DetectionFile
from simfrcnn.pseudo.passes import N_BINS, PseudoLabels
from simfrcnn.pseudo.select import SUSPECTED
from simfrcnn.settings import PseudoSettings
from simfrcnn.version import __version__
from simfrcnn.wording import counted

INFO_KEY = "pseudo"
"""The key of ``info`` in the annotation file."""

_BAR_WIDTH = 40
_KIND = {"suspected": "normal", "labels": "labelled"}
_WHAT = {
    "suspected": "detections of normal images after non-maximum suppression, also those below the "
    "score threshold",
    "labels": "the best detection of each labelled image, also where it is of another class",
}
_SHOWN = {
    "suspected": "what was found in normal images",
    "labels": "the best detection of each labelled image",
}
_NO_BOX_OF_LABELS = "no pseudo-box: the second training would be the first one"
_NONE_FOUND = (
    "in no labelled image the best detection is of the labelled class, or PSEUDO.FRACTION is 0. "
    "Train for longer"
)
_OPEN = (
    "[labelled image gets|labelled images get] no box, although the best detection is of the "
    "labelled class: [its|their] 'labels' do not say false of every other target, which may hide "
    "there and would train as background. State false where it is known"
)


def provenance_of(
    labels: PseudoLabels,
    settings: PseudoSettings,
    detections: DetectionFile,
    *,
    target_classes: tuple[str, ...],
    detections_sha256: str,
    annotations: str,
    annotations_sha256: str,
) -> dict[str, Any]:
    """Where the pseudo-boxes of a file come from.

    Args:
        labels: The pseudo-boxes that were chosen.
        settings: The rules by which they were chosen.
        detections: What they were chosen from; its own provenance (checkpoint, engine, config) is
            taken over, as far as the tool that made it stated any.
        target_classes: The classes whose detections could become pseudo-boxes.
        detections_sha256: Hash of the detections file.
        annotations: Name of the annotation file that was labelled.
        annotations_sha256: Hash of that file.
    """
    made_by = dict(detections.provenance)
    return {
        **({"class": SUSPECTED} if labels.of == "suspected" else {}),
        **asdict(settings),
        "target_classes": list(target_classes),
        "n_boxes": labels.n_boxes,
        "highest_score": labels.highest_score,
        "checkpoint_sha256": made_by.pop("checkpoint_sha256", None),
        "detections_sha256": detections_sha256,
        "annotations": annotations,
        "annotations_sha256": annotations_sha256,
        "config": made_by.pop("config", None),
        "detections": made_by,
        "versions": {"simfrcnn": __version__, "numpy": np.__version__},
    }


def summary_of(labels: PseudoLabels, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, the histogram of scores and the provenance, as the summary file has them."""
    edges = [number / N_BINS for number in range(N_BINS + 1)]
    return {
        "schema": 1,
        "counts": {
            "images": labels.n_images,
            "positive_images": labels.n_positives,
            f"{_KIND[labels.of]}_images": labels.n_candidates,
            f"{_KIND[labels.of]}_images_with_pseudo_boxes": len(labels.added),
            "pseudo_boxes": labels.n_boxes,
            "target_boxes": labels.n_target_boxes,
            "images_dropped": labels.n_dropped,
            "images_in_the_new_file": len(labels.kept_image_ids),
        },
        "scores": {
            "what": f"{_WHAT[labels.of]}, by score; each bin holds its lower edge, the last both",
            "bin_edges": edges,
            "counts": labels.score_counts.tolist(),
        },
        "warnings": warnings_of(labels, float(provenance["score_threshold"])),
        "provenance": dict(provenance),
    }


def warnings_of(labels: PseudoLabels, score_threshold: float) -> list[str]:
    """What a user should look at before the second stage is trained."""
    if labels.of == "labels":
        return _warnings_of_labels(labels)
    if not labels.n_boxes:
        highest = (
            "nothing was found at all"
            if labels.highest_score is None
            else f"the highest score is {labels.highest_score:.3f}"
        )
        return [
            f"no pseudo-box: no detection of a normal image reaches {score_threshold:g} "
            f"({highest}); stage 2 cannot be trained on this. Train stage 1 for longer, or lower "
            "the score threshold"
        ]
    if labels.n_boxes > labels.n_target_boxes:
        return [
            f"{labels.n_boxes} pseudo-boxes, but only {labels.n_target_boxes} target boxes: "
            "training then tends to collapse; raise the score threshold"
        ]
    return []


def _warnings_of_labels(labels: PseudoLabels) -> list[str]:
    reason = counted(labels.n_open, _OPEN) if labels.n_open else _NONE_FOUND
    if not labels.n_boxes:
        return [f"{_NO_BOX_OF_LABELS}; {reason}"]
    return [reason] if labels.n_open else []


def summary_lines(labels: PseudoLabels, score_threshold: float) -> list[str]:
    """The summary as text: what was added, and the histogram."""
    return [
        f"{counted(labels.n_boxes, '[pseudo-box|pseudo-boxes]')} on {len(labels.added)} of "
        f"{counted(labels.n_candidates, f'{_KIND[labels.of]} [image|images]')}, beside "
        f"{counted(labels.n_target_boxes, 'target [box|boxes]')} on "
        f"{counted(labels.n_positives, 'positive [image|images]')}",
        f"{labels.n_dropped} of {counted(labels.n_images, '[image is|images are]')} left out of "
        "the new file",
        *_histogram(labels, score_threshold),
        *(f"warning: {text}" for text in warnings_of(labels, score_threshold)),
    ]


def _histogram(labels: PseudoLabels, score_threshold: float) -> list[str]:
    """One line per bin from the highest used one down; bars grow with the logarithm."""
    most = int(labels.score_counts.max())
    if not most:
        return []
    top = int(np.flatnonzero(labels.score_counts)[-1])
    lines = [f"scores of {_SHOWN[labels.of]} (bars are logarithmic):"]
    for number in range(top, -1, -1):
        count = int(labels.score_counts[number])
        bar = "#" * round(_BAR_WIDTH * math.log1p(count) / math.log1p(most))
        low, high = number / N_BINS, (number + 1) / N_BINS
        is_threshold = labels.of == "suspected" and low <= score_threshold < high
        mark = "<- threshold" if is_threshold else ""
        lines.append(f"  {low:.2f}-{high:.2f} {count:8d} {bar} {mark}".rstrip())
    return lines
