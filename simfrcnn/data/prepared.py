"""How do the pictures of a source become small ones that train the same?

Decoding a view of 14 million pixels at every step is most of what loading costs, and a DICOM file
carries its patient's name. So each image is decoded once, made into the network's input exactly as
loading would make it, and stored without its padding; boxes, spacing and sizes become those of the
stored picture, and the map back stays with the record.

One case cannot be stored so: where a finding leaves the crop, training crops wider than a test
does. Such an image is stored whole, and cropped when it is loaded.

A picture carries the fingerprint of what it was made from and how, so a second run, also after a
kill, does only what is missing or outdated.

Shapes: H x W the source's image, h' x w' the stored picture.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn import outlines
from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import AnnotationError, DataError, OutputError
from simfrcnn.fields import read_prepared
from simfrcnn.files import write_bytes
from simfrcnn.images.png import PREPARED_KEYWORD, START_BYTES, encode_png, size_of, text_of
from simfrcnn.images.preprocess import crop_of, cut_and_resize, hang, moved
from simfrcnn.images.reading import Greys, load_greys
from simfrcnn.parallel import in_parallel
from simfrcnn.records import Box, Finding, ImageRecord, Prepared
from simfrcnn.settings import InputSettings

PIXELS_VERSION = 3
"""Raise it when the same file gives other pixels than before: all caches are then made again."""


@dataclass(frozen=True)
class CacheSettings:
    """How pictures are stored.

    ``bits`` is 8 (what training reads, exactly) or 16 (finer grey for other uses, within one level
    of 255). ``as_input`` are the settings that training will ask for; None stores whole images.
    ``dicom`` is what is read although it is refused by default. ``inverted`` says that the source's
    pictures are negatives, whose greys are turned round.
    """

    bits: int = 8
    as_input: InputSettings | None = field(default_factory=InputSettings)
    dicom: DicomOptions = STRICT
    inverted: bool = False


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be prepared, and why; the message begins with its path."""

    record: ImageRecord
    message: str


@dataclass(frozen=True)
class Cached:
    """The records of the stored pictures in their given order, and what was done for them.

    ``n_whole`` are stored whole although an input was asked for, see the module.
    """

    records: tuple[ImageRecord, ...]
    n_made: int
    n_up_to_date: int
    n_whole: int
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True)
class _Task:
    record: ImageRecord
    target: Path
    fingerprint: str


def cache_images(
    records: Sequence[ImageRecord],
    places: Mapping[int, Path],
    settings: CacheSettings,
    *,
    fingerprint: Callable[[str], str],
    overwrite: bool = False,
    n_workers: int | None = None,
) -> Cached:
    """Store the pictures of records, in parallel, those that are not up to date.

    Args:
        records: With the paths of the source; their ids are already those that shall be written.
        places: Image id -> the PNG file to be.
        settings: Depth and size.
        fingerprint: A hash, keyed where the source's dates and sizes must not be guessed from it.
        overwrite: Replace files that are no pictures of an earlier preparation, too.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Returns:
        Records with ``prepared`` set whose path, size, boxes and spacing are the stored picture's.

    Raises:
        DataError: Two images have one place.
        OutputError: A file that is no picture of an earlier preparation is in the way, or an image
            of the source, or the operating system refused to write.
    """
    _require_own_places(records, places)
    _remove_leftovers(places.values())
    jobs, there = [], {}
    unreadable: dict[int, Unreadable] = {}
    for record in records:
        target = places[record.image_id]
        earlier = _read_earlier(target, overwrite=overwrite)
        try:
            mark = fingerprint(_made_from(record, settings))
        except OSError as error:
            message = f"{record.path}: cannot be opened ({error.strerror})"
            unreadable[record.image_id] = Unreadable(record, message)
            continue
        if earlier is not None and earlier.fingerprint == mark:
            there[record.image_id] = earlier.picture
        else:
            jobs.append(_Task(record, target, mark))
    n_up_to_date = len(there)
    make = partial(_make, settings=settings)
    made = in_parallel(make, jobs, title="prepare", unit="image", n_workers=n_workers)
    for job, picture in zip(jobs, made, strict=True):
        if isinstance(picture, _Picture):
            there[job.record.image_id] = picture
        else:
            unreadable[job.record.image_id] = Unreadable(job.record, picture)
    wholes = [picture.prepared.as_input is None for picture in there.values()]
    return Cached(
        records=tuple(
            _stored(record, places[record.image_id], there[record.image_id])
            for record in records
            if record.image_id in there
        ),
        n_made=len(there) - n_up_to_date,
        n_up_to_date=n_up_to_date,
        n_whole=sum(wholes) if settings.as_input is not None else 0,
        unreadable=tuple(unreadable[r.image_id] for r in records if r.image_id in unreadable),
    )


@dataclass(frozen=True)
class _Picture:
    """A stored picture: its size and how it was made."""

    height: int
    width: int
    prepared: Prepared


@dataclass(frozen=True)
class _Earlier:
    fingerprint: str
    picture: _Picture


def _make(job: _Task, settings: CacheSettings) -> _Picture | str:
    """Decode, cut, resize and write one picture; the message if the source cannot be read."""
    try:
        greys = load_greys(job.record, settings.dicom)
    except DataError as error:
        return str(error)
    boxes = [finding.box for finding in job.record.findings]
    pixels, prepared = _content(greys, boxes, settings)
    text = {"fingerprint": job.fingerprint, "prepared": dataclasses.asdict(prepared)}
    write_bytes(job.target, encode_png(pixels, {PREPARED_KEYWORD: json.dumps(text)}))
    return _Picture(pixels.shape[0], pixels.shape[1], prepared)


