"""Masks from a checkpoint to Python, to the files of a prediction, to a report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simfrcnn
from simfrcnn.artifacts import DetectionFile, ImageDetections, read_detections, write_detections
from simfrcnn.engines.common.checkpoints import Identity, read_checkpoint
from simfrcnn.errors import ArtifactError, CheckpointError, ConfigError, DataError
from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.images.drawing import draw_boxes
from simfrcnn.outlines import Rle, rle_of, rle_of_box
from simfrcnn.settings import EvaluationSettings
from simfrcnn.training import recipe
from simfrcnn.workflows.predict import PredictionOptions, predict
from support.examples import engine_named, record, resnet_config, tiny_config
from support.outlined import SMALL_MASKS, ellipse_in, mask_config
from support.studies import write_study
from support.untrained import write_untrained

pytestmark = pytest.mark.torchvision
BOX = (20.0, 20.0, 60.0, 50.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masked") / "model.pth"
    return write_untrained(path, *SMALL_MASKS, *("EVAL.SCORE_THRESHOLD", 0.0))


def test_python_gives_masks_and_draws_their_edges(weights: Path) -> None:
    detector = simfrcnn.load(weights, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60)).astype(np.uint8)
    found = detector.detect(pixels)
    assert found.detections
    for one in found.detections:
        assert isinstance(one.mask, Rle)
        assert (one.mask.height, one.mask.width) == (80, 60)
        assert one.to_dict()["segmentation"] == one.mask.to_json()
        assert rle_of(one.outline, 80, 60).area >= one.mask.area
    without = [dataclasses.replace(one, mask=None) for one in found.detections]
    assert "segmentation" not in without[0].to_dict()
    assert without[0].outline == ()
    assert detector.provenance()["masks_from_score"] == 0.0


def test_outlines_are_drawn_where_they_lie() -> None:
    plain = draw_boxes(np.zeros((80, 60), np.uint8), [], [])
    drawn = draw_boxes(np.zeros((80, 60), np.uint8), [], [], [ellipse_in((10, 10, 40, 60))])
    rows, columns = np.nonzero((drawn != plain).any(axis=2))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 40, 10, 60)
    assert not drawn[30:40, 20:30].any()


def test_a_prediction_has_masks_in_its_lists(weights: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "studies", 1, n_views=1)
    out = tmp_path / "out"
    detector = simfrcnn.load(weights, device="cpu")
    predict(detector, tmp_path / "studies", out, PredictionOptions(workers=0))
    entries = json.loads((out / "detections.json").read_text())
    assert entries
    assert all("segmentation" in entry for entry in entries)
    read = read_detections(out / "detections.json")
    assert read.provenance["masks_from_score"] == 0.0
    (image,) = read.images.values()
    assert image.masks is not None
    assert [m.to_json() for m in image.masks if m] == [e["segmentation"] for e in entries]


def masked(*masks: Rle | None, image_id: int = 1) -> ImageDetections:
    n = len(masks)
    boxes = np.tile(np.array(BOX), (n, 1))
    scores = np.linspace(0.9, 0.3, n)
    return ImageDetections(image_id, boxes, scores, ("malignant",) * n, masks=masks)


def test_masks_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    mask = rle_of(ellipse_in(BOX), 128, 128)
    write_detections(path, [masked(mask, None)], categories={1: "malignant"})
    assert read_detections(path).images[1].masks == (mask, None)
    # A model that found nothing sure enough has masks all the same.
    for facts, expected in (({"masks_from_score": 0.5}, (None,)), ({}, None)):
        write_detections(path, [masked(None)], categories={1: "malignant"}, provenance=facts)
        assert read_detections(path).images[1].masks == expected


def test_damaged_masks_are_refused_by_entry(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    write_detections(path, [masked(rle_of_box(BOX, 128, 128))], categories={1: "malignant"})
    (entry,) = json.loads(path.read_text())
    entry["segmentation"]["counts"] = "0"
    path.write_text(json.dumps([entry]))
    path.with_name("detections.meta.json").unlink()
    with pytest.raises(ArtifactError, match="entry 0: segmentation is no mask"):
        read_detections(path, records=[record(1)], categories={1: "malignant"})


def report_in(folder: Path, *, outline: bool, mask: Rle | None) -> tuple[Any, str]:
    made = record(1, boxes=[BOX])
    if outline:
        finding = dataclasses.replace(made.findings[0], outline=ellipse_in(BOX))
        made = dataclasses.replace(made, findings=(finding,))
    detections = DetectionFile({1: masked(mask), 2: masked(None, image_id=2)}, {1: "malignant"})
    settings = EvaluationSettings(bootstrap_replicates=0, score_threshold=0.95)
    if mask is not None:
        settings = dataclasses.replace(settings, score_threshold=0.8)
        detections = DetectionFile({1: masked(mask), 2: masked(image_id=2)}, {1: "malignant"})
    records = [made, record(2)]
    report = evaluate(records, detections, settings)
    write_report(folder, report, records=records, detections=detections, load_pictures=None)
    return report, (folder / "report.md").read_text()


def test_a_report_shows_outlines_where_there_are_any(tmp_path: Path) -> None:
    mask = rle_of(ellipse_in(BOX), 128, 128)
    _, text = report_in(tmp_path / "a", outline=True, mask=mask)
    assert "## Outlines" in text
    assert "| IoU of masks, mean over images with a finding | 1.000 |" in text
    assert "| IoU of filled boxes, mean over images with a finding | 0.7" in text
    svg = (tmp_path / "a" / "outlines.svg").read_text()
    assert svg.count('<path d="M') == 2
    assert svg in (tmp_path / "a" / "report.html").read_text()
    plain, text = report_in(tmp_path / "a", outline=False, mask=None)
    assert "Outlines" not in text
    assert not (tmp_path / "a" / "outlines.svg").exists()
    assert not any(key.startswith("mask/") for key in plain.figures)


# What is refused


def test_a_checkpoint_of_another_mask_head_is_refused_by_name(weights: Path) -> None:
    engine = engine_named("torchvision")
    agnostic = mask_config(engine, "fpn", *("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"))
    words = r"CLS_AGNOSTIC_MASK is False in the file, True in the config"
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(weights, Identity.of("torchvision", agnostic))
    plain = mask_config(engine, "fpn", *("MODEL.MASK_ON", "False"))
    with pytest.raises(CheckpointError, match="MASK_ON is True in the file, False in the config"):
        read_checkpoint(weights, Identity.of("torchvision", plain))
    assert "MODEL.MASK_ON" not in Identity.of("torchvision", plain).architecture


def test_masks_without_any_outline_are_refused(tmp_path: Path) -> None:
    engine = engine_named("torchvision")
    cfg = tiny_config(engine, "fpn", tmp_path, *SMALL_MASKS)
    with pytest.raises(DataError, match=r"MODEL\.MASK_ON is True, but no box of malignant"):
        recipe.training_items(cfg)


def test_numbers_of_a_head_are_checked() -> None:
    engine = engine_named("torchvision")
    for key, value in (("NUM_CONV", "-1"), ("CONV_DIM", "0")):
        with pytest.raises(ConfigError, match=rf"ROI_MASK_HEAD\.{key}"):
            mask_config(engine, "fpn", *(f"MODEL.ROI_MASK_HEAD.{key}", value))
    groups = ("MODEL.ROI_MASK_HEAD.NORM", "GN", "MODEL.ROI_MASK_HEAD.CONV_DIM")
    with pytest.raises(ConfigError, match=r"ROI_MASK_HEAD\.CONV_DIM is 48.* a multiple of 32 with"):
        mask_config(engine, "fpn", *groups, "48")
    engine.build_model(mask_config(engine, "fpn", *groups, "64"))
    pyramid = ("MODEL.FPN.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", "48")
    with pytest.raises(ConfigError, match=r"FPN\.OUT_CHANNELS is 48.* a multiple of 32"):
        mask_config(engine, "fpn", *pyramid)
    resnet = ("MODEL.RESNETS.NORM", "GN", "MODEL.RESNETS.RES2_OUT_CHANNELS", "80")
    with pytest.raises(ConfigError, match=r"RES2_OUT_CHANNELS is 80.* a multiple of 32 with NORM"):
        resnet_config(engine, "c4", *resnet)
    with pytest.raises(ConfigError, match=r"ROI_MASK_HEAD\.NORM is 'BN'"):
        engine.build_model(mask_config(engine, "fpn", *("MODEL.ROI_MASK_HEAD.NORM", "BN")))
