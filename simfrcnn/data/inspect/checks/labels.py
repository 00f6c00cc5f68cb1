"""Do boxes and labels count as what they were meant as, and do they train at all?"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Severity,
    example,
    found,
)
from simfrcnn.image_labels import contradiction_of
from simfrcnn.labels import (
    ALL_CROWD,
    alike,
    is_below_pixel,
    misspelt,
    other_boxes,
    same_word,
    trained_findings,
    training_roles,
)
from simfrcnn.records import Supervision


def check_class_names(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Boxes of a class that is a target in another spelling, or by another word."""
    targets = settings.target_classes
    others = other_boxes((entry.record for entry in collection.entries), targets)
    spelt = {o: t for o in others for t in targets if same_word(o, t)}
    words = {o: t for o in others if o not in spelt for t in targets if alike(o, t)}
    yield from found(
        "class_spelling",
        Severity.ERROR,
        "boxes are of a target class in another spelling: they do not count as the target, and "
        "training and evaluation refuse them",
        "put them into the target's category (simfrcnn prepare-data coco --classes)",
        (
            example(entry, f"{finding.category!r}, the target is {spelt[finding.category]!r}")
            for entry in collection.entries
            for finding in entry.record.findings
            if finding.category in spelt
        ),
    )
    yield from found(
        "class_like_a_target",
        Severity.WARNING,
        "boxes are of a class that may be a target by another word; their images count as normal",
        "if they mean the same, put them into the target's category (simfrcnn prepare-data coco "
        "--classes), or name both as targets (--target-classes)",
        (
            example(entry, f"{finding.category!r}, the target is {words[finding.category]!r}")
            for entry in collection.entries
            if entry.record.is_known_normal(targets)
            for finding in entry.record.findings
            if finding.category in words
        ),
    )


def check_image_labels(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Labels of images that training and evaluation refuse."""
    targets = settings.target_classes
    labelled = [entry for entry in collection.images() if entry.record.labels]
    yield from found(
        "label_spelling",
        Severity.ERROR,
        "labels are of a target class in another spelling: they do not count as the target, and "
        "training and evaluation refuse them",
        "give both one name in the annotation file",
        (
            example(entry, f"{other!r}, the target is {name!r}")
            for entry in labelled
            for other, name in misspelt(
                (n for n in entry.record.labels if n not in targets), targets
            )
        ),
    )
    yield from found(
        "label_contradiction",
        Severity.ERROR,
        "labels contradict the boxes or the supervision: training and evaluation refuse them",
        "correct one of them in the annotation file",
        (
            example(entry, contradiction)
            for entry in labelled
            if (contradiction := contradiction_of(entry.record, targets)) is not None
        ),
    )


def check_crowds(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Target boxes that are crowd regions: they say that a finding is there, and do not train."""
    targets = settings.target_classes
    roles = training_roles([e.record for e in collection.entries], targets, "exclude")
    alone = [e for e, role in zip(collection.entries, roles, strict=True) if role == ALL_CROWD]
    with_boxes = {e.set.name for e in collection.entries if trained_findings(e.record, targets)}
    is_without = any(entry.set.name not in with_boxes for entry in alone)
    yield from found(
        "crowd_alone",
        Severity.ERROR if is_without else Severity.WARNING,
        "target boxes are crowd regions (iscrowd 1), as some tools write masks: their images do "
        "not train, and have nothing to find by box",
        "export them again as objects (iscrowd 0), or convert the file: simfrcnn prepare-data coco "
        "takes crowd regions as boxes",
        (example(entry) for entry in alone),
    )
    yield from found(
        "crowd_among_boxes",
        Severity.WARNING,
        "images have target boxes and crowd regions of a target (iscrowd 1): what lies in the "
        "regions trains as background",
        "export them again as objects (iscrowd 0), or take the images out",
        (
            example(entry, f"{n_crowd} of {len(findings)} boxes")
            for entry in collection.entries
            if (findings := entry.record.findings_of(targets))
            and 0 < (n_crowd := sum(f.iscrowd for f in findings)) < len(findings)
        ),
    )


def check_stated_normal(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Images that are stated to be normal and have a target box."""
    yield from found(
        "normal_with_target_box",
        Severity.ERROR,
        "images are stated to be normal, but have target boxes: they do not train, and count as "
        "positive in evaluation",
        "state supervision 'boxes', or remove the boxes",
        (
            example(entry)
            for entry in collection.entries
            if entry.record.supervision is Supervision.NORMAL
            and entry.record.is_positive(settings.target_classes)
        ),
    )


def check_pixels_of_boxes(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Boxes that are smaller than a pixel, in a file that has others."""
    yield from found(
        "box_below_pixel",
        Severity.WARNING,
        "boxes are smaller than a pixel: perhaps fractions of the image, among boxes in pixels",
        "correct the boxes, or remove them",
        (
            example(entry, f"{finding.category} [{', '.join(f'{side:g}' for side in finding.box)}]")
            for entry, finding in collection.boxed()
            if is_below_pixel(finding)
        ),
    )
