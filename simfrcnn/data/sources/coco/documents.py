"""Which COCO files are there, which part of a division is each, and what are their entries?

Tools agree on little: ids are numbers, texts or fractions, and begin at 0 or 1; annotations may
have none. Only what is certain is evened out here.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.data.sources.split_words import part_of
from simfrcnn.data.spelling import problem_of_name
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.wording import first_few

Entry = dict[str, Any]
_N_SHOWN = 8
_END_OF_EXACT = 2.0**53
"""From here on, several whole numbers are one float."""


@dataclass(frozen=True)
class Drawn:
    """One annotation: its number in the file from 0, its category's name, and the entry."""

    number: int
    category: str
    entry: Entry

    @property
    def name(self) -> str:
        """How a message calls it."""
        own = self.entry.get("id")
        return f"annotation {own!r}" if own is not None else f"annotation number {self.number + 1}"


@dataclass(frozen=True)
class Picture:
    """One image entry, the file that it is from, and what was drawn on it."""

    document: Path
    part: str | None
    entry: Entry
    drawn: tuple[Drawn, ...]

    @property
    def file_name(self) -> str:
        """As the file states it."""
        return str(self.entry["file_name"])

    @property
    def where(self) -> str:
        """Begins a message."""
        return f"{self.document}: image {self.entry.get('id')!r} ({self.file_name})"

    def fact(self, key: str) -> Any:
        """A further key of the image, or of its attributes; None where there is none."""
        for place in (self.entry, self.entry.get("attributes"), self.entry.get("extra")):
            if isinstance(place, dict) and not is_empty(value := place.get(key)):
                return value
        return None

    def name(self, key: str) -> str | None:
        """A fact that names a patient or an exam, in one spelling; None where there is none.

        Raises:
            AnnotationError: It is neither a number nor a text, or one that several may have.
        """
        return name_of(self.where, key, self.fact(key))


def name_of(where: str, key: str, value: Any) -> str | None:
    """What names a patient, an exam or a lesion, in one spelling; None where nothing is said.

    Raises:
        AnnotationError: It is neither a number nor a text, or one that several may have.
    """
    if is_empty(value):
        return None
    spelt = _spelt(value)
    if spelt is None:
        raise AnnotationError(
            f"{where}: {key!r} is {_kind_of(value)}; a text or a whole number is legal: write it "
            "as a text, in quotes"
        )
    if problem := problem_of_name(spelt):
        raise AnnotationError(f"{where}: {key!r} {problem}")
    return unicodedata.normalize("NFC", spelt)


