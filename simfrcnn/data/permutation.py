"""What is left of a result when the labels say nothing about the pixels? A negative control.

Each patient keeps the images and takes the labels of a patient drawn at random, perhaps the same
one, among those of the set with the same views: supervision, pathology and boxes. Trained and
tested on such labels, a pipeline that lets nothing through but pixels has an AUC of one half; file
names, order, boxes that steer a crop, or a test label that reaches the training would show as more.

The labels are permuted in the test set too. A model trained on permuted labels still reacts to
masses, one way or the other by chance: under the real truth its AUC would spread round one half by
far more than its interval says. Under permuted truth each test label is independent of all that
the model saw, and the interval holds. (A patient in two sets is another leak, refused elsewhere.)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simfrcnn.data.coco import AnnotatedSet, write_coco
from simfrcnn.errors import DataError
from simfrcnn.records import ImageRecord

MAX_KEPT = 0.05
"""Largest part of the patients who may keep their labels because few have the same views.

Labels stay within a group of equal views, and so does the share of malignant ones there. In groups
of two, one who knows the real labels has an AUC of .75 under the permuted ones; in one group .5.
"""


def write_permuted(annotated: AnnotatedSet, path: Path, seed: int) -> None:
    """Write a copy of an annotation file with the labels of :func:`permute_labels`.

    Raises:
        DataError: See :func:`permute_labels`; names the file.
        OutputError: The file cannot be written.
    """
    try:
        records = permute_labels(annotated.records, seed)
    except DataError as error:
        raise DataError(f"{annotated.path}: {error}") from error
    description = f"labels permuted by patient (seed {seed}): a negative control, not a data set"
    write_coco(path, records, annotated.categories, {"description": description})


def permute_labels(records: Sequence[ImageRecord], seed: int) -> tuple[ImageRecord, ...]:
    """Give each patient's images the labels of a patient's drawn at random, each given once.

    Labels go between patients who have the same views in the same sizes, so that every box lies in
    its image. Pixels, patients, ids and the order of the records stay; findings are numbered again.

    Args:
        records: One set.
        seed: Another seed gives another permutation.

    Raises:
        DataError: There are too many groups of patients with the same views and sizes, more than
            one and one for each 20 patients: too many would keep their true labels.
    """
    views: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in sorted(records, key=_order):
        views[record.patient_id].append(record)
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for patient in sorted(views):
        groups[tuple(_kind(record) for record in views[patient])].append(patient)
    most = 1 + int(MAX_KEPT * len(views))
    if len(groups) > most:
        raise DataError(
            f"the labels cannot be permuted: the {len(views)} patients form {len(groups)} groups "
            "with the same views and image sizes, and labels stay within a group, so that too many "
            f"patients would keep their own; at most {most} groups are legal: use a set of "
            "complete exams with images of one size"
        )
    generator = np.random.default_rng(seed)
    donors = {
        record.image_id: donor
        for patients in groups.values()
        for patient, index in zip(patients, generator.permutation(len(patients)), strict=True)
        for record, donor in zip(views[patient], views[patients[index]], strict=True)
    }
    numbers = itertools.count(1)
    return tuple(
        dataclasses.replace(
            record,
            supervision=donor.supervision,
            pathology=donor.pathology,
            labels=donor.labels,
            findings=tuple(
                dataclasses.replace(finding, finding_id=next(numbers)) for finding in donor.findings
            ),
        )
        for record in records
        for donor in (donors[record.image_id],)
    )


def _order(record: ImageRecord) -> tuple[str, str, str, int]:
    return record.exam_id, str(record.laterality), str(record.view_position), record.image_id


def _kind(record: ImageRecord) -> tuple[object, ...]:
    """What two views must have in common for the boxes of one to fit the other."""
    return record.laterality, record.view_position, record.height, record.width
