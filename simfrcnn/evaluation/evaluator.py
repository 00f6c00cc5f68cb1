"""From records, detections and settings to a report: the whole evaluation, as one pure function."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.evaluation.average_precision import (
    MAX_DETECTIONS,
    ap_statistic,
    coco_matches,
    iou_thresholds_with,
)
from simfrcnn.evaluation.bootstrap import Statistic, figures_of
from simfrcnn.evaluation.case import LEVELS, Units, roc_curve, unit_statistic, units_of
from simfrcnn.evaluation.froc import (
    POPULATIONS,
    Events,
    events_of,
    froc_curve,
    froc_statistic,
    n_findings,
)
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.results import Figure, Report
from simfrcnn.evaluation.truth import Truth, View, unit_truth, views_of
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings


def evaluate(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings,
    *,
    categories: Mapping[int, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Judge detections by case, breast, image, finding and lesion.

    A pure function: no file, clock or global random state enters. With ``bootstrap_replicates =
    0`` it is cheap enough to run at every validation during training.

    Args:
        records: The images of the test set with their truth.
        detections: What was found in exactly these images.
        settings: The rules.
        categories: COCO id -> class name of the annotation file; given, the target classes must be
            in it.
        provenance: Facts to repeat in the report. ``annotations_sha256`` is compared with that of
            the prediction, and a difference is noted.

    Raises:
        DataError: No records, or two with one image id.
        ArtifactError: An image that was not run, detections of an image without a record, or a
            model that does not know the target classes.
        ConfigError: A setting outside its range, or a target class that the annotation file lacks.
    """
    check_settings(settings, categories)
    check_inputs(records, detections, settings)
    views, patient_ids = views_of(records, detections.images, settings)
    evaluated = [view for view in views if view.truth is not Truth.UNKNOWN]
    strata = patient_strata(views, len(patient_ids), settings)
    units = {level: units_of(views, level, settings) for level in LEVELS}
    events = [events_of(evaluated, c, len(patient_ids), settings) for c in HIT_CRITERIA]
    figures = figures_of(
        _statistics(units, events, evaluated, len(patient_ids), settings),
        strata,
        n_replicates=settings.bootstrap_replicates,
        seed=settings.bootstrap_seed,
    )
    return Report(
        settings=settings,
        counts=_counts(views, evaluated, detections, strata, units, events),
        figures=figures,
        roc={level: roc_curve(units[level]) for level in LEVELS},
        froc={
            f"{event.criterion.name}/{population}": froc_curve(event, population)
            for event in events
            for population in POPULATIONS
        },
        units={level: units[level].table(patient_ids) for level in LEVELS},
        notes=(
            *_notes_on_files(detections, provenance or {}),
            *_notes(views, evaluated, figures, events, settings),
        ),
        provenance={**(provenance or {}), "prediction": dict(detections.provenance)},
    )


def _statistics(
    units: Mapping[str, Units],
    events: Sequence[Events],
    evaluated: Sequence[View],
    n_patients: int,
    settings: EvaluationSettings,
) -> Iterator[Statistic]:
    """One at a time: each is dropped, with its arrays, before the next is made."""
    for level in LEVELS:
        yield unit_statistic(units[level], n_patients, settings.score_threshold)
    matches = coco_matches(evaluated, iou_thresholds_with(settings.iou_threshold))
    yield ap_statistic(matches, n_patients, len(evaluated), settings.iou_threshold)
    for event in events:
        for population in POPULATIONS:
            yield froc_statistic(event, population, of_lesions=False)
            yield froc_statistic(event, population, of_lesions=True)


def patient_strata(
    views: Sequence[View], n_patients: int, settings: EvaluationSettings
) -> NDArray[np.intp]:
    """(P,) truth of each patient: what the bootstrap keeps the numbers of."""
    by_patient: list[list[View]] = [[] for _ in range(n_patients)]
    for view in views:
        by_patient[view.patient].append(view)
    return np.array([unit_truth(group, settings) for group in by_patient], dtype=np.intp)


def check_settings(settings: EvaluationSettings, categories: Mapping[int, str] | None) -> None:
    """Refuse settings outside their range (see :func:`evaluate`)."""
    if not settings.target_classes:
        raise ConfigError("EVAL: there is no target class; at least one is needed")
    if not 0 <= settings.score_threshold <= 1:
        raise ConfigError(
            f"EVAL.SCORE_THRESHOLD is {settings.score_threshold}; scores are in [0, 1]"
        )
    if not 0 < settings.iou_threshold <= 1:
        raise ConfigError(f"EVAL.IOU_THRESHOLD is {settings.iou_threshold}; (0, 1] is legal")
    if settings.bootstrap_replicates < 0:
        raise ConfigError(
            f"EVAL.BOOTSTRAP_REPLICATES is {settings.bootstrap_replicates}; 0 (no intervals) or "
            "more is legal"
        )
    if settings.bootstrap_seed < 0:
        raise ConfigError(f"EVAL.BOOTSTRAP_SEED is {settings.bootstrap_seed}; 0 or more is legal")
    if categories is not None:
        missing = [name for name in settings.target_classes if name not in categories.values()]
        if missing:
            raise ConfigError(
                f"target class {missing[0]!r} is not among the categories of the annotation file: "
                f"{sorted(categories.values())}"
            )


