"""How does a stored mammogram become a picture that hangs as a radiologist hangs it?

A small JPEG for an overview, or a PNG of every stored pixel.

As the network sees it: by the flips of its file, which are those of Patient Orientation. Where the
file does not say how it lies, a picture for people is also mirrored so that the chest wall of a
right breast is at the right edge, that of a left breast at the left: the two face each other.

Only the picture turns; the records and boxes stay in the stored pixels, and whoever draws boxes
over it asks ``is_mirrored`` and ``is_upside_down``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.view import Flips
from simfrcnn.errors import DataError
from simfrcnn.images.breast import breast_mask, chest_wall_side
from simfrcnn.images.png import encode_png
from simfrcnn.images.reading import load_greys
from simfrcnn.records import ImageRecord, Laterality

SIDE_PX = 800
"""The longer side of a picture, at most."""
_QUALITY = 80
_THREADS = 4


@dataclass(frozen=True)
class HungPicture:
    """An encoded picture, and how it lies against the stored pixels.

    ``is_mirrored`` is left-right, ``is_upside_down`` top-bottom.
    """

    content: bytes
    media_type: str
    is_mirrored: bool
    is_upside_down: bool = False


def hung_pictures(records: Sequence[ImageRecord]) -> Iterator[HungPicture]:
    """One JPEG for each record, in their order; files are read by a few threads at a time.

    Threads, not processes: decoding and resizing release the interpreter, and a script without a
    main guard may call this.

    Raises:
        DataError: A file cannot be read, or has another size than its record says.
    """
    yield from _in_order(hung_picture, records)


def source_pictures(records: Sequence[ImageRecord]) -> Iterator[HungPicture]:
    """One PNG at the stored resolution for each record; read as :func:`hung_pictures` reads.

    Raises:
        DataError: A file cannot be read, or has another size than its record says.
    """
    yield from _in_order(source_picture, records)


def hung_picture(record: ImageRecord) -> HungPicture:
    """The picture of one record as JPEG, at most :data:`SIDE_PX` on its longer side."""
    pixels, own_flips = _stored(record)
    small = _reduced(pixels)
    flips = flips_for_reading(small, own_flips, record.laterality)
    hung = flips.turned(small)
    done, encoded = cv2.imencode(
        ".jpg", hung, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    )
    if not done:
        raise DataError(f"{record.path}: the small picture of it cannot be encoded as JPEG")
    return HungPicture(encoded.tobytes(), "image/jpeg", flips.horizontal, flips.vertical)


def source_picture(record: ImageRecord) -> HungPicture:
    """Every stored pixel of one record as 8-bit greys, losslessly; it hangs as the small one."""
    pixels, own_flips = _stored(record)
    flips = flips_for_reading(pixels, own_flips, record.laterality)
    content = encode_png(flips.turned(pixels), {})
    return HungPicture(content, "image/png", flips.horizontal, flips.vertical)


def flips_for_reading(
    pixels: NDArray[np.uint8], flips: Flips, laterality: Laterality | None
) -> Flips:
    """What turns a stored picture as people read it: the network's flips, where the file has any.

    Else the breast is looked for in the picture at :data:`SIDE_PX`, whatever size it is given in,
    so that a film hangs alike in the report, on the web page and in the picture of its exam.

    Args:
        pixels: (H, W) as stored, or :func:`_reduced` already; white = dense.
        flips: Of the file, as the network's input is hung.
        laterality: Which breast it is, None if not known.
    """
    if flips.is_stated:
        return flips
    return Flips(horizontal=must_mirror(_reduced(pixels), laterality))


def must_mirror(pixels: NDArray[np.uint8], laterality: Laterality | None) -> bool:
    """Whether the chest wall lies on the wrong side; no where the side or breast is not clear.

    Args:
        pixels: (H, W), white = dense.
        laterality: Which breast it is, None if not known.
    """
    if laterality is None:
        return False
    side = chest_wall_side(breast_mask(pixels))
    return side is not None and side is not laterality


def _in_order(
    picture: Callable[[ImageRecord], HungPicture], records: Sequence[ImageRecord]
) -> Iterator[HungPicture]:
    with ThreadPoolExecutor(min(_THREADS, max(1, len(records)))) as pool:
        yield from pool.map(picture, records)


def _stored(record: ImageRecord) -> tuple[NDArray[np.uint8], Flips]:
    """(H, W) as stored, rounded to 8 bits, and the flips of the file."""
    greys = load_greys(record)
    return greys.as_uint8(), greys.flips


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shrink = SIDE_PX / max(pixels.shape)
    if shrink >= 1:
        return pixels
    size = tuple(max(1, round(side * shrink)) for side in pixels.shape[::-1])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
