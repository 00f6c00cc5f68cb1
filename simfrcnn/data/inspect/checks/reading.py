"""Which annotation files does a path or a name stand for, and what do their images measure?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simfrcnn.data import catalog
from simfrcnn.data.coco import read_coco
from simfrcnn.data.inspect.checks.measures import ImageMeasures, Task, Unreadable, measure
from simfrcnn.data.inspect.checks.model import CheckedSet, Collection, Entry
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.parallel import in_parallel
from simfrcnn.records import Box, ImageRecord
from simfrcnn.settings import InputSettings


def annotation_files(target: str, files: Mapping[str, str]) -> list[Path]:
    """The COCO files that an argument means.

    Args:
        target: A COCO file; a folder, for all COCO files in it; a name `<folder>/<split>`, or a
            folder of the data sets' root.
        files: Explicit paths by name, from :func:`simfrcnn.data.catalog.parse_files`.

    Raises:
        DataError: There is no such file, folder or name, or a folder holds no COCO file.
    """
    path = Path(target).expanduser()
    if target in files:
        return [catalog.resolve(target, files)]
    below_root = catalog.datasets_root() / target
    folder = next((place for place in (path, below_root) if place.is_dir()), None)
    if folder is not None:
        found = [place for place in sorted(folder.absolute().glob("*.json")) if _is_coco(place)]
        if not found:
            raise DataError(
                f"{folder} holds no COCO file (*.json with images and annotations): give the "
                "folder of train.json ..., or prepare the data set (simfrcnn prepare-data)"
            )
        return found
    if path.is_file():
        return [path.absolute()]
    if path.suffix == ".json":
        raise DataError(f"{path} does not exist: give a COCO file, its folder, or a name")
    return [catalog.resolve(target, files)]


def read_sets(paths: Sequence[Path]) -> tuple[CheckedSet, ...]:
    """Read annotation files, each once; what is wrong with single entries is kept with them.

    Raises:
        AnnotationError: A file is no COCO file at all.
    """
    return tuple(_read_set(path) for path in dict.fromkeys(paths))


def collect(
    sets: Sequence[CheckedSet],
    settings: InputSettings,
    *,
    read_pixels: bool = True,
    n_workers: int | None = None,
) -> Collection:
    """The images of all sets with what their pixels say, each file read once.

    Args:
        sets: From :func:`read_sets`.
        settings: How images become the network's input.
        read_pixels: False takes what the annotation files say alone, in seconds.
        n_workers: Processes, as for :func:`simfrcnn.parallel.in_parallel`.
    """
    measures: dict[Path, ImageMeasures | Unreadable] = {}
    if read_pixels:
        tasks = _tasks([record for s in sets for record in s.annotated.records], settings)
        measured = in_parallel(measure, tasks, title="check", unit="image", n_workers=n_workers)
        measures = {task.path: result for task, result in zip(tasks, measured, strict=True)}
    return Collection(
        sets=tuple(sets),
        entries=tuple(
            Entry(s, record, measures.get(record.path))
            for s in sets
            for record in s.annotated.records
        ),
    )


def _is_coco(path: Path) -> bool:
    """Whether a file mentions what a COCO file must have; others lie there too (phantom.json)."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    return b'"images"' in content and b'"annotations"' in content


def _read_set(path: Path) -> CheckedSet:
    refused: list[AnnotationError] = []
    annotated = read_coco(path, check_files=False, refused=refused)
    return CheckedSet(f"{path.parent.name}/{path.stem}", annotated, tuple(refused))


def _tasks(records: Sequence[ImageRecord], settings: InputSettings) -> list[Task]:
    """One task per file, with the boxes of all annotation files."""
    boxes: dict[Path, dict[Box, None]] = {}
    for record in records:
        own = boxes.setdefault(record.path, {})
        own.update(dict.fromkeys(finding.box for finding in record.findings))
    prepared = {record.path: record.prepared for record in records}
    return [Task(path, tuple(own), settings, prepared[path]) for path, own in boxes.items()]
