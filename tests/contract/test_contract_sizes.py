"""Every engine and head trains and detects at the input sizes that the documents promise."""

from __future__ import annotations

import pytest
import torch

from simfrcnn.engines.contract import LOSS_KEYS
from simfrcnn.structures import Frame, ImageTargets, Sample
from support.examples import record, seeded_model, smoke_config


def sample_of_size(height: int, width: int, *, is_normal: bool) -> Sample:
    """Noise with, on a positive image, a bright square of 60 pixels near the lower right corner."""
    image = torch.rand(1, height, width, generator=torch.Generator().manual_seed(height)) * 100
    corner = [width - 100.0, height - 100.0, width - 40.0, height - 40.0]
    if not is_normal:
        image[:, height - 100 : height - 40, width - 100 : width - 40] += 120
    boxes = torch.tensor([] if is_normal else [corner]).reshape(-1, 4)
    labels = torch.ones(len(boxes), dtype=torch.int64)
    return Sample(
        image.expand(3, -1, -1).contiguous(),
        Frame(1.0, 0.0, 1.0, 0.0, original_height=height, original_width=width),
        record(2 if is_normal else 1),
        ImageTargets(boxes, labels, is_normal),
    )


@pytest.mark.slow
def test_a_step_and_a_detection_at_a_large_input(engine, heads):
    height, width = size_px = (1333, 800) if heads == "fpn" else (800, 480)
    cfg = smoke_config(engine, heads)
    model = seeded_model(engine, cfg)
    pair = [sample_of_size(*size_px, is_normal=normal) for normal in (False, True)]
    losses = engine.training_losses(model, pair)
    assert tuple(losses) == LOSS_KEYS
    total = torch.stack(list(losses.values())).sum()
    assert bool(torch.isfinite(total))
    assert 0 < float(total.detach()) < 20
    total.backward()
    (found,) = engine.detect(model, pair[:1])
    assert bool((found.boxes[:, 2] <= width).all())
    assert bool((found.boxes[:, 3] <= height).all())
