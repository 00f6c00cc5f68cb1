"""Do records, detections and settings belong together, and are they legal?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.evaluation.registry import chosen
from simfrcnn.records import ImageRecord
from simfrcnn.settings import BoxesOutside, EvaluationSettings, UnknownImages


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
    for name in ("operating_sensitivity", "operating_specificity"):
        if not 0 < getattr(settings, name) <= 1:
            raise ConfigError(f"EVAL.{name.upper()} is {getattr(settings, name)}; (0, 1] is legal")
    if settings.prevalence is not None and not 0 < settings.prevalence < 1:
        raise ConfigError(f"EVAL.PREVALENCE is {settings.prevalence}; (0, 1) is legal")
    for key, legal in (("unknown_images", UnknownImages), ("boxes_outside", BoxesOutside)):
        names = dict.fromkeys(get_args(legal))
        chosen(names, getattr(settings, key), f"EVAL.{key.upper()}")
    both = [name for name in settings.ignored_classes if name in settings.target_classes]
    if both:
        raise ConfigError(
            f"class {both[0]!r} is both a target and ignored (EVAL.IGNORED_CLASSES); it can be one"
        )
    if categories is not None:
        for what in ("target", "ignored"):
            for name in getattr(settings, f"{what}_classes"):
                if name not in categories.values():
                    raise ConfigError(
                        f"{what} class {name!r} is not among the categories of the annotation "
                        f"file: {sorted(categories.values())}"
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
