"""Is it known what each image teaches, and is there enough to train on and to evaluate?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Entry,
    Example,
    Severity,
    by_key,
    example,
    found,
)
from simfrcnn.labels import has_target
from simfrcnn.records import Supervision
from simfrcnn.wording import counted

_COMPLETE = (Supervision.BOXES, Supervision.NORMAL)
"""By which it is known of an image that no target is left undrawn."""


def check_contradictions(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Images that would train as normal although they, or their breast, are called malignant."""
    targets = settings.target_classes
    malignant_breasts = {
        (entry.record.patient_id, entry.record.breast_id)
        for entry in collection.entries
        if has_target(entry.record, targets)
    }
    normals = [e for e in collection.entries if e.record.is_known_normal(targets)]
    stated = [e for e in normals if e.record.supervision in _COMPLETE]
    yield from found(
        "malignant_without_box",
        Severity.ERROR,
        "images are called malignant, but their labels make them normal: no target box, and "
        "supervision 'normal' or 'boxes'",
        "box the finding, or state supervision 'image_label' (or name its class by "
        "--target-classes)",
        (
            example(e, f"supervision {e.record.supervision.value!r}")
            for e in stated
            if has_target(e.record, targets)
        ),
    )
    yield from found(
        "normal_in_malignant_breast",
        Severity.WARNING,
        "images known as normal are of a breast with a cancer, which they may show",
        "state supervision 'unlabelled', unless somebody looked at this view for it",
        (
            example(e)
            for e in stated
            if (e.record.patient_id, e.record.breast_id) in malignant_breasts
            and not has_target(e.record, targets)
        ),
    )


def check_not_known(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Images that do not train a detector on boxes, since not all is known of them."""
    targets = settings.target_classes
    images = [e for e in collection.images() if e.record.supervision not in _COMPLETE]
    unboxed = [e for e in images if not e.record.is_positive(targets)]
    labelled = [e for e in unboxed if e.record.shows_target(targets)]
    boxed = [
        e
        for e in collection.entries
        if e.record.supervision not in _COMPLETE and e.record.is_positive(targets)
    ]
    yield from found(
        "target_boxes_perhaps_incomplete",
        Severity.WARNING,
        "images have target boxes, but not surely all: they do not train",
        "state supervision 'boxes' if every target finding is boxed",
        (example(e, f"supervision {e.record.supervision.value!r}") for e in boxed),
    )
    yield from found(
        "not_known_to_be_normal",
        Severity.NOTE,
        "images without target boxes are not known to be normal: they do not train, and count in "
        "evaluation only through their breast and case",
        "state supervision 'normal' where that is known; DATASETS.UNBOXED_VIEWS takes them as "
        "normal all the same",
        (
            example(e, f"supervision {e.record.supervision.value!r}")
            for e in unboxed
            if not e.record.shows_target(targets) and not e.record.is_known_normal(targets)
        ),
    )
    yield from found(
        "label_without_box",
        Severity.NOTE,
        "images show a target by their label, and nobody says where: they are positive in figures "
        "by image, train a whole-image classifier, and a detector only as further images beside "
        "boxed ones",
        "DATASETS.LABELS_PER_ITEM 1 lets them train a detector (docs/training.md, `Reports and few "
        "boxes`)",
        (example(e, f"supervision {e.record.supervision.value!r}") for e in labelled),
    )


def check_composition(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Sets without images, without positives, or without normals.

    Where no entry can be read, that is the fault.
    """
    kinds = ("image", "positive", "box", "image_label", "normal")
    without: dict[str, list[Example]] = {kind: [] for kind in kinds}
    of_set = by_key(collection.entries, lambda entry: entry.set.name)
    refused = {checked.name for checked in collection.sets if checked.refused}
    for name in dict.fromkeys(checked.name for checked in collection.sets):
        entries = of_set.get(name, [])
        if not entries and name in refused:
            continue
        if not entries:
            without["image"].append(Example(name))
            continue
        classes = sorted({f.category for e in entries for f in e.record.findings})
        if not any(_has_complete_targets(e, settings) for e in entries):
            have = f"boxes are of {', '.join(classes)}" if classes else "there is no box"
            without[_what_is_missing(entries, settings)].append(Example(name, detail=have))
        if not any(e.record.is_known_normal(settings.target_classes) for e in entries):
            without["normal"].append(Example(name, detail=counted(len(entries), "[image|images]")))
    yield from found(
        "no_images",
        Severity.ERROR,
        "no image is in the file, or none that the reader takes: nothing to train on or to test",
        "prepare the data set again (simfrcnn prepare-data), or leave the file out",
        without["image"],
    )
    yield from found(
        "no_positives",
        Severity.ERROR,
        f"no image has complete boxes of {', '.join(settings.target_classes)}, or is said to show "
        "one: nothing to train on, nothing to find",
        "name the classes of this data set (--target-classes), or check how it was prepared",
        without["positive"],
    )
    yield from found(
        "no_boxes",
        Severity.WARNING,
        f"no image has complete boxes of {', '.join(settings.target_classes)}, though some are "
        "said to show one: a detector cannot be trained on this set alone, and finding is not "
        "judged",
        "train a whole-image classifier (docs/classifiers.md), or a detector on another set's "
        "boxes with these labels beside them (DATASETS.LABELS_PER_ITEM); if there are boxes, name "
        "their class by --target-classes, or check how the set was prepared",
        without["box"],
    )
    yield from found(
        "labels_of_breasts_alone",
        Severity.WARNING,
        f"no image has complete boxes of {', '.join(settings.target_classes)}, and of breasts or "
        "patients alone it is said that they have one: which image shows it is not known, and "
        "only figures by breast and case have positives",
        "train a detector on another set's boxes with these labels beside them "
        "(DATASETS.LABELS_PER_ITEM 1, DATASETS.LABEL_BAGS breast); if there are boxes, name their "
        "class by --target-classes, or check how the set was prepared",
        without["image_label"],
    )
    yield from found(
        "no_normals",
        Severity.WARNING,
        "no image is known to be normal: no pairs for training, no AUC or specificity by image",
        "add normal images (or another data set's), or train on positives only",
        without["normal"],
    )


def _what_is_missing(entries: Iterable[Entry], settings: CheckSettings) -> str:
    """Of a set without complete boxes: boxes alone, labels of images, too, or all positives."""
    targets = settings.target_classes
    if any(e.record.shows_target(targets) for e in entries):
        return "box"
    is_in_a_breast = any(has_target(e.record, targets) for e in entries)
    return "image_label" if is_in_a_breast else "positive"


def _has_complete_targets(entry: Entry, settings: CheckSettings) -> bool:
    """Crowd regions count: that they do not train is another defect."""
    is_positive = entry.record.is_positive(settings.target_classes)
    return is_positive and entry.record.supervision is Supervision.BOXES
