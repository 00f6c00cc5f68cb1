"""Do the grey values look like those of a mammogram, and like those of the others?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from simfrcnn.data.inspect.checks.files import BLANK_RANGE
from simfrcnn.data.inspect.checks.measures import ImageMeasures
from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Entry,
    Severity,
    example,
    found,
)

_NEGATIVE_BALANCE = -0.12
_SATURATED_SHARE = 0.05
_NARROW_RANGE = 64.0
_LEAST_FOR_OUTLIERS = 20
_OUTLIER_DEVIATIONS = 5.0
_LEAST_DIFFERENCE = 40.0
"""Grey levels; less is an ordinary difference between breasts, however alike the others are."""


def check_polarity(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Negatives: the air round the breast is white."""
    yield from found(
        "inverted",
        Severity.WARNING,
        "images look inverted: their largest even area, the air, is white",
        "invert them when the data set is prepared (MONOCHROME1 that was not inverted?)",
        (example(entry) for entry, measures in _pictures(collection) if _is_negative(measures)),
    )


def check_saturation(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Breasts of which a part is plain white."""
    yield from found(
        "saturated",
        Severity.WARNING,
        f"more than {_SATURATED_SHARE:.0%} of the breast is pure white: what it held there is lost",
        "take a wider window, or the full bit depth, when the data set is prepared",
        (
            example(entry, f"{measures.saturated_share:.0%}")
            for entry, measures in _pictures(collection)
            if _is_saturated(measures)
        ),
    )


def check_range(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Nearly black, or flat, images."""
    yield from found(
        "narrow_range",
        Severity.WARNING,
        "images use little of the grey scale: perhaps 16 bits read as 8, or a wrong window",
        "prepare them again with the full bit depth",
        (
            example(entry, f"{measures.grey_range:.0f} of 255 grey levels")
            for entry, measures in _pictures(collection)
            if _is_narrow(measures)
        ),
    )


def check_outliers(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Images that are much brighter, darker or harder than the others, for no other reason here."""
    pictures = [
        (entry, measures)
        for entry, measures in _pictures(collection)
        if not (_is_negative(measures) or _is_saturated(measures) or _is_narrow(measures))
    ]
    measures = (
        _far_from_others("median grey of the breast", [f.median_grey for _, f in pictures]),
        _far_from_others("grey range", [f.grey_range for _, f in pictures]),
    )
    yield from found(
        "grey_outlier",
        Severity.WARNING,
        "grey values are far from those of the other images (by median and median deviation)",
        "look at them: another device, a wrong window, a film border, or no mammogram",
        (
            example(entry, "; ".join(filter(None, reasons)))
            for (entry, _), *reasons in zip(pictures, *measures, strict=True)
            if any(reasons)
        ),
    )


def _far_from_others(name: str, values: Sequence[float]) -> list[str]:
    """For each value why it is an outlier, "" where it is none; few values have no outliers."""
    if len(values) < _LEAST_FOR_OUTLIERS:
        return [""] * len(values)
    centre = float(np.median(values))
    # 1.4826 x the median absolute deviation estimates the standard deviation of a normal law.
    spread = 1.4826 * float(np.median(np.abs(np.array(values) - centre)))
    limit = max(_LEAST_DIFFERENCE, _OUTLIER_DEVIATIONS * spread)
    return [
        f"{name} {value:.0f}, of the others {centre:.0f}" if abs(value - centre) > limit else ""
        for value in values
    ]


def _pictures(collection: Collection) -> Iterator[tuple[Entry, ImageMeasures]]:
    """The images that hold a picture as a display would show it."""
    for entry, measures in collection.measured():
        if measures.grey_range > BLANK_RANGE and not measures.is_raw:
            yield entry, measures


def _is_negative(measures: ImageMeasures) -> bool:
    return measures.air_balance < _NEGATIVE_BALANCE and measures.edge_balance < 0


def _is_saturated(measures: ImageMeasures) -> bool:
    return measures.saturated_share > _SATURATED_SHARE and not _is_negative(measures)


def _is_narrow(measures: ImageMeasures) -> bool:
    return measures.grey_range < _NARROW_RANGE
