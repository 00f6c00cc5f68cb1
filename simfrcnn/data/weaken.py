"""How are few boxes made out of many, to measure what labels alone are worth?

The boxes of some patients stay. Every other image with a target box loses *all* its boxes and keeps
a label for each category that it had, as an archive has it that knows reports and no boxes. Where
its boxes were complete (supervision ``boxes``), it also keeps that it shows no other target. All
else is copied as it stands.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simfrcnn.data.coco import AnnotatedSet, document_of
from simfrcnn.data.coco_entries import relative_to
from simfrcnn.errors import DataError, OutputError
from simfrcnn.files import write_json
from simfrcnn.records import FindingSource, ImageRecord, Pathology, Supervision

Labels = Literal["true", "false", "shuffled", "breast"]
"""Which images are labelled: those that lost their boxes; as many *normal* ones in their place; as
many drawn from both; or those, and the views without boxes of a breast whose pathology is a target.
All but the first are controls."""

INFO_KEY = "weaken"
"""The key of ``info`` that says how a file was made."""


@dataclass(frozen=True)
class Weakened:
    """What became of a set: whose boxes stay, and which images lost theirs."""

    kept_patients: tuple[str, ...]
    image_ids: tuple[int, ...]


def weaken(
    annotated: AnnotatedSet,
    output: Path,
    *,
    n_patients: int,
    seed: int,
    target_classes: tuple[str, ...] = ("malignant",),
    labels: Labels = "true",
    ignored_classes: tuple[str, ...] = (),
) -> Weakened:
    """Write a copy of an annotation file in which few patients have boxes.

    Patients are drawn from the sorted ids of those with a target box, whatever the order of the
    file; the first N of one seed are among the first N + 1.

    Args:
        annotated: What :func:`simfrcnn.data.coco.read_coco` gave.
        output: The new file.
        n_patients: Whose boxes stay.
        seed: Another seed keeps others.
        target_classes: Whose boxes count.
        labels: Which images are labelled.
        ignored_classes: A box of these may hold a target or none (``EVAL.IGNORED_CLASSES``): an
            image that has one is not said to be free of any.

    Raises:
        DataError: Fewer patients have a target box than are asked for, or a control needs more
            normal images than there are.
        OutputError: The file cannot be written, or is the source itself.
    """
    output = Path(output).absolute()
    if output.resolve() == annotated.path.resolve():
        raise OutputError(f"{output} is the file to be weakened itself; give the new one a name")
    records = annotated.records
    kept = _drawn_patients(annotated, n_patients, seed, target_classes)
    lost = [r for r in records if r.is_positive(target_classes) and r.patient_id not in kept]
    changes = {
        record.image_id: _without_boxes(record, target_classes, ignored_classes) for record in lost
    }
    if labels == "breast":
        changes |= _of_breasts(records, target_classes)
    elif labels != "true":
        changes |= _control(annotated, lost, labels, seed, target_classes)
    document = document_of(annotated)
    places = {record.image_id: relative_to(output.parent, record) for record in records}
    document["images"] = [
        {**entry, "file_name": places[entry["id"]], **changes.get(entry["id"], {})}
        for entry in document["images"]
    ]
    unboxed = {record.image_id for record in lost}
    document["annotations"] = [
        entry for entry in document["annotations"] if entry["image_id"] not in unboxed
    ]
    document["info"] = {
        **annotated.info,
        INFO_KEY: {
            "patients": n_patients,
            "seed": seed,
            "labels": labels,
            "kept_patients": list(kept),
            "images_without_their_boxes": len(lost),
            "source": annotated.path.name,
            "source_sha256": annotated.sha256,
        },
    }
    write_json(output, document)
    return Weakened(kept, tuple(record.image_id for record in lost))


def _drawn_patients(
    annotated: AnnotatedSet, n_patients: int, seed: int, target_classes: tuple[str, ...]
) -> tuple[str, ...]:
    patients = sorted({r.patient_id for r in annotated.records if r.is_positive(target_classes)})
    if not 1 <= n_patients <= len(patients):
        raise DataError(
            f"{annotated.path}: the boxes of {n_patients} patients are to stay, and "
            f"{len(patients)} have a box of {', '.join(target_classes)}; legal is 1 to "
            f"{len(patients)}"
        )
    # Text seeds are hashed with SHA-512: the same draw on every platform and Python version.
    random.Random(f"{seed}/weaken").shuffle(patients)
    return tuple(patients[:n_patients])


def _without_boxes(
    record: ImageRecord, target_classes: tuple[str, ...], ignored_classes: tuple[str, ...]
) -> dict[str, Any]:
    """True for each category that had a box, a crowd region included; false for targets that were
    known to be absent.

    ``boxes`` speaks of targets alone, so it says of no other class that it is absent. Where a model
    has proposed boxes of the image nobody has said that they are all.
    """
    had = dict.fromkeys((finding.category for finding in record.findings), True)
    is_drawn = all(finding.source is not FindingSource.PSEUDO for finding in record.findings)
    is_clear = is_drawn and not record.findings_of(ignored_classes)
    is_complete = is_clear and record.supervision is Supervision.BOXES
    free_of = [name for name in target_classes if is_complete and name not in had]
    return _labelled({**record.labels, **had, **dict.fromkeys(free_of, False)})


def _labelled(labels: Mapping[str, bool]) -> dict[str, Any]:
    return {"supervision": Supervision.IMAGE_LABEL.value, "labels": dict(labels)}


def _of_breasts(
    records: Sequence[ImageRecord], target_classes: tuple[str, ...]
) -> dict[int, dict[str, Any]]:
    """The label of a breast as that of each of its views without a box: some show nothing."""
    return {
        record.image_id: _labelled({record.pathology.value: True})
        for record in records
        if record.supervision is Supervision.IMAGE_LABEL
        and not record.findings
        and isinstance(record.pathology, Pathology)
        and record.pathology.value in target_classes
    }


def _control(
    annotated: AnnotatedSet,
    lost: Sequence[ImageRecord],
    labels: Labels,
    seed: int,
    target_classes: tuple[str, ...],
) -> dict[int, dict[str, Any]]:
    """As many labels on other images: on normal ones, or on some of both.

    What the pathology of a breast says is gone from all its views: a label of breasts would be it.
    """
    normals = [r for r in annotated.records if r.is_known_normal(target_classes)]
    if len(normals) <= len(lost):
        raise DataError(
            f"{annotated.path}: {len(lost)} normal images are to be called {target_classes[0]}, "
            f"and there are {len(normals)} normal ones; keep the boxes of more patients"
        )
    pool = [*normals, *lost] if labels == "shuffled" else list(normals)
    pool.sort(key=lambda record: record.image_id)
    random.Random(f"{seed}/weaken/{labels}").shuffle(pool)
    called = {record.image_id for record in pool[: len(lost)]}
    said = dict.fromkeys(target_classes, False) | {target_classes[0]: True}  # as much as true ones
    # Those that lost their boxes and are not called positive are normal images where labels are
    # shuffled; else nothing is known of them.
    other = Supervision.NORMAL if labels == "shuffled" else Supervision.IMAGE_LABEL
    breasts = {(record.patient_id, record.breast_id) for record in lost}
    changes: dict[int, dict[str, Any]] = {
        record.image_id: {"pathology": None}
        for record in annotated.records
        if (record.patient_id, record.breast_id) in breasts
    }
    for record in lost:
        changes[record.image_id] |= {"supervision": other.value, "labels": {}}
    return changes | {number: {**_labelled(said), "pathology": None} for number in called}
