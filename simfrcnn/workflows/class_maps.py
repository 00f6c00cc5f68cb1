"""Where are the class maps that a report lays over its exams? In a prediction, or in the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simfrcnn import config
from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError, DataError
from simfrcnn.evaluation.reporting.gallery import ClassMaps, LoadMaps
from simfrcnn.images.png import size_of
from simfrcnn.images.raster import raster_greys
from simfrcnn.records import ImageRecord
from simfrcnn.workflows.prediction_heat import encoded_map

if TYPE_CHECKING:
    from torch import Tensor, nn

    from simfrcnn.structures import Sample


def maps_beside(detections: DetectionFile) -> LoadMaps | None:
    """The maps that `predict --heat-maps` wrote beside its detections; None where there are none.

    A list of detections that was copied without them has none.
    """
    places = [place for of_image in detections.class_maps.values() for place in of_image.values()]
    if not places or not places[0].parent.parent.is_dir():
        return None

    def load(records: Sequence[ImageRecord]) -> Iterator[ClassMaps]:
        for record in records:
            of_image = detections.class_maps.get(record.image_id, {})
            yield {name: _read(place) for name, place in of_image.items()}

    return load


def maps_of_model(cfg: Any, model: nn.Module) -> LoadMaps | None:
    """The maps of target classes that a classifier makes now; None of a detector."""
    if not config.is_classifier(cfg):
        return None
    # Late: to judge saved detections takes no network.
    from simfrcnn.engines.common.inference import detect_records

    targets = [
        (number, name)
        for number, name in enumerate(cfg.DATASETS.CLASSES)
        if name in cfg.DATASETS.TARGET_CLASSES
    ]

    def load(records: Sequence[ImageRecord]) -> Iterator[ClassMaps]:
        for maps in detect_records(cfg, model, _heat_maps, records, title=None):
            heat = np.asarray(maps.numpy())
            yield {name: encoded_map(heat[number]) for number, name in targets}

    return load


def _heat_maps(model: Any, samples: Sequence[Sample]) -> list[Tensor]:
    maps: list[Tensor] = model.heat_maps(samples)
    return maps


def _read(path: Path) -> bytes:
    """The file of a map, once it is known to be whole: a browser would show half a map as clear."""
    try:
        content = path.read_bytes()
        size_of(content)  # a PNG file
        values = raster_greys(path, content).values
        if values.dtype != np.uint8:
            raise ValueError(f"{values.dtype} samples; 8 bits are legal")
    except (OSError, ValueError, DataError) as error:
        raise ArtifactError(
            f"{path}: the class map cannot be read ({error}); start the same predict command with "
            "another --output, or delete the folder of the maps for a report without heat maps"
        ) from error
    return content
