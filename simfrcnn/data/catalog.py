"""Which file does a data set's name stand for?

A name is `<folder>/<split>` and stands for `<root>/<folder>/<split>.json`, where the root is
$SIMFRCNN_DATASETS or `./datasets`; or it is given a path explicitly (`DATASETS.FILES`, `--dataset
NAME=PATH`), which goes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from simfrcnn.data.coco import AnnotatedSet, read_coco
from simfrcnn.errors import ConfigError, DataError

ROOT_VARIABLE = "SIMFRCNN_DATASETS"


def datasets_root() -> Path:
    """The folder of all data sets: $SIMFRCNN_DATASETS, by default `./datasets`."""
    return Path(os.environ.get(ROOT_VARIABLE) or "datasets").expanduser()


def parse_files(entries: Iterable[str]) -> dict[str, str]:
    """Entries "NAME=PATH" as a mapping; of a name given twice, both must say the same.

    Raises:
        ConfigError: An entry is not NAME=PATH, or a name is given two paths.
    """
    files: dict[str, str] = {}
    for entry in entries:
        name, equals, path = (part.strip() for part in entry.partition("="))
        if not (name and equals and path):
            raise ConfigError(
                f"data set {entry!r} is not NAME=PATH, for instance clinic/train=/data/train.json"
            )
        if files.setdefault(name, path) != path:
            raise ConfigError(f"data set {name!r} is given two paths: {files[name]} and {path}")
    return files


def resolve(name: str, files: Mapping[str, str]) -> Path:
    """The annotation file of a data set's name, absolute.

    Args:
        name: `<folder>/<split>`, or a key of ``files``.
        files: Explicit paths by name, from :func:`parse_files`.

    Raises:
        DataError: There is no such file; lists where it was looked for.
    """
    if name in files:
        path = Path(files[name]).expanduser().absolute()
        if not path.is_file():
            raise DataError(f"data set {name!r}: the file given for it does not exist: {path}")
        return path
    root = datasets_root().absolute()
    path = root / f"{name}.json"
    if not path.is_file():
        given = ", ".join(files) or "none"
        raise DataError(
            f"data set {name!r} not found: looked for {path} (set ${ROOT_VARIABLE} to the folder "
            f"of all data sets, prepare this one, or give its file as {name}=PATH in "
            f"DATASETS.FILES); there are: {', '.join(_names_below(root)) or 'none'}; given "
            f"explicitly: {given}"
        )
    return path


def load(name: str, files: Mapping[str, str], *, check_files: bool = True) -> AnnotatedSet:
    """The records of a data set by name: :func:`resolve`, then `read_coco`."""
    return read_coco(resolve(name, files), check_files=check_files)


def _names_below(root: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in root.glob("*/*.json"))
