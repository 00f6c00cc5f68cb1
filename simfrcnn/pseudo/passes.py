"""Which images does the pass between the two stages look at, and what does it take from each?

Stage 1 was trained on positive images. On an image that is known to be normal, whatever it finds is
false by construction: these regions become boxes of the class ``suspected``, and stage 2 learns to
tell them from malignant ones.

Such an image keeps its ``supervision``: it holds no target, so pairs still take it as a normal one,
and because it carries a box of a trained class it gets the ordinary losses of a boxed image
(``ImageTargets.is_normal`` is False).

Reference:
    Zhu 2019, weakFaster R-CNN. Here an image without boxes of a patient with cancer is not known to
    be normal; the thesis took such images too, which ``include_unknown`` reproduces.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError, DataError
from simfrcnn.labels import patients_with_target, require_one_spelling
from simfrcnn.pseudo.select import SUSPECTED, suspects_of
from simfrcnn.records import Finding, FindingSource, ImageRecord
from simfrcnn.settings import PseudoOf, PseudoSettings
from simfrcnn.wording import agreeing, counted

N_BINS = 20
"""Bins of the histogram of scores, over [0, 1]."""


@dataclass(frozen=True)
class PseudoLabels:
    """What the pass gives for one annotation file.

    ``added`` are the new findings by image id; ``kept_image_ids`` are the images that stay in the
    file, in its order; ``score_counts`` (N_BINS,) counts, by score, all detections that
    non-maximum suppression left, also those below the threshold. ``changes`` are the keys of image
    entries that the new boxes change, by image id. Of labels, ``n_candidates`` are the labelled
    images, and the best detection of each alone is counted; ``n_open`` are those that get no box,
    although it is of the labelled class, because another target may hide in them.
    """

    added: Mapping[int, tuple[Finding, ...]]
    kept_image_ids: tuple[int, ...]
    score_counts: NDArray[np.int64]
    highest_score: float | None
    n_images: int
    n_positives: int
    n_candidates: int
    n_target_boxes: int
    of: PseudoOf = "suspected"
    changes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    n_open: int = 0

    @property
    def n_boxes(self) -> int:
        """How many pseudo-boxes are added."""
        return sum(map(len, self.added.values()))

    @property
    def n_dropped(self) -> int:
        """How many images are left out of the new file."""
        return self.n_images - len(self.kept_image_ids)


def candidates(
    records: Sequence[ImageRecord], target_classes: tuple[str, ...], *, include_unknown: bool
) -> tuple[ImageRecord, ...]:
    """The images that may get pseudo-boxes, in the order given: those known to be normal.

    Args:
        records: All records of the annotation file.
        target_classes: What makes an image positive.
        include_unknown: Also take the unboxed views of patients who have a cancer, as the thesis
            does, unless a label states a finding there: those that ``DATASETS.UNBOXED_VIEWS
            normal`` trains. A real cancer may then be called ``suspected``.
    """
    patients = patients_with_target(records, target_classes)
    return tuple(
        record
        for record in records
        if record.is_known_normal(target_classes)
        or (
            include_unknown
            and not record.is_positive(target_classes)
            and not any(record.labels.values())
            and record.patient_id in patients
        )
    )


def require_candidates(
    name: str,
    records: Sequence[ImageRecord],
    target_classes: tuple[str, ...],
    *,
    include_unknown: bool,
    force: bool,
) -> tuple[ImageRecord, ...]:
    """:func:`candidates`, or the reason why this file should not be labelled.

    Boxes on positive images are what stage 1 learnt from, and are as they should be. Refused unless
    forced: pseudo-boxes that are there already (a second pass over its own result), and boxes on
    normal images (somebody has drawn what the pass would guess). When forced, all of them stay.

    Args:
        name: What to call the file in a message.
        records: All records of the file.
        target_classes: As in :func:`candidates`.
        include_unknown: As in :func:`candidates`.
        force: Label the file although it has such boxes.

    Raises:
        DataError: No image may be labelled, boxes are of a target class in another spelling, or
            there are such boxes and ``force`` is not set.
    """
    require_one_spelling(name, records, target_classes)
    found = candidates(records, target_classes, include_unknown=include_unknown)
    if not found:
        none = f"[its only image is not|none of its {len(records)} images is] known to be normal"
        raise DataError(
            f"{name}: {agreeing(len(records), none)}, so there is nothing to label; a normal image "
            f"has supervision 'normal', or 'boxes' and no box of {', '.join(target_classes)}"
        )
    if force:
        return found
    for record in records:
        for finding in record.findings:
            if finding.source is FindingSource.PSEUDO or finding.category == SUSPECTED:
                raise DataError(
                    f"{name} has pseudo-boxes already (image {record.image_id}, annotation "
                    f"{finding.finding_id}); label the file that it was made from, or --force to "
                    "keep them and add more"
                )
    boxed = [record for record in found if record.findings]
    if boxed:
        first = boxed[0].findings[0]
        raise DataError(
            f"{name}: {len(boxed)} of its {len(found)} normal images carry boxes already (image "
            f"{boxed[0].image_id}: {first.category}, by {first.source.value}); train with them as "
            "a class of their own (DATASETS.CLASSES), or --force to leave them as they are and add "
            "pseudo-boxes"
        )
    return found


def pseudo_labels(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
) -> PseudoLabels:
    """Choose the pseudo-boxes of an annotation file, and which of its images stay.

    Unless ``settings.keep_unlabelled``, those that stay are what stage 2 trains on: the images with
    a target box, and those with a pseudo-box.

    Args:
        records: All records of the file.
        detections: What stage 1 found; it must have run every candidate.
        target_classes: As in :func:`candidates`.
        settings: Thresholds, and what is taken and kept.

    Raises:
        ArtifactError: A candidate was not run, or the detections are of other classes.
    """
    chosen = candidates(records, target_classes, include_unknown=settings.include_unknown)
    _require_fitting(detections, chosen, target_classes)
    next_id = 1 + max((f.finding_id for r in records for f in r.findings), default=0)
    counts = np.zeros(N_BINS, dtype=np.int64)
    added: dict[int, tuple[Finding, ...]] = {}
    highest: float | None = None
    for record in chosen:
        suspects = suspects_of(
            record,
            detections.images[record.image_id],
            target_classes=target_classes,
            nms_threshold=settings.nms_threshold,
        )
        for suspect in suspects:
            counts[bin_of(suspect.score)] += 1
            highest = max(suspect.score, highest or 0.0)
        sure = [suspect for suspect in suspects if suspect.score >= settings.score_threshold]
        if sure:
            added[record.image_id] = tuple(
                Finding(
                    box=suspect.box,
                    category=SUSPECTED,
                    finding_id=next_id + number,
                    source=FindingSource.PSEUDO,
                    score=suspect.score,
                )
                for number, suspect in enumerate(sure)
            )
            next_id += len(sure)
    return PseudoLabels(
        added=added,
        kept_image_ids=_kept(records, added, target_classes, settings),
        score_counts=counts,
        highest_score=highest,
        n_images=len(records),
        n_positives=sum(record.is_positive(target_classes) for record in records),
        n_candidates=len(chosen),
        n_target_boxes=sum(len(record.findings_of(target_classes)) for record in records),
    )


def _kept(
    records: Sequence[ImageRecord],
    added: Collection[int],
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
) -> tuple[int, ...]:
    return tuple(
        record.image_id
        for record in records
        if settings.keep_unlabelled
        or record.image_id in added
        or record.is_positive((*target_classes, SUSPECTED))
    )


def bin_of(score: float) -> int:
    """The bin [i / N, (i + 1) / N) of a score; 1 belongs to the last one."""
    return min(int(score * N_BINS), N_BINS - 1)


def _require_fitting(
    detections: DetectionFile, chosen: Sequence[ImageRecord], target_classes: Sequence[str]
) -> None:
    known = set(detections.categories.values())
    missing = [name for name in target_classes if name not in known]
    if missing:
        raise ArtifactError(
            f"{detections.name} has the classes {sorted(known)}; pseudo-boxes are made of "
            f"detections of {', '.join(missing)}: take a model that was trained to find them, or "
            "name its classes as the targets"
        )
    require_run(detections, chosen)


def require_run(detections: DetectionFile, chosen: Sequence[ImageRecord]) -> None:
    """Refuse detections that do not cover every image to label (``ArtifactError``)."""
    not_run = [record.image_id for record in chosen if record.image_id not in detections.images]
    if not_run:
        shown = ", ".join(map(str, not_run[:5]))
        raise ArtifactError(
            f"{detections.name}: {len(not_run)} of the "
            f"{counted(len(chosen), '[image|images] to label')} "
            f"{'was' if len(not_run) == 1 else 'were'} not run (image "
            f"{shown}{' ...' if len(not_run) > 5 else ''}); run the detector on all of them"
        )
