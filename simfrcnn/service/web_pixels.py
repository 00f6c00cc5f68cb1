"""The pixels of a film for a browser, before they are put under a window: 8 or 16 bits, hung.

A block is self-describing: the length of a JSON header (4 bytes, little endian), the header, and
the samples, row by row, little endian. H x W are the pixels of the film.
"""

from __future__ import annotations

import json
import struct
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.display import Display
from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.dicom.view import Flips
from simfrcnn.images.hanging import flips_for_reading
from simfrcnn.images.preprocess import hang
from simfrcnn.images.reading import record_and_greys

REDUCTIONS = (1, 2, 4, 8)
"""By which both sides may be made smaller: legal values of ``reduce``."""
_N_KEPT = 8
"""Films that are kept decoded: at most some 17 MB each."""
_CURVE = 257


@dataclass(frozen=True)
class FilmPixels:
    """Samples (H, W) uint8 or uint16 as they hang, and what a display shows of them by default.

    Samples fill their type. The window from ``low`` to ``high`` is in parts of that scale and may
    reach beyond it; ``curve`` is the grey, 0..1, at equal steps from ``low`` to ``high``: a
    straight line for a linear window, an S for a sigmoid.
    """

    samples: NDArray[Any]
    flips: Flips
    low: float
    high: float
    curve: tuple[float, ...]

    def block(self, reduction: int) -> bytes:
        """The bytes of the film, ``reduction`` times smaller by area average.

        Args:
            reduction: One of :data:`REDUCTIONS`.
        """
        height, width = self.samples.shape
        small = self.samples
        if reduction > 1:
            size = (max(1, width // reduction), max(1, height // reduction))
            small = cv2.resize(self.samples, size, interpolation=cv2.INTER_AREA)
        header = {
            "width": small.shape[1],
            "height": small.shape[0],
            "bits": 8 * small.dtype.itemsize,
            "low": self.low,
            "high": self.high,
            "curve": self.curve,
            "mirrored": self.flips.horizontal,
            "upside_down": self.flips.vertical,
        }
        text = json.dumps(header).encode("ascii")
        text += b" " * (-len(text) % 4)  # samples of two bytes begin at an even place
        return b"".join((struct.pack("<I", len(text)), text, small.tobytes()))


def film_pixels(path: Path, options: DicomOptions) -> FilmPixels:
    """Read a film as it is hung for reading.

    Raises:
        DataError: The file cannot be read.
    """
    record, greys = record_and_greys(path, 0, options)
    if isinstance(greys, Display):
        samples, low, high, curve = _of_dicom(greys)
    else:
        is_8_bit = greys.as_uint8() is getattr(greys, "values", None)
        samples = greys.as_uint8() if is_8_bit else greys.as_uint16()
        low, high, curve = 0.0, 1.0, (0.0, 1.0)
    flips = flips_for_reading(greys.as_uint8(), greys.flips, record.laterality)
    hung, _ = hang(samples, flips)
    return FilmPixels(hung, flips, low, high, curve)


def _of_dicom(display: Display) -> tuple[NDArray[Any], float, float, tuple[float, ...]]:
    """Samples before the VOI transform, and that transform as a window and a curve."""
    samples = display.as_source()
    at, places = np.unique(np.asarray(display.before_voi), return_index=True)
    at, places = at[np.isfinite(at)], places[np.isfinite(at)]
    greys = display.greys[places]
    dark, light = np.flatnonzero(greys <= greys.min()), np.flatnonzero(greys >= greys.max())
    low, high = float(at[0]), float(at[-1])
    if dark[-1] < light[0]:  # the window's own ends, where all below is dark and all above light
        low, high = float(at[dark[-1]]), float(at[light[0]])
    if not high > low:  # every pixel alike
        low, high = 0.0, 1.0
    curve = np.interp(np.linspace(low, high, _CURVE), at, greys)
    return samples, low, high, tuple(np.round(curve, 5).tolist())


class FilmCache:
    """The films that were looked at last, decoded; a film is read once, whoever asks at a time."""

    def __init__(self, options: DicomOptions, n_kept: int = _N_KEPT) -> None:
        self._options = options
        self._n_kept = n_kept
        self._films: OrderedDict[tuple[Path, int, int], Future[FilmPixels]] = OrderedDict()
        self._lock = threading.Lock()

    def film(self, path: Path) -> FilmPixels:
        """The pixels of a file as it is now.

        Raises:
            DataError: It cannot be read.
            OSError: It is gone.
        """
        state = path.stat()
        key = (path, state.st_size, state.st_mtime_ns)
        with self._lock:
            is_new = key not in self._films
            future = self._films.setdefault(key, Future())
            self._films.move_to_end(key)
            while len(self._films) > self._n_kept:
                self._films.popitem(last=False)
        if is_new:
            try:
                future.set_result(film_pixels(path, self._options))
            except BaseException as error:
                with self._lock:
                    self._films.pop(key, None)
                future.set_exception(error)
        return future.result()
