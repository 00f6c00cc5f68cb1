"""What a classifier's AUC can hide: a marker that only positive images bear."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from support.classifier_examples import FPN, known, resnet_classifier
from support.examples import engine_named, record, sample_of, seeded_model

pytestmark = pytest.mark.torchvision

SIDE = 64


def films(numbers):
    """Noise; every second film has a faint mass somewhere below, and a bright marker on top."""
    made = []
    for number in numbers:
        rng = np.random.default_rng(number)
        is_positive = number % 2 == 0
        pixels = rng.normal(100, 20, (SIDE, SIDE))
        x, y = (int(v) for v in rng.integers(24, SIDE - 16, 2))
        box = (float(x), float(y), float(x + 14), float(y + 14))
        if is_positive:
            pixels[y : y + 14, x : x + 14] += 6
            pixels[2:10, 2:10] = 250
        sample = sample_of(record(number, boxes=[box] if is_positive else [], size_px=SIDE))
        image = torch.from_numpy(pixels.clip(1, 255)).float().expand(3, -1, -1).contiguous()
        made.append(known(dataclasses.replace(sample, image=image), [float(is_positive)]))
    return made


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)


def test_a_marker_gives_a_perfect_auc_and_no_box_on_a_mass():
    engine = engine_named("torchvision")
    model = seeded_model(engine, resnet_classifier(engine, *FPN))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for step in range(16):
        optimizer.zero_grad()
        losses = engine.training_losses(model, films(range(1 + 8 * step, 9 + 8 * step)))
        losses["loss_image"].backward()
        optimizer.step()
    held_out = films(range(1000, 1016))
    found = engine.detect(model, held_out)
    scores = [float(one.scores[0]) for one in found]
    positives, normals = scores[0::2], scores[1::2]
    assert min(positives) > max(normals)  # an AUC of 1
    overlaps = [
        iou(one.boxes[0].tolist(), sample.record.findings[0].box)
        for one, sample in zip(found[0::2], held_out[0::2], strict=True)
    ]
    assert max(overlaps) < 0.5  # a CorLoc of 0
