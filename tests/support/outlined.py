"""Samples whose findings are outlined, and mask heads for the smoke configs."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.records import Box, ImageRecord, Outline
from simfrcnn.structures import Sample
from support.examples import positives, smoke_config, tiny_config, write_tiny_set

MASKS = ("MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.NAME", "SimMaskHead")
SMALL_MASKS = (*MASKS, "MODEL.ROI_MASK_HEAD.NUM_CONV", "1", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16")


def mask_config(engine: Any, heads: str, *overrides: Any) -> Any:
    """The smoke config with a small mask head."""
    return smoke_config(engine, heads, *SMALL_MASKS, *overrides)


def ellipse_in(box: Box, n_points: int = 36) -> Outline:
    """One ring that fills a box as an ellipse does."""
    x1, y1, x2, y2 = box
    angles = [2 * math.pi * number / n_points for number in range(n_points)]
    return (
        tuple(
            (
                (x1 + x2) / 2 + (x2 - x1) / 2 * math.cos(angle),
                (y1 + y2) / 2 + (y2 - y1) / 2 * math.sin(angle),
            )
            for angle in angles
        ),
    )


def outlined_record(record: ImageRecord) -> ImageRecord:
    """The record with an ellipse in each box."""
    findings = tuple(dataclasses.replace(f, outline=ellipse_in(f.box)) for f in record.findings)
    return dataclasses.replace(record, findings=findings)


def outlined(sample: Sample) -> Sample:
    """The sample with an ellipse in each box."""
    record = outlined_record(sample.record)
    assert sample.targets is not None
    outlines = tuple(finding.outline for finding in record.findings)
    targets = dataclasses.replace(sample.targets, outlines=outlines)
    return dataclasses.replace(sample, record=record, targets=targets)


def tiny_mask_config(engine: Any, heads: str, folder: Path, *overrides: Any) -> Any:
    """:func:`support.examples.tiny_config` with a small mask head, on outlined findings."""
    path = folder / "data" / "tiny.json"
    if not path.exists():
        plain = read_coco(write_tiny_set(path.parent))
        records = [outlined_record(record) for record in plain.records]
        write_coco(path, records, plain.categories, {"description": "ellipses", "version": "1"})
    return tiny_config(engine, heads, folder, *SMALL_MASKS, *overrides)


def outlined_positives(n: int = 1) -> list[Sample]:
    """Those of :func:`support.examples.positives`, with outlines."""
    return [outlined(sample) for sample in positives(n)]


def mask_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of the mask head, by name."""
    return {name: p for name, p in model.named_parameters() if ".mask_" in name}


def without_masks(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of all that is no mask head."""
    return {name: t for name, t in model.state_dict().items() if ".mask_" not in name}
