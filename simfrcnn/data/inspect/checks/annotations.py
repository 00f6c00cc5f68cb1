"""Does the annotation file hold entries that the reader refuses?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simfrcnn.data.coco_entries import (
    KINDS,
    BoxOutsideError,
    MissingKeysError,
    RemediedError,
    SubPixelError,
    keys_are_missing,
)
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
from simfrcnn.wording import first_few

_N_SHOWN = 8


def check_refused_entries(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Entries without which the file cannot be used: boxes that leave their image, and others."""
    refused = [(s, error) for s in collection.sets for error in s.refused]
    outside = [(s, error) for s, error in refused if isinstance(error, BoxOutsideError)]
    fractions = [(s, error) for s, error in refused if isinstance(error, SubPixelError)]
    missing = [(s, error) for s, error in refused if isinstance(error, MissingKeysError)]
    known = (BoxOutsideError, SubPixelError, MissingKeysError)
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
        "keys_missing",
        Severity.ERROR,
        "entries lack keys, and training refuses the file",
        next((error.remedy for _, error in missing), ""),
        _by_missing_keys(missing),
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


def _by_missing_keys(missing: Sequence[tuple[CheckedSet, MissingKeysError]]) -> Iterator[Example]:
    """One example for all entries of a file that lack the same keys."""
    numbers: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for checked, error in missing:
        assert error.of is not None, "an error of one entry"
        of_list, number, keys = error.of
        numbers.setdefault((checked.name, of_list, keys), []).append(repr(number))
    for (name, of_list, keys), own in numbers.items():
        kind = KINDS[of_list] if len(own) == 1 else of_list
        yield Example(name, detail=f"{kind} {first_few(own, _N_SHOWN)}: {keys_are_missing(keys)}")


def _example(checked: CheckedSet, error: AnnotationError) -> Example:
    found = error.found if isinstance(error, RemediedError) else str(error)
    message = found.replace(str(checked.annotated.path), "").lstrip(": ")
    return Example(checked.name, detail=message)
