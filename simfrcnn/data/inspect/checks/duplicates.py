"""Is a picture there more than once?

Two files are the same picture if their pixels are, as they are or mirrored; blank ones are not
compared. The same file in two annotation files of one split (train and train_oracle) is no
duplicate: it is annotated twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simfrcnn.data.inspect.checks.measures import ImageMeasures
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


def check_duplicates(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """The same pixels in two splits, with contradicting labels, or more than once in a split."""
    across: list[list[Entry]] = []
    contradicting: list[list[Entry]] = []
    repeated: list[list[Entry]] = []
    for group in _same_pixels(collection):
        if len({entry.split for entry in group}) > 1:
            across.append(group)
        elif _is_repeated(group):
            (contradicting if _contradicts(group, settings) else repeated).append(group)
    yield from found(
        "same_pixels_across_splits",
        Severity.ERROR,
        "the same picture is in two splits: the test measures what was learnt by heart",
        "keep it in one split, and check whose image it is",
        _examples(across),
    )
    yield from found(
        "same_pixels_other_label",
        Severity.ERROR,
        "the same picture is called malignant once and normal once",
        "find out which is right, and take the other out",
        _examples(contradicting),
    )
    yield from found(
        "same_pixels",
        Severity.WARNING,
        "the same picture is there more than once: it counts twice, perhaps as another patient's",
        "take the copies out, and check whose image it is",
        _examples(repeated),
    )


def _same_pixels(collection: Collection) -> list[list[Entry]]:
    readable = (
        entry
        for entry in collection.entries
        if isinstance(entry.measures, ImageMeasures) and entry.measures.grey_range > 0
    )
    return list(by_key(readable, _digest).values())


def _digest(entry: Entry) -> str:
    assert isinstance(entry.measures, ImageMeasures)
    return entry.measures.digest


def _is_repeated(group: Sequence[Entry]) -> bool:
    """Whether it is more than one file, or one that a set lists twice."""
    of_a_set = [entry.set.name for entry in group]
    return len({e.record.path for e in group}) > 1 or len(set(of_a_set)) < len(of_a_set)


def _contradicts(group: Sequence[Entry], settings: CheckSettings) -> bool:
    targets = settings.target_classes
    positive = any(entry.record.is_positive(targets) for entry in group)
    return positive and any(entry.record.is_known_normal(targets) for entry in group)


def _examples(groups: Sequence[Sequence[Entry]]) -> Iterator[Example]:
    for number, group in enumerate(groups, start=1):
        patients = len({entry.record.patient_id for entry in group})
        of_whom = "" if patients == 1 else f", of {patients} patients"
        for entry in group:
            yield example(entry, f"picture {number} of {len(groups)}{of_whom}")
