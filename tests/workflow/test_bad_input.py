"""What users get wrong: exit code 2, one message with name and remedy, nothing written."""

import errno
import json
import os
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch

from simfrcnn.cli.main import main
from simfrcnn.locks import LOCK, locked
from support.commands import ENGINES, ROOT, SMOKE, on_one_engine


@pytest.fixture
def run_folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def train(refused, run_folder):
    """The error of a smoke training with changes; nothing of a run may be left behind."""

    def run(*words, engine="torchvision"):
        head = ("train-net", "--config-file", SMOKE, "--engine", engine)
        names = [word for word in words if str(word).startswith("--") or "=" in str(word)]
        keys = [word for word in words if word not in names]
        error = refused(*head, *names, "OUTPUT_DIR", run_folder, *keys)
        assert not list(run_folder.glob("*.pth"))
        return error

    return run


@pytest.fixture
def phantom_copy(datasets, tmp_path):
    """A file of the tiny phantoms with a change, as a --dataset argument."""

    def change(edit, name="train"):
        source = datasets / "phantom_tiny"
        content = json.loads((source / f"{name}.json").read_text())
        for image in content["images"]:
            image["file_name"] = os.path.relpath(source / image["file_name"], tmp_path)
        edit(content)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(content))
        return f"--dataset=phantom_tiny/{name}={path}"

    return change


def test_unknown_key(train):
    assert "Did you mean SOLVER.BASE_LR?" in train("SOLVER.BASE_LRR", "1")


def test_missing_config_file(refused):
    assert "absent.yaml does not exist" in refused("train-net", "--config-file", "absent.yaml")


def test_frozen_norm_without_weights(train):
    assert "MODEL.WEIGHTS is empty" in train("MODEL.RESNETS.NORM", "FrozenBN")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(train):
    assert "MODEL.DEVICE cpu" in train("MODEL.DEVICE", "cuda")


def test_a_subgroup_that_cannot_be_made_is_refused_before_training(train):
    assert "did you mean 'density'" in train("EVAL.SUBGROUPS", '["densty"]')


def test_missing_data_set(train):
    error = train("DATASETS.TRAIN", "nothing/train")
    assert "nothing/train" in error
    assert "SIMFRCNN_DATASETS" in error


def test_a_name_like_a_phantom_preset_is_an_ordinary_name(train):
    assert "phantom_clinic/train" in train("DATASETS.TRAIN", "phantom_clinic/train")


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda c: c["annotations"][0].update(category_id=77), ["category", "77"]),
        (lambda c: c["annotations"][0].update(bbox=[-50, 0, 10, 10]), ["box", "image"]),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 10]), ["bbox"]),
        (lambda c: c["images"].append(dict(c["images"][0])), ["twice|duplicate|unique"]),
        (lambda c: c["images"][0].update(file_name="gone.dcm"), ["gone.dcm"]),
        (lambda c: c["images"][0].pop("supervision"), ["supervision"]),
    ],
    ids=["category", "outside", "area", "duplicate", "missing-image", "supervision"],
)
def test_annotation_files_that_contradict_themselves(train, phantom_copy, edit, parts):
    error = train(phantom_copy(edit))
    assert "changed.json" in error
    assert all(any(word in error for word in part.split("|")) for part in parts), error


def test_no_normal_images(train, phantom_copy):
    def only_unlabelled(content):
        for image in content["images"]:
            if image["supervision"] == "normal":
                image["supervision"] = "unlabelled"

    error = train(phantom_copy(only_unlabelled))
    assert "phantom_tiny/train" in error
    assert "normal" in error


def test_no_positive_images(train, phantom_copy):
    def without_boxes(content):
        content["annotations"] = []

    error = train(phantom_copy(without_boxes))
    assert "phantom_tiny/train" in error
    assert "positive" in error


def test_a_patient_in_two_splits(train, datasets):
    path = datasets / "phantom_tiny" / "train.json"
    error = train(f"--dataset=phantom_tiny/test={path}")
    assert "DATASETS.TRAIN phantom_tiny/train" in error
    assert "share" in error


