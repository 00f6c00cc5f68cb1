"""What do the phantoms look like: a contact sheet for the documentation.

``python -m simfrcnn.phantom.sheet docs/images/phantom_sheet.jpg`` draws it again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from simfrcnn.files import write_bytes
from simfrcnn.phantom.anatomy import SCREENING_VIEWS
from simfrcnn.phantom.exams import PhantomExam, draw_exams, stored_box
from simfrcnn.phantom.presets import PRESETS, Preset
from simfrcnn.phantom.render import render_view
from simfrcnn.records import Laterality, Pathology, ViewPosition

ColourImage = npt.NDArray[np.uint8]

_COLOURS = {Pathology.MALIGNANT: (60, 60, 255), Pathology.BENIGN: (80, 220, 80)}
_ZOOM_MM, _ZOOM_PX, _N_ZOOMED = 50.0, 150, 8
_GAP_PX = 6


def contact_sheet(preset: Preset, seed: int) -> ColourImage:
    """Both views of a normal, a benign and a malignant breast with boxes, and masses close up.

    Returns:
        (H, W, 3) BGR: red boxes are malignant (upper row of close-ups), green ones benign (lower
        row).
    """
    exams = draw_exams(preset, seed)
    normal = next(exam for exam in exams if not _breasts_with(exam, None))
    kinds = (Pathology.BENIGN, Pathology.MALIGNANT)
    benign, malignant = (_first_shown_twice(exams, kind) for kind in kinds)
    views: list[ColourImage] = []
    for exam, side in ((normal, Laterality.RIGHT), benign, malignant):
        pair = [
            _view(exam, side, view, preset, seed) for view in (ViewPosition.CC, ViewPosition.MLO)
        ]
        views += pair
    top = np.hstack(views)
    rows = [_close_ups(exams, kind, preset, seed, top.shape[1]) for kind in reversed(kinds)]
    gap = np.zeros((_GAP_PX, top.shape[1], 3), np.uint8)
    return np.vstack([top, gap, rows[0], gap, rows[1]])


def _breasts_with(exam: PhantomExam, kind: Pathology | None) -> list[Laterality]:
    """The sides whose masses are all of one kind (any kind: None) and shown in both views."""
    return [
        breast.laterality
        for breast in exam.breasts
        if breast.masses
        and all(kind is None or mass.pathology is kind for mass in breast.masses)
        and (kind is None or all(len(mass.projections) == 2 for mass in breast.masses))
    ]


def _first_shown_twice(exams: list[PhantomExam], kind: Pathology) -> tuple[PhantomExam, Laterality]:
    return next((exam, side) for exam in exams for side in _breasts_with(exam, kind))


def _view(
    exam: PhantomExam, side: Laterality, view: ViewPosition, preset: Preset, seed: int
) -> ColourImage:
    picture = _to_colour(render_view(exam, side, view, preset, seed))
    for mass in exam.masses(side, view):
        left, top, right, bottom = (round(edge) for edge in stored_box(mass, side, view, preset))
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _COLOURS[mass.pathology], 1)
    return picture


def _close_ups(
    exams: list[PhantomExam], kind: Pathology, preset: Preset, seed: int, width_px: int
) -> ColourImage:
    shown = [
        (exam, side, view, mass)
        for exam in exams
        for side in Laterality
        for view in SCREENING_VIEWS
        for mass in exam.masses(side, view)
        if mass.pathology is kind
    ][:_N_ZOOMED]
    half = round(0.5 * _ZOOM_MM / preset.pixel_spacing_mm)
    tiles = []
    for exam, side, view, mass in shown:
        box = stored_box(mass, side, view, preset)
        row, column = round((box[1] + box[3]) / 2), round((box[0] + box[2]) / 2)
        padded = np.pad(render_view(exam, side, view, preset, seed), half)
        tile = padded[row : row + 2 * half, column : column + 2 * half]
        size = (_ZOOM_PX, _ZOOM_PX)
        tiles.append(_to_colour(cv2.resize(tile, size, interpolation=cv2.INTER_CUBIC)))
    strip = np.hstack(tiles)
    height_px = round(strip.shape[0] * width_px / strip.shape[1])
    return np.asarray(cv2.resize(strip, (width_px, height_px), interpolation=cv2.INTER_CUBIC))


def _to_colour(picture: npt.NDArray[np.floating]) -> ColourImage:
    grey = np.clip(np.rint(picture * 255.0), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))


def main() -> None:
    """Write the sheet as JPEG to the path given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sheet = contact_sheet(PRESETS["demo"], args.seed)
    _, encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])
    write_bytes(args.path, encoded.tobytes())


if __name__ == "__main__":
    main()
