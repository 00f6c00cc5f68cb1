"""What do the images look like to the network, and their lesions close up?

Sheets show inputs, not files: cropped to the breast and resized as in training, so that a wrong
crop, a wrong polarity or a box at a wrong place is seen, and labels beside the breast are not.
Images are named by their id. Pictures are (H, W, 3) uint8, BGR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from simfrcnn.errors import OutputError
from simfrcnn.parallel import in_parallel
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings
from simfrcnn.structures import Frame
from simfrcnn.training.loading import load_sample, moved_outline

Picture = NDArray[np.uint8]

_COLOURS = ((60, 60, 255), (80, 220, 80), (255, 180, 60), (60, 200, 255), (230, 120, 230))
"""BGR, by the order of the categories; the first is the target's."""
_TILE_PX, _CLOSE_UP_PX, _CAPTION_PX, _GAP_PX = 256, 160, 18, 4
_SUMMED_COLOUR, _SUMMED_SHARE = (60, 200, 255), 0.5
_N_COLUMNS = 8
_CONTEXT = 3.0
"""Side of a close-up in sides of its box."""
_LEAST_CONTEXT_PX = 24


@dataclass(frozen=True)
class PictureTask:
    """An image to draw; ``categories`` give the colours."""

    record: ImageRecord
    input: InputSettings
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """One image: its tile with boxes, and one close-up without a box for each of its findings."""

    tile: Picture
    close_ups: tuple[Picture, ...]
    summed: Picture | None = None
    """The tile with all outlines filled, where any is known."""


def draw_all(
    records: Sequence[ImageRecord],
    settings: InputSettings,
    categories: tuple[str, ...],
    *,
    n_workers: int | None = None,
) -> list[Drawn]:
    """Draw images, in their order (see :func:`draw`)."""
    tasks = [PictureTask(record, settings, categories) for record in records]
    return list(in_parallel(draw, tasks, title="draw", unit="image", n_workers=n_workers))


def draw(task: PictureTask) -> Drawn:
    """One image as the network gets it, with a caption and a box round every finding.

    Raises:
        DataError: The image cannot be read.
    """
    record = task.record
    sample = load_sample(record, input_settings=task.input, classes=(), training=True)
    grey = sample.image[0].numpy().astype(np.uint8)
    outlines = torch.tensor([f.box for f in record.findings], dtype=torch.float64).reshape(-1, 4)
    boxes = sample.frame.to_input(outlines).tolist()
    factor = _TILE_PX / max(grey.shape)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    tile = _to_colour(small)
    for finding, box in zip(record.findings, boxes, strict=True):
        x1, y1, x2, y2 = (round(edge * factor) for edge in box)
        colour = _COLOURS[task.categories.index(finding.category) % len(_COLOURS)]
        cv2.rectangle(tile, (x1 - 1, y1 - 1), (x2, y2), colour, 1)
    has_outlines = any(finding.outline for finding in record.findings)
    close_ups = [
        _captioned(_close_up(grey, box), f"{record.image_id} {finding.category}")
        for finding, box in zip(record.findings, boxes, strict=True)
    ]
    summed = _summed(small, record, sample.frame, factor) if has_outlines else None
    return Drawn(
        _captioned(tile, _caption(record)),
        tuple(close_ups),
        None if summed is None else _captioned(summed, _caption(record)),
    )


def _summed(small: Picture, record: ImageRecord, frame: Frame, factor: float) -> Picture:
    """A tile with all that is outlined in one colour: what a network of whole masks would see."""
    picture = _to_colour(small)
    for finding in record.findings:
        for ring in moved_outline(finding.outline, frame):
            points = np.rint(np.array(ring) * factor).astype(np.int32)[:, None]
            cv2.fillPoly(picture, [points], _SUMMED_COLOUR)
    blended: Picture = cv2.addWeighted(picture, _SUMMED_SHARE, _to_colour(small), 0.5, 0)
    return blended


def sheet(tiles: Sequence[Picture], categories: Sequence[str] = ()) -> bytes:
    """Tiles of one size in rows of eight, with a legend of the box colours, as PNG."""
    height, width = tiles[0].shape[:2]
    blank = np.zeros((height, width, 3), np.uint8)
    n_columns = min(_N_COLUMNS, len(tiles))
    padded = [*tiles, *[blank] * (-len(tiles) % n_columns)]
    rows = [
        np.hstack([_with_gap(tile) for tile in padded[start : start + n_columns]])
        for start in range(0, len(padded), n_columns)
    ]
    page = np.vstack([_legend(categories, rows[0].shape[1]), *rows])
    done, encoded = cv2.imencode(".png", page)
    if not done:
        raise OutputError(f"a sheet of {page.shape[1]} x {page.shape[0]} pixels cannot be encoded")
    return encoded.tobytes()


def evenly(records: Sequence[ImageRecord], n_wanted: int) -> list[ImageRecord]:
    """At most that many records, evenly spread over the file."""
    if len(records) <= n_wanted:
        return list(records)
    return [records[index * len(records) // n_wanted] for index in range(n_wanted)]


def _caption(record: ImageRecord) -> str:
    facts = (
        record.laterality.value if record.laterality else "?",
        record.view_position.value if record.view_position else "?",
        record.supervision.value,
    )
    return f"{record.image_id} {' '.join(facts)}"


def _close_up(grey: Picture, box: Sequence[float]) -> Picture:
    """The surroundings of a box, black beyond the image."""
    x1, y1, x2, y2 = box
    half = round(max(_LEAST_CONTEXT_PX, _CONTEXT * max(x2 - x1, y2 - y1)) / 2)
    column, row = round((x1 + x2) / 2), round((y1 + y2) / 2)
    padded = np.pad(grey, half)
    cut = padded[row : row + 2 * half, column : column + 2 * half]
    size = (_CLOSE_UP_PX, _CLOSE_UP_PX)
    return _to_colour(np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_CUBIC)))


def _captioned(picture: Picture, text: str) -> Picture:
    strip = np.zeros((_CAPTION_PX, picture.shape[1], 3), np.uint8)
    _write(strip, text, 3, (230, 230, 230))
    return np.vstack([picture, strip])


def _legend(categories: Sequence[str], width: int) -> Picture:
    strip = np.zeros((_CAPTION_PX, width, 3), np.uint8)
    left = 3
    for number, name in enumerate(categories):
        _write(strip, name, left, _COLOURS[number % len(_COLOURS)])
        left += 9 * len(name) + 12
    return strip


def _write(strip: Picture, text: str, left: int, colour: tuple[int, int, int]) -> None:
    shown = text.encode("ascii", "replace").decode("ascii")  # all that the font has
    place = (left, _CAPTION_PX - 5)
    cv2.putText(strip, shown, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def _with_gap(tile: Picture) -> Picture:
    bordered: Picture = cv2.copyMakeBorder(tile, 0, _GAP_PX, 0, _GAP_PX, cv2.BORDER_CONSTANT)
    return bordered


def _to_colour(grey: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
