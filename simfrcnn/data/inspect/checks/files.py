"""Can every image be read, and does each hold a picture?"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.data.inspect.checks.measures import Unreadable
from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Severity,
    example,
    found,
)

BLANK_RANGE = 2.0


def check_readable(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Files that are missing, damaged or no mammogram."""
    yield from found(
        "unreadable",
        Severity.ERROR,
        "image files cannot be read: training stops at the first",
        "fetch the files again, or take the images out of the annotation file",
        (
            example(entry, entry.measures.reason)
            for entry in collection.images()
            if isinstance(entry.measures, Unreadable)
        ),
    )


def check_size_as_stated(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Files whose pixels are not those that the boxes were drawn on."""
    yield from found(
        "other_size",
        Severity.ERROR,
        "images have another size than the annotation file states: boxes are at wrong places",
        "prepare the data set again from these images",
        (
            example(
                entry,
                f"{measures.shape[1]} x {measures.shape[0]} pixels, stated are "
                f"{entry.record.width} x {entry.record.height}",
            )
            for entry, measures in collection.measured()
            if measures.shape != (entry.record.height, entry.record.width)
        ),
    )


def check_blank(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Pictures of a single grey value."""
    yield from found(
        "blank",
        Severity.ERROR,
        "images are blank: all pixels are alike",
        "fetch the files again, or take the images out",
        (
            example(entry)
            for entry, measures in collection.measured()
            if measures.grey_range <= BLANK_RANGE
        ),
    )
