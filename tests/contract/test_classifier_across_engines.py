"""A classifier that one engine trained, on the other: refused by name, though equal in its sums."""

from __future__ import annotations

import pytest
import torch

import simfrcnn
from simfrcnn.engines.common.checkpoints import Identity, read_checkpoint, save_checkpoint
from simfrcnn.errors import CheckpointError
from support.classifier_examples import by_common_name, resnet_classifier, tiny_classifier
from support.examples import (
    engine_named,
    initialised,
    normals,
    positives,
    resnet_config,
    seeded_model,
)

pytestmark = [pytest.mark.detectron2, pytest.mark.torchvision]
OTHER = {"detectron2": "torchvision", "torchvision": "detectron2"}
TWO_STEPS = ("SOLVER.BASE_LR", "0.01", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "2")


@pytest.fixture
def other(engine):
    """The engine that ``engine`` is not."""
    return engine_named(OTHER[engine.NAME])


def test_a_trained_file_is_refused_by_the_other_engine_wherever_it_is_given(
    engine, other, tmp_path
):
    last = engine.train(tiny_classifier(engine, tmp_path, *TWO_STEPS))
    before = last.read_bytes()
    why = rf"{last.name} was trained with the engine {engine.NAME}, this run uses {other.NAME}; "
    why += f"take --engine {engine.NAME}"
    cfg = tiny_classifier(other, tmp_path, *TWO_STEPS, "SOLVER.MAX_ITER", 3)
    with pytest.raises(CheckpointError, match=why):
        other.load_weights(other.build_model(cfg), last)
    with pytest.raises(CheckpointError, match=why):
        other.train(cfg, resume=True)
    start = ("MODEL.WEIGHTS", last, "OUTPUT_DIR", tmp_path / "another")
    with pytest.raises(CheckpointError, match=why):
        other.train(tiny_classifier(other, tmp_path, *TWO_STEPS, *start))
    with pytest.raises(CheckpointError, match=f"{engine.NAME}; {other.NAME} cannot run it"):
        simfrcnn.load(last, device="cpu", engine=other.NAME)
    assert last.read_bytes() == before
    assert simfrcnn.load(last, device="cpu").engine.NAME == engine.NAME


def test_what_one_engine_trained_gives_the_same_maps_and_scores_on_the_other(
    engine, other, tmp_path
):
    cfg = tiny_classifier(engine, tmp_path, *TWO_STEPS)
    trained = read_checkpoint(engine.train(cfg))["model"]
    begun = seeded_model(engine, cfg).state_dict()
    assert any(not torch.equal(tensor, begun[name]) for name, tensor in trained.items())
    models = {}
    for used in (engine, other):
        model = seeded_model(used, tiny_classifier(used, tmp_path), seed=5).eval()
        own = by_common_name(model.state_dict())
        assert own.keys() == by_common_name(trained).keys()
        for name, tensor in by_common_name(trained).items():
            own[name].copy_(tensor)
        models[used] = model
    samples = [*positives(2, 128), *normals(1, 128)]
    with torch.no_grad():
        first, second = (model.class_maps(samples) for model in models.values())
    assert first.std() > 1e-4
    assert torch.allclose(first, second, atol=1e-5)
    for one, two in zip(*(used.detect(m, samples) for used, m in models.items()), strict=True):
        assert torch.allclose(one.scores, two.scores, atol=1e-5)
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(one.boxes, two.boxes)


def test_a_detector_takes_the_backbone_of_the_other_engine_s_classifier(
    engine, other, heads, tmp_path
):
    """The very tensors that it takes of its own engine's classifier with the same weights."""
    theirs = seeded_model(other, resnet_classifier(other), seed=7)
    ours = seeded_model(engine, resnet_classifier(engine))
    weights = by_common_name(ours.state_dict())
    for name, tensor in by_common_name(theirs.state_dict()).items():
        with torch.no_grad():
            weights[name].copy_(tensor + torch.randn(1).item())
            tensor.copy_(weights[name])
    started = []
    for name, used, model in (("theirs", other, theirs), ("ours", engine, ours)):
        path = tmp_path / f"{name}.pth"
        save_checkpoint(path, model, Identity.of(used.NAME, resnet_classifier(used)))
        started.append(initialised(engine, resnet_config(engine, heads), path).state_dict())
    fresh = seeded_model(engine, resnet_config(engine, heads)).state_dict()
    first, second = started
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    changed = [name for name in fresh if not torch.equal(fresh[name], first[name])]
    assert len(changed) == len(list(ours.backbone.parameters()))
