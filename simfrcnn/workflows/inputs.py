"""What do workflows take: a path, or what was read from it?"""

from __future__ import annotations

from pathlib import Path

from simfrcnn.artifacts import DetectionFile, read_detections
from simfrcnn.data.coco import AnnotatedSet, read_coco, require_files
from simfrcnn.files import sha256_of

_WITHOUT_IMAGES = "; --no-images (pictures=False) judges without them"


def annotated_set(annotations: str | Path | AnnotatedSet) -> AnnotatedSet:
    """An annotation file that was read, or its path; its images need not be there."""
    if isinstance(annotations, AnnotatedSet):
        return annotations
    return read_coco(Path(annotations), check_files=False)


def require_images(annotated: AnnotatedSet) -> None:
    """Refuse a set whose image files are missing, where they are to be drawn."""
    require_files(annotated, _WITHOUT_IMAGES)


def detections_of(detections: str | Path | DetectionFile, annotated: AnnotatedSet) -> DetectionFile:
    """Detections that were read, or their path; another tool's list is of all annotated images."""
    if isinstance(detections, DetectionFile):
        return detections
    return read_detections(
        Path(detections),
        records=annotated.records,
        categories=annotated.categories,
    )


def origin_of(annotated: AnnotatedSet, detections: DetectionFile) -> dict[str, str]:
    """Which files a report was made from, by name and hash."""
    facts = {"annotations": annotated.path.name, "annotations_sha256": annotated.sha256}
    if detections.path is not None:
        facts["detections"] = detections.path.name
        facts["detections_sha256"] = sha256_of(detections.path)
    return facts
