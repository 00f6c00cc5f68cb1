"""What do the labels of an image mean: positive, known normal or left out, and why?

The one definition, for the choice of training images, loading, checks, pseudo-labels and
evaluation. Whether an image is *positive* or *known normal* is :class:`ImageRecord`'s to say; here
is what follows: what trains, which images count as normal although they have boxes, and a tally.

A crowd box (``iscrowd`` 1) says that a finding is there, but not where its edges are. Its image is
positive; it has nothing to train on, and to evaluation the box is neither to be found nor wrong to
find.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simfrcnn.errors import DataError
from simfrcnn.records import Finding, ImageRecord, Pathology, Supervision
from simfrcnn.settings import UnboxedViews
from simfrcnn.wording import agreeing, counted

POSITIVE, NORMAL, LABELLED = "positive", "normal", "labelled"
UNKNOWN = "unknown"
"""Of an image that only an averaged teacher has a use for."""
TRAINED = (POSITIVE, NORMAL, LABELLED, UNKNOWN)
ALL_CROWD = "boxes: all target boxes are crowd regions (iscrowd 1), which do not train"
LABEL_ALONE = (
    "a finding without a box; such an image trains with DATASETS.LABELS_PER_ITEM if it is "
    "image_label, its label is one of DATASETS.CLASSES, and neither it nor its bag has a box of "
    "these"
)
_NOTE = "  note: "
_SYNONYMS = (
    *("malignant", "malign", "malignancy", "cancer", "cancerous", "carcinoma"),
    *("malignant mass", "mass malignant", "malignant lesion", "lesion malignant"),
    *("malignant calcification", "calcification malignant", "malignant tumor", "malignant tumour"),
)
"""Names that data sets give to what is called ``malignant`` here."""


def is_malignant(record: ImageRecord) -> bool:
    """Whether the record says that its breast holds a cancer, as a whole or in a finding."""
    return (
        record.pathology is Pathology.MALIGNANT
        or bool(record.labels.get("malignant"))
        or any(
            finding.pathology is Pathology.MALIGNANT or finding.category == "malignant"
            for finding in record.findings
        )
    )


def is_benign(record: ImageRecord) -> bool:
    """Whether the record says that its breast, or the image, shows something benign."""
    return (
        record.pathology is Pathology.BENIGN
        or bool(record.labels.get("benign"))
        or any(
            finding.pathology is Pathology.BENIGN or finding.category == "benign"
            for finding in record.findings
        )
    )


def has_target(record: ImageRecord, target_classes: tuple[str, ...]) -> bool:
    """Whether the record says, by a box or otherwise, that its breast holds a target finding."""
    return is_malignant(record) or record.shows_target(target_classes)


def patients_with_target(
    records: Iterable[ImageRecord], target_classes: tuple[str, ...]
) -> frozenset[str]:
    """Patients of whom an image has a target: their unboxed views are not known to be normal."""
    return frozenset(r.patient_id for r in records if has_target(r, target_classes))


def drawn_findings(record: ImageRecord) -> tuple[Finding, ...]:
    """The findings, of whatever class, that are drawn one by one: a crowd region is none itself."""
    return tuple(finding for finding in record.findings if not finding.iscrowd)


def trained_findings(record: ImageRecord, classes: tuple[str, ...]) -> tuple[Finding, ...]:
    """The boxes that train: of these classes, and no crowd regions."""
    return tuple(finding for finding in record.findings_of(classes) if not finding.iscrowd)


def training_roles(
    records: Sequence[ImageRecord],
    target_classes: tuple[str, ...],
    unboxed_views: UnboxedViews,
    bag_classes: Sequence[str | None] | None = None,
) -> list[str]:
    """What each image is in training, or why it is left out.

    Args:
        records: N images.
        target_classes: What makes an image positive.
        unboxed_views: What unboxed views of patients with a target are.
        bag_classes: (N,) the class by which a label trains an image, None where none does (see
            :func:`simfrcnn.image_labels.bag_classes`); None where labels do not train.

    Returns:
        (N,) :data:`POSITIVE`, :data:`NORMAL`, :data:`LABELLED`, or the reason.
    """
    patients = patients_with_target(records, target_classes)
    known = bag_classes or [None] * len(records)
    return [
        LABELLED
        if of_bag is not None and record.supervision is Supervision.IMAGE_LABEL
        else _training_role(record, target_classes, unboxed_views, record.patient_id in patients)
        for record, of_bag in zip(records, known, strict=True)
    ]


def _training_role(
    record: ImageRecord,
    target_classes: tuple[str, ...],
    unboxed_views: UnboxedViews,
    has_patient_target: bool,
) -> str:
    supervision = record.supervision
    if record.is_positive(target_classes):
        if supervision is Supervision.NORMAL:
            return "normal: stated to be normal, but has target boxes"
        if supervision is not Supervision.BOXES:
            return f"{supervision.value}: has target boxes, perhaps not all"
        return POSITIVE if trained_findings(record, target_classes) else ALL_CROWD
    if record.is_known_normal(target_classes):
        return NORMAL
    if any(record.labels.values()):
        return f"{supervision.value}: {LABEL_ALONE}"
    if not has_patient_target:
        return f"{supervision.value}: not known to be normal"
    if unboxed_views == "normal":
        return NORMAL
    return f"{supervision.value}: unboxed view of a malignant patient"


# Names of classes


def same_word(one: str, other: str) -> bool:
    """Whether two names of classes differ in capitals, spaces, dashes and the like alone."""
    return _letters(one) == _letters(other)


def alike(one: str, other: str) -> bool:
    """Whether two names may mean the same: also plurals, and other words for ``malignant``."""
    first, second = _singular(one), _singular(other)
    return first == second or (first in _MALIGNANT and second in _MALIGNANT)


def near(name: str, names: Iterable[str]) -> str:
    """``(did you mean 'mass'?)`` with a space before it, or nothing."""
    found = [other for other in names if other != name and alike(name, other)]
    return f" (did you mean {', '.join(map(repr, found))}?)" if found else ""


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _singular(name: str) -> str:
    """The letters without a plural's ending: masses and mass are one."""
    letters = _letters(name)
    if letters.endswith("es") and letters[:-2].endswith(("s", "x", "ch", "sh")):
        return letters[:-2]
    return letters[:-1] if letters.endswith("s") and not letters.endswith("ss") else letters


