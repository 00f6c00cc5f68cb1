"""A classifier in use: one file in, an exam out, and where it sees each class."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

import simfrcnn
from simfrcnn.cli.main import main
from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.images.drawing import draw_heat
from simfrcnn.workflows.predict import PredictionOptions, predict
from simfrcnn.workflows.prediction_shards import merge
from support.classifier_examples import TWO_CLASSES, classifier_config
from support.examples import engine_named, seeded_model
from support.studies import write_study

pytestmark = pytest.mark.torchvision


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    engine = engine_named("torchvision")
    cfg = classifier_config(engine, *TWO_CLASSES, "INPUT.MAMMO.SIZE", "[96, 64]")
    path = tmp_path_factory.mktemp("model") / "classifier.pth"
    model = seeded_model(engine, cfg)
    identity = Identity.of(engine.NAME, cfg)
    save_checkpoint(path, model, identity, description=Description.of(cfg, {}))
    return path


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for number in range(2):
        write_study(folder, number, n_views=1)
    return folder


def test_heat_is_clear_at_nought_and_red_at_one():
    pixels = np.full((40, 60), 100, dtype=np.uint8)
    heat = np.zeros((4, 6), dtype=np.float32)
    heat[0, 5] = 1.0
    picture = draw_heat(pixels, heat)
    assert picture.shape == (40, 60, 3)
    assert picture[39, 0].tolist() == [100, 100, 100]
    blue, green, red = picture[0, 59].tolist()
    assert (blue, green) == (40, 40)  # .4 of the grey, .6 of the colour
    assert red == round(100 * 0.4 + 128 * 0.6)


def test_a_checkpoint_alone_judges_a_picture_and_shows_where(classifier):
    detector = simfrcnn.load(classifier, device="cpu")
    found = detector.detect(np.full((120, 80), 90, dtype=np.uint8))
    assert {one.category for one in found.detections} == {"malignant", "benign"}
    assert found.heat is None
    with pytest.raises(DataError, match=r"no heat map of 'malignant'.*with_heat_maps"):
        found.draw_heat("malignant")
    shown = detector.with_heat_maps().detect(np.full((120, 80), 90, dtype=np.uint8))
    assert list(shown.heat) == ["malignant", "benign"]
    assert shown.heat["benign"].shape == (128, 85)
    assert shown.draw_heat("benign").shape == (120, 80, 3)
    scores = {one.category: one.score for one in shown.detections}
    for name, heat in shown.heat.items():
        # The pooled logit lies among the cells'.
        assert heat.min() - 1e-6 <= scores[name] <= heat.max() + 1e-6


def test_predict_writes_a_picture_an_image_and_class_and_a_merge_takes_them(
    classifier, studies, tmp_path
):
    detector = simfrcnn.load(classifier, device="cpu")
    options = PredictionOptions(
        workers=0, pictures="none", heat_maps=True, shows_progress=False, shard=(1, 1)
    )
    predict(detector, studies, tmp_path / "out", options)
    merged = tmp_path / "merged"
    merge([tmp_path / "out"], merged)
    for out in (tmp_path / "out", merged):
        results = [json.loads(path.read_text()) for path in out.glob("exams/*/*.json")]
        assert len(results) == 2
        for content in results:
            (image,) = content["images"]
            assert list(image["heat_maps"]) == ["malignant", "benign"]
            assert image["picture"] is None
            for place in image["heat_maps"].values():
                picture = cv2.imread(str(out / place))
                assert picture.shape == (image["height"], image["width"], 3)
        assert len(list(out.rglob("*.png"))) == 4


def test_a_detector_refuses_with_the_reason(untrained, studies, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"class maps of a whole-image classifier.*SimFasterRCNN"):
        simfrcnn.load(untrained, device="cpu").with_heat_maps()
    words = ["predict", str(studies), "--weights", str(untrained), "--heat-maps"]
    code = main([*words, "--output", str(tmp_path / "out"), "--keep-identifiers", "--workers", "0"])
    assert code == 2
    assert "this model is a SimFasterRCNN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