def _kind_of(value: Any) -> str:
    """What else than a name stands there; the value itself may be a patient's, and is not shown."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, float):
        is_long = math.isfinite(value) and value.is_integer()
        return "a number so long that its digits are lost" if is_long else "a number with decimals"
    return "a list" if isinstance(value, list) else "an object"


def read_documents(root: Path, given: Sequence[Path]) -> list[Picture]:
    """The images of the COCO files that are named, or else found in the folder.

    Raises:
        ConfigError: There are several, and which are meant is not clear.
        DataError: There is none, or one is what `prepare-data` wrote.
        AnnotationError: One is malformed.
    """
    paths = [_given(root, path) for path in given] or _found(root)
    pictures: list[Picture] = []
    for path in paths:
        pictures += _pictures(path, _part(root, path), _document(path))
    if not pictures:
        raise DataError(f"{', '.join(map(str, paths))}: no image is listed")
    return pictures


def _given(root: Path, path: Path) -> Path:
    """As stated, or below the folder."""
    return root / path if not path.exists() and (root / path).exists() else path


def _found(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the export")
    folders = [root, root / "annotations", root / "Annotations"]
    folders += [f for f in sorted(root.iterdir()) if f.is_dir() and part_of(f.name)]
    paths = [p for folder in folders for p in sorted(folder.glob("*.json")) if _is_coco(p)]
    if not paths:
        raise DataError(
            f"{root}: holds no COCO file, at its top, in annotations, or in train, valid and test: "
            "name it with --annotations"
        )
    parts = [_part(root, path) for path in paths]
    if len(paths) > 1 and (None in parts or len(set(parts)) < len(parts)):
        raise ConfigError(
            f"{root}: holds {len(paths)} COCO files, which are not one of train, one of val and "
            "one of test: name those that are meant, --annotations "
            f"{' '.join(str(path.relative_to(root)) for path in paths)}"
        )
    return paths


def _is_coco(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"images", "annotations", "categories"} <= set(document)


def _part(root: Path, path: Path) -> str | None:
    """What file or folder are named by, such as instances_val2017.json or valid/x.json."""
    words = [word.rstrip("0123456789") for word in re.split(r"[_\-.\s]+", path.stem)]
    parts = {part for word in words if word and (part := part_of(word))}
    if not parts and path.parent.absolute() != root.absolute():
        parts = {part for part in [part_of(path.parent.name)] if part}
    return parts.pop() if len(parts) == 1 else None


def _document(path: Path) -> dict[str, list[Entry]]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a JSON file ({error})") from error
    lists = {}
    for key in ("images", "annotations", "categories"):
        entries = document.get(key) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise AnnotationError(
                f"{path}: '{key}' is no list of objects: export again as COCO (object detection)"
            )
        lists[key] = entries
    if any(image.get("prepared") for image in lists["images"]):
        raise DataError(
            f"{path}: simfrcnn prepare-data wrote this file: train on it, or give the source"
        )
    return lists


def _pictures(path: Path, part: str | None, lists: Mapping[str, list[Entry]]) -> list[Picture]:
    names = {}
    for entry in lists["categories"]:
        if not str(entry.get("name") or "").strip():
            raise AnnotationError(f"{path}: category {entry.get('id')!r} has no name")
        names[_key(path, "category", entry.get("id"))] = str(entry["name"]).strip()
    _require_unique(path, "category", [c.get("id") for c in lists["categories"]])
    ids = [image.get("id") for image in lists["images"]]
    _require_unique(path, "image", ids)
    for entry in lists["images"]:
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"].strip():
            raise AnnotationError(f"{path}: image {entry.get('id')!r} has no file_name")
    drawn: dict[str, list[Drawn]] = {_key(path, "image", own): [] for own in ids}
    for number, entry in enumerate(lists["annotations"]):
        one = Drawn(number, "", entry)
        image_id = _key(path, f"image_id of {one.name}", entry.get("image_id"))
        category = _key(path, f"category_id of {one.name}", entry.get("category_id"))
        if image_id not in drawn:
            raise AnnotationError(
                f"{path}: {one.name}: image_id {entry['image_id']!r} is not among 'images'"
            )
        if category not in names:
            raise AnnotationError(
                f"{path}: {one.name}: category_id {entry['category_id']!r} is not among "
                f"'categories' ({', '.join(names.values())})"
            )
        drawn[image_id].append(Drawn(number, names[category], entry))
    return [
        Picture(path, _own_part(path, image) or part, image, tuple(drawn[_key(path, "image", own)]))
        for own, image in zip(ids, lists["images"], strict=True)
    ]


def _own_part(path: Path, image: Entry) -> str | None:
    word = image.get("split")
    if word is None:
        return None
    part = part_of(str(word))
    if part is None:
        raise AnnotationError(
            f"{path}: image {image.get('id')!r}: 'split' is {word!r}; legal are train, val, test"
        )
    return part


def _key(path: Path, what: str, value: Any) -> str:
    """An id in one spelling: 7, 7.0 and "7" are one."""
    spelt = _spelt(value)
    if spelt is None:
        raise AnnotationError(
            f"{path}: {what}: {value!r} is no id: a whole number or a text is legal"
        )
    return spelt


def _spelt(value: Any) -> str | None:
    """A whole number or a text, 7 of 7.0; None of anything else, or if digits are lost."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _END_OF_EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value).strip() or None


def is_empty(value: Any) -> bool:
    """Whether nothing is said: null, no letter, or the NaN that a table of numbers has there."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _require_unique(path: Path, what: str, ids: Iterable[Any]) -> None:
    counts = Counter(_key(path, what, own) for own in ids)
    twice = [f"{own!r} ({n} times)" for own, n in counts.items() if n > 1]
    if not twice:
        return
    remedy = (
        ": which box is of which image cannot be told. VIA numbers images by their names and can "
        "do so; export again with names that differ, or give each image an id of its own"
    )
    raise AnnotationError(
        f"{path}: {what} ids are used more than once: {first_few(twice, _N_SHOWN)}"
        + (remedy if what == "image" else "")
    )
