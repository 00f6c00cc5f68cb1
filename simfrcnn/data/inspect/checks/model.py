"""What does a check look at, and what does it give?

A check is a function of a :class:`Collection` and gives :class:`Defect` s, none when all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.data.coco_entries import SubPixelError
from simfrcnn.data.inspect.checks.measures import ImageMeasures, Unreadable
from simfrcnn.errors import AnnotationError
from simfrcnn.labels import Tally, tally_of, training_roles
from simfrcnn.records import Finding, ImageRecord
from simfrcnn.settings import InputSettings


class Severity(str, Enum):
    """How bad a defect is, worst first."""

    ERROR = "error"
    """Certain, and it spoils a number: the data set must not be used like this."""
    WARNING = "warning"
    """Probably wrong, or it costs accuracy: look at the examples."""
    NOTE = "note"
    """As it should be for some sets: to know, not to repair."""


@dataclass(frozen=True)
class CheckSettings:
    """What the data are meant for.

    Attributes:
        input: How images become the network's input.
        smallest_anchor_px: Side of the smallest anchor, in input pixels.
        target_classes: What makes an image positive.
    """

    input: InputSettings = field(default_factory=InputSettings)
    smallest_anchor_px: float = 16.0
    target_classes: tuple[str, ...] = ("malignant",)


@dataclass(frozen=True)
class CheckedSet:
    """One annotation file.

    Attributes:
        name: `<folder>/<stem>`, as configs name it.
        annotated: What the reader took.
        refused: What the reader refused, entry by entry.
    """

    name: str
    annotated: AnnotatedSet
    refused: tuple[AnnotationError, ...] = ()

    @property
    def is_in_fractions(self) -> bool:
        """Whether all boxes are below a pixel: what else is said of them follows from that."""
        return any(isinstance(error, SubPixelError) for error in self.refused)

    @property
    def stem(self) -> str:
        """The file's name, which is what a config asks for: ``train`` of ``mias/train``."""
        return self.annotated.path.stem

    def tally(self, target_classes: tuple[str, ...]) -> Tally:
        """What its labels come to in a training with the default rules."""
        records = self.annotated.records
        roles = training_roles(records, target_classes, "exclude")
        return tally_of(records, roles, target_classes=target_classes)


@dataclass(frozen=True)
class Entry:
    """One image as one annotation file lists it; ``measures`` is None when pixels were not read."""

    set: CheckedSet
    record: ImageRecord
    measures: ImageMeasures | Unreadable | None

    @property
    def split(self) -> str:
        """What the record says, else the file's name."""
        return self.record.split or self.set.stem


@dataclass(frozen=True)
class Example:
    """One case of a defect; ``record`` is None where the defect is of no single image."""

    set_name: str
    record: ImageRecord | None = None
    detail: str = ""


@dataclass(frozen=True)
class Defect:
    """What a check found.

    Attributes:
        key: Short and stable, for machines: `patient_in_two_splits`.
        severity: See :class:`Severity`.
        what: One sentence on what is wrong, and what it would spoil.
        remedy: What to do.
        examples: All cases, in the order of the files.
    """

    key: str
    severity: Severity
    what: str
    remedy: str
    examples: tuple[Example, ...]

    @property
    def n_images(self) -> int:
        """Different image files among the cases."""
        return len({case.record.path for case in self.examples if case.record is not None})


@dataclass(frozen=True)
class Collection:
    """Everything that is checked together: annotation files and their images."""

    sets: tuple[CheckedSet, ...]
    entries: tuple[Entry, ...]

    @property
    def is_measured(self) -> bool:
        """Whether image files were read."""
        return any(entry.measures is not None for entry in self.entries)

    def images(self) -> Iterable[Entry]:
        """Each image file once, however many annotation files list it."""
        first: dict[Path, Entry] = {}
        for entry in self.entries:
            first.setdefault(entry.record.path, entry)
        return first.values()

    def boxed(self) -> Iterator[tuple[Entry, Finding]]:
        """Every box, with its image, of the files whose boxes are in pixels."""
        for entry in self.entries:
            if not entry.set.is_in_fractions:
                for finding in entry.record.findings:
                    yield entry, finding

    def measured(self) -> Iterator[tuple[Entry, ImageMeasures]]:
        """Each image file that was read, once, with what its pixels say."""
        for entry in self.images():
            if isinstance(entry.measures, ImageMeasures):
                yield entry, entry.measures


Check = Callable[[Collection, CheckSettings], Iterable[Defect]]


def example(entry: Entry, detail: str = "") -> Example:
    """An image as an example."""
    return Example(entry.set.name, entry.record, detail)


def found(
    key: str, severity: Severity, what: str, remedy: str, examples: Iterable[Example]
) -> Iterator[Defect]:
    """The defect, if there is an example of it."""
    cases = tuple(examples)
    if cases:
        yield Defect(key, severity, what, remedy, cases)


def by_key(entries: Iterable[Entry], key: Callable[[Entry], str]) -> Mapping[str, list[Entry]]:
    """The entries that share a key, in their order."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return groups