def check_inputs(
    records: Sequence[ImageRecord], detections: DetectionFile, settings: EvaluationSettings
) -> None:
    """Refuse records and detections that do not belong together (see :func:`evaluate`)."""
    if not records:
        raise DataError("there are no images to evaluate: the annotation file lists none")
    by_id: dict[int, ImageRecord] = {}
    for record in records:
        other = by_id.setdefault(record.image_id, record)
        if other is not record:
            raise DataError(
                f"image id {record.image_id} stands for {other.file_name} and {record.file_name}; "
                "each image needs its own"
            )
    for record in records:
        if record.image_id not in detections.images:
            raise ArtifactError(
                f"image {record.image_id} ({record.file_name}) was not run, according to "
                f"{detections.name}; run the prediction on the whole annotation file"
            )
    unknown = sorted(set(detections.images) - set(by_id))
    if unknown:
        raise ArtifactError(
            f"{detections.name} covers image {unknown[0]}, which the annotation file lacks "
            f"({len(unknown)} such images): evaluate against the file the prediction was made on"
        )
    names = set(detections.categories.values())
    missing = [name for name in settings.target_classes if name not in names]
    if missing:
        raise ArtifactError(
            f"the model behind {detections.name} does not know the target class {missing[0]!r}; it "
            f"knows {sorted(names)}"
        )


def _counts(
    views: Sequence[View],
    evaluated: Sequence[View],
    detections: DetectionFile,
    strata: NDArray[np.intp],
    units: Mapping[str, Units],
    events: Sequence[Events],
) -> dict[str, Any]:
    n_detections = sum(len(found.scores) for found in detections.images.values())
    n_of_targets = sum(len(view.scores) for view in views)
    lesions, lesionless = len(events[0].lesions.patients), events[0].n_lesionless
    return {
        "patients": _by_truth(strata),
        "exams": len({(view.record.patient_id, view.record.exam_id) for view in views}),
        **{f"{level}s": _by_truth(units[level].truths) for level in LEVELS},
        "images_evaluated_for_boxes": len(evaluated),
        "findings": n_findings(events[0]),
        "findings_without_lesion_id": lesionless,
        "crowd_regions": sum(len(view.crowd_boxes) for view in views),
        "lesions": lesions,
        "detections": {
            "of_target_classes": n_of_targets,
            "of_other_classes": n_detections - n_of_targets,
        },
    }


def _by_truth(truths: NDArray[np.intp]) -> dict[str, int]:
    by_truth = {truth.label: int((truths == truth).sum()) for truth in sorted(Truth, reverse=True)}
    return {"total": len(truths), **by_truth}


def _notes_on_files(detections: DetectionFile, provenance: Mapping[str, Any]) -> Iterator[str]:
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


def _notes(
    views: Sequence[View],
    evaluated: Sequence[View],
    figures: Mapping[str, Figure],
    events: Sequence[Events],
    settings: EvaluationSettings,
) -> Iterator[str]:
    n_left_out = len(views) - len(evaluated)
    if n_left_out:
        yield (
            f"{n_left_out} images of unknown truth are left out of the image level, FROC and AP; "
            "their detections still count in the score of their breast and case."
        )
    if settings.unknown_images == "normal":
        n_unknown = sum(
            not (v.record.is_positive(settings.target_classes))
            and not v.record.is_known_normal(settings.target_classes)
            for v in views
        )
        if n_unknown:
            yield f"{n_unknown} images of unknown truth count as normal, by EVAL.UNKNOWN_IMAGES."
    n_crowded = sum(len(view.scores) > MAX_DETECTIONS for view in evaluated)
    if n_crowded:
        yield (
            f"{n_crowded} images have more than {MAX_DETECTIONS} detections: AP takes the highest "
            f"{MAX_DETECTIONS} of each, as COCO does; all other figures take them all."
        )
    if 0 < events[0].n_lesionless < n_findings(events[0]):
        yield (
            f"{events[0].n_lesionless} of {n_findings(events[0])} findings have no lesion id and "
            "are in no figure per lesion."
        )
    if any(f.method == "bootstrap" and f.low == f.high for f in figures.values()):
        yield (
            "An interval of no width only says that no resampled set gave another value; it is not "
            "certainty. More patients are needed there."
        )
    n_dropped = max((f.n_dropped for f in figures.values() if not math.isnan(f.low)), default=0)
    if n_dropped:
        yield f"Up to {n_dropped} bootstrap replicates were dropped for a figure, being undefined."
