"""What do the inputs of a training measure: grey values, and the sides of the boxes?

Shapes: B boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from simfrcnn.data.selection import training_lists
from simfrcnn.errors import DataError
from simfrcnn.images.breast import breast_mask
from simfrcnn.labels import drawn_findings
from simfrcnn.outlines import rle_of
from simfrcnn.parallel import in_parallel
from simfrcnn.records import ImageRecord
from simfrcnn.settings import DataSettings, InputSettings
from simfrcnn.structures import Frame
from simfrcnn.training.loading import load_sample, moved_outline

_N_GREYS = 256


@dataclass(frozen=True)
class InputTask:
    """A training image to measure: how it becomes the input, and which boxes are trained."""

    record: ImageRecord
    input: InputSettings
    classes: tuple[str, ...]


@dataclass(frozen=True)
class InputFacts:
    """One input: the number of its pixels by grey value (256,), its boxes' (width, height), and the
    share of the breast that each finding covers, by class.
    """

    greys: NDArray[np.int64]
    sides_px: tuple[tuple[float, float], ...]
    shares: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Statistics:
    """All inputs of a training together.

    Attributes:
        n_images: Positive and normal images.
        greys: (256,) number of pixels by grey value, padding included.
        sides_px: (B, 2) width and height of the trained boxes, in input pixels.
        shares: Class -> the share of the breast that each finding covers: its outline where that is
            known, else its box.
    """

    n_images: int
    greys: NDArray[np.int64]
    sides_px: NDArray[np.float64]
    shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean grey value, 0..255: ``PIXEL_MEAN``."""
        return float((self.greys * np.arange(_N_GREYS)).sum() / self.greys.sum())

    @property
    def std(self) -> float:
        """Standard deviation of the grey values: ``PIXEL_STD``."""
        squares = (self.greys * np.arange(_N_GREYS) ** 2).sum() / self.greys.sum()
        return float(np.sqrt(max(squares - self.mean**2, 0.0)))


def measure_inputs(
    records: Sequence[ImageRecord],
    settings: InputSettings,
    classes: tuple[str, ...],
    *,
    n_workers: int | None = None,
) -> Statistics:
    """Load what a training would load, and measure it.

    Args:
        records: All records of the training set; those that do not train are left out.
        settings: How images become the network's input.
        classes: The classes whose boxes are trained.
        n_workers: Processes, as for :func:`simfrcnn.parallel.in_parallel`.

    Raises:
        DataError: An image cannot be read, or no image has a box of ``classes``.
    """
    lists = training_lists(records, DataSettings(classes, classes, batch_kind="positives"))
    tasks = [InputTask(record, settings, classes) for record in (*lists.positives, *lists.normals)]
    greys = np.zeros(_N_GREYS, dtype=np.int64)
    sides: list[tuple[float, float]] = []
    shares: dict[str, list[float]] = {}
    for facts in in_parallel(
        measure_input, tasks, title="measure", unit="image", n_workers=n_workers
    ):
        greys += facts.greys
        sides += facts.sides_px
        for category, share in facts.shares:
            shares.setdefault(category, []).append(share)
    if not sides:
        raise DataError(f"no box of {', '.join(classes)} is trained: all are crowd boxes")
    by_class = {name: tuple(shares[name]) for name in sorted(shares)}
    return Statistics(len(tasks), greys, np.array(sides), by_class)


def measure_input(task: InputTask) -> InputFacts:
    """One training image as the network gets it, unflipped."""
    sample = load_sample(
        task.record, input_settings=task.input, classes=task.classes, training=True
    )
    pixels = sample.image[0].numpy().astype(np.uint8)
    assert sample.targets is not None
    boxes = sample.targets.boxes
    sides = (boxes[:, 2:] - boxes[:, :2]).double().tolist()
    return InputFacts(
        greys=np.bincount(pixels.reshape(-1), minlength=_N_GREYS),
        sides_px=tuple((width, height) for width, height in sides),
        shares=tuple(_shares(task.record, sample.frame, pixels)),
    )


def _shares(
    record: ImageRecord, frame: Frame, pixels: NDArray[np.uint8]
) -> Iterator[tuple[str, float]]:
    """Of each finding, its class and which share of the breast it covers."""
    findings = drawn_findings(record)
    if not findings:
        return
    n_breast = int(breast_mask(pixels).sum())
    for finding in findings:
        if finding.outline:
            inside = rle_of(moved_outline(finding.outline, frame), *pixels.shape).area
        else:
            box = torch.tensor([finding.box], dtype=torch.float64)
            x1, y1, x2, y2 = frame.to_input(box)[0].tolist()
            inside = (x2 - x1) * (y2 - y1)
        if inside:
            yield finding.category, min(1.0, inside / n_breast)
