"""Which files below a folder are images to read, and what else lies there that was left out?

Nothing is passed over without a word: a folder that may not be opened, a path that is too long and
a link that leads nowhere are named, and so are the pictures that simfrcnn itself wrote.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.errors import DataError
from simfrcnn.images.png import OVERLAY_KEYWORD, START_BYTES, text_of
from simfrcnn.wording import counted, first_few

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
RASTER_SUFFIXES = frozenset({".png", ".pgm", ".jpg", ".jpeg", ".tif", ".tiff"})
_END_OF_MAGIC = 132
_RESULT, _PICTURE = re.compile(r"exam_\d+\.json"), re.compile(r"image_\d+\.png")
_N_SHOWN = 20

logger = logging.getLogger("simfrcnn")


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that was not taken; the message begins with its path."""

    path: Path
    message: str
    is_own_output: bool = False


@dataclass(frozen=True)
class FoundImages:
    """The images below a folder, sorted by path, and what could not be looked at.

    ``unreadable`` are folders and files that the operating system did not let in: images may be
    missing because of them. ``own_output`` are pictures with boxes drawn that simfrcnn wrote.
    """

    paths: tuple[Path, ...]
    unreadable: tuple[LeftOut, ...] = ()
    own_output: tuple[LeftOut, ...] = ()


def search_images(folder: Path) -> FoundImages:
    """All images below a folder, and everything that was left out and why; see `walk_images`.

    Raises:
        DataError: The folder is missing or is not a folder.
    """
    found: list[Path] = []
    own: list[LeftOut] = []
    unreadable: list[LeftOut] = []
    for one in walk_images(folder):
        if isinstance(one, Path):
            found.append(one)
        else:
            (own if one.is_own_output else unreadable).append(one)
    return FoundImages(tuple(sorted(found)), _sorted(unreadable), _sorted(own))


def walk_images(folder: Path) -> Iterator[Path | LeftOut]:
    """The images below a folder and what is left out there, one by one, in no particular order.

    Taken are files with a known suffix, and files with any other name that begin like DICOM
    (archives often write `IM0001` or bare identifiers). Hidden files and DICOMDIR are passed over.
    Linked folders are followed, each once.

    Raises:
        DataError: The folder is missing or is not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {problem}: give the folder that holds the mammograms")
    refused: list[LeftOut] = []

    def refuse(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename)) if error.filename else folder
        refused.append(_not_opened(path, error))

    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        is_output = _is_output_of_predict(Path(parent), files)
        for path in (Path(parent, name) for name in files if not _is_hidden(name)):
            try:
                if (is_output and _PICTURE.fullmatch(path.name)) or _is_overlay(path):
                    yield LeftOut(path, f"{path}: a picture that simfrcnn predict drew", True)
                elif _is_image(path):
                    yield path
            except OSError as error:
                yield _not_opened(path, error)
    yield from refused


def find_images(folder: Path) -> list[Path]:
    """The images below a folder, all of them: :func:`search_images` for those who need every one.

    Pictures that `predict` drew are left out, and a warning says so.

    Raises:
        DataError: The folder is missing, is not a folder, holds no image, or holds folders or files
            that cannot be opened.
    """
    found = search_images(folder)
    if found.unreadable:
        messages = [left_out.message for left_out in found.unreadable]
        shown = first_few(messages, _N_SHOWN, "\n  ")
        raise DataError(
            f"{folder}: {counted(len(found.unreadable), '[folder or file|folders or files]')} in "
            "it cannot be opened, so images may be missing; give access to them or move them "
            f"away:\n  {shown}"
        )
    if found.own_output:
        logger.warning(
            "%s: %s, such as %s",
            folder,
            counted(
                len(found.own_output),
                "[picture was|pictures were] left out, because simfrcnn predict drew [it|them]",
            ),
            found.own_output[0].path,
        )
    if not found.paths:
        suffixes = ", ".join(sorted(DICOM_SUFFIXES | RASTER_SUFFIXES))
        raise DataError(f"{folder} holds no image: no DICOM file and none named {suffixes}")
    return list(found.paths)


def is_dicom(path: Path) -> bool:
    """Whether a file is read as DICOM: by its suffix, else by the 'DICM' after the preamble."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if suffix in RASTER_SUFFIXES:
        return False
    try:
        return _begins_like_dicom(path)
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.upper() == "DICOMDIR"


def _is_image(path: Path) -> bool:
    """Whether to take a file.

    Raises:
        OSError: It cannot be looked at.
    """
    suffix = path.suffix.lower()
    path.stat()
    return suffix in DICOM_SUFFIXES | RASTER_SUFFIXES or (
        path.is_file() and _begins_like_dicom(path)
    )


def _is_output_of_predict(folder: Path, names: Sequence[str]) -> bool:
    """Whether the first versions of `predict` wrote a folder: their pictures carry no text."""
    results = sorted(name for name in names if _RESULT.fullmatch(name))
    if not results:
        return False
    try:
        provenance = json.loads((folder / results[0]).read_bytes())["provenance"]
        return "simfrcnn" in provenance
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _begins_like_dicom(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(_END_OF_MAGIC)[_END_OF_MAGIC - 4 :] == b"DICM"


def _is_overlay(path: Path) -> bool:
    if path.suffix.lower() != ".png" or not path.is_file():
        return False
    with open(path, "rb") as stream:
        return text_of(stream.read(START_BYTES), OVERLAY_KEYWORD) is not None


def _not_opened(path: Path, error: OSError) -> LeftOut:
    return LeftOut(path, f"{path}: cannot be opened ({error.strerror})")


def _sorted(left_out: list[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(sorted(left_out, key=lambda one: one.path))
