"""A classifier and a detector with a mask head, given away: they judge as the checkpoint does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import simfrcnn
from simfrcnn.cli.main import main
from simfrcnn.engines.common.checkpoints import (
    read_checkpoint,
    weights_sha256,
    write_checkpoint,
)
from simfrcnn.engines.common.stored_weights import restored, stored
from simfrcnn.workflows.export import ROUNDED, describe_model, export_model
from support.examples import ENGINE_PARAMETERS
from support.model_kinds import KINDS, write_model
from support.outlined import SMALL_MASKS
from support.untrained import write_untrained

LOOK = ("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SOURCE", "input")
PIXELS = np.random.default_rng(0).integers(0, 255, (80, 60)).astype(np.uint8)


@pytest.fixture(scope="module", params=ENGINE_PARAMETERS)
def models(request, tmp_path_factory):
    """Kind of model -> a checkpoint of one engine."""
    folder = tmp_path_factory.mktemp(request.param)
    return {kind: write_model(folder / f"{kind}.pth", kind, request.param) for kind in KINDS}


def judged(weights: Path):
    """All that a file says of a picture."""
    detector = simfrcnn.load(weights, device="cpu")
    if detector.has_class_maps:
        detector = detector.with_heat_maps()
    return detector.detect(PIXELS)


def assert_same(one, two):
    assert one.detections
    assert one.detections == two.detections  # boxes, scores, classes, masks
    assert (one.heat is None) == (two.heat is None)
    for name, heat in (one.heat or {}).items():
        np.testing.assert_array_equal(heat, two.heat[name])


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_file_says_the_very_same_and_a_rounded_one_what_rounded_weights_say(
    models, kind, tmp_path
):
    weights = models[kind]
    of_checkpoint = judged(weights)
    if kind == "masks":
        assert any(one.mask.area for one in of_checkpoint.detections)
    else:
        assert all(np.ptp(heat) > 0 for heat in of_checkpoint.heat.values())
    for name in ("float32.pth", "float32.safetensors", "half.safetensors", "int8.pth"):
        given = tmp_path / name
        words = ["export", str(weights), "--output", str(given), "--precision", given.stem]
        assert main(words) == 0
        expected = of_checkpoint
        if given.stem != "float32":
            content = read_checkpoint(weights)
            state = restored(stored(content["model"], given.stem))
            rounded = tmp_path / "rounded.pth"
            write_checkpoint(rounded, {**content, "model": state})
            expected = judged(rounded)
            assert describe_model(given).card["limits"] == [ROUNDED[given.stem]]
        assert_same(judged(given), expected)
        same_weights = weights_sha256(given) == weights_sha256(weights)
        assert same_weights == (given.stem == "float32")


@pytest.mark.parametrize(("precision", "off"), [("half", 2e-3), ("int8", 5e-2)])
def test_scores_and_maps_of_rounded_weights_differ_slightly(models, precision, off, tmp_path):
    given = tmp_path / "given.safetensors"
    export_model(models["classifier"], given, precision=precision)
    one, two = judged(models["classifier"]), judged(given)
    scores = [{d.category: d.score for d in result.detections} for result in (one, two)]
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=off)
    for name, heat in one.heat.items():
        np.testing.assert_allclose(heat, two.heat[name], atol=off)


@pytest.mark.parametrize("kind", KINDS)
def test_show_and_card_say_what_a_file_is(models, kind, tmp_path, capsys):
    given = tmp_path / "given.safetensors"
    export_model(models[kind], given)
    for path in (models[kind], given):
        assert main(["show", str(path)]) == 0
        assert f"\nmodel: {KINDS[kind]}\n" in capsys.readouterr().out
        assert main(["card", str(path)]) == 0
        assert f"| model | {KINDS[kind]} |" in capsys.readouterr().out


@pytest.mark.torchvision
def test_a_plain_detector_a_second_look_and_an_earlier_file_are_told_apart(untrained, tmp_path):
    assert describe_model(untrained).kind == "detector (SimFasterRCNN)"
    both = write_untrained(tmp_path / "both.pth", *SMALL_MASKS, *LOOK)
    said = "detector with a mask head and a second look (SimFasterRCNN)"
    assert describe_model(both).kind == said
    assert dataclasses.asdict(describe_model(both))["kind"] == said
    content = torch.load(untrained, weights_only=True)
    old = tmp_path / "old.pth"
    torch.save({**content, "schema": 1, "architecture": {}}, old)
    assert describe_model(old).kind == "not stated"
