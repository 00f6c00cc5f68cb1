"""What does a reader of a data set offer and give, whatever the set's own files look like?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simfrcnn.described import Options, described
from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import DataError
from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted, first_few

_N_SHOWN = 8
_STATED = ("description", "reference")


@dataclass(frozen=True)
class SourceData:
    """The records of one data set, and what a user has to know of how they came about.

    Attributes:
        records: One per image; ``split`` is set where the set publishes its division.
        categories: COCO category id -> name of every class that the set can have.
        info: For the annotation files' ``info``: ``description`` and ``reference``, then licence,
            the rule for malignant, and options that were chosen.
        notes: What was left out, clipped or repaired: one line each.
        further_roots: Name of another set -> the folder of those images that do not lie below the
            root that was read.
        label_targets: Where images are labelled, not boxed: the classes by which they are counted.

    Raises:
        DataError: ``info`` lacks ``description`` or ``reference``.
    """

    records: tuple[ImageRecord, ...]
    categories: Mapping[int, str]
    info: Mapping[str, object]
    notes: tuple[str, ...]
    further_roots: Mapping[str, Path] = field(default_factory=dict)
    label_targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        missing = [key for key in _STATED if not self.info.get(key)]
        if missing:
            raise DataError(
                f"the reader states no {' and no '.join(missing)} in `info`: annotation files name "
                "what they were made from and where it is described"
            )

    def place_of(self, path: Path, root: Path) -> Path:
        """A file's path below its root; below the other set's name where it comes from that."""
        for name, further in self.further_roots.items():
            if path.is_relative_to(further):
                return Path(name) / path.relative_to(further)
        return path.relative_to(root)


@dataclass(frozen=True)
class Reading:
    """How any source is read: what may be left out, on how many processes, by which seed."""

    skip_unreadable: bool = False
    n_workers: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ClinicOptions(Options):
    """What is read of a clinic's own files although it is left out or refused by default."""

    all_views: bool = described(
        False, "also use pictures that are no screening view (scouts, magnifications ...)"
    )
    any_modality: bool = described(False, "also read DICOM files that are not mammography")
    allow_for_processing: bool = described(
        False, "also read raw (FOR PROCESSING) images, with a plain greyscale"
    )

    def dicom(self) -> DicomOptions:
        """What these options allow to be read beyond the ordinary."""
        return DicomOptions(self.allow_for_processing, self.any_modality)


@dataclass(frozen=True)
class Source:
    """A kind of data set that can be prepared; each reader's file ends with its own.

    Attributes:
        name: Of the source, such as ``mias``.
        help: What the set is, in a line.
        root_help: What its folder must hold.
        options: Its :class:`~simfrcnn.described.Options`: those that only this set has.
        read: Folder, options and the way of reading -> its records.
        publishes_split: The reader sets ``record.split``, and the division can be that one.
        layouts: Name -> what reorganises a download (folder, new folder, options, way of reading)
            instead of writing annotation files; gives lines about what it did.
        layout_options: The options that a layout heeds; others are refused with it.
        has_public_ids: Its identifiers are published and stay; else they become pseudonyms.
        dicom_options: What these options allow to be read beyond the ordinary.
    """

    name: str
    help: str
    root_help: str
    options: type[Options]
    read: Callable[[Path, Any, Reading], SourceData]
    publishes_split: bool = False
    layouts: Mapping[str, Callable[[Path, Path, Any, Reading], tuple[str, ...]]] = field(
        default_factory=dict
    )
    layout_options: frozenset[str] = frozenset()
    has_public_ids: bool = True
    dicom_options: Callable[[Any], DicomOptions] = lambda _: STRICT


def listed(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """A note such as "3 films without a row: a, b, c", or none when there is nothing to name.

    Args:
        what: As :func:`~simfrcnn.wording.counted` takes it: "[film|films] without a row".
        names: Of what is counted.
    """
    if not names:
        return ()
    return (f"{counted(len(names), what)}: {first_few(names, _N_SHOWN)}",)


def note_on_labels(records: Sequence[ImageRecord]) -> tuple[str, ...]:
    """A note of how many images say by ``labels`` what is visible in them, or none."""
    stated = [record.labels for record in records if record.labels]
    if not stated:
        return ()
    names = dict.fromkeys(name for labels in stated for name in labels)
    counts = (
        f"{name} visible in {sum(labels.get(name) is True for labels in stated)}, not in "
        f"{sum(labels.get(name) is False for labels in stated)}"
        for name in names
    )
    what = "[image states|images state] in 'labels' what is visible"
    return (f"{counted(len(stated), what)}: {'; '.join(counts)}",)
