"""From records, detections and settings to a report: the whole evaluation, as one pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile
from simfrcnn.evaluation.afroc import (
    LEVELS,
    Lesions,
    found_statistic,
    lesions_of,
    localised_statistic,
)
from simfrcnn.evaluation.average_precision import (
    CocoMatches,
    ap_statistic,
    coco_matches,
    iou_thresholds_with,
    precision_recall_curve,
)
from simfrcnn.evaluation.bootstrap import Statistic, figures_and_bands
from simfrcnn.evaluation.calibration import brier_statistic, calibration_bins
from simfrcnn.evaluation.case import (
    Units,
    confusion_of,
    levels_of,
    main_point,
    threshold_statistic,
    units_of,
)
from simfrcnn.evaluation.corloc import corloc_statistic
from simfrcnn.evaluation.froc import (
    POPULATIONS,
    Events,
    events_by_all,
    froc_curve,
    froc_statistic,
)
from simfrcnn.evaluation.group_differences import group_differences, interactions_of
from simfrcnn.evaluation.inputs import check_inputs, check_labels, check_settings
from simfrcnn.evaluation.masks import mask_statistics
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.multilabel import (
    LabelScores,
    is_multilabel,
    label_scores,
    label_statistics,
    notes_on_labels,
)
from simfrcnn.evaluation.net_benefit import decision_curve, net_benefit_statistic
from simfrcnn.evaluation.operating import all_points
from simfrcnn.evaluation.recalibration import (
    Recalibration,
    calibration_statistic,
    recalibrated_brier_statistic,
)
from simfrcnn.evaluation.results import OperatingPoint, Report
from simfrcnn.evaluation.roc import roc_curve, roc_statistic
from simfrcnn.evaluation.subgroups import subgroups_of
from simfrcnn.evaluation.summary import counts_of, notes_on_figures, notes_on_files
from simfrcnn.evaluation.truth import (
    View,
    located,
    patient_strata,
    tally_of_truth,
    views_of,
)
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings


def evaluate(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings,
    *,
    categories: Mapping[int, str] | None = None,
    operating_points: Sequence[OperatingPoint] = (),
    recalibrations: Mapping[str, Recalibration] | None = None,
    notes: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Judge detections by case, breast, image, finding and lesion.

    A pure function: no file, clock or global random state enters. With ``bootstrap_replicates =
    0`` it is cheap enough to run at every validation during training.

    Args:
        records: The images of the test set with their truth.
        detections: What was found in exactly these images.
        settings: The rules, all of which the report repeats.
        categories: COCO id -> class name of the annotation file; given, the target classes must be
            in it.
        operating_points: Chosen on another set (:mod:`simfrcnn.evaluation.operating`); the report
            has them beside the fixed ``score_threshold`` at every level.
        recalibrations: From scores to probabilities, by level, fitted on another set; the report
            then says how good these are, and by case the net benefit of acting on them.
        notes: What a reader must know beyond what this function finds itself; they come first.
        provenance: Facts to repeat in the report. ``annotations_sha256`` is compared with that of
            the prediction, and a difference is noted.

    Raises:
        DataError: No records, two with one image id, or boxes of a target class in another
            spelling.
        ArtifactError: An image that was not run, detections of an image without a record, or a
            model that does not know the target classes.
        ConfigError: A setting outside its range, a target class that the annotation file lacks, or
            operating points of an unknown level, or two by one rule.
    """
    return evaluate_with_views(
        records,
        detections,
        settings,
        categories=categories,
        operating_points=operating_points,
        recalibrations=recalibrations,
        notes=notes,
        provenance=provenance,
    )[0]