@pytest.mark.parametrize("name", ["val", "test"])
def test_boxes_that_a_model_has_proposed_are_no_truth(train, phantom_copy, name):
    def proposed(content):
        content["annotations"][0].update(source="pseudo", score=0.9)

    error = train(phantom_copy(proposed, name))
    assert "changed.json: annotation" in error
    assert "is a pseudo-box of the target class 'malignant'" in error
    assert "use the file that it was made from" in error


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_that_is_not_finite(refused, run_folder, engine):
    words = ("train-net", "--config-file", SMOKE, "--engine", engine, "OUTPUT_DIR", run_folder)
    error = refused(*words, "SOLVER.BASE_LR", "1e30", "SOLVER.CHECKPOINT_PERIOD", "1")
    assert "not finite" in error
    assert ".dcm" in error
    assert "SOLVER.BASE_LR" in error
    evidence = list(run_folder.glob("diverged_step*.pth"))
    assert len(evidence) == 1
    assert str(evidence[0]) in error


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_hold_code(train, tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": _Evil()}))
    assert "evil.pkl was not opened" in train("MODEL.WEIGHTS", path, engine=engine)
    assert not (tmp_path / "it_ran").exists()


def test_weights_that_do_not_exist(train, tmp_path):
    assert "absent.pth" in train("MODEL.WEIGHTS", tmp_path / "absent.pth")


def test_a_checkpoint_of_another_architecture(trained, refused, tmp_path):
    engine, folder = trained
    other = ROOT / "configs" / "smoke" / "sim_r18_fpn.yaml"
    words = ("train-net", "--config-file", other, "--engine", engine, "--eval-only")
    weights = ("MODEL.WEIGHTS", folder / "model_last.pth")
    error = refused(*words, "OUTPUT_DIR", tmp_path / "x", *weights)
    assert "another architecture" in error
    assert "MODEL.BACKBONE.NAME" in error


@pytest.mark.detectron2
@pytest.mark.torchvision
def test_a_checkpoint_of_another_engine(trained, refused, tmp_path):
    engine, folder = trained
    other = {"detectron2": "torchvision", "torchvision": "detectron2"}[engine]
    words = ("train-net", "--config-file", SMOKE, "--engine", other, "--eval-only")
    weights = ("MODEL.WEIGHTS", folder / "model_last.pth")
    error = refused(*words, "OUTPUT_DIR", tmp_path / "x", *weights)
    assert f"--engine {engine}" in error


def test_an_output_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("")
    words = ("train-net", "--config-file", SMOKE, "--engine", "torchvision")
    assert "file" in refused(*words, "OUTPUT_DIR", tmp_path / "file" / "run")


def test_an_output_folder_in_which_a_training_is_at_work(train, run_folder):
    with locked(run_folder):
        assert f"{run_folder}: another run is at work there" in train()
        assert os.listdir(run_folder) == [LOCK]


# -- predict ---------------------------------------------------------------------------------------


@pytest.fixture
def predict(trained, refused, tmp_path):
    _, folder = trained

    def run(source, *words):
        out = tmp_path / "predicted"
        error = refused(
            "predict", source, "--weights", folder / "model_last.pth", "--output", out, *words
        )
        assert not out.exists()
        return error

    return run


def test_missing_folder(predict, tmp_path):
    assert "absent" in predict(tmp_path / "absent")


def test_folder_without_images(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing here")
    assert "holds no image" in predict(tmp_path / "empty")


@on_one_engine()
def test_unreadable_files_are_listed_and_the_others_are_judged(trained, tmp_path, datasets, capsys):
    _, folder = trained
    source = tmp_path / "source"
    whole = next((datasets / "phantom_tiny" / "dicom").rglob("*.dcm"))
    shutil.copytree(whole.parent, source)
    (source / whole.name).write_bytes(whole.read_bytes()[:3000])
    colour = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(source / "colour.png"), colour)
    out = tmp_path / "out"
    words = ["predict", source, "--weights", folder / "model_last.pth", "--output", out]
    words = [str(word) for word in (*words, "--keep-identifiers", "--workers", "0")]
    assert main(words) == 3
    assert "failures.csv" in capsys.readouterr().out
    assert main([*words, "--skip-unreadable"]) == 0
    failures = (out / "failures.csv").read_text()
    assert "colour.png,unreadable" in failures
    assert f"{whole.name},unreadable" in failures
    assert len(list((out / "pictures").rglob("*.png"))) == 3


@on_one_engine()
def test_a_disk_that_is_full_in_the_middle_of_a_prediction(
    trained, refused, datasets, tmp_path, monkeypatch
):
    """What is done stays, nothing is half-written, and the same command goes on."""
    n_written = 0

    def fill_up(_):
        nonlocal n_written
        n_written += 1
        if n_written == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    patient = sorted((datasets / "phantom_tiny" / "dicom").iterdir())[0]
    out = tmp_path / "predicted"
    words = ("predict", patient, "--weights", trained[1] / "model_last.pth", "--output", out)
    words = (*words, "--keep-identifiers", "--workers", "0")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill_up)
        assert "disk is full" in refused(*words)
    assert n_written >= 3
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("exams/*/*.json"))
    assert main([str(word) for word in words]) == 0
    assert len(list(out.rglob("exams/*/*.json"))) == 1


@on_one_engine()
def test_an_output_folder_in_use(predict, datasets, tmp_path, refused, trained):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")
    words = ("predict", datasets, "--weights", trained[1] / "model_last.pth", "--output")
    assert "not a new or empty folder" in refused(*words, tmp_path / "full")
    assert (tmp_path / "full" / "x").read_text() == "precious"


# -- evaluate, prepare-data, make-phantoms ---------------------------------------------------------


def test_detections_that_do_not_belong_to_the_annotations(refused, datasets, tmp_path):
    detections = tmp_path / "d.json"
    entry = {"image_id": 99999, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    detections.write_text(json.dumps([entry]))
    annotations = datasets / "phantom_tiny" / "test.json"
    words = ("evaluate", "--annotations", annotations, "--detections", detections, "--output")
    error = refused(*words, tmp_path / "report")
    assert "99999" in error
    assert "d.json" in error
    assert not (tmp_path / "report").exists()


def test_a_missing_mias_folder(refused, tmp_path):
    words = ("prepare-data", "mias", "--root", tmp_path / "absent", "--out", tmp_path / "out")
    assert f"{tmp_path / 'absent'}: no such folder; give the folder with Info.txt" in refused(
        *words
    )
    assert not (tmp_path / "out").exists()


def test_phantoms_never_overwrite_a_folder_of_something_else(refused, tmp_path):
    (tmp_path / "precious.txt").write_text("keep")
    refused("make-phantoms", "--preset", "tiny", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
