"""Which file does a data set's name stand for?

A name is `<folder>/<split>` and stands for `<root>/<folder>/<split>.json`, where the root is
$SIMFRCNN_DATASETS or `./datasets`; or it is given a path explicitly (`DATASETS.FILES`, `--dataset
NAME=PATH`), which goes first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from simfrcnn.data.coco import AnnotatedSet, read_coco, require_files
from simfrcnn.errors import ConfigError, DataError

ROOT_VARIABLE = "SIMFRCNN_DATASETS"
_READ: ContextVar[dict[tuple[object, ...], tuple[AnnotatedSet, bool]] | None] = ContextVar(
    "annotation files of this run", default=None
)


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


def named(dataset: str) -> tuple[str, dict[str, str]]:
    """What :func:`load` takes, of a data set by name, or by ``NAME=FILE``."""
    name, equals, _ = dataset.partition("=")
    return name.strip(), parse_files([dataset] if equals else [])


def missing(names: Sequence[str], files: Sequence[str]) -> list[str]:
    """Those data sets by name that are not in the folder of data sets, and not given as files."""
    given, root = parse_files(files), datasets_root()
    return [name for name in names if name not in given and not (root / f"{name}.json").is_file()]


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
        if path.is_dir():
            raise DataError(
                f"data set {name!r}: {path} is a folder; give a COCO file, such as train.json in it"
            )
        if not path.is_file():
            raise DataError(f"data set {name!r}: the file given for it does not exist: {path}")
        return path
    root = datasets_root().absolute()
    path = root / f"{name}.json"
    if not path.is_file():
        given = ", ".join(files) or "none"
        raise DataError(
            f"data set {name!r} not found: looked for {path} (set ${ROOT_VARIABLE} to the folder "
            f"of all data sets, prepare this one, or give its file as {name}=PATH, by --dataset or "
            f"in DATASETS.FILES); there are: {', '.join(_names_below(root)) or 'none'}; given "
            f"explicitly: {given}"
        )
    return path


def path_of(name: str, files: Mapping[str, str]) -> Path | None:
    """The file of a data set, without links on its way; None where there is none."""
    try:
        return resolve(name, files).resolve()
    except DataError:
        return None


def load(name: str, files: Mapping[str, str], *, check_files: bool = True) -> AnnotatedSet:
    """The records of a data set by name: :func:`resolve`, then :func:`read`."""
    return read(resolve(name, files), check_files=check_files)


@contextlib.contextmanager
def reading_once() -> Iterator[None]:
    """Read each annotation file once, and look once for each of its images, in this block.

    A training asks for its sets in many places: checks, loaders, validation, manifest, test. A file
    that has changed since is read again. Also a decorator; of nested blocks the outermost counts.
    """
    if _READ.get() is not None:
        yield
        return
    token = _READ.set({})
    try:
        yield
    finally:
        _READ.reset(token)


def read(path: Path, *, check_files: bool = True) -> AnnotatedSet:
    """``read_coco``; within :func:`reading_once` what was read already, unless it changed since."""
    known = _READ.get()
    if known is None:
        return read_coco(path, check_files=check_files)
    path = Path(path).absolute()
    try:
        state = path.stat()
    except OSError:
        return read_coco(path, check_files=check_files)  # says what is wrong
    key = (path, state.st_mtime_ns, state.st_size, state.st_ino)
    annotated, are_there = known.get(key, (None, False))
    if annotated is None:
        annotated = read_coco(path, check_files=check_files)
    elif check_files and not are_there:
        require_files(annotated)
    known[key] = annotated, are_there or check_files
    return annotated


def _names_below(root: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in root.glob("*/*.json"))
