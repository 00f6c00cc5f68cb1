"""What does a reader of a public data set give, whatever the set's own files look like?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simfrcnn.records import ImageRecord

_N_SHOWN = 8


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
    """

    records: tuple[ImageRecord, ...]
    categories: Mapping[int, str]
    info: Mapping[str, object]
    notes: tuple[str, ...]
    further_roots: Mapping[str, Path] = field(default_factory=dict)

    def place_of(self, path: Path, root: Path) -> Path:
        """A file's path below its root; below the other set's name where it comes from that."""
        for name, further in self.further_roots.items():
            if path.is_relative_to(further):
                return Path(name) / path.relative_to(further)
        return path.relative_to(root)


def listed(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """A note such as "3 films without a row: a, b, c", or none when there is nothing to name."""
    if not names:
        return ()
    shown = ", ".join(names[:_N_SHOWN]) + (" ..." if len(names) > _N_SHOWN else "")
    return (f"{len(names)} {what}: {shown}",)
