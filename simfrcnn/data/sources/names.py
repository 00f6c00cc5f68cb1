"""Which file below a folder does a name in a table stand for?

Names are compared as people read them: composed and decomposed letters are alike, and a name on the
disk that is not UTF-8 (from an old share or a CD) is read as Windows wrote it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from simfrcnn.data.sources.films import files_below


def readable(name: str) -> str:
    """A name of the file system in composed letters, its bytes that are no UTF-8 as Windows'."""
    raw = os.fsencode(name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    return unicodedata.normalize("NFC", text)


def normal_place(name: str) -> PurePosixPath | None:
    """A path below a folder as a table states it, without ``./`` and backslashes.

    None where it is no such path: empty, absolute, or leading out of the folder.
    """
    place = PurePosixPath(name.strip().replace("\\", "/"))
    if not place.name or place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
        return None
    return place


class Finder:
    """The files below a folder, by path or by name; the folder is walked when it must be."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_place: dict[str, list[Path]] | None = None
        self._by_name: dict[str, list[Path]] = {}

    def exactly_at(self, place: PurePosixPath) -> Sequence[Path]:
        """The file at a path below the folder, in this very spelling, or none."""
        path = self._root / place
        return (path,) if os.path.isfile(path) else ()  # unlike Path.is_file, it takes any name

    def at(self, place: PurePosixPath) -> Sequence[Path]:
        """The files at a path below the folder: one, none, or several of equal spelling."""
        return self.exactly_at(place) or self._places().get(readable(str(place)), ())

    def named(self, name: str) -> Sequence[Path]:
        """The files of a name, wherever below the folder."""
        self._places()
        return self._by_name.get(readable(name), ())

    def _places(self) -> dict[str, list[Path]]:
        if self._by_place is None:
            self._by_place = {}
            for place, path in self._walked():
                self._by_place.setdefault(place, []).append(path)
                self._by_name.setdefault(readable(path.name), []).append(path)
        return self._by_place

    def _walked(self) -> Iterator[tuple[str, Path]]:
        if self._root.is_dir():
            for path in files_below(self._root):
                yield readable(path.relative_to(self._root).as_posix()), path
