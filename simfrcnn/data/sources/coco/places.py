"""Where does the image of an entry lie, although tools state paths of the machine they ran on?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from simfrcnn.data.sources.coco.documents import Picture
from simfrcnn.errors import DataError
from simfrcnn.images.names import Finder, normal_place
from simfrcnn.wording import counted, first_few

_N_SHOWN = 8


def places_of(pictures: Sequence[Picture], root: Path, images: Path | None) -> list[Path]:
    """The file of each entry: as it is stated, below `images`, or the only one of its name.

    Args:
        pictures: Entries; ``file_name`` may have backslashes, ``./`` or folders of another machine.
        root: The folder of the export.
        images: The folder of the images, if it is said; else they lie below ``root``.

    Raises:
        DataError: Files are missing or cannot be told apart, or one is listed twice; all are named.
    """
    finders: dict[Path, list[Finder]] = {}
    whole = Finder(images or root)
    if images and not images.is_dir():
        raise DataError(f"{images}: no such folder; give that of the images (--images)")
    places: list[Path] = []
    missing: list[str] = []
    several: list[str] = []
    for picture in pictures:
        own = finders.get(picture.document)
        if own is None:
            folders = [images] if images else _folders(root, picture.document.parent)
            own = finders[picture.document] = [Finder(folder) for folder in folders]
        found = _files_of(picture, own, whole)
        if len(found) == 1:
            places.append(found[0].absolute())
        elif found:
            several.append(f"{picture.file_name} ({len(found)} files)")
        else:
            missing.append(picture.file_name)
    if missing or several:
        raise DataError(_message(images or root, len(pictures), missing, several))
    _require_once(pictures, places)
    return places


def _folders(root: Path, own: Path) -> list[Path]:
    """Where a file name can begin: the annotation file's folder, that around it, `images`."""
    folders = [own, *([own.parent] if own.absolute() != root else []), root]
    beside = [folder / name for folder in folders for name in ("images", "Images")]
    return list(dict.fromkeys(f for f in (*folders, *beside) if f.is_dir()))


def _files_of(picture: Picture, finders: Sequence[Finder], whole: Finder) -> Sequence[Path]:
    place = normal_place(picture.file_name)
    if place is not None:
        for look in (Finder.exactly_at, Finder.at):  # the second walks through the folder
            for finder in finders:
                if found := look(finder, place):
                    return found
    return whole.named(PurePosixPath(picture.file_name.replace("\\", "/")).name)


def _message(folder: Path, n_images: int, missing: Sequence[str], several: Sequence[str]) -> str:
    parts = []
    if missing:
        parts.append(
            f"{len(missing)} of {counted(n_images, '[image is|images are]')} not there, looked for "
            f"below {folder}, also by name: {_shown(missing)}; give their folder (--images)"
        )
    if several:
        parts.append(
            f"{counted(len(several), '[name is|names are]')} of several files: {_shown(several)}; "
            "give the folder from which file_name leads to them (--images)"
        )
    return "\n  ".join(parts)


def _shown(names: Sequence[str]) -> str:
    return first_few(names, _N_SHOWN)


def _require_once(pictures: Sequence[Picture], places: Sequence[Path]) -> None:
    first_of: dict[str, Picture] = {}
    twice = [
        f"{picture.where} and {first.where}"
        for picture, path in zip(pictures, places, strict=True)
        if (first := first_of.setdefault(os.path.realpath(path), picture)) is not picture
    ]
    if twice:
        raise DataError(
            f"{counted(len(twice), '[file is|files are]')} listed twice: {_shown(twice)}; keep one "
            "entry of each (a link to a file is that file)"
        )
