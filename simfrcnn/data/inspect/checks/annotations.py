"""Does the annotation file hold entries that the reader refuses?"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.data.coco_entries import BoxOutsideError, SubPixelError
from simfrcnn.data.inspect.checks.model import (
    CheckedSet,
    CheckSettings,
    Collection,
    Defect,
    Example,
    Severity,
    found,
)
from simfrcnn.errors import AnnotationError


def check_refused_entries(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Entries without which the file cannot be used: boxes that leave their image, and others."""
    refused = [(s, error) for s in collection.sets for error in s.refused]
    outside = [(s, error) for s, error in refused if isinstance(error, BoxOutsideError)]
    fractions = [(s, error) for s, error in refused if isinstance(error, SubPixelError)]
    known = (BoxOutsideError, SubPixelError)
    others = [(s, error) for s, error in refused if not isinstance(error, known)]
    yield from found(
        "box_outside_image",
        Severity.ERROR,
        "boxes leave their image: it, or they, belong to another version of the data",
        "clip the boxes, or correct the image's size in the annotation file",
        (_example(s, error) for s, error in outside),
    )
    yield from found(
        "boxes_in_fractions",
        Severity.ERROR,
        "all boxes are smaller than a pixel, and training refuses the file",
        "write boxes in pixels (simfrcnn prepare-data coco --boxes fractions)",
        (_example(s, error) for s, error in fractions),
    )
    yield from found(
        "refused_entry",
        Severity.ERROR,
        "entries of the annotation file are not understood, and training refuses the file",
        "correct the entries as each message says",
        (_example(s, error) for s, error in others),
    )


def check_split_names(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """A file called test.json whose images say that they are of split train, and the like."""
    splits = {entry.split for entry in collection.entries}
    stems = {s.stem for s in collection.sets}
    wrong = {
        (entry.set.name, entry.split)
        for entry in collection.entries
        if entry.split != entry.set.stem and entry.set.stem in splits and entry.split in stems
    }
    yield from found(
        "split_contradicts_file",
        Severity.ERROR,
        "images state another split than that of their file's name: one of the two leaks",
        "make the files again from one division by patient (simfrcnn prepare-data)",
        (Example(name, detail=f"holds images of split {split!r}") for name, split in sorted(wrong)),
    )


def _example(checked: CheckedSet, error: AnnotationError) -> Example:
    message = str(error).replace(str(checked.annotated.path), "").lstrip(": ")
    return Example(checked.name, detail=message)