def _content(
    greys: Greys, boxes: Sequence[Box], settings: CacheSettings
) -> tuple[NDArray[Any], Prepared]:
    """The pixels to store (h', w') in the depth that is asked for, and how they were made."""
    in_8_bit, frame = hang(_turned(greys.as_uint8(), settings), greys.flips)
    pixels: NDArray[Any] = in_8_bit
    if settings.bits == 16:
        pixels, _ = hang(_turned(greys.as_uint16(), settings), greys.flips)
    height, width = greys.shape
    wanted = settings.as_input
    crop = (0, 0, width, height) if wanted is None else crop_of(in_8_bit, wanted)
    if wanted is None or not all(_holds(crop, box) for box in moved(boxes, frame)):
        wanted, content = None, pixels
    else:
        content, from_hung = cut_and_resize(pixels, crop, wanted)
        frame = frame.then(from_hung)
    return content, Prepared(
        source_height=height,
        source_width=width,
        scale_x=frame.scale_x,
        offset_x=frame.offset_x,
        scale_y=frame.scale_y,
        offset_y=frame.offset_y,
        as_input=wanted,
    )


def _turned(pixels: NDArray[Any], settings: CacheSettings) -> NDArray[Any]:
    """The pixels, or, of negatives, what they are negatives of."""
    return np.iinfo(pixels.dtype).max - pixels if settings.inverted else pixels


def _holds(crop: tuple[int, int, int, int], box: Box) -> bool:
    return crop[0] <= box[0] and crop[1] <= box[1] and box[2] <= crop[2] and box[3] <= crop[3]


def _stored(record: ImageRecord, target: Path, picture: _Picture) -> ImageRecord:
    """The record of a stored picture."""
    prepared = picture.prepared
    spacing = record.pixel_spacing_mm
    return dataclasses.replace(
        record,
        path=target.absolute(),
        file_name=target.name,
        height=picture.height,
        width=picture.width,
        pixel_spacing_mm=spacing and _divided(spacing, prepared),
        findings=tuple(_moved(finding, picture) for finding in record.findings),
        prepared=prepared,
    )


def _divided(spacing: tuple[float, float], prepared: Prepared) -> tuple[float, float]:
    """(row, column) spacing in mm of the stored picture."""
    return spacing[0] / abs(prepared.scale_y), spacing[1] / abs(prepared.scale_x)


def _moved(finding: Finding, picture: _Picture) -> Finding:
    x1, y1, x2, y2 = picture.prepared.to_stored(finding.box)
    width, height = float(picture.width), float(picture.height)
    # A box that ends at the crop's edge may leave it by the last digit.
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
    outline = outlines.moved(finding.outline, picture.prepared.point_to_stored)
    if outline:
        outline = outlines.simplified(outlines.clean(outline, picture.height, picture.width), 0)
    return dataclasses.replace(finding, box=box, outline=outline)


def _made_from(record: ImageRecord, settings: CacheSettings) -> str:
    """Everything that decides about the stored pixels, as text."""
    status = record.path.stat()
    sides = list(zip(*(finding.box for finding in record.findings), strict=True))
    extent = [*map(min, sides[:2]), *map(max, sides[2:])]
    how = dataclasses.asdict(settings)
    if not settings.inverted:  # pictures of before there was the choice stay up to date
        del how["inverted"]
    return json.dumps([PIXELS_VERSION, status.st_size, status.st_mtime_ns, extent, how])


def _read_earlier(target: Path, *, overwrite: bool) -> _Earlier | None:
    """What an earlier run made there; None if there is nothing, or nothing of use."""
    if not target.exists():
        return None
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give another --out, or remove it")
    with open(target, "rb") as stream:
        start = stream.read(START_BYTES)
    text = text_of(start, PREPARED_KEYWORD)
    if text is None and not overwrite:
        raise OutputError(
            f"{target} is there already and is no prepared picture; give another --out, or "
            "--overwrite"
        )
    try:
        facts = json.loads(text or "")
        prepared = read_prepared(str(target), facts, "prepared")
        return _Earlier(facts["fingerprint"], _Picture(*size_of(start), prepared))
    except (ValueError, KeyError, TypeError, AnnotationError):
        return None


def _require_own_places(records: Sequence[ImageRecord], places: Mapping[int, Path]) -> None:
    """Refuse a place of two images, and one where an image of the source lies, by whatever links.

    The first loses a picture; the second would replace the original by its small copy.
    """
    users: dict[Path, ImageRecord] = {}
    sources = {record.path.resolve() for record in records}
    for record in records:
        if places[record.image_id].resolve() in sources:
            raise OutputError(
                f"{places[record.image_id]} is an image of the source itself, and would be "
                "replaced: give another --out"
            )
        other = users.setdefault(places[record.image_id], record)
        if other is not record:
            raise DataError(
                f"{other.path} and {record.path} would both become {places[record.image_id]}: "
                "leave one out"
            )


def _remove_leftovers(targets: Iterable[Path]) -> None:
    """Remove the unfinished files of a run that was killed."""
    for folder in {target.parent for target in targets}:
        for leftover in folder.glob(".*.png.*.part"):
            leftover.unlink()
