"""From phantoms to a report, by the commands of the README, on every engine."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import yaml

from simfrcnn.cli.main import main
from simfrcnn.config import name_of_config
from simfrcnn.engines.common.checkpoints import read_checkpoint, weights_sha256
from simfrcnn.files import sha256_of
from simfrcnn.locks import LOCK, locked
from support.canaries import canary_folder, leaks, write_canary
from support.commands import ONE_ENGINE, ROOT, SMOKE, on_one_engine
from support.forking import run_program
from support.once import made_once


def test_a_run_folder_holds_everything_that_a_number_needs(trained):
    engine, folder = trained
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["engine"] == engine
    assert manifest["finished"] is True
    assert manifest["steps_done"] == 6
    assert manifest["seed"] == 0
    assert manifest["packages"]["torch"]
    assert {len(entry["sha256"]) for entry in manifest["data"]} == {64}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["SOLVER"]["MAX_ITER"] == 6
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert any("loss_similarity" in line for line in lines)
    assert any(key.endswith("case/auc") for line in lines for key in line)
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / "model_last.pth").exists()
    assert (folder / "model_best.pth").exists()


def test_a_run_reads_each_annotation_file_once(trained, datasets):
    _, run = trained
    counts = pickle.loads((run.parent / "files.pickle").read_bytes())
    folder = datasets / "phantom_tiny"
    names = ("train", "val", "test")
    assert [counts.opened[folder / f"{name}.json"] for name in names] == [1, 1, 1]
    images = {
        folder / image["file_name"]
        for name in names
        for image in json.loads((folder / f"{name}.json").read_text())["images"]
    }
    assert len(images) > 30
    assert {counts.looked_for[image] for image in images} == {1}


def test_the_manifest_says_what_the_labels_come_to(trained, datasets):
    _, folder = trained
    labels = json.loads((folder / "manifest.json").read_text())["labels"]
    document = json.loads((datasets / "phantom_tiny" / "train.json").read_text())
    boxes = document["annotations"]
    assert labels["images"] == len(document["images"])
    assert labels["positives"] == len({box["image_id"] for box in boxes})
    assert labels["normals"] == sum(i["supervision"] == "normal" for i in document["images"])
    assert sum(labels["left_out"].values()) == sum(
        image["supervision"] == "unlabelled" for image in document["images"]
    )
    assert labels["classes"]["malignant"]["boxes"] == len(boxes)
    assert labels["notes"] == []


def test_detections_and_report_name_their_origin(trained):
    engine, folder = trained
    inference = folder / "inference" / "phantom_tiny" / "test"
    meta = json.loads((inference / "detections.meta.json").read_text())
    assert meta["provenance"]["engine"] == engine
    assert meta["provenance"]["checkpoint"] == "model_best.pth"
    assert meta["provenance"]["checkpoint_sha256"] == weights_sha256(folder / "model_best.pth")
    assert len(meta["image_ids"]) == 16
    report = json.loads((inference / "report.json").read_text())
    assert 0 <= report["figures"]["case/auc"]["value"] <= 1
    for name in ("report.html", "report.md", "roc.svg", "froc.svg"):
        assert (inference / name).stat().st_size > 500


def test_operating_points_are_chosen_on_validation_and_applied_to_the_test_set(trained, datasets):
    _, folder = trained
    kept = json.loads((folder / "operating_points.json").read_text())
    assert kept["checkpoint_sha256"] == weights_sha256(folder / "model_best.pth")
    annotations = datasets / "phantom_tiny" / "val.json"
    assert kept["chosen_on"] == [
        {"name": "phantom_tiny/val", "annotations_sha256": sha256_of(annotations)}
    ]
    of_validation = folder / "inference" / "phantom_tiny" / "val"
    meta = json.loads((of_validation / "detections.meta.json").read_text())
    assert meta["provenance"]["checkpoint_sha256"] == kept["checkpoint_sha256"]
    of_val = json.loads((of_validation / "report.json").read_text())
    assert [point["rule"] for point in of_val["operating_points"]] == ["fixed"] * 4

    tested = json.loads((folder / "inference/phantom_tiny/test/report.json").read_text())
    applied = [point for point in tested["operating_points"] if point["rule"] != "fixed"]
    by_level = {}
    for point in kept["points"]:
        by_level.setdefault(point["level"], []).append(point)
    assert applied == [p for level in tested["units"] for p in by_level.get(level, [])]
    no_line = {key for key in kept["missing"] if key.endswith("/recalibration")}
    assert len(kept["points"]) + len(kept["missing"]) - len(no_line) == 3 * 4
    assert len(kept["recalibrations"]) + len(no_line) == 4
    assert tested["recalibrations"] == kept["recalibrations"]
    assert len(kept["points"]) > 0
    for point in kept["points"]:
        key = f"{point['level']}/{point['rule']}"
        units = tested["units"][point["level"]]
        called = [u["truth"] for u in units if u["score"] >= point["score_threshold"]]
        confusion = tested["confusions"][key]
        assert confusion["true_positives"] == called.count("positive")
        assert confusion["false_positives"] == called.count("normal")
        assert sum(confusion.values()) == sum(u["truth"] != "unknown" for u in units)
        positive = confusion["true_positives"] + confusion["false_negatives"]
        figure = tested["figures"][f"{key}/sensitivity"]
        assert figure["value"] == pytest.approx(confusion["true_positives"] / positive)
    for key, reason in kept["missing"].items():
        if key not in no_line:
            assert any(key in note and reason in note for note in tested["notes"])


def test_points_and_figures_travel_in_the_checkpoint(trained):
    engine, folder = trained
    kept = json.loads((folder / "operating_points.json").read_text())
    tested = json.loads((folder / "inference/phantom_tiny/test/report.json").read_text())
    best, last = (read_checkpoint(folder / f"model_{name}.pth") for name in ("best", "last"))
    assert best["operating_points"] == kept
    assert best["config"] == (folder / "config.yaml").read_text()
    assert best["classes"] == best["target_classes"] == ["malignant"]
    card = best["card"]
    assert card["engine"] == engine
    assert card["steps"] in (3, 6)
    (auc,) = [one for one in card["figures"] if one["figure"] == "case/auc"]
    assert auc == {
        "data_set": "phantom_tiny/test",
        "figure": "case/auc",
        **tested["figures"]["case/auc"],
    }
    (trained_on,) = card["trained_on"]
    assert trained_on["name"] == "phantom_tiny/train"
    assert trained_on["images"] == sum(trained_on["supervision"].values())
    assert str(folder) not in str(card)
    # The last one has other weights, unless it is the best: then it has the same points.
    assert last["training"]["step"] == 6
    is_best = weights_sha256(folder / "model_last.pth") == kept["checkpoint_sha256"]
    assert last["operating_points"] == (kept if is_best else None)


@on_one_engine()
def test_a_model_is_exported_shown_and_tested_as_one_file(trained, tmp_path, capsys):
    engine, folder = trained
    words = ["export", str(folder / "model_best.pth"), "--output", str(tmp_path / "m.pth")]
    assert main([*words, "--precision", "half", "--name", "tiny", "--licence", "CC0"]) == 0
    capsys.readouterr()
    assert main(["show", "--json", str(tmp_path / "m.pth")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["card"]["name"] == "tiny"
    assert told["card"]["licence"] == "CC0"
    assert told["steps_to_resume_from"] is None
    assert told["operating_points"]["checkpoint_sha256"] == told["weights_sha256"]
    kept = json.loads((folder / "operating_points.json").read_text())
    assert told["operating_points"]["points"] == kept["points"]
    assert str(folder) not in json.dumps({**told, "path": ""})
    size = (tmp_path / "m.pth").stat().st_size
    assert size < 0.55 * (folder / "model_best.pth").stat().st_size
    words = ["train-net", "--config-file", SMOKE, "--engine", engine, "--eval-only"]
    options = ["OUTPUT_DIR", str(tmp_path / "again"), "MODEL.WEIGHTS", str(tmp_path / "m.pth")]
    before = (tmp_path / "m.pth").read_bytes()
    assert main([*words, *options]) == 0
    assert (tmp_path / "m.pth").read_bytes() == before
    place = "inference/phantom_tiny/test/report.json"
    scores = [
        [unit["score"] for unit in json.loads((run / place).read_text())["units"]["image"]]
        for run in (folder, tmp_path / "again")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)


@on_one_engine()
def test_without_a_validation_set_there_is_no_point_and_the_report_says_so(trained, tmp_path):
    engine, folder = trained
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(folder / "model_best.pth", again)
    words = ["train-net", "--config-file", SMOKE, "--engine", engine, "--eval-only"]
    assert main([*words, "OUTPUT_DIR", str(again), "DATASETS.VAL", "[]"]) == 0
    assert not (again / "operating_points.json").exists()
    tested = json.loads((again / "inference/phantom_tiny/test/report.json").read_text())
    assert {point["rule"] for point in tested["operating_points"]} == {"fixed"}
    assert any("no validation set (DATASETS.VAL)" in note for note in tested["notes"])


@on_one_engine()
def test_without_a_test_set_points_are_chosen_and_figures_stay(trained, tmp_path):
    engine, folder = trained
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    points = json.loads((copy / "operating_points.json").read_text())
    (copy / "operating_points.json").unlink()
    before = read_checkpoint(copy / "model_best.pth")
    words = ["train-net", "--config-file", SMOKE, "--engine", engine, "--eval-only"]
    assert main([*words, "DATASETS.TEST", "[]", "OUTPUT_DIR", str(copy)]) == 0
    assert json.loads((copy / "operating_points.json").read_text()) == points
    after = read_checkpoint(copy / "model_best.pth")
    assert after["card"]["figures"] == before["card"]["figures"] != []
    assert after["operating_points"] == before["operating_points"] is not None


@on_one_engine()
def test_a_patient_of_the_test_set_chooses_no_operating_point(trained, tmp_path):
    """Also where a script calls ``judge_model`` without the checks of the command."""
    from simfrcnn.config import load_config
    from simfrcnn.engines import load_engine
    from simfrcnn.errors import DataError
    from simfrcnn.workflows.testing import judge_model

    name, folder = trained
    engine = load_engine(name)
    words = ["DATASETS.VAL", "[phantom_tiny/test]", "OUTPUT_DIR", str(tmp_path)]
    cfg = load_config(engine.default_cfg(), SMOKE, words)
    with pytest.raises(DataError, match=r"DATASETS\.VAL phantom_tiny/test and DATASETS\.TEST"):
        judge_model(engine, cfg, folder / "model_best.pth")
    assert list(tmp_path.iterdir()) == []


def test_eval_only_repeats_the_detections_and_evaluate_the_report(trained, tmp_path, datasets):
    engine, folder = trained
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "inference")
    words = ["train-net", "--config-file", SMOKE, "--engine", engine, "--eval-only"]
    assert main([*words, "OUTPUT_DIR", str(again)]) == 0
    name = os.path.join("inference", "phantom_tiny", "test", "detections.json")
    assert (again / name).read_bytes() == (folder / name).read_bytes()
    points = again / "operating_points.json"
    assert points.read_bytes() == (folder / "operating_points.json").read_bytes()

    annotations = datasets / "phantom_tiny" / "test.json"
    words = ["evaluate", "--annotations", str(annotations), "--detections", str(again / name)]
    words += ["--operating-points", str(points), "--replicates", "200"]
    assert main([*words, "--output", str(tmp_path / "report")]) == 0
    ours = json.loads((tmp_path / "report" / "report.json").read_text())
    theirs = json.loads((folder / name).with_name("report.json").read_text())
    for part in ("figures", "confusions", "operating_points", "notes"):
        assert ours[part] == theirs[part]


@on_one_engine()
def test_a_model_is_judged_where_its_training_set_is_not(trained, tmp_path, caplog, refused):
    engine, folder = trained
    words = ["train-net", "--config-file", SMOKE, "--engine", engine]
    options = ["MODEL.WEIGHTS", str(folder / "model_last.pth"), "DATASETS.TRAIN", "[clinic/train]"]
    options += ["DATASETS.VAL", "[]", "OUTPUT_DIR", str(tmp_path / "run")]
    misspelt = ["--dataset", "clinc/train=gone.json"]
    assert main([*words, *misspelt, "--eval-only", *options]) == 0
    assert "DATASETS.TRAIN clinic/train is not here: nobody can tell" in caplog.text
    assert (
        "the file given for clinc/train is not read: DATASETS.TRAIN, VAL and TEST name "
        "clinic/train, phantom_tiny/test; did you mean clinic/train?"
    ) in caplog.text
    (path,) = (tmp_path / "run").rglob("report.json")
    facts = json.loads(path.read_text())["provenance"]["prediction"]
    # What the checkpoint says of its training, not the config of this test.
    assert facts["trained_on"] == ["phantom_tiny/train"]
    assert facts["seed"] == read_checkpoint(folder / "model_last.pth")["card"]["seed"]
    assert "data set 'clinic/train' not found" in refused(*words, *options)


@pytest.fixture
def predicted(trained, datasets, tmp_path_factory):
    """(folder of a patient, output of ``predict`` on it); no test changes them."""
    engine, folder = trained
    patient = sorted((datasets / "phantom_tiny" / "dicom").iterdir())[0]

    def make(place):
        words = ["predict", str(patient), "--weights", str(folder / "model_best.pth")]
        words += ["--output", str(place / "out"), "--score-threshold", "0", "--keep-identifiers"]
        assert main([*words, "--workers", "0"]) == 0

    return patient, made_once(tmp_path_factory, f"predicted_{engine}", make) / "out"


def test_predict_writes_a_json_per_exam_and_a_picture_per_image(predicted):
    patient, out = predicted
    exams = sorted(out.glob("exams/*/*.json"))
    assert len(exams) == 1
    content = json.loads(exams[0].read_text())
    views = {(image["laterality"], image["view_position"]) for image in content["images"]}
    assert views == {(side, view) for side in "LR" for view in ("CC", "MLO")}
    assert content["score"] == max(image["score"] for image in content["images"])
    for image in content["images"]:
        assert (out / image["picture"]).exists()
        assert (patient / image["file"]).exists()
        for found in image["detections"]:
            left, top, right, bottom = found["box_xyxy_px"]
            assert 0 <= left < right <= image["width"]
            assert 0 <= top < bottom <= image["height"]


def test_a_methods_section_is_the_same_after_predict_as_after_a_test(trained, predicted):
    """Both ways of making detections say of the model all that its file says."""
    (_, folder), (_, out) = trained, predicted
    inference = folder / "inference" / "phantom_tiny" / "test"
    tested, predicted = (
        json.loads((path / "detections.meta.json").read_text())["provenance"]
        for path in (inference, out)
    )
    keys = ("simfrcnn", "engine", "model", "checkpoint", "checkpoint_sha256")
    for key in (*keys, "config", "config_sha256", "trained_on", "seed"):
        assert predicted[key] == tested[key], key
    assert predicted["config"] == read_checkpoint(folder / "model_best.pth")["card"]["config"]
    assert predicted["config"] == name_of_config(SMOKE)
    assert {"date"} <= {*tested} & {*predicted}


@on_one_engine()
def test_no_mark_of_the_folder_appears_in_a_prediction(trained, tmp_path, capsys):
    _, run = trained
    root = tmp_path / "clinic"
    stored = np.random.default_rng(0).integers(0, 4000, (80, 60)).astype(np.uint16)
    for number in range(4):
        write_canary(canary_folder(root, str(number // 2)) / f"CANARY{number}", stored, number)
    (canary_folder(root) / "CANARY.dcm").write_bytes(b"damaged")
    assert leaks(root)
    out, key, id_map = tmp_path / "out", tmp_path / "key", tmp_path / "map.json"
    words = ["predict", root, "--weights", run / "model_last.pth", "--output", out]
    words += ["--key-file", key, "--id-map", id_map, "--skip-unreadable", "--workers", "0"]
    assert main([str(word) for word in words]) == 0
    assert leaks(out) == []
    printed = capsys.readouterr().out
    assert str(root) not in printed
    assert "left out, unreadable: 1 file\n" in printed
    exams = [json.loads(path.read_text()) for path in sorted(out.glob("exams/*/*.json"))]
    assert sorted(len(exam["images"]) for exam in exams) == [0, 2, 2]
    exams = [exam for exam in exams if exam["images"]]
    sources = json.loads(id_map.read_text())["sources"]
    for exam in exams:
        assert sources["exam"][exam["exam_id"]].startswith("1.2.826")
        for image in exam["images"]:
            assert (root / sources["image"][f"{image['image_id']:013x}"]).is_file()
            assert (out / image["picture"]).is_file()


def test_the_script_in_tools_makes_missing_phantoms_and_trains(tmp_path):
    """What the README promises: one command, nothing prepared, in under a minute."""
    environment = {**os.environ, "SIMFRCNN_DATASETS": str(tmp_path / "datasets")}
    words = ["tools/train_net.py", "--config-file", SMOKE, "--engine", ONE_ENGINE]
    words += ["OUTPUT_DIR", str(tmp_path / "run"), "SOLVER.MAX_ITER", "1"]
    done = run_program(words, cwd=ROOT, logs=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"engine: {ONE_ENGINE}" in done.stdout
    assert "report: " in done.stdout


@on_one_engine()
def test_a_second_run_into_a_folder_is_refused_and_resume_goes_on(trained, tmp_path, refused):
    engine, folder = trained
    words = ("train-net", "--config-file", SMOKE, "--engine", engine)
    error = refused(*words, "OUTPUT_DIR", folder)
    assert str(folder) in error
    assert "--resume" in error
    longer = tmp_path / "longer"
    shutil.copytree(folder, longer)
    options = ["OUTPUT_DIR", str(longer), "SOLVER.MAX_ITER", "8"]
    with locked(longer):
        assert f"{longer}: another run is at work there" in refused(*words, "--resume", *options)
    assert main([*words, "--resume", *options]) == 0
    assert json.loads((longer / "manifest.json").read_text())["steps_done"] == 8
    assert not (longer / LOCK).exists()
