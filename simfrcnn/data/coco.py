"""How are records read from and written to COCO annotation files?

COCO's images carry our facts as further keys (patient, exam, supervision ...), so pycocotools and
every COCO viewer still read the files. What one entry says is :mod:`simfrcnn.data.coco_entries`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from simfrcnn import fields
from simfrcnn.data.coco_entries import (
    KINDS,
    REQUIRED,
    SubPixelError,
    annotation_entry,
    image_entry,
    missing_keys,
    number_of,
    read_category,
    read_finding,
    read_record,
    relative_to,
)
from simfrcnn.errors import AnnotationError, OutputError
from simfrcnn.files import json_of, write_json
from simfrcnn.images.names import Finder
from simfrcnn.records import Finding, ImageRecord
from simfrcnn.wording import agreeing, counted, first_few

_N_SHOWN = 5
Entries = Sequence[Mapping[str, Any]]
V = TypeVar("V")


@dataclass(frozen=True)
class AnnotatedSet:
    """One annotation file: its records in file order, its classes by id, and what identifies it."""

    path: Path
    categories: Mapping[int, str]
    records: tuple[ImageRecord, ...]
    sha256: str
    info: Mapping[str, Any]


def read_coco(
    path: Path | str, *, check_files: bool = True, refused: list[AnnotationError] | None = None
) -> AnnotatedSet:
    """Read an annotation file strictly: what is not clear is refused, nothing guessed or dropped.

    Beyond COCO's own keys each image needs ``patient_id``, ``exam_id`` and ``supervision``; a plain
    COCO file gets them from ``simfrcnn prepare-data coco``. Missing keys are all named at once;
    then come ids that are used twice, ids that lead nowhere, and what single entries say.

    >>> import json, pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "train.json")
    >>> image = {"id": 1, "file_name": "a.png", "height": 90, "width": 60, "supervision": "boxes"}
    >>> _ = path.write_text(json.dumps({
    ...     "images": [{**image, "patient_id": "p1", "exam_id": "e1"}],
    ...     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 10, 20, 30]}],
    ...     "categories": [{"id": 1, "name": "malignant"}],
    ... }))
    >>> data = read_coco(path, check_files=False)
    >>> (record,) = data.records
    >>> record.is_positive(("malignant",)), record.findings[0].box
    (True, (5.0, 10.0, 25.0, 40.0))
    >>> folder.cleanup()

    Args:
        path: A COCO JSON file; ``file_name`` is relative to its folder. Names with backslashes, a
            leading ``./``, or letters composed in another way (NFC, NFD) find their files.
        check_files: Also check that every image file exists.
        refused: Where to put the errors of single entries, which are then left out; to list all
            that is wrong with a file, never to use it.

    Raises:
        AnnotationError: The file is missing or malformed, or contradicts itself; names the file,
            the image or annotation, and the key.
    """
    path = Path(path).absolute()
    content, document = _read_json(path)
    lists = _complete(path, _lists(path, document), refused)
    for name, entries in lists.items():
        _require_unique(path, f"{KINDS[name]} id", _ids(path, name, entries, refused))
    categories = dict(_each(lists["categories"], lambda e: read_category(path, e), refused))
    _require_unique(path, "category name", list(categories.values()))
    annotations = _of_known_images(path, document["images"], lists["annotations"], refused)
    sizes = {
        entry["id"]: (entry["height"], entry["width"])
        for entry in lists["images"]
        if fields.is_whole(entry["id"])
    }
    findings = _findings(path, annotations, categories, sizes, refused)
    files = Finder(path.parent)
    read = _each(lists["images"], lambda entry: read_record(path, entry, findings, files), refused)
    records = tuple(read)
    info = document.get("info") or {}
    if not isinstance(info, dict):
        raise AnnotationError(f"{path}: 'info' must be an object, not {fields.shown(info)}")
    annotated = AnnotatedSet(
        path=path,
        categories=categories,
        records=records,
        sha256=hashlib.sha256(content).hexdigest(),
        info=info,
    )
    if check_files:
        require_files(annotated)
    return annotated


def require_files(annotated: AnnotatedSet, otherwise: str = "") -> None:
    """Refuse a set with images that do not exist.

    Args:
        annotated: The set.
        otherwise: What can be done without them, for the message.

    Raises:
        AnnotationError: Lists the first of them.
    """
    path, records = annotated.path, annotated.records
    missing = [record for record in records if not record.path.is_file()]
    if missing:
        named = [f"image {record.image_id}: {record.path}" for record in missing]
        shown = first_few(named, _N_SHOWN, "\n  ")
        raise AnnotationError(
            f"{path}: {len(missing)} of {counted(len(records), 'image [file is|files are]')} "
            f"missing (file_name is relative to the annotation file's folder){otherwise}:\n  "
            f"{shown}"
        )


def write_coco(
    path: Path,
    records: Sequence[ImageRecord],
    categories: Mapping[int, str],
    info: Mapping[str, Any],
) -> None:
    """Write records as a COCO file, atomically; :func:`read_coco` gives them back.

    Raises:
        AnnotationError: See :func:`as_coco`.
        OutputError: The file cannot be written.
    """
    write_json(path, as_coco(path, records, categories, info))


def as_coco(
    path: Path,
    records: Sequence[ImageRecord],
    categories: Mapping[int, str],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """Records as the document of a COCO file that will lie at ``path``.

    ``file_name`` is made from each record's path, relative to the folder of ``path``, so
    records may be written to another folder than they came from.

    Raises:
        AnnotationError: A finding's category is not among ``categories``, or an id is used twice.
    """
    path = Path(path).absolute()
    ids = {name: category_id for category_id, name in categories.items()}
    _require_unique(path, "image id", [record.image_id for record in records])
    _require_unique(path, "annotation id", [f.finding_id for r in records for f in r.findings])
    return {
        "info": dict(info),
        "images": [image_entry(path.parent, record) for record in records],
        "annotations": [
            annotation_entry(path, record, finding, ids)
            for record in records
            for finding in record.findings
        ],
        "categories": [{"id": key, "name": name} for key, name in categories.items()],
    }


def write_extended(
    path: Path,
    source: AnnotatedSet,
    added: Mapping[int, Sequence[Finding]],
    *,
    kept_image_ids: Collection[int],
    new_category: str | None,
    info: Mapping[str, Any],
    changes: Mapping[int, Mapping[str, Any]] | None = None,
) -> None:
    """Write some images of an annotation file again, with further findings, atomically.

    The entries of the source are copied as they stand, with every key and digit; only
    ``file_name`` is made relative to the new folder. The category is new, or that of its name.

    Args:
        path: The new file.
        source: The set that :func:`read_coco` gave; its file must not have changed since.
        added: New findings by image id, of any of the new file's categories; appended after those
            of the source.
        kept_image_ids: The images that the new file has; findings of others are left out.
        new_category: A category that the new file has, also if no finding is of it; None for none.
        info: Keys to add to ``info``.
        changes: Keys of image entries that the new findings change, by image id.

    Raises:
        AnnotationError: The source has changed, or an id would be used twice.
        OutputError: The file cannot be written, or is the source itself.
    """
    path = Path(path).absolute()
    if path.resolve() == source.path.resolve():
        raise OutputError(f"{path} is the file that is extended; give the new one another name")
    document = document_of(source)
    categories = dict(source.categories)
    if new_category is not None and new_category not in categories.values():
        number = max(categories, default=0) + 1
        categories[number] = new_category
        document["categories"].append({"id": number, "name": new_category})
    ids = {name: number for number, name in categories.items()}
    wanted = set(kept_image_ids)
    kept = [record for record in source.records if record.image_id in wanted]
    places = {r.image_id: relative_to(path.parent, r) for r in kept}
    changed = changes or {}
    document["info"] = {**source.info, **info}
    document["images"] = [
        {**entry, "file_name": places[entry["id"]], **changed.get(entry["id"], {})}
        for entry in document["images"]
        if entry["id"] in places
    ]
    document["annotations"] = [
        *(entry for entry in document["annotations"] if entry["image_id"] in places),
        *(
            annotation_entry(path, record, finding, ids)
            for record in kept
            for finding in added.get(record.image_id, ())
        ),
    ]
    _require_unique(path, "annotation id", [entry["id"] for entry in document["annotations"]])
    write_json(path, document)


def document_of(annotated: AnnotatedSet) -> dict[str, Any]:
    """What the file of a set holds, with every key and digit.

    Raises:
        AnnotationError: It has changed since it was read.
    """
    content, document = _read_json(annotated.path)
    if hashlib.sha256(content).hexdigest() != annotated.sha256:
        raise AnnotationError(f"{annotated.path} has changed since it was read; run again")
    return document


# Reading


def _read_json(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be opened ({error.strerror})") from error
    try:
        document = json_of(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(document, dict):
        raise AnnotationError(
            f"{path}: must hold an object with images, annotations and categories, "
            f"not {fields.shown(document)}"
        )
    return content, document


def _lists(path: Path, document: Mapping[str, Any]) -> dict[str, Entries]:
    wrong = []
    for key in REQUIRED:
        entries = document.get(key)
        if entries is None:
            wrong.append(f"'{key}' is missing")
        elif not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            wrong.append(f"'{key}' is not a list of objects")
    if wrong:
        raise AnnotationError(
            f"{path}: {', '.join(wrong)}; a COCO file has a list of objects there"
        )
    return {key: document[key] for key in REQUIRED}


def _complete(
    path: Path, lists: Mapping[str, Entries], refused: list[AnnotationError] | None
) -> dict[str, Entries]:
    """The entries that have every key; what is missing in the whole file is named at once."""
    missing: list[tuple[str, Any, list[str]]] = []
    complete: dict[str, Entries] = {}
    for name, entries in lists.items():
        kept = []
        for entry in entries:
            lacks = [key for key in REQUIRED[name] if entry.get(key) is None]
            if lacks:
                missing.append((name, entry.get("id"), lacks))
            else:
                kept.append(entry)
        complete[name] = kept
    if missing and refused is None:
        raise missing_keys(path, missing, lists)
    if refused is not None:
        refused += [missing_keys(path, [one], lists) for one in missing]
    return complete


def _ids(
    path: Path, name: str, entries: Entries, refused: list[AnnotationError] | None
) -> list[int]:
    """The ids that are legal; where errors are listed, one is listed when its entry is read."""

    def read(entry: Mapping[str, Any]) -> int:
        return number_of(f"{path}: {KINDS[name]} {entry['id']!r}", entry, "id")

    return list(_each(entries, read, None if refused is None else []))


def _plain(number: Any) -> Any:
    """1 of 1.0; anything else as it is."""
    return int(number) if fields.is_whole(number) else number


def _each(
    entries: Iterable[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], V],
    refused: list[AnnotationError] | None,
) -> Iterator[V]:
    """``read(entry)`` of every entry; an error is raised, or listed where there is a list."""
    for entry in entries:
        try:
            value = read(entry)
        except AnnotationError as error:
            if refused is None:
                raise
            refused.append(error)
        else:
            yield value


def _of_known_images(
    path: Path, images: Entries, annotations: Entries, refused: list[AnnotationError] | None
) -> Entries:
    """The annotations whose image is in the file, be its entry legal or not."""
    known = {str(_plain(entry.get("id"))) for entry in images}
    lost = [
        entry
        for entry in annotations
        if fields.is_whole(entry["image_id"]) and str(int(entry["image_id"])) not in known
    ]
    if not lost:
        return annotations
    n_images = len({entry["image_id"] for entry in lost})
    errors = [
        AnnotationError(
            f"{path}: annotation {entry['id']!r}: image_id {entry['image_id']} is not among "
            f"'images' ({n_images} such images)"
        )
        for entry in lost
    ]
    if refused is None:
        raise errors[0]
    refused += errors
    numbers = set(map(id, lost))
    return [entry for entry in annotations if id(entry) not in numbers]


def _findings(
    path: Path,
    entries: Entries,
    categories: Mapping[int, str],
    sizes: Mapping[Any, tuple[Any, Any]],
    refused: list[AnnotationError] | None,
) -> dict[int, list[Finding]]:
    """The findings by image id, each in file order."""
    by_image: dict[int, list[Finding]] = {}
    read = partial(read_finding, path, categories=categories, sizes=sizes)
    for image_id, finding in _each(entries, read, refused):
        by_image.setdefault(image_id, []).append(finding)
    error = _fractions(path, [finding for own in by_image.values() for finding in own])
    if error is not None:
        if refused is None:
            raise error
        refused.append(error)
    return by_image


def _fractions(path: Path, findings: Sequence[Finding]) -> SubPixelError | None:
    """An error if all boxes of a file are smaller than a pixel, or in the first one."""
    boxes = [finding.box for finding in findings]
    are_small = all(x2 - x1 < 1 and y2 - y1 < 1 for x1, y1, x2, y2 in boxes)
    are_first = all(x2 <= 1 and y2 <= 1 for _, _, x2, y2 in boxes)
    if not boxes or not (are_small or are_first):
        return None
    x1, y1, x2, y2 = boxes[0]
    return SubPixelError(
        f"{path}: {agreeing(len(boxes), f'[the only box is|all {len(boxes)} boxes are]')} smaller "
        f"than one pixel, such as [{x1:g}, {y1:g}, {x2 - x1:g}, {y2 - y1:g}] of annotation "
        f"{findings[0].finding_id}: they seem to be fractions of the image, as YOLO has them",
        "'bbox' is [x, y, width, height] in pixels: multiply x and width by the image's width, y "
        "and height by its height, or convert the file (simfrcnn prepare-data coco --boxes "
        "fractions)",
    )


def _require_unique(path: Path, what: str, keys: Sequence[int] | Sequence[str]) -> None:
    if len(set(keys)) < len(keys):
        repeated = [key for key, count in Counter(keys).items() if count > 1]
        shown = first_few([repr(key) for key in repeated], _N_SHOWN)
        raise AnnotationError(f"{path}: {what} used more than once: {shown}; each must be unique")
