"""Are sizes, shapes and pixel spacings those of mammograms?"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Entry,
    Severity,
    example,
    found,
)

_WIDE = 1.2
_LEAST_SIDE_MM, _MOST_SIDE_MM = 60.0, 400.0
"""Of an image's longer side: detectors and films are 240 to 330 mm long, small breasts cut out of
them rather less."""
_SQUARE_TOLERANCE = 0.02


def check_shape(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Images that are wider than high, or smaller than the network's input."""
    yield from found(
        "wide",
        Severity.WARNING,
        "images are wider than high: turned by 90 degrees, or two views in one?",
        "look at them (simfrcnn data show); turn or divide them",
        (
            example(entry, _size(entry))
            for entry in collection.images()
            if entry.record.width > _WIDE * entry.record.height
        ),
    )
    height, width = settings.input.size_px
    yield from found(
        "smaller_than_input",
        Severity.NOTE,
        f"images are smaller than the network's input of {height} x {width}: they are enlarged, "
        "which adds nothing",
        "train at a smaller size, or take the images in their full size",
        (
            example(entry, _size(entry))
            for entry in collection.images()
            if entry.record.height < height
            and entry.record.width < width
            and entry.record.prepared is None
        ),
    )


def check_spacing(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Pixel spacings that make a breast of the wrong size, or differ along the axes."""
    yield from found(
        "spacing_missing",
        Severity.NOTE,
        "pixel spacing is not known: lesion sizes in mm are not",
        "add pixel_spacing_mm if it is known",
        (example(e) for e in collection.images() if e.record.pixel_spacing_mm is None),
    )
    yield from found(
        "spacing_suspicious",
        Severity.WARNING,
        f"by its pixel spacing the image is not {_LEAST_SIDE_MM:.0f} to {_MOST_SIDE_MM:.0f} mm "
        "long: a wrong unit, or a spacing of another size of the image",
        "correct pixel_spacing_mm ([row, column] in mm, at the detector)",
        (
            example(entry, f"{side_mm:.0f} mm, {_size(entry)}")
            for entry in collection.images()
            if (side_mm := _longer_side_mm(entry))
            and not _LEAST_SIDE_MM <= side_mm <= _MOST_SIDE_MM
        ),
    )
    yield from found(
        "spacing_not_square",
        Severity.NOTE,
        "pixels are not square: shapes are distorted",
        "nothing, if the images were stretched on purpose; else prepare them again",
        (
            example(entry, f"rows {spacing[0]:g} mm, columns {spacing[1]:g} mm")
            for entry in collection.images()
            if (spacing := entry.record.pixel_spacing_mm)
            and abs(spacing[0] - spacing[1]) > _SQUARE_TOLERANCE * max(spacing)
        ),
    )


def _size(entry: Entry) -> str:
    return f"{entry.record.width} x {entry.record.height} pixels"


def _longer_side_mm(entry: Entry) -> float:
    """0 where the pixel spacing is not known."""
    spacing = entry.record.pixel_spacing_mm or (0.0, 0.0)
    return max(entry.record.height * spacing[0], entry.record.width * spacing[1])
