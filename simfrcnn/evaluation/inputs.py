"""Do records, detections and settings belong together, and are they legal?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.image_labels import require_agreeing_labels, require_drawn_truth
from simfrcnn.labels import near, require_one_spelling
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings


def check_settings(settings: EvaluationSettings, categories: Mapping[int, str] | None) -> None:
    """Refuse settings that name classes which the annotation file lacks (see :func:`evaluate`)."""
    if categories is not None:
        for what in ("target", "ignored"):
            for name in getattr(settings, f"{what}_classes"):
                if name not in categories.values():
                    raise ConfigError(
                        f"{what} class {name!r} is not among the categories of the annotation "
                        f"file: {sorted(categories.values())}{near(name, categories.values())}"
                    )


def check_labels(
    records: Sequence[ImageRecord],
    settings: EvaluationSettings,
    where: str = "the annotation file",
) -> None:
    """Refuse labels that would count as something else than they say.

    Raises:
        DataError: Boxes or labels are of a target or ignored class in another spelling, or labels
            contradict the boxes.
    """
    named = (*settings.target_classes, *settings.ignored_classes)
    require_one_spelling(where, records, named)
    require_agreeing_labels(where, records, named, settings.target_classes)


def check_inputs(
    records: Sequence[ImageRecord], detections: DetectionFile, settings: EvaluationSettings
) -> None:
    """Refuse records and detections that do not belong together (see :func:`evaluate`)."""
    require_drawn_truth("the annotation file", records, settings.target_classes)
    require_same_images(records, detections)
    names = set(detections.categories.values())
    missing = [name for name in settings.target_classes if name not in names]
    if missing:
        raise ArtifactError(
            f"the model behind {detections.name} does not know the target class {missing[0]!r}; it "
            f"knows {sorted(names)}{near(missing[0], names)}"
        )


def require_same_images(records: Sequence[ImageRecord], detections: DetectionFile) -> None:
    """Refuse detections that are not of exactly the images of an annotation file.

    Raises:
        DataError: There are no images, or two with one id.
        ArtifactError: Names an image that was not run, or that the annotation file lacks.
    """
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
    unknown = sorted(set(detections.images) - set(by_id))
    missing = [record for record in records if record.image_id not in detections.images]
    if missing and unknown:
        raise ArtifactError(
            f"{detections.name} is of other images: it covers {len(unknown)} that the annotation "
            f"file lacks, such as image {unknown[0]}, and lacks {len(missing)} of its images, such "
            f"as {missing[0].image_id} ({missing[0].file_name}): give the detections of these "
            "images, or the annotation file that the prediction was made on"
        )
    if missing:
        raise ArtifactError(
            f"image {missing[0].image_id} ({missing[0].file_name}) was not run, according to "
            f"{detections.name} ({len(missing)} such images); run the prediction on the whole "
            "annotation file"
        )
    if unknown:
        raise ArtifactError(
            f"{detections.name} covers image {unknown[0]}, which the annotation file lacks "
            f"({len(unknown)} such images): evaluate against the file the prediction was made on"
        )
