"""What was outlined, and what a mask head takes for it, drawn over the films of the gallery.

One SVG: films side by side, as they hang; the outlines of the truth full, those of the masks
dashed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from simfrcnn.evaluation.reporting.gallery import Gallery, HungPicture, picture_source
from simfrcnn.evaluation.truth import View
from simfrcnn.outlines import traced
from simfrcnn.records import ImageRecord, Outline

FILE_NAME = "outlines.svg"
CAPTION = "Outlines: as drawn (full) and as predicted (dashed)"
_MAX_FILMS, _PER_ROW = 8, 4
_WIDTH, _HEIGHT, _GAP = 240, 320, 8
_TRUE, _FOUND = "#56B4E9", "#E69F00"


def has_outlines(gallery: Gallery) -> bool:
    """Whether there is anything to draw."""
    return any(True for _ in _films(gallery))


def outlines_svg(gallery: Gallery, pictures: Mapping[int, HungPicture]) -> str:
    """The drawing; an image without a picture is an empty frame.

    Args:
        gallery: Whose films are shown: the first with an outlined finding.
        pictures: By image id.
    """
    films = list(islice(_films(gallery), _MAX_FILMS))
    n_columns, n_rows = min(len(films), _PER_ROW), -(-len(films) // _PER_ROW)
    width, height = n_columns * (_WIDTH + _GAP), n_rows * (_HEIGHT + _GAP)
    parts = []
    for place, view in enumerate(films):
        row, column = divmod(place, _PER_ROW)
        x, y = column * (_WIDTH + _GAP), row * (_HEIGHT + _GAP)
        parts.append(_film(view, pictures.get(view.record.image_id), x, y, gallery))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{CAPTION}">{"".join(parts)}</svg>'
    )


def _films(gallery: Gallery) -> Iterator[View]:
    for exam in gallery.exams:
        for seen in exam.views:
            if any(finding.outline for finding in seen.view.findings):
                yield seen.view


def _film(view: View, picture: HungPicture | None, x: int, y: int, gallery: Gallery) -> str:
    record = view.record
    scale = min(_WIDTH / record.width, _HEIGHT / record.height)
    image = ""
    if picture is not None:
        image = (
            f'<image href="{picture_source(picture)}" width="{record.width}" '
            f'height="{record.height}" preserveAspectRatio="none"/>'
        )
    true = _path([f.outline for f in view.findings], record, picture)
    masks = [
        mask
        for mask, score in zip(view.masks or (), view.scores.tolist(), strict=False)
        if mask is not None and score >= gallery.score_threshold
    ]
    found = _path([traced(mask.to_array()).outline for mask in masks], record, picture)
    line = 'fill="none" vector-effect="non-scaling-stroke" stroke-width="1.5"'
    return (
        f'<g transform="translate({x} {y}) scale({scale:.6g})"><title>image {record.image_id}'
        f'</title><rect width="{record.width}" height="{record.height}" fill="#000"/>{image}'
        f'<path d="{true}" stroke="{_TRUE}" {line}/>'
        f'<path d="{found}" stroke="{_FOUND}" stroke-dasharray="4 3" {line}/></g>'
    )


def _path(outlines: Sequence[Outline], record: ImageRecord, picture: HungPicture | None) -> str:
    """Rings in stored pixels as a path in the picture as it hangs."""
    is_mirrored = picture is not None and picture.is_mirrored
    is_upside_down = picture is not None and picture.is_upside_down
    rings = [
        " ".join(
            f"{record.width - x if is_mirrored else x:.1f},"
            f"{record.height - y if is_upside_down else y:.1f}"
            for x, y in ring
        )
        for outline in outlines
        for ring in outline
    ]
    return " ".join(f"M{ring}Z" for ring in rings)
