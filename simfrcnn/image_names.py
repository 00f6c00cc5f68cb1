"""Which image of an annotation file does an entry of another tool's results mean?

Tools number images in their own way: pycocotools takes the ids of the file, Ultralytics writes the
number that a file's name is, or the name itself, and ``file_name`` beside it. An entry is matched
by every clue that it has, and refused where two clues name two images. So are the images of a
prediction, whose numbers are made of paths, and truth that comes later.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from simfrcnn.errors import ArtifactError
from simfrcnn.fields import is_whole, shown
from simfrcnn.records import ImageRecord

Found = tuple[ImageRecord, ...]


class ImageNames:
    """The images of an annotation file by id, and by file name."""

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        """Index the records; nothing is read."""
        self._by_id = {record.image_id: record for record in records}
        images = self._by_id.values()
        self._levels = [_index(images, key) for key in (_full, _base, _stem)]
        self._known: dict[tuple[Any, ...], int] = {}

    def image_of(self, entry: Mapping[str, Any], where: str) -> int:
        """The id of the image that an entry means, by ``image_id``, ``file_name`` or both.

        A file's name is looked for as it stands (as a path relative to the annotation file), then
        by its last part, then without its suffix; a text as ``image_id`` is taken for a name.

        Raises:
            ArtifactError: No image is meant, or more than one; names the entry and the images.
        """
        image_id, file_name = entry.get("image_id"), entry.get("file_name")
        clues = (type(image_id), image_id, file_name)
        try:
            return self._known[clues]
        except KeyError:
            found = self._known[clues] = self._image_of(image_id, file_name, where)
            return found
        except TypeError:  # a list or an object, which is refused
            return self._image_of(image_id, file_name, where)

    def record_of_prediction(self, number: int, file_name: str, where: str) -> ImageRecord:
        """The image of this number, which no other may be named like; else that of the name.

        Raises:
            ArtifactError: As :meth:`image_of`.
        """
        numbered, named = self._by_id.get(number), self._named(file_name)
        if numbered is None or (named and numbered not in named):
            clues = {"image_id": None if numbered is None else number, "file_name": file_name}
            return self._by_id[self.image_of(clues, where)]
        return numbered

    def _image_of(self, image_id: Any, file_name: Any, where: str) -> int:
        if file_name is None:
            found, words = self._of_id(image_id, where), f"image id {shown(image_id)}"
        elif not isinstance(file_name, str):
            raise ArtifactError(f"{where}: file_name is {shown(file_name)}; a text is legal")
        else:
            found, words = self._of_both(image_id, file_name, where), f"file_name {file_name!r}"
        if not found:
            raise ArtifactError(
                f"{where}: unknown {words}; the detections must be of the images in the annotation "
                "file"
            )
        if len(found) > 1:
            raise ArtifactError(
                f"{where}: {words} may be {' or '.join(map(_called, found[:2]))} of the annotation "
                f"file ({len(found)} images): give the path as it stands there, or the image's id"
            )
        return found[0].image_id

    def _of_both(self, image_id: Any, file_name: str, where: str) -> Found:
        """The images that the name means, and the id as well if it means any."""
        of_name = self._named(file_name)
        of_id = () if image_id is None else self._of_id(image_id, where)
        common = tuple(record for record in of_name if record in of_id)
        if of_id and not common:
            is_called = f"which is {_called(of_name[0])}" if of_name else "which is none of them"
            raise ArtifactError(
                f"{where}: image_id {shown(image_id)} is {_called(of_id[0])} of the annotation "
                f"file, but file_name is {file_name!r}, {is_called}: take image_id out of the "
                "entries to match them by file_name, or file_name to match them by id"
            )
        return common or of_name

    def _of_id(self, image_id: Any, where: str) -> Found:
        if is_whole(image_id):
            record = self._by_id.get(int(image_id))
            return () if record is None else (record,)
        if not isinstance(image_id, str):
            raise ArtifactError(f"{where}: image_id is {shown(image_id)}; an integer is legal")
        named = self._named(image_id)
        number = int(image_id) if image_id.isascii() and image_id.isdigit() else None
        numbered = None if number is None or str(number) != image_id else self._by_id.get(number)
        if numbered is None or numbered in named:
            return named if numbered is None else (numbered,)
        if named:
            raise ArtifactError(
                f"{where}: image_id {image_id!r} is the number of {_called(numbered)} and the name "
                f"of {_called(named[0])} in the annotation file: give file_name as well"
            )
        return (numbered,)

    def _named(self, name: str) -> Found:
        by_full, by_base, by_stem = self._levels
        return (
            by_full.get(_full(name))
            or by_base.get(_base(name))
            or by_stem.get(_base(name))
            or by_stem.get(_stem(name))
            or ()
        )


def ids_of_truth(
    predicted: Iterable[Mapping[str, Any]], records: Iterable[ImageRecord], where: str
) -> dict[int, int]:
    """Which image of an annotation file each image of a prediction is, by number or file name.

    Args:
        predicted: The images of a COCO file: ``id``, ``file_name``, ``height``, ``width``.
        records: The images of the annotation file.
        where: The file of ``predicted``, for messages.

    Returns:
        Number in the prediction -> number in the annotation file.

    Raises:
        ArtifactError: The annotation file lacks an image, number and name mean two, two images
            mean one, or an image has another size there: its boxes are then of another picture.
    """
    names = ImageNames(records)
    meant: dict[int, int] = {}
    taken: dict[int, str] = {}
    for image in predicted:
        number, file_name = image["id"], image["file_name"]
        record = names.record_of_prediction(number, file_name, where)
        if record.image_id in taken:
            raise ArtifactError(
                f"{where}: {taken[record.image_id]!r} and {file_name!r} would both be "
                f"{_called(record)} of the annotation file: give the same paths in both"
            )
        if (image["height"], image["width"]) != (record.height, record.width):
            raise ArtifactError(
                f"{where}: {file_name!r} has {image['height']} x {image['width']} px, and "
                f"{_called(record)} of the annotation file {record.height} x {record.width} px. "
                "Detections are in pixels of the files that were read: annotate these files, or "
                "predict on the pictures that were annotated"
            )
        taken[record.image_id] = file_name
        meant[number] = record.image_id
    return meant


def _index(images: Iterable[ImageRecord], key: Callable[[str], str]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for record in images:
        name = key(record.file_name)
        found[name] = (*found.get(name, ()), record)
    return found


def _full(name: str) -> str:
    return posixpath.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))


def _base(name: str) -> str:
    return posixpath.basename(_full(name))


def _stem(name: str) -> str:
    return posixpath.splitext(_base(name))[0]


def _called(record: ImageRecord) -> str:
    return f"image {record.image_id} ({record.file_name})"
