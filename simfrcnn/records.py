"""What is known about a mammogram before any pixel is read.

Words (SPEC of the field, used everywhere): *patient*; *exam*, one study, usually four views;
*breast*, exam + laterality; *view* = *image*; *finding*, an annotated region in one view; *lesion*,
the physical thing behind one or more findings; *case*, the unit of evaluation.

Boxes are XYXY, in pixels of the stored image, half open, origin top left: a box that covers the
single pixel (x, y) is (x, y, x + 1, y + 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from simfrcnn.settings import InputSettings

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Ring = tuple[Point, ...]
"""A closed way through points (x, y) at pixel edges; the last is joined with the first."""
Outline = tuple[Ring, ...]
"""What rings enclose together; none if it is not known."""


class Laterality(str, Enum):
    """Image Laterality (0020,0062)."""

    LEFT = "L"
    RIGHT = "R"


class ViewPosition(str, Enum):
    """View Position (0018,5101): the two screening views, and ``other`` for ML, LM, XCCL ..."""

    CC = "CC"
    MLO = "MLO"
    OTHER = "other"


class Supervision(str, Enum):
    """What the labels of one image mean. A record without it is an error."""

    BOXES = "boxes"
    """Every target finding is boxed."""
    NORMAL = "normal"
    """Known to hold no target finding; nobody need have drawn anything."""
    IMAGE_LABEL = "image_label"
    """Malignant or benign is known for the image or its breast, but there are no boxes."""
    UNLABELLED = "unlabelled"
    """Nothing is known, for instance the other breast of a malignant patient."""


class Pathology(str, Enum):
    """What pathology (or follow-up) says; None where it says nothing."""

    MALIGNANT = "malignant"
    BENIGN = "benign"
    NORMAL = "normal"


class FindingSource(str, Enum):
    """Who drew a box."""

    RADIOLOGIST = "radiologist"
    PSEUDO = "pseudo"
    """Proposed by a model on an image known to be normal (weakFaster R-CNN)."""
    ORACLE = "oracle"
    """Known from the making of a phantom; never available for real data."""


@dataclass(frozen=True)
class Finding:
    """One annotated region in one view.

    ``category`` is the class name in the annotation file (``malignant``, ``benign``, ``suspected``
    ...); ``lesion_id`` joins the findings of one lesion over views; ``score`` is set for
    pseudo-boxes only. ``outline`` is what was drawn, where that is known, in pixels of the stored
    image. ``weight`` says how much its lesion counts beside the others of its case in wAFROC, None
    where all count alike.
    """

    box: Box
    category: str
    finding_id: int
    pathology: Pathology | None = None
    lesion_id: str | None = None
    source: FindingSource = FindingSource.RADIOLOGIST
    score: float | None = None
    iscrowd: bool = False
    outline: Outline = ()
    weight: float | None = None


RAW_ATTRIBUTE = "for_processing"
"""Attribute that is "yes" for a raw image; of a picture made from it, the pixels do not tell."""


@dataclass(frozen=True)
class Prepared:
    """How the stored picture was made from an image of the source: ``prepare-data --cache``.

    ``x_stored = scale_x * x_source + offset_x``, and the same for y; a mirrored axis has a negative
    scale. ``as_input`` is set where the picture is the network's input for these settings, less the
    padding; without it, the picture is the whole image in its own size.
    """

    source_height: int
    source_width: int
    scale_x: float
    offset_x: float
    scale_y: float
    offset_y: float
    as_input: InputSettings | None = None

    def to_stored(self, box: Box) -> Box:
        """A box in pixels of the source's image -> pixels of the stored picture."""
        x1, x2 = sorted(self.scale_x * x + self.offset_x for x in box[::2])
        y1, y2 = sorted(self.scale_y * y + self.offset_y for y in box[1::2])
        return x1, y1, x2, y2

    def point_to_stored(self, point: Point) -> Point:
        """A point (x, y) in pixels of the source's image -> pixels of the stored picture."""
        x, y = point
        return self.scale_x * x + self.offset_x, self.scale_y * y + self.offset_y

    def to_source(self, box: Box) -> Box:
        """A box in pixels of the stored picture -> pixels of the source's image, inside it."""
        width, height = float(self.source_width), float(self.source_height)
        xs = ((x - self.offset_x) / self.scale_x for x in box[::2])
        ys = ((y - self.offset_y) / self.scale_y for y in box[1::2])
        x1, x2 = sorted(min(max(x, 0.0), width) for x in xs)
        y1, y2 = sorted(min(max(y, 0.0), height) for y in ys)
        return x1, y1, x2, y2


@dataclass(frozen=True)
class ImageRecord:
    """One view: the file, its size, whose it is, and what is known about it.

    ``path`` is absolute; ``file_name`` is as written in the COCO file, relative to that file's
    folder. ``pixel_spacing_mm`` is (row, column) spacing, at the detector. ``pathology`` is that of
    the breast as far as it is known for this view. ``labels`` says by category whether a finding of
    it is visible in this image; what is not in it is not stated. ``attributes`` are further facts
    for subgroups (density, vendor ...). ``prepared`` is set where the file is not the source's own:
    sizes, boxes and spacing are those of the stored picture.
    """

    image_id: int
    file_name: str
    path: Path
    height: int
    width: int
    patient_id: str
    exam_id: str
    supervision: Supervision
    laterality: Laterality | None = None
    view_position: ViewPosition | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    pathology: Pathology | None = None
    split: str | None = None
    findings: tuple[Finding, ...] = ()
    labels: Mapping[str, bool] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    prepared: Prepared | None = None

    @property
    def breast_id(self) -> str:
        """Exam + laterality; the exam alone where laterality is unknown."""
        return f"{self.exam_id}/{self.laterality.value}" if self.laterality else self.exam_id

    def findings_of(self, classes: tuple[str, ...]) -> tuple[Finding, ...]:
        """The findings whose category is one of ``classes``, in file order."""
        return tuple(finding for finding in self.findings if finding.category in classes)

    def is_positive(self, target_classes: tuple[str, ...]) -> bool:
        """Whether the image has at least one box of a target class."""
        return any(finding.category in target_classes for finding in self.findings)

    def label_of(self, category: str, target_classes: tuple[str, ...]) -> bool | None:
        """Whether a finding of a category is visible in the image; None if that is not known.

        ``normal`` and ``boxes`` speak of target classes alone: a normal image may show an unmarked
        benign mass.
        """
        if category in self.labels:
            return self.labels[category]
        if any(finding.category == category for finding in self.findings):
            return True
        is_complete = self.supervision in (Supervision.NORMAL, Supervision.BOXES)
        return False if is_complete and category in target_classes else None

    def shows_target(self, target_classes: tuple[str, ...]) -> bool:
        """Whether a finding of a target class is known to be visible, by a box or by a label."""
        return any(self.label_of(name, target_classes) for name in target_classes)

    def is_known_normal(self, target_classes: tuple[str, ...]) -> bool:
        """Whether no target is visible: the image is stated normal, its boxes are complete and none
        is a target's, or its labels say so of every target.
        """
        return all(self.label_of(name, target_classes) is False for name in target_classes)
