"""A classifier in use: one file in, an exam out, and where it sees each class."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil

import cv2
import numpy as np
import pytest

import simfrcnn
from simfrcnn.cli.main import main
from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint
from simfrcnn.errors import ArtifactError, ConfigError, DataError
from simfrcnn.images.drawing import draw_heat
from simfrcnn.images.png import OVERLAY_KEYWORD, encode_png, text_of
from simfrcnn.images.reading import record_and_greys
from simfrcnn.service.web import options_for
from simfrcnn.workflows.class_maps import maps_of_model
from simfrcnn.workflows.predict import PredictionOptions, predict
from simfrcnn.workflows.prediction_shards import merge
from simfrcnn.workflows.testing import judge_model
from support.classifier_examples import TWO_CLASSES, classifier_config, tiny_classifier
from support.examples import engine_named, seeded_model
from support.kills import killed_at
from support.studies import files_below, write_study

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
            assert list(image["class_maps"]) == ["malignant", "benign"]
            for place in image["heat_maps"].values():
                picture = cv2.imread(str(out / place))
                assert picture.shape == (image["height"], image["width"], 3)
        assert len(list(out.rglob("*.png"))) == 8


@pytest.fixture(scope="module")
def predicted(classifier, studies, tmp_path_factory):
    """Two films with class maps alone, as `simfrcnn serve` asks for them."""
    detector = simfrcnn.load(classifier, device="cpu")
    assert options_for(detector).class_maps
    options = dataclasses.replace(options_for(detector), workers=0)
    out = tmp_path_factory.mktemp("predicted") / "out"
    predict(detector, studies, out, options)
    return out


def test_a_class_map_alone_is_grey_over_the_stored_film(classifier, studies, predicted):
    detector = simfrcnn.load(classifier, device="cpu").with_heat_maps()
    heats = {image.file: image.heat for exam in detector.predict(studies) for image in exam.images}
    listed = json.loads((predicted / "images.json").read_text())["images"]
    assert len(listed) == 2
    for image in listed:
        for name, place in image["class_maps"].items():
            values = cv2.imread(str(predicted / place), cv2.IMREAD_UNCHANGED)
            heat = heats[image["file_name"]][name]
            assert values.dtype == np.uint8
            np.testing.assert_allclose(values / 255, heat, atol=0.5 / 255 + 1e-6)
            # A result, never read as a film.
            assert text_of((predicted / place).read_bytes(), OVERLAY_KEYWORD) == "predict"
    assert not (predicted / "heat_maps").exists()


@pytest.mark.parametrize("moment", [2, 3, 6])
def test_a_run_that_is_killed_among_maps_goes_on_and_ends_the_same(
    classifier, studies, predicted, tmp_path, moment
):
    """Killed before the n-th file gets its name: facts, two maps and a result of each exam."""
    detector, out = simfrcnn.load(classifier, device="cpu"), tmp_path / "out"
    options = dataclasses.replace(options_for(detector), workers=0)
    killed_at(moment, lambda: predict(detector, studies, out, options))
    assert files_below(out) != files_below(predicted)
    predict(detector, studies, out, options)
    assert files_below(out) == files_below(predicted)
    assert len(list(out.glob("class_maps/*/*.png"))) == 4


def truth_for(predicted, path):
    """The films of a prediction, numbered in another way: one normal, one with a box."""
    truth = json.loads((predicted / "images.json").read_text())
    for number, image in enumerate(truth["images"], start=71):
        image.update(id=number, supervision="normal" if number == 71 else "boxes")
    box = {
        "id": 1,
        "image_id": 72,
        "category_id": 1,
        "bbox": [1, 1, 9, 9],
        "area": 81,
        "iscrowd": 0,
    }
    truth["annotations"] = [box]
    path.write_text(json.dumps(truth))
    return path


def pictures_of(report):
    (text,) = re.findall(r'id="report-pictures"[^>]*>(.*?)</script>', report.read_text(), re.S)
    return json.loads(text)


def test_evaluate_lays_the_maps_beside_the_detections_over_its_exams(predicted, tmp_path):
    settings = simfrcnn.EvaluationSettings(bootstrap_replicates=0)
    truth = truth_for(predicted, tmp_path / "truth.json")
    moved = tmp_path / "moved"
    shutil.copytree(predicted, moved)

    def shown(name):
        out = tmp_path / name
        simfrcnn.evaluate(
            truth, moved / "detections.json", output=out, settings=settings, pictures=False
        )
        return pictures_of(out / "report.html")

    sources = shown("with")
    assert sorted(sources) == [
        "71 benign", "71 malignant", "72 benign", "72 malignant"
    ]  # fmt: skip
    listed = json.loads((predicted / "images.json").read_text())["images"]
    content = (predicted / listed[1]["class_maps"]["malignant"]).read_bytes()
    assert sources["72 malignant"].endswith(base64.b64encode(content).decode())
    intact = (moved / "images.json").read_text()
    secret = tmp_path / "secret.png"
    secret.write_bytes(content)
    for outside in ("../secret.png", "class_maps/../../secret.png", str(secret)):
        content_of_list = json.loads(intact)
        content_of_list["images"][0]["class_maps"]["benign"] = outside
        (moved / "images.json").write_text(json.dumps(content_of_list))
        with pytest.raises(ArtifactError, match=rf"'{outside}' lies outside the folder"):
            shown("outside")
    (moved / "images.json").write_text(intact)
    broken = moved / listed[0]["class_maps"]["benign"]
    deep = encode_png(np.zeros((128, 96), np.uint16), {})
    for damaged in (b"no picture", broken.read_bytes()[:-20], deep, None):
        broken.unlink()
        if damaged is not None:
            broken.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=rf"{broken.name}: the class map cannot be read"):
            shown("broken")
    shutil.rmtree(moved / "class_maps")
    assert shown("without") == {}


def test_a_test_run_makes_the_maps_of_the_exams_that_it_shows(classifier, studies):
    detector = simfrcnn.load(classifier, device="cpu")
    film = next(studies.rglob("*.dcm"))
    (record,) = [record_and_greys(film, 5)[0]]
    load = maps_of_model(detector.cfg, detector.model)
    (maps,) = load([record])
    assert list(maps) == ["malignant", "benign"]
    expected = detector.with_heat_maps().detect(film).heat["benign"]
    values = cv2.imdecode(np.frombuffer(maps["benign"], np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(values / 255, expected, atol=0.5 / 255 + 1e-5)


def test_the_report_of_a_test_run_has_them(tmp_path):
    engine = engine_named("torchvision")
    cfg = tiny_classifier(engine, tmp_path)
    weights = tmp_path / "model.pth"
    model, identity = seeded_model(engine, cfg), Identity.of(engine.NAME, cfg)
    save_checkpoint(weights, model, identity, description=Description.of(cfg, {}))
    (report,) = judge_model(engine, cfg, weights).values()
    assert report.counts["images"]["total"] == 6
    sources = pictures_of(tmp_path / "run" / "inference" / "tiny" / "report.html")
    shown = {name for name in sources if " " not in name}
    assert shown
    assert set(sources) == shown | {f"{number} malignant" for number in shown}


def test_a_detector_refuses_with_the_reason(untrained, studies, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"class maps of a whole-image classifier.*SimFasterRCNN"):
        simfrcnn.load(untrained, device="cpu").with_heat_maps()
    words = ["predict", str(studies), "--weights", str(untrained), "--heat-maps"]
    code = main([*words, "--output", str(tmp_path / "out"), "--keep-identifiers", "--workers", "0"])
    assert code == 2
    assert "this model is a SimFasterRCNN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    detector = simfrcnn.load(untrained, device="cpu")
    assert not options_for(detector).class_maps
    assert maps_of_model(detector.cfg, detector.model) is None
