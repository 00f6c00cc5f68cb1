"""Where do the heat maps of a classifier go? A picture for each image and target class."""

from __future__ import annotations

from pathlib import Path

from simfrcnn.exam import ImageResult
from simfrcnn.files import write_bytes
from simfrcnn.images.drawing import as_marked_png

HEAT_MAPS = "heat_maps"


def write_heat_maps(output: Path, image: ImageResult) -> dict[str, str]:
    """Write the maps of an image over its pixels.

    Files are numbered like the model's target classes: a class may have any name.

    Returns:
        Class -> file below ``output``.

    Raises:
        DataError: The pixels or the maps were not kept.
        OutputError: The operating system refused to write.
    """
    name = f"{image.image_id:013x}"
    places = {}
    for number, category in enumerate(image.target_classes, start=1):
        place = f"{HEAT_MAPS}/{name[:2]}/{name}_{number}.png"
        write_bytes(output / place, as_marked_png(image.draw_heat(category)))
        places[category] = place
    return places
