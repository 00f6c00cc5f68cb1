"""Which images with a label and no box get their most confident detection as a box?

Self-training: a first model, trained on few boxes, looks at the images of which only the label is
known. Where its best detection is of the class that the label states, the image may be trusted; of
each class the most confident share get that one box, and a second model trains on them as on
boxed images. A second finding of such an image then counts as background.

Reference:
    Shin 2019 (IEEE TMI): images whose most probable class agrees with their label, the highest 50%
    or 75% of them. Half was better there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.evaluation.matching import falling_order
from simfrcnn.image_labels import bag_classes
from simfrcnn.pseudo.passes import N_BINS, PseudoLabels, bin_of, require_run
from simfrcnn.pseudo.select import SMALLEST_SIDE_PX
from simfrcnn.records import Box, Finding, FindingSource, ImageRecord, Supervision
from simfrcnn.settings import DataSettings, PseudoSettings


def labelled_images(
    records: Sequence[ImageRecord], classes: tuple[str, ...], target_classes: tuple[str, ...]
) -> list[tuple[ImageRecord, str]]:
    """The images of which the label alone is known, each with its class, in the order given."""
    data = DataSettings(classes=classes, target_classes=target_classes, labels_per_item=1)
    known = bag_classes(records, data)
    return [(r, name) for r, name in zip(records, known, strict=True) if name is not None]


def require_labels_of_images(where: str, data: DataSettings) -> None:
    """Refuse bags of a breast: which of its views shows the finding is not known.

    Raises:
        ConfigError: ``DATASETS.LABEL_BAGS`` is ``breast``.
    """
    if data.label_bags == "breast":
        raise ConfigError(
            f"{where}: labels are to become boxes (PSEUDO.OF, --of) and DATASETS.LABEL_BAGS is "
            "breast, but which view of a breast shows the finding is not known, so none can be "
            "given a box: set DATASETS.LABEL_BAGS to image, with labels of images"
        )


def require_labelled(
    name: str,
    records: Sequence[ImageRecord],
    classes: tuple[str, ...],
    target_classes: tuple[str, ...],
    *,
    force: bool,
) -> tuple[ImageRecord, ...]:
    """The images that may get a box, or the reason why this file should not be labelled.

    Raises:
        DataError: There is none, or the file has pseudo-boxes already and ``force`` is not set.
    """
    found = labelled_images(records, classes, target_classes)
    if not found:
        raise DataError(
            f"{name}: no image has a label and no box, so there is nothing to label; such an image "
            f"has supervision 'image_label' and 'labels' that say true of one of "
            f"{', '.join(classes)} (simfrcnn weaken makes some)"
        )
    has_pseudo = any(f.source is FindingSource.PSEUDO for r in records for f in r.findings)
    if has_pseudo and not force:
        raise DataError(
            f"{name} has pseudo-boxes already; label the file that it was made from, or --force to "
            "keep them and add more"
        )
    return tuple(record for record, _ in found)


def boxes_of_labels(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    classes: tuple[str, ...],
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
) -> PseudoLabels:
    """Choose the boxes of labelled images, and which images stay in the file.

    An image gets none while a target other than its labelled class may hide in it: a boxed image is
    one whose targets are all boxed, so its ``labels`` must say false of each other target. Those
    that get none keep their label; unless ``settings.keep_unlabelled`` they are left out.

    Args:
        records: All records of the file.
        detections: What the first model found; it must have run every labelled image.
        classes: Classes of the model; the best detection of any of them counts.
        target_classes: Of these the targets.
        settings: ``fraction`` of the images of each class whose best detection is of that class,
            rounded up; of equal scores the lower image id comes first.

    Raises:
        ArtifactError: A labelled image was not run, or the detections are of other classes.
    """
    labelled = labelled_images(records, classes, target_classes)
    require_run(detections, [record for record, _ in labelled])
    missing = [name for name in classes if name not in detections.categories.values()]
    if missing:
        raise ArtifactError(
            f"{detections.name} has the classes {sorted(detections.categories.values())}, and "
            f"labels speak of {', '.join(missing)}: take a model that was trained to find them"
        )
    counts = np.zeros(N_BINS, dtype=np.int64)
    coincident: dict[str, list[tuple[float, int, Box]]] = defaultdict(list)
    highest: float | None = None
    n_open = 0
    for record, name in labelled:
        best = _best(record, detections.images[record.image_id], classes)
        if best is None:
            continue
        found, score, box = best
        counts[bin_of(score)] += 1
        highest = max(score, highest or 0.0)
        if found != name:
            continue
        if not _is_complete_with(record, name, target_classes):
            n_open += 1
        else:
            coincident[name].append((-score, record.image_id, box))
    added: dict[int, tuple[Finding, ...]] = {}
    next_id = 1 + max((f.finding_id for r in records for f in r.findings), default=0)
    for name, images in coincident.items():
        n_taken = math.ceil(round(settings.fraction * len(images), 9))  # .55 of 100 is 55
        for negative, image_id, box in sorted(images)[:n_taken]:
            finding = Finding(box, name, next_id, source=FindingSource.PSEUDO, score=-negative)
            added[image_id] = (finding,)
            next_id += 1
    left_out = {r.image_id for r, _ in labelled if r.image_id not in added}
    return PseudoLabels(
        added=added,
        kept_image_ids=tuple(
            r.image_id for r in records if settings.keep_unlabelled or r.image_id not in left_out
        ),
        score_counts=counts,
        highest_score=highest,
        n_images=len(records),
        n_positives=sum(record.is_positive(target_classes) for record in records),
        n_candidates=len(labelled),
        n_target_boxes=sum(len(record.findings_of(target_classes)) for record in records),
        of="labels",
        n_open=n_open,
        changes={
            image_id: {"supervision": Supervision.BOXES.value, "labels": {}} for image_id in added
        },
    )


def _is_complete_with(record: ImageRecord, name: str, target_classes: tuple[str, ...]) -> bool:
    """Whether one box of a class says all about the targets: the others are known to be absent."""
    return all(record.labels.get(other) is False for other in target_classes if other != name)


def _best(
    record: ImageRecord, found: ImageDetections, classes: tuple[str, ...]
) -> tuple[str, float, Box] | None:
    """Class, score and box (inside the image) of the highest detection; None without one."""
    limits = np.asarray([record.width, record.height] * 2, dtype=np.float64)
    boxes = np.clip(found.boxes, 0, limits)
    for index in falling_order(boxes, found.scores):
        has_side = (boxes[index, 2:] - boxes[index, :2] >= SMALLEST_SIDE_PX).all()
        if has_side and found.categories[index] in classes:
            x1, y1, x2, y2 = boxes[index].tolist()
            return found.categories[index], float(found.scores[index]), (x1, y1, x2, y2)
    return None
