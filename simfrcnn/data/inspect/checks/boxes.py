"""Are the boxes where a lesion can be, and of a size that the network can find?"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn import outlines
from simfrcnn.data.inspect.checks.measures import BoxMeasures, ImageMeasures
from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Entry,
    Severity,
    example,
    found,
)
from simfrcnn.data.inspect.overview.anchors import MATCH_IOU
from simfrcnn.records import Box, Finding

_LEAST_BREAST_SHARE = 0.25
_LARGE_SHARE = 0.5
_SAME_BOX_IOU = 0.9
_SAME_PLACE_IOU = 0.5
"""Of an outline's box and its finding's: far below what rounding and specks come to."""
_EDGE_PX = 0.5


def check_boxes_on_breast(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Boxes that lie on the background."""
    yield from found(
        "box_outside_breast",
        Severity.WARNING,
        "boxes lie outside the breast: a wrong place, a mirrored image, or a wrong size",
        "look at them (simfrcnn data show); correct the box, or take the image out",
        (
            example(entry, f"{_shown(finding)}: {measures.breast_share:.0%} of it is breast")
            for entry, finding, measures in _measured_boxes(collection)
            if measures.breast_share < _LEAST_BREAST_SHARE
        ),
    )


def check_small_boxes(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Boxes that the smallest anchor cannot match at the size of training."""
    size = " x ".join(str(side) for side in settings.input.size_px)
    anchor = settings.smallest_anchor_px
    least = anchor * MATCH_IOU**0.5
    yield from found(
        "box_too_small",
        Severity.WARNING,
        f"boxes are too small at {size} for an anchor of {anchor:g} pixels, even one centred on "
        f"them (IoU below {MATCH_IOU:g}; a square of less than {least:.0f})",
        "train at a larger size or with smaller anchors (simfrcnn data show suggests some)",
        (
            example(
                entry,
                f"{_shown(finding)}: {measures.width_px:.1f} x {measures.height_px:.1f} there",
            )
            for entry, finding, measures in _measured_boxes(collection)
            if not finding.iscrowd
            and measures.width_px * measures.height_px < MATCH_IOU * anchor * anchor
        ),
    )


def check_large_boxes(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Boxes that are most of their image."""
    yield from found(
        "box_too_large",
        Severity.WARNING,
        "boxes cover more than half of their image: perhaps pixels were taken for millimetres, or "
        "the whole breast was outlined",
        "look at them (simfrcnn data show); correct the box, or take the image out",
        (
            example(entry, _shown(finding))
            for entry, finding in collection.boxed()
            if _area(finding.box) > _LARGE_SHARE * entry.record.height * entry.record.width
        ),
    )


def check_outlines(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Outlines that lie elsewhere than the box of their finding, or are of another size."""
    yield from found(
        "outline_off_box",
        Severity.WARNING,
        f"outlines and the boxes of their findings differ (IoU below {_SAME_PLACE_IOU:g}): a mask "
        "head would learn, and be judged on, something else than the box",
        "correct the one that is wrong, or leave 'segmentation' out (prepare-data coco does so)",
        (
            example(entry, f"{_shown(finding)}: the outline's is {_corners(box)}")
            for entry, finding in collection.boxed()
            if finding.outline
            and _iou(finding.box, box := outlines.box_of(finding.outline)) < _SAME_PLACE_IOU
        ),
    )


def check_repeated_boxes(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Two boxes of one class at one place."""
    yield from found(
        "box_twice",
        Severity.WARNING,
        "two boxes of one class are at one place: a detection finds one, the other counts as "
        "missed",
        "keep one of them",
        (
            example(entry, _shown(finding))
            for entry in collection.entries
            if not entry.set.is_in_fractions
            for number, finding in enumerate(entry.record.findings)
            for other in entry.record.findings[:number]
            if finding.category == other.category and _iou(finding.box, other.box) > _SAME_BOX_IOU
        ),
    )


def check_boxes_at_edge(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Boxes that end at the image's edge, as those do that were clipped.

    The edge of a picture that was prepared as input is that of its crop, which says nothing.
    """
    yield from found(
        "box_at_edge",
        Severity.NOTE,
        "boxes end at the edge of their image: usual at the chest wall, else they were clipped",
        "nothing, if the lesions are cut off there; else see the source's notes",
        (
            example(entry, _shown(finding))
            for entry, finding in collection.boxed()
            if not (entry.record.prepared and entry.record.prepared.as_input)
            and _is_at_edge(finding.box, entry)
        ),
    )


def _measured_boxes(collection: Collection) -> Iterator[tuple[Entry, Finding, BoxMeasures]]:
    for entry, finding in collection.boxed():
        if isinstance(entry.measures, ImageMeasures):
            yield entry, finding, entry.measures.boxes[finding.box]


def _is_at_edge(box: Box, entry: Entry) -> bool:
    x1, y1, x2, y2 = box
    right, bottom = entry.record.width - _EDGE_PX, entry.record.height - _EDGE_PX
    return x1 < _EDGE_PX or y1 < _EDGE_PX or x2 > right or y2 > bottom


def _iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shown(finding: Finding) -> str:
    return f"{finding.category} {_corners(finding.box)}"


def _corners(box: Box) -> str:
    x1, y1, x2, y2 = box
    return f"[{x1:.0f}, {y1:.0f}, {x2:.0f}, {y2:.0f}]"
