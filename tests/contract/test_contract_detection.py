"""What detection gives on every engine: original pixels, in order, whatever the batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simfrcnn.engines.common.checkpoints import Identity, save_checkpoint
from simfrcnn.structures import Frame
from support.examples import normals, positives, seeded_model, smoke_config

# Halved and cut at the left; mirrored; stored smaller than the input, which is padded.
FRAMES = [
    Frame(0.5, -16.0, 0.5, 0.0, original_height=256, original_width=288),
    Frame(-1.0, 128.0, 1.0, 0.0, original_height=128, original_width=128),
    Frame(1.0, 0.0, 1.0, 0.0, original_height=100, original_width=64),
]


def test_boxes_are_in_original_pixels_inside_the_image_and_by_falling_score(engine, heads):
    model = seeded_model(engine, smoke_config(engine, heads))
    samples = [
        dataclasses.replace(sample, frame=frame, targets=None)
        for sample, frame in zip(positives(1, 128) + normals(2, 128), FRAMES, strict=True)
    ]
    for sample, found in zip(samples, engine.detect(model, samples), strict=True):
        assert found.image_id == sample.record.image_id
        assert len(found.scores) > 0
        assert found.boxes.shape == (len(found.scores), 4)
        assert found.boxes.device.type == found.scores.device.type == "cpu"
        assert not found.boxes.requires_grad
        assert not found.scores.requires_grad
        frame = sample.frame
        assert bool((found.boxes >= 0).all())
        assert bool((found.boxes[:, 2] <= frame.original_width).all())
        assert bool((found.boxes[:, 3] <= frame.original_height).all())
        assert bool((found.boxes[:, 2:] > found.boxes[:, :2]).all())
        assert bool((found.scores.diff() <= 0).all())
        assert bool(((found.scores >= 0) & (found.scores <= 1)).all())
        assert found.labels.dtype == torch.int64
        assert set(found.labels.tolist()) == {1}


def test_the_frame_maps_the_very_boxes_of_the_input(engine, heads):
    model = seeded_model(engine, smoke_config(engine, heads))
    (plain,) = positives(1, 128)
    halved = dataclasses.replace(plain, frame=Frame(0.5, 0.0, 0.5, 0.0, 256, 256))
    one, two = engine.detect(model, [plain])[0], engine.detect(model, [halved])[0]
    assert torch.equal(one.scores, two.scores)
    torch.testing.assert_close(two.boxes, 2 * one.boxes)


def test_detection_does_not_depend_on_the_batch(engine, heads):
    model = seeded_model(engine, smoke_config(engine, heads))
    samples = positives(2) + normals(1)
    together = engine.detect(model, samples)
    for sample, of_batch in zip(samples, together, strict=True):
        (alone,) = engine.detect(model, [sample])
        torch.testing.assert_close(alone.scores, of_batch.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.boxes, of_batch.boxes, rtol=1e-4, atol=1e-2)
        assert torch.equal(alone.labels, of_batch.labels)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(engine, training):
    model = seeded_model(engine, smoke_config(engine, "fpn")).train(training)
    engine.detect(model, normals(1))
    assert model.training is training
    assert {module.training for module in model.modules()} == {training}


def test_the_number_of_detections_and_their_scores_are_limited_by_key(engine):
    few = smoke_config(engine, "fpn", "TEST.DETECTIONS_PER_IMAGE", "3")
    assert len(engine.detect(seeded_model(engine, few), positives(1))[0].scores) == 3
    none = smoke_config(engine, "fpn", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.999")
    (found,) = engine.detect(seeded_model(engine, none), positives(1))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


def test_saving_and_loading_changes_nothing(engine, heads, tmp_path):
    cfg = smoke_config(engine, heads)
    saved = seeded_model(engine, cfg, seed=1)
    path = tmp_path / "model.pth"
    save_checkpoint(path, saved, Identity.of(engine.NAME, cfg))
    loaded = seeded_model(engine, cfg, seed=2)
    before = engine.detect(loaded, positives(1))[0]
    engine.load_weights(loaded, path)
    (one,), (two,) = engine.detect(saved, positives(1)), engine.detect(loaded, positives(1))
    assert not torch.equal(before.scores, two.scores)
    assert torch.equal(one.boxes, two.boxes)
    assert torch.equal(one.scores, two.scores)
