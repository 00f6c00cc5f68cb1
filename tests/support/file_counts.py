"""How often are annotation files opened, and image files looked for?"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class FileCounts:
    """Counts by path, in this process."""

    opened: Counter[Path] = field(default_factory=Counter)
    looked_for: Counter[Path] = field(default_factory=Counter)


_ACTIVE: list[FileCounts] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _ACTIVE and isinstance(arguments[0], str | Path):
        for counts in _ACTIVE:
            counts.opened[Path(arguments[0])] += 1


@contextlib.contextmanager
def counting_files() -> Iterator[FileCounts]:
    """Count while the block runs."""
    if not getattr(counting_files, "is_hooked", False):
        sys.addaudithook(_hook)  # for good: one cannot be removed
        counting_files.is_hooked = True  # type: ignore[attr-defined]
    counts = FileCounts()
    is_file = Path.is_file

    def counted(path: Path) -> bool:
        counts.looked_for[path] += 1
        return is_file(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "is_file", counted)
        _ACTIVE.append(counts)
        try:
            yield counts
        finally:
            _ACTIVE.remove(counts)
