"""Which file below a folder does a name in a table or an annotation file stand for?

Names are compared as people read them: composed letters (NFC: most systems) and a letter with its
accent (NFD: names from macOS) are alike, and a name on the disk that is not UTF-8 (from an old
share or a CD) is read as Windows wrote it. Backslashes and ``./`` are those of a path.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from simfrcnn.errors import DataError


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
    """The files below a folder, by path or by name.

    Folders are listed once each, and only for names that are not found as they stand; the whole
    folder is walked only for :meth:`named`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, dict[str, list[Path]]] = {}
        self._by_name: dict[str, list[Path]] | None = None

    def exactly_at(self, place: PurePosixPath) -> Sequence[Path]:
        """The file at a path below the folder, in this very spelling, or none."""
        path = self._root / place
        return (path,) if os.path.isfile(path) else ()  # unlike Path.is_file, it takes any name

    def at(self, place: PurePosixPath) -> Sequence[Path]:
        """The files at a path below the folder: one, none, or several of equal spelling.

        Raises:
            DataError: A folder on the way cannot be opened.
        """
        if found := self.exactly_at(place):
            return found
        places = [self._root]
        for part in place.parts:
            places = [path for folder in places for path in self._spelt(folder, part)]
        return [path for path in places if os.path.isfile(path)]

    def named(self, name: str) -> Sequence[Path]:
        """The files of a name, wherever below the folder."""
        if self._by_name is None:
            self._by_name = {}
            for path in files_below(self._root) if self._root.is_dir() else ():
                self._by_name.setdefault(readable(path.name), []).append(path)
        return self._by_name.get(readable(name), ())

    def resolve(self, file_name: str) -> Path:
        """Where the image of an entry lies; a name that fits no file leads there as it stands.

        The disk is asked only about names with a backslash or beyond ASCII: what stands there as it
        is written goes first. Of files that look alike, the first is taken.
        """
        plain = Path(os.path.normpath(os.path.join(self._root, file_name)))
        if (file_name.isascii() and "\\" not in file_name) or os.path.lexists(plain):
            return plain
        slashed = os.path.normpath(file_name.replace("\\", "/"))
        stated = Path(os.path.normpath(self._root / slashed))
        return next(iter(self.at(PurePosixPath(slashed))), stated)

    def _spelt(self, folder: Path, part: str) -> Sequence[Path]:
        """What is so called in a folder."""
        if part == ".." or part.startswith("/"):
            return (Path(os.path.normpath(folder / part)),)
        if folder not in self._listings:
            try:
                names = sorted(os.listdir(folder))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            except OSError as error:
                _refuse(error)
            listing = self._listings[folder] = {}
            for name in names:
                listing.setdefault(readable(name), []).append(folder / name)
        return self._listings[folder].get(readable(part), ())


def files_below(root: Path) -> Iterator[Path]:
    """Every file below a folder, in a fixed order; hidden ones are left out.

    Linked folders are followed, each once.

    Raises:
        DataError: A folder cannot be opened: what lies in it would be missing without a word.
    """
    visited: set[str] = set()
    for parent, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    raise DataError(
        f"{error.filename}: cannot be opened ({error.strerror}), so what lies in it would be "
        "missing: give access to it, or move it away"
    ) from error
