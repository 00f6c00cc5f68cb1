"""Which file of a CBIS-DDSM download is what?

Downloads differ in everything but the series: the first ones are nested folders named by study and
series with 000000.dcm and 000001.dcm, later ones have 1-1.dcm and 1-2.dcm, or dated folders without
any UID, a mirror has jpeg/<series>/*.jpg. So files are found by their series UID (name of the
folder, else the DICOM header), and a mask is known by its pixels: two values, the film's shape.

Shapes: H x W the pixels of a file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simfrcnn import outlines
from simfrcnn.data.sources.films import (
    ANY_IMAGE,
    dicom_first,
    has_shape_of,
    is_image,
)
from simfrcnn.dicom.header import read_header
from simfrcnn.errors import DataError, DicomError
from simfrcnn.images.finding import is_dicom
from simfrcnn.images.names import files_below
from simfrcnn.images.reading import read_image
from simfrcnn.records import Box, Outline

_UID = re.compile(r"\d+(\.\d+){4,}")
_TWO_VALUED = 0.99
"""Share of pixels near the two extremes: JPEG rings along the edge of a mask."""


@dataclass(frozen=True)
class Files:
    """The images of a download.

    ``of_series`` maps a series UID to its files, DICOM before others, by path. ``unreadable`` are
    DICOM files whose header does not tell the series, ``unplaced`` other pictures in folders that
    are no series.
    """

    of_series: Mapping[str, tuple[Path, ...]]
    unreadable: tuple[Path, ...]
    unplaced: tuple[Path, ...]

    @property
    def all(self) -> list[Path]:
        """Every image, by path."""
        in_series = (path for paths in self.of_series.values() for path in paths)
        return sorted([*in_series, *self.unreadable, *self.unplaced])


@dataclass(frozen=True)
class Mask:
    """The files of one abnormality, told apart by content.

    ``mask`` and ``crop`` are None where they are not found, and ``problem`` says why there is no
    ``box``; ``box`` is in pixels of the film, half open, ``scaled`` if the mask has another size.
    ``outline`` follows the edges of the mask's pixels, ``n_holes`` were filled for it.
    """

    mask: Path | None = None
    crop: Path | None = None
    box: Box | None = None
    scaled: bool = False
    problem: str | None = None
    outline: Outline = ()
    n_holes: int = 0


def find_files(root: Path) -> Files:
    """All images below a folder, by series.

    The header of a DICOM file is read only where its folder is not named by a UID.

    Raises:
        DataError: There is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the CBIS-DDSM download")
    of_series: dict[str, list[Path]] = {}
    unreadable, unplaced = [], []
    for path in filter(is_image, files_below(root)):
        if _UID.fullmatch(path.parent.name):
            of_series.setdefault(path.parent.name, []).append(path)
        elif is_dicom(path):
            series = _series_of(path)
            if series is None:
                unreadable.append(path)
            else:
                of_series.setdefault(series, []).append(path)
        else:
            unplaced.append(path)
    return Files(
        of_series={series: dicom_first(paths) for series, paths in of_series.items()},
        unreadable=tuple(unreadable),
        unplaced=tuple(unplaced),
    )


def _series_of(path: Path) -> str | None:
    """Series Instance UID (0020,000E), None where the header cannot be read or has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values that break the standard
        try:
            return read_header(path).text("SeriesInstanceUID")
        except DicomError:
            return None


def find_mask(paths: Sequence[Path], height: int, width: int) -> Mask:
    """Tell the mask of one abnormality from its crop, and put a box round it.

    The mask is the file of two values that has the size of the film, or else its shape: then the
    box is scaled. Names and the table's columns are not asked: they are wrong as often as right.

    Args:
        paths: The files of the series of both, in any order.
        height: Of the film.
        width: Of the film.
    """
    masks: list[tuple[Path, NDArray[np.bool_]]] = []
    crops: list[Path] = []
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            inside = two_valued(read_image(path, ANY_IMAGE))
        except DataError:
            problems.append("unreadable file")
            continue
        if inside is None or not has_shape_of(inside.shape, height, width):
            crops.append(path)
        else:
            masks.append((path, inside))
    crop = crops[0] if len(crops) == 1 else None
    of_size = [entry for entry in masks if entry[1].shape == (height, width)] or masks
    boxes = {_box(inside, height, width) for _, inside in of_size}
    if not of_size:
        problem = ", ".join(problems) or (
            "no file of two values in the film's shape" if paths else "no file"
        )
        return Mask(crop=crop, problem=problem)
    if len(boxes) > 1:
        return Mask(crop=crop, problem="several masks that differ")
    path, inside = of_size[0]
    (box,) = boxes
    if len(masks) == 2 and not crops:  # a crop of two values in the film's shape, but not its size
        crop = next((other for other, _ in masks if other != path), None)
    edge = outlines.traced(inside)
    y, x = height / inside.shape[0], width / inside.shape[1]
    return Mask(
        mask=path,
        crop=crop,
        box=box,
        scaled=inside.shape != (height, width),
        problem=None if box else "empty mask",
        outline=outlines.moved(edge.outline, lambda point: (point[0] * x, point[1] * y)),
        n_holes=edge.n_holes,
    )


def two_valued(pixels: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """(H, W) which pixels are bright, None if the picture has more than two values.

    A picture of a single value is an empty mask.
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    values = np.flatnonzero(counts)
    low, high = int(values[0]), int(values[-1])
    if low == high:
        return np.zeros(pixels.shape, dtype=bool)
    margin = (high - low) // 8
    at_extremes = counts[low : low + margin + 1].sum() + counts[high - margin : high + 1].sum()
    if at_extremes < _TWO_VALUED * pixels.size:
        return None
    bright: NDArray[np.bool_] = pixels > (low + high) / 2
    return bright


def _box(inside: NDArray[np.bool_], height: int, width: int) -> Box | None:
    """The box round all bright pixels, scaled to the film; None if there are none."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    y, x = height / inside.shape[0], width / inside.shape[1]
    return (
        float(columns[0] * x),
        float(rows[0] * y),
        float((columns[-1] + 1) * x),
        float((rows[-1] + 1) * y),
    )