def evaluate_with_views(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings,
    *,
    categories: Mapping[int, str] | None = None,
    operating_points: Sequence[OperatingPoint] = (),
    recalibrations: Mapping[str, Recalibration] | None = None,
    notes: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> tuple[Report, Sequence[View]]:
    """:func:`evaluate`, and the joined views behind the report, from which its exams are shown."""
    check_settings(settings, categories)
    check_labels(records, settings, str((provenance or {}).get("annotations", "the annotations")))
    check_inputs(records, detections, settings)
    evidence = gather(records, detections, settings, operating_points, recalibrations)
    figures, bands = figures_and_bands(
        statistics_of(evidence, settings),
        evidence.strata,
        n_replicates=settings.bootstrap_replicates,
        seed=settings.bootstrap_seed,
    )
    units, points = evidence.units, evidence.points
    tally = tally_of_truth(records, settings)
    point = main_point(points, settings)
    subgroups = subgroups_of(evidence.views, settings, point)
    report = Report(
        settings=settings,
        counts=counts_of(
            evidence.views, evidence.located, detections, evidence.strata, units, evidence.events
        ),
        figures=figures,
        roc={level: roc_curve(each) for level, each in units.items()},
        froc={
            f"{event.criterion.name}/{population}": froc_curve(event, population)
            for event in evidence.events
            for population in POPULATIONS
        },
        precision_recall={
            f"{settings.iou_threshold:g}": precision_recall_curve(
                evidence.matches, settings.iou_threshold
            )
        },
        bands=bands,
        operating_points=points,
        confusions={point.key: confusion_of(units[point.level], point) for point in points},
        calibration={level: calibration_bins(each) for level, each in units.items()},
        recalibrations=evidence.lines,
        decisions={
            level: curve
            for level, line in evidence.lines.items()
            if level == "case"
            and (curve := decision_curve(units[level], line, settings.prevalence)) is not None
        },
        subgroups=subgroups,
        interactions=interactions_of(evidence.views, settings, point),
        group_differences=group_differences(evidence.views, subgroups, settings, point),
        units={level: each.table(evidence.patient_ids) for level, each in units.items()},
        notes=(
            *notes,
            *notes_on_files(detections, provenance or {}),
            *(f"{note}." for note in tally.notes()),
            *notes_on_figures(
                evidence.views,
                evidence.located,
                figures,
                evidence.events,
                units["case"],
                settings,
            ),
            *(() if evidence.labels is None else notes_on_labels(evidence.labels)),
        ),
        provenance={
            **(provenance or {}),
            "prediction": dict(detections.provenance),
            "labels": tally.to_dict(),
        },
    )
    return report, evidence.views


@dataclass(frozen=True)
class Evidence:
    """What the figures are computed from: everything that is pooled and matched once.

    ``located`` are the views that figures of boxes are about, see
    :func:`~simfrcnn.evaluation.truth.located`; ``strata`` (P,) the truths of the patients;
    ``units`` are by level; there is one of ``events`` for each hit criterion, and one of
    ``lesions`` for each level at which lesions are to be found and normal units left alone.
    ``labels`` is there where images state several labels, see
    :mod:`simfrcnn.evaluation.multilabel`. ``lines`` turn scores into probabilities, by level.
    """

    views: Sequence[View]
    located: Sequence[View]
    patient_ids: Sequence[str]
    strata: NDArray[np.intp]
    units: Mapping[str, Units]
    points: tuple[OperatingPoint, ...]
    matches: CocoMatches
    events: Sequence[Events]
    lesions: Sequence[Lesions]
    labels: LabelScores | None = None
    lines: Mapping[str, Recalibration] = field(default_factory=dict)


def gather(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings,
    operating_points: Sequence[OperatingPoint] = (),
    recalibrations: Mapping[str, Recalibration] | None = None,
) -> Evidence:
    """Join, pool and match; the arguments are those of :func:`evaluate`, checked."""
    views, patient_ids = views_of(records, detections.images, settings)
    placed = located(views)
    units = {level: units_of(views, level, settings) for level in levels_of(settings)}
    return Evidence(
        views=views,
        located=placed,
        patient_ids=patient_ids,
        strata=patient_strata(views, len(patient_ids), settings),
        units=units,
        points=all_points(tuple(units), settings, operating_points),
        matches=coco_matches(placed, iou_thresholds_with(settings.iou_threshold)),
        events=events_by_all(placed, HIT_CRITERIA, len(patient_ids), settings),
        lesions=[lesions_of(views, placed, level, settings) for level in LEVELS],
        labels=label_scores(records, detections.images, settings)
        if is_multilabel(records, settings)
        else None,
        lines={level: line for level, line in (recalibrations or {}).items() if level in units},
    )


def statistics_of(evidence: Evidence, settings: EvaluationSettings) -> Iterator[Statistic]:
    """One at a time: each is dropped, with its arrays, before the next is made."""
    has_bands = settings.bootstrap_replicates > 0
    n_patients, n_images = len(evidence.patient_ids), len(evidence.located)
    for level, units in evidence.units.items():
        yield roc_statistic(
            units, with_band=has_bands, least_specificity=settings.partial_auc_specificity
        )
        prevalence = settings.prevalence if level == "case" else None
        for point in evidence.points:
            if point.level == level:
                yield threshold_statistic(units, n_patients, point, prevalence)
        yield brier_statistic(units, n_patients)
        yield calibration_statistic(units)
        if level in evidence.lines:
            line = evidence.lines[level]
            yield calibration_statistic(units, line)
            yield recalibrated_brier_statistic(units, n_patients, line)
            if level == "case":
                yield net_benefit_statistic(
                    units, n_patients, line, settings.prevalence, with_band=has_bands
                )
    yield ap_statistic(
        evidence.matches, n_patients, n_images, settings.iou_threshold, with_band=has_bands
    )
    yield corloc_statistic(evidence.located, n_patients, settings.score_threshold)
    for event in evidence.events:
        yield froc_statistic(event, with_bands=has_bands)
        for lesions in evidence.lesions:
            if lesions.is_defined:
                yield localised_statistic(lesions, event)
            # Pooled in another way, a threshold for cases is none for marks.
            by_mark = lesions.level == "case" and settings.pooling == "max"
            if by_mark and len(lesions.lesion_units):
                yield found_statistic(lesions, event, evidence.points, n_patients)
    yield from mask_statistics(evidence.located, n_patients, settings)
    if evidence.labels is not None:
        yield from label_statistics(evidence.labels)
