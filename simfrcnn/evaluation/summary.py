"""What was counted, and what must a reader know before believing a figure?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile
from simfrcnn.evaluation.average_precision import MAX_DETECTIONS
from simfrcnn.evaluation.case import Units
from simfrcnn.evaluation.delong import FEWEST_CASES
from simfrcnn.evaluation.froc import Events, n_findings
from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.truth import Truth, View
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import counted

FEWEST_REPLICATES = 1000
"""With fewer resamplings than these the report says so."""


def counts_of(
    views: Sequence[View],
    located: Sequence[View],
    detections: DetectionFile,
    strata: NDArray[np.intp],
    units: Mapping[str, Units],
    events: Sequence[Events],
) -> dict[str, Any]:
    """How many patients, units, findings and detections there are."""
    n_detections = sum(len(found.scores) for found in detections.images.values())
    n_of_targets = sum(len(view.scores) for view in views)
    lesions, lesionless = len(events[0].lesions.patients), events[0].n_lesionless
    return {
        "patients": _by_truth(strata),
        **{f"{level}s": _by_truth(each.truths) for level, each in units.items()},
        "images_evaluated_for_boxes": len(located),
        "findings": n_findings(events[0]),
        "findings_without_lesion_id": lesionless,
        "crowd_regions": sum(len(view.crowd_boxes) for view in views),
        "ignored_findings": sum(len(view.ignored_boxes) for view in views),
        "lesions": lesions,
        "detections": {
            "of_target_classes": n_of_targets,
            "of_other_classes": n_detections - n_of_targets,
        },
    }


def _by_truth(truths: NDArray[np.intp]) -> dict[str, int]:
    by_truth = {truth.label: int((truths == truth).sum()) for truth in sorted(Truth, reverse=True)}
    return {"total": len(truths), **by_truth}


def notes_on_files(detections: DetectionFile, provenance: Mapping[str, Any]) -> Iterator[str]:
    """What the files themselves leave in doubt."""
    if not detections.is_coverage_stated:
        yield (
            "The detections came without a sidecar: every image of the annotation file is taken "
            "to have been run, so an image that was forgotten counts as one without detections."
        )
    hashes = [facts.get("annotations_sha256") for facts in (detections.provenance, provenance)]
    if all(hashes) and hashes[0] != hashes[1]:
        yield (
            "The annotation file is not the one that the detections were made on (the hashes "
            "differ): the images are the same by id, their boxes or labels may have changed."
        )


def note_on_few_cases(n_cases: Mapping[str, int], n_patients: Mapping[str, int]) -> str | None:
    """What a reader must know of intervals by case that rest on very few; None where enough.

    Args:
        n_cases: How many are ``positive`` and how many ``normal``.
        n_patients: How many patients have such a case.
    """
    kinds = ("positive", "normal")
    if min(n_patients[kind] for kind in kinds) >= FEWEST_CASES:
        return None
    is_one_each = all(n_patients[kind] == n_cases[kind] for kind in kinds)
    of_patients = (
        ""
        if is_one_each
        else f" They are those of {n_patients['positive']} and {n_patients['normal']} patients."
    )
    return (
        f"The figures by case rest on {n_cases['positive']} positive and {n_cases['normal']} "
        f"normal cases.{of_patients} With fewer than {FEWEST_CASES} of either, intervals by "
        "resampling are too narrow, and two models are not compared by a test."
    )


def _note_on_sides(views: Sequence[View]) -> str | None:
    """What figures by breast are worth where images do not say their side."""
    n_without = sum(view.record.laterality is None for view in views)
    if not n_without:
        return None
    if n_without == len(views):
        return (
            "No image says its side (laterality): a breast is taken to be an exam, and figures by "
            "breast are those by exam."
        )
    return (
        f"{counted(n_without, '[image does|images do]')} not say "
        f"{'its' if n_without == 1 else 'their'} side (laterality): in the figures by breast those "
        "of one exam count as one breast, apart from its left and right."
    )


def notes_on_figures(
    views: Sequence[View],
    located: Sequence[View],
    figures: Mapping[str, Figure],
    events: Sequence[Events],
    cases: Units,
    settings: EvaluationSettings,
) -> Iterator[str]:
    """What the figures leave out, and where they say less than they seem to."""
    n_left_out = sum(view.truth is Truth.UNKNOWN for view in views)
    if n_left_out:
        yield (
            f"{counted(n_left_out, '[image|images] of unknown truth [is|are]')} left out of the "
            "image level, FROC and AP; their detections still count in the score of their breast "
            "and case."
        )
    n_unplaced = len(views) - len(located) - n_left_out
    if n_unplaced:
        yield (
            f"{counted(n_unplaced, '[image is|images are]')} positive by 'labels' alone: in the "
            "image level, but left out of FROC, AP and CorLoc, as nobody has said where the "
            "findings lie."
        )
    if settings.unknown_images == "normal":
        n_unknown = sum(
            not (v.record.shows_target(settings.target_classes))
            and not v.record.is_known_normal(settings.target_classes)
            for v in views
        )
        if n_unknown:
            unknown = counted(n_unknown, "[image|images] of unknown truth [counts|count]")
            yield f"{unknown} as normal, by EVAL.UNKNOWN_IMAGES."
    n_crowded = sum(len(view.scores) > MAX_DETECTIONS for view in located)
    if n_crowded:
        yield (
            f"{counted(n_crowded, '[image has|images have]')} more than {MAX_DETECTIONS} "
            f"detections: AP takes the highest {MAX_DETECTIONS} of each, as COCO does; all other "
            "figures take them all."
        )
    if 0 < events[0].n_lesionless < n_findings(events[0]):
        yield (
            f"{events[0].n_lesionless} of {n_findings(events[0])} findings without a lesion id, in "
            "no figure per lesion."
        )
    if 0 < settings.bootstrap_replicates < FEWEST_REPLICATES:
        yield (
            f"Bootstrap intervals come from only {settings.bootstrap_replicates} resamplings, and "
            f"their ends are rough; {FEWEST_REPLICATES:,} or more are usual."
        )
    sides = _note_on_sides(views)
    if sides:
        yield sides
    few = note_on_few_cases(cases.n, cases.n_patients)
    if few and settings.bootstrap_replicates:
        yield few
    no_width = [k for k, f in figures.items() if f.method == "bootstrap" and f.low == f.high]
    if no_width:
        first, *others = no_width
        more = f" and {counted(len(others), '[other figure|other figures]')}" if others else ""
        yield (
            "An interval of no width only says that no resampled set gave another value; it is not "
            f"certainty. More patients are needed there: {first}{more}."
        )
    n_dropped = max((f.n_dropped for f in figures.values() if not math.isnan(f.low)), default=0)
    if n_dropped:
        yield f"Up to {n_dropped} bootstrap replicates were dropped for a figure, being undefined."