_MALIGNANT = frozenset(map(_singular, _SYNONYMS))


def require_one_spelling(
    where: str, records: Iterable[ImageRecord], named_classes: Collection[str]
) -> None:
    """Refuse boxes of a class that is a named one in another spelling: they would mean nothing.

    Args:
        where: The annotation file or data set, for the message.
        records: Its images.
        named_classes: Target, trained and ignored classes.

    Raises:
        DataError: Names the classes, the number of boxes, and what to do.
    """
    boxes = other_boxes(records, named_classes)
    others = ", ".join(f"{name} {len(found)}" for name, found in boxes.items())
    for other, name in misspelt(boxes, named_classes):
        found = boxes[other]
        raise DataError(
            f"{where}: {counted(len(found), '[box|boxes]')} of class {other!r} (the first is "
            f"annotation {found[0].finding_id}) would not count as {name!r}, nor its image as one "
            f"that has it (boxes of other classes: {others}): put these boxes into category "
            f"{name!r} (simfrcnn prepare-data coco --classes), or name both as classes of their own"
        )


def other_boxes(
    records: Iterable[ImageRecord], named_classes: Collection[str]
) -> dict[str, list[Finding]]:
    """The boxes of classes that are not named, by class."""
    boxes: dict[str, list[Finding]] = {}
    for record in records:
        for finding in record.findings:
            if finding.category not in named_classes:
                boxes.setdefault(finding.category, []).append(finding)
    return boxes


