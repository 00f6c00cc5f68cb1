"""``evaluate`` with several --detections: a report for each, a comparison, and good errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.artifacts import read_detections, write_detections
from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.reporting.comparison_report import PICTURES
from simfrcnn.files import sha256_of
from simfrcnn.settings import EvaluationSettings
from simfrcnn.workflows.compare import compare as compare_models
from simfrcnn.workflows.compare import folders_of, names_of
from support.evaluation_examples import CATEGORIES, random_set
from support.tools import run_tool

pytestmark = pytest.mark.usefixtures("quick_charts")

NAMES = ("good", "other one", "twin")


@pytest.fixture
def files(tmp_path):
    """An annotation file and three models' detections of its images; the last two are the same."""
    records, detections = random_set(3, n_patients=16)
    annotations = tmp_path / "test.json"
    write_coco(annotations, records, CATEGORIES, {})
    random = np.random.default_rng(0)
    noise = [
        dataclasses.replace(each, scores=random.random(len(each.scores)))
        for each in detections.images.values()
    ]
    paths = [tmp_path / name / "detections.json" for name in ("a", "b", "c")]
    for path, images in zip(paths, (detections.images.values(), noise, noise), strict=True):
        write_detections(path, images, categories=CATEGORIES)
    return annotations, paths


@pytest.fixture
def compare(files, monkeypatch, tmp_path):
    """The exit code of a comparison; ``words`` are further options."""
    annotations, paths = files

    def run(*words: object, names: str | None = ",".join(NAMES), detections=paths) -> int:
        each = [word for path in detections for word in ("--detections", path)]
        named = ["--names", names] if names else []
        options = ("--annotations", annotations, *each, *named, "--output", tmp_path / "out")
        return run_tool(
            monkeypatch, "evaluate", *options, "--no-images", "--replicates", 50, *words
        )

    return run


@pytest.fixture
def refused(compare, capsys, tmp_path):
    """The message of a comparison that must not begin."""

    def run(*words: object, **changes) -> str:
        assert compare(*words, **changes) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    return run


def test_every_model_gets_its_report_and_all_are_compared(compare, capsys, tmp_path, files):
    assert compare("--primary", "image/auc") == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        *("comparison.html", "comparison.md", "comparison.json", *PICTURES),
        *("good", "other_one", "twin"),
    }
    content = json.loads((out / "comparison.json").read_text())
    assert content["primary_metric"] == "image/auc"
    assert list(content["models"]) == list(NAMES)
    for name, model in content["models"].items():
        own = json.loads((out / model["report"]).with_suffix(".json").read_text())
        assert own["provenance"]["model"] == name
        for key in ("case/auc", "image/auc", "finding/ap50"):
            assert model["figures"][key] == own["figures"][key]
        assert model["provenance"]["detections_sha256"] == own["provenance"]["detections_sha256"]
    twins = next(p for p in content["pairs"] if (p["first"], p["second"]) == NAMES[1:])
    assert twins["differences"]["case/auc"]["low"] == twins["differences"]["case/auc"]["high"] == 0
    assert {r["name"] for r in content["ranking"] if "twin" in r["ties"]} >= {"other one"}
    said = capsys.readouterr().out
    assert f"[2/3] other one: {files[1][1]}" in said
    assert "note: other one and twin are the same detections" in said
    assert sum("figures by case rest on" in note for note in content["notes"]) == 1
    assert "rank by AUC by image" in said


def test_from_python_nothing_is_written_unless_asked_for(files, tmp_path):
    annotations, paths = files
    annotated = read_coco(annotations, check_files=False)
    before = sorted(tmp_path.rglob("*"))
    settings = EvaluationSettings(bootstrap_replicates=20)
    detections = {"good": read_detections(paths[0]), "noise": paths[1]}
    report = compare_models(annotated, detections, settings=settings, pictures=False)
    assert sorted(tmp_path.rglob("*")) == before
    assert report.figures["good"]["case/auc"].value > report.figures["noise"]["case/auc"].value
    assert report.provenance["noise"]["detections_sha256"] == sha256_of(paths[1])
    with pytest.raises(ConfigError, match="a comparison takes two or more"):
        compare_models(annotated, {"good": paths[0]}, settings=settings, pictures=False)


def test_one_file_is_a_report_as_ever(compare, files, tmp_path):
    assert compare(names=None, detections=files[1][:1]) == 0
    assert (tmp_path / "out" / "report.json").exists()
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_names_must_fit_the_files(refused, files):
    assert "name the models by --names A,B" in refused(names=None)
    assert "has 2 names (a, b), but --detections is given 3 times" in refused(names="a,b")
    assert "'a' is there twice" in refused(names="a,b,a")
    assert "give --detections once for each" in refused(names="a", detections=files[1][:1])


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "x" * 61, "a:b", "a*"])
def test_names_that_are_no_folders_are_refused(name):
    with pytest.raises(ConfigError, match="not fit for the name of a folder"):
        folders_of([name, "b"])


@pytest.mark.parametrize("names", ["a b,a_b", "Sim,sim", "comparison.json,b", "roc.svg,b"])
def test_names_whose_folders_would_meet_are_refused(names):
    with pytest.raises(ConfigError, match="would be that of"):
        folders_of(names.split(","))


def test_names_become_folders():
    names = names_of("sim R-101, modèle 2 ,λ=0.1 (best)", [Path("a"), Path("b"), Path("c")])
    assert folders_of(names) == {
        "sim R-101": "sim_R-101",
        "modèle 2": "modèle_2",
        "λ=0.1 (best)": "λ_0.1_best_",
    }


def test_detections_of_other_images_are_refused_before_anything_is_judged(refused, files):
    sidecar = files[1][2].with_name("detections.meta.json")
    content = json.loads(sidecar.read_text())
    content["image_ids"] = [*content["image_ids"], 999]
    sidecar.write_text(json.dumps(content))
    message = refused()
    assert "covers image 999" in message
    assert str(files[1][2]) in message


def test_an_unknown_metric_is_refused(refused):
    assert "metric is 'auc'; legal is case/auc" in refused("--primary", "auc")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--primary", "exam/auc"], "the exam is the case already (EVAL.CASE_BY exam)"),
        (
            ["--primary", "patient/auc", "--case-by", "patient"],
            "the patient is the case already (EVAL.CASE_BY patient)",
        ),
        (["--primary", "labels/auc"], "needs two target classes or more, and images that state"),
    ],
)
def test_a_metric_that_these_data_do_not_have_is_refused_before_anything_is_judged(
    refused, words, reason
):
    message = refused(*words)
    assert reason in message
    assert "lesions" not in message.split("These data have")[0]
    assert "These data have case/auc, image/auc" in message


def test_operating_points_are_for_one_model(refused, tmp_path):
    assert "operating points belong to one model" in refused(
        "--operating-points", tmp_path / "points.json"
    )


def test_an_output_that_is_a_file_is_refused(compare, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert compare() == 2
    assert "is a file; --output takes a folder" in capsys.readouterr().err


def test_subgroups_by_an_unknown_key_are_refused(compare, capsys):
    assert compare("--subgroup", "vendr") == 2
    assert "subgroup key 'vendr'" in capsys.readouterr().err
