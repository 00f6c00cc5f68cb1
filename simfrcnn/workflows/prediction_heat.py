"""Where do the class maps of a classifier go? Pictures for people, and small maps for viewers.

A picture is a map over the pixels of its image. A small map is the map alone, 8 bits grey over the
whole stored image, 0 for 0 and 255 for 1: a viewer lays it over pixels of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simfrcnn.exam import ImageResult
from simfrcnn.files import write_bytes
from simfrcnn.images.drawing import as_marked_png

HEAT_MAPS, CLASS_MAPS = "heat_maps", "class_maps"


def write_maps(output: Path, image: ImageResult, *, pictures: bool) -> dict[str, dict[str, str]]:
    """Write the maps of an image, if it has any, and with ``pictures`` those over its pixels.

    Returns:
        What the result of its exam says of it: kind -> class -> file below ``output``.

    Raises:
        DataError: The pixels or the maps were not kept, and pictures are asked for.
        OutputError: The operating system refused to write.
    """
    return {
        **({HEAT_MAPS: write_heat_maps(output, image)} if pictures else {}),
        **({} if image.heat is None else {CLASS_MAPS: write_class_maps(output, image)}),
    }


def write_heat_maps(output: Path, image: ImageResult) -> dict[str, str]:
    """Write the maps of an image over its pixels.

    Files are numbered like the model's target classes: a class may have any name.

    Returns:
        Class -> file below ``output``.

    Raises:
        DataError: The pixels or the maps were not kept.
        OutputError: The operating system refused to write.
    """
    places = _places(HEAT_MAPS, image)
    for category, place in places.items():
        write_bytes(output / place, as_marked_png(image.draw_heat(category)))
    return places


def write_class_maps(output: Path, image: ImageResult) -> dict[str, str]:
    """Write the maps of an image alone, of its target classes; numbered as the pictures are.

    Returns:
        Class -> file below ``output``.

    Raises:
        OutputError: The operating system refused to write.
    """
    assert image.heat is not None
    places = _places(CLASS_MAPS, image)
    for category, place in places.items():
        write_bytes(output / place, encoded_map(image.heat[category]))
    return places


def encoded_map(heat: NDArray[np.float32]) -> bytes:
    """A small map (h, w) in [0, 1] as an 8-bit grey PNG file, marked as a result."""
    return as_marked_png(np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8))


def _places(folder: str, image: ImageResult) -> dict[str, str]:
    name = f"{image.image_id:013x}"
    return {
        category: f"{folder}/{name[:2]}/{name}_{number}.png"
        for number, category in enumerate(image.target_classes, start=1)
    }