def misspelt(
    other_classes: Iterable[str], named_classes: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The classes that are a named one in another spelling, each with that one."""
    for other in other_classes:
        for name in named_classes:
            if same_word(other, name):
                yield other, name


# The tally


@dataclass(frozen=True)
class ClassTally:
    """Images with a box of one class and their boxes; how many boxes are crowd regions or smaller
    than a pixel, and in how many images that count as normal there is one.
    """

    images: int = 0
    boxes: int = 0
    crowd: int = 0
    below_pixel: int = 0
    in_normals: int = 0


@dataclass(frozen=True)
class Tally:
    """What the labels of some images come to, for some target classes.

    ``left_out`` counts images by reason. ``named_classes`` are those that are trained, or judged;
    boxes of any other class are background. ``n_other`` is the number of images that count as
    normal and have such boxes.
    """

    target_classes: tuple[str, ...]
    named_classes: tuple[str, ...]
    n_patients: int
    positives: int
    normals: int
    labelled: int
    left_out: Mapping[str, int]
    classes: Mapping[str, ClassTally]
    n_other: int
    n_contradictory: int
    """Images that count as normal and are called malignant."""
    unknown: int = 0
    """Images that train where a teacher boxes them."""

    @property
    def n_images(self) -> int:
        """All images."""
        trained = self.positives + self.normals + self.labelled + self.unknown
        return trained + sum(self.left_out.values())

    @property
    def others(self) -> dict[str, int]:
        """Class that is not named -> images that have a box of it and count as normal."""
        return {
            name: each.in_normals
            for name, each in self.classes.items()
            if each.in_normals and name not in self.named_classes
        }

    def lines(self) -> tuple[str, ...]:
        """For people: images, reasons, classes, and what a reader must know."""
        patients = counted(self.n_patients, "[patient|patients]")
        labelled = f"{self.labelled} by their label alone, " if self.labelled else ""
        unknown = f"{self.unknown} where a teacher boxes them, " if self.unknown else ""
        head = (
            f"{counted(self.n_images, '[image|images]')} of {patients}: {self.positives} positive, "
            f"{self.normals} normal, {labelled}{unknown}{sum(self.left_out.values())} left out"
        )
        reasons = (f"  left out: {count} {reason}" for reason, count in self.left_out.items())
        classes = (self._line_of(name) for name in self.classes)
        return (head, *reasons, *classes, *(f"{_NOTE}{note}" for note in self.notes()))

    def log(self, logger: logging.Logger) -> None:
        """Log the lines; what a reader must know is a warning."""
        for line in self.lines():
            level = logging.WARNING if line.startswith(_NOTE) else logging.INFO
            logger.log(level, "%s", line)

    def notes(self) -> tuple[str, ...]:
        """What may not be as it was meant."""
        return tuple(self._notes())

    def to_dict(self) -> dict[str, Any]:
        """For programs: JSON types only."""
        return {
            "target_classes": list(self.target_classes),
            "images": self.n_images,
            "patients": self.n_patients,
            "positives": self.positives,
            "normals": self.normals,
            "labelled": self.labelled,
            **({"unknown": self.unknown} if self.unknown else {}),
            "left_out": dict(self.left_out),
            "classes": {
                name: {**vars(each), "is_named": name in self.named_classes}
                for name, each in self.classes.items()
            },
            "normals_with_boxes_of_other_classes": self.n_other,
            "notes": list(self.notes()),
        }

    def _line_of(self, name: str) -> str:
        each = self.classes[name]
        role = "target" if name in self.target_classes else "class of its own"
        role = role if name in self.named_classes else "background"
        boxes, images = counted(each.boxes, "[box|boxes]"), counted(each.images, "[image|images]")
        return f"  {name} ({role}): {boxes} in {images}"

    def _notes(self) -> Iterator[str]:
        if self.others:
            counts = ", ".join(f"{name} {count}" for name, count in self.others.items())
            what = f"[image|images] with boxes of other classes ({counts}) [counts|count] as normal"
            yield f"{counted(self.n_other, what)}{self._alike()}"
        for name in self.named_classes:
            each = self.classes.get(name, ClassTally())
            if each.crowd:
                yield (
                    f"{each.crowd} of {counted(each.boxes, '[box|boxes]')} of {name} "
                    f"{agreeing(each.crowd, '[is a crowd region|are crowd regions]')} (iscrowd 1): "
                    "not trained, and neither to be found nor wrong to find"
                )
            if each.below_pixel:
                yield (
                    f"{each.below_pixel} of {counted(each.boxes, '[box|boxes]')} of {name} "
                    f"{agreeing(each.below_pixel, '[is|are]')} smaller than a pixel"
                )
        if self.n_contradictory:
            yield counted(
                self.n_contradictory,
                "[image|images] called malignant, without a target box, [counts|count] as normal "
                "by 'supervision' (simfrcnn data check lists them)",
            )

    def _alike(self) -> str:
        pairs = [
            f"is {other!r} another word for {name!r}?"
            for other in self.others
            for name in self.target_classes
            if alike(other, name)
        ]
        return f": {' '.join(pairs)}" if pairs else ""


def tally_of(
    records: Sequence[ImageRecord],
    roles: Sequence[str],
    *,
    target_classes: tuple[str, ...],
    named_classes: Sequence[str] = (),
) -> Tally:
    """Count what records come to.

    Args:
        records: N images.
        roles: (N,) one of :data:`TRAINED`, or why an image is left out.
        target_classes: What makes an image positive.
        named_classes: Further classes that are trained, or judged.
    """
    named = tuple(dict.fromkeys((*target_classes, *named_classes)))
    counts = Counter(roles)
    left_out = {role: counts[role] for role in sorted(counts) if role not in TRAINED}
    classes: dict[str, Counter[str]] = {}
    n_other = n_contradictory = 0
    for record, role in zip(records, roles, strict=True):
        present = {finding.category for finding in record.findings}
        for finding in record.findings:
            counter = classes.setdefault(finding.category, Counter())
            counter["boxes"] += 1
            counter["crowd"] += finding.iscrowd
            counter["below_pixel"] += is_below_pixel(finding)
        for name in present:
            classes[name]["images"] += 1
            classes[name]["in_normals"] += role == NORMAL
        if role == NORMAL:
            n_other += any(name not in named for name in present)
            n_contradictory += _is_stated_normal_and_malignant(record)
    return Tally(
        target_classes=target_classes,
        named_classes=named,
        n_patients=len({record.patient_id for record in records}),
        positives=counts[POSITIVE],
        normals=counts[NORMAL],
        labelled=counts[LABELLED],
        left_out=left_out,
        classes={name: ClassTally(**counter) for name, counter in sorted(classes.items())},
        n_other=n_other,
        n_contradictory=n_contradictory,
        unknown=counts[UNKNOWN],
    )


def is_below_pixel(finding: Finding) -> bool:
    """Whether both sides of a box are shorter than a pixel."""
    x1, y1, x2, y2 = finding.box
    return x2 - x1 < 1 and y2 - y1 < 1


def _is_stated_normal_and_malignant(record: ImageRecord) -> bool:
    known = record.supervision in (Supervision.BOXES, Supervision.NORMAL)
    return known and is_malignant(record)
