"""Samples with their stored pixels, which a second look cuts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from simfrcnn.structures import Frame, Native, Sample


def with_native(samples: Sequence[Sample]) -> list[Sample]:
    """The same images as stored at twice the input's size, with pixels of .5 mm."""
    return [
        dataclasses.replace(
            sample,
            record=dataclasses.replace(sample.record, pixel_spacing_mm=(0.5, 0.5)),
            native=Native(
                sample.image[0].to(torch.uint8).repeat_interleave(2, 0).repeat_interleave(2, 1),
                Frame(0.5, 0.0, 0.5, 0.0, 2 * sample.image.shape[1], 2 * sample.image.shape[2]),
            ),
        )
        for sample in samples
    ]
