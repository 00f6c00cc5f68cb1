"""``simfrcnn evaluate``: every option reaches the report; operating points go from set to set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.artifacts import ImageDetections, write_detections
from simfrcnn.cli.main import main
from simfrcnn.data.coco import write_coco
from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.operating import read_operating_points
from simfrcnn.files import write_json
from simfrcnn.settings import EvaluationSettings
from simfrcnn.workflows import evaluate
from support.evaluation_examples import CATEGORIES, finding, image

BOX, BENIGN = (10, 10, 30, 30), (60, 60, 90, 90)
VAL = ((0.9, True), (0.6, True), (0.7, False), (0.2, False))
TEST = ((0.8, True), (0.5, True), (0.3, True), (0.6, False), (0.52, False), (0.1, False))


@pytest.fixture(autouse=True)
def numbers_only(monkeypatch):
    """The page and its pictures have tests of their own, and take a second."""

    def write(folder, report, **_):
        write_json(folder / "report.json", report.to_json())
        return folder / "report.html"

    monkeypatch.setattr(evaluate, "write_report", write)


@pytest.fixture
def write_set(tmp_path):
    """Write a set of one-image cases, score and whether positive; gives --annotations and so on."""

    def write(name, scores, *, checkpoint="c" * 64, box=BOX):
        folder = tmp_path / name
        records = [
            replace(
                image(
                    number,
                    f"{name}{number}",
                    *([finding(BOX, number)] if is_positive else []),
                    finding(BENIGN, 100 + number, category="benign"),
                ),
                attributes={"density": "BCDA"[number % 4]},
                path=folder / f"{number}.png",
            )
            for number, (_, is_positive) in enumerate(scores, 1)
        ]
        write_coco(folder / f"{name}.json", records, CATEGORIES, {"version": "1"})
        write_detections(
            folder / "detections.json",
            [
                ImageDetections(n, np.array([box], float), np.array([score]), ("malignant",))
                for n, (score, _) in enumerate(scores, 1)
            ],
            categories=CATEGORIES,
            provenance={"checkpoint_sha256": checkpoint},
        )
        return [
            *("evaluate", "--annotations", folder / f"{name}.json", "--no-images"),
            *("--detections", folder / "detections.json", "--output", folder / "report"),
            *("--replicates", "0"),
        ]

    return write


@pytest.fixture
def judge(capsys):
    """Run the command; gives (exit code, report or None, what was printed or the error)."""

    def run(*words):
        words = [str(word) for word in words]
        code = main(words)
        printed = capsys.readouterr()
        path = words[words.index("--output") + 1]
        report = None if code else json.loads((Path(path) / "report.json").read_text())
        return code, report, printed.err if code else printed.out

    return run


def refusal(judge, *words):
    code, _, error = judge(*words)
    assert code == 2
    assert "Traceback" not in error
    return error


def test_points_chosen_on_one_set_are_applied_to_another(write_set, judge, tmp_path):
    points = tmp_path / "points.json"
    _, val, printed = judge(*write_set("val", VAL), "--choose-operating-points", points)
    # By falling score + - + -: the index is 1/2 after the first and after the third.
    assert (
        "case/youden: positive from score 0.4000 on (sensitivity 1.000, specificity 0.500"
        in printed
    )
    assert {point["rule"] for point in val["operating_points"]} == {"fixed"}
    words = [*write_set("test", TEST), "--operating-points", points]
    _, test, printed = judge(*words)
    youden = [p for p in test["operating_points"] if (p["level"], p["rule"]) == ("case", "youden")]
    assert [(p["score_threshold"], p["chosen_on"]) for p in youden] == [(0.4, "val.json")]
    assert test["figures"]["case/youden/sensitivity"]["value"] == pytest.approx(2 / 3)
    assert test["figures"]["case/youden/specificity"]["value"] == pytest.approx(1 / 3)
    assert test["confusions"]["case/youden"] == {
        "true_positives": 2, "false_negatives": 1, "false_positives": 2, "true_negatives": 1,
    }  # fmt: skip
    assert test["confusions"]["case"]["true_positives"] == 2
    # A specificity of .9 of two is both, which the highest score allows.
    assert test["figures"]["case/specificity/sensitivity"]["value"] == pytest.approx(1 / 3)
    assert test["provenance"]["operating_points"]["chosen_on"][0]["name"] == "val.json"
    assert "OPTIMISTIC" not in printed


def test_from_python_the_points_are_given_as_they_were_read(write_set, tmp_path):
    words = {name: write_set(name, scores) for name, scores in (("val", VAL), ("test", TEST))}
    points = tmp_path / "points.json"
    quick = EvaluationSettings(bootstrap_replicates=0, operating_sensitivity=0.5)
    val, test = ((tmp_path / n / f"{n}.json", tmp_path / n / "detections.json") for n in words)
    evaluate.evaluate(*val, settings=quick, choose_operating_points=points, pictures=False)
    chosen = read_operating_points(points)
    report = evaluate.evaluate(*test, operating_points=chosen, pictures=False)
    assert report.settings.operating_sensitivity == 0.5
    assert report.figures["case/youden/sensitivity"].value == pytest.approx(2 / 3)
    assert not (tmp_path / "test" / "report").exists()
    with pytest.raises(ConfigError, match=r"operating_sensitivity 0\.5, but 0\.9 is in use"):
        evaluate.evaluate(
            *test, settings=EvaluationSettings(), operating_points=points, pictures=False
        )


def test_points_on_their_own_set_are_called_optimistic(write_set, judge, tmp_path):
    points, words = tmp_path / "points.json", write_set("val", VAL)
    judge(*words, "--choose-operating-points", points)
    _, report, printed = judge(*words, "--operating-points", points)
    assert report["notes"][0].startswith("OPTIMISTIC: the operating points were chosen on val.json")
    assert "note: OPTIMISTIC" in printed


def test_the_targets_of_the_file_hold_unless_others_are_asked_for(write_set, judge, tmp_path):
    points, test = tmp_path / "points.json", write_set("test", TEST)
    judge(
        *write_set("val", VAL),
        *("--choose-operating-points", points, "--operating-sensitivity", "0.5"),
    )
    _, report, _ = judge(*test, "--operating-points", points)
    assert report["settings"]["operating_sensitivity"] == 0.5
    error = refusal(judge, *test, "--operating-points", points, "--operating-sensitivity", "0.9")
    assert "operating_sensitivity 0.5, but 0.9 is in use" in error


def test_points_of_other_rules_or_another_model_are_refused(write_set, judge, tmp_path):
    points = tmp_path / "points.json"
    judge(*write_set("val", VAL), "--choose-operating-points", points)
    test = [*write_set("test", TEST), "--operating-points", points]
    assert "pooling 'max', but 'mean' is in use" in refusal(judge, *test, "--pooling", "mean")
    other = write_set("other", TEST, checkpoint="d" * 64)
    assert "another checkpoint" in refusal(judge, *other, "--operating-points", points)
    assert "cannot be read" in refusal(judge, *other, "--operating-points", tmp_path / "no.json")
    twice = ["--detections", tmp_path / "test" / "detections.json"]
    assert "operating points belong to one model" in refusal(judge, *test, *twice)
    with pytest.raises(SystemExit):
        judge(*test, "--choose-operating-points", tmp_path / "new.json")


def test_a_folder_for_the_points_is_refused_before_anything_is_judged(write_set, judge, tmp_path):
    words = write_set("val", VAL)
    message = refusal(judge, *words, "--choose-operating-points", tmp_path)
    assert "--choose-operating-points takes the file to write" in message
    assert not (tmp_path / "val" / "report").exists()


def test_every_setting_has_its_option(write_set, judge):
    _, report, _ = judge(
        *write_set("test", TEST),
        *("--ignored-classes", "benign", "--boxes-outside", "clip", "--prevalence", "0.01"),
        *("--operating-sensitivity", "0.8", "--operating-specificity", "0.95"),
        *("--subgroup", "density", "--subgroup", "view_position"),
    )
    settings = report["settings"]
    assert settings["ignored_classes"] == ["benign"]
    assert settings["boxes_outside"] == "clip"
    assert settings["prevalence"] == 0.01
    assert (settings["operating_sensitivity"], settings["operating_specificity"]) == (0.8, 0.95)
    assert settings["subgroups"] == ["density", "view_position"]
    # Bayes by hand at .5: sensitivity 2/3, specificity 1/3.
    expected = 0.01 * 2 / 3 / (0.01 * 2 / 3 + 0.99 * 2 / 3)
    assert report["figures"]["case/ppv"]["value"] == pytest.approx(expected)
    assert {group["key"] for group in report["subgroups"]} == {"density", "view_position"}


def test_ignored_classes_and_boxes_outside_change_what_they_should(write_set, judge):
    on_benign = write_set("benign", TEST, box=BENIGN)
    key = "froc/centre/all/sensitivity_at_1"
    _, plain, _ = judge(*on_benign)
    _, ignored, _ = judge(*on_benign, "--ignored-classes", "benign")
    false_positives = [
        report["froc"]["centre/all"]["false_positives_per_image"] for report in (plain, ignored)
    ]
    assert max(false_positives[0]) == 1.0
    assert max(false_positives[1], default=0.0) == 0.0
    assert plain["figures"][key]["value"] == ignored["figures"][key]["value"] == 0.0
    outside = write_set("outside", TEST, box=(10, 10, 30, 130))
    assert "lies outside the image of 100 x 100" in refusal(judge, *outside)
    _, clipped, _ = judge(*outside, "--boxes-outside", "clip")
    assert clipped["settings"]["boxes_outside"] == "clip"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prevalence", "1"], "EVAL.PREVALENCE is 1.0; legal is a number in (0, 1)"),
        (
            ["--operating-sensitivity", "0"],
            "EVAL.OPERATING_SENSITIVITY is 0.0; legal is a number in (0, 1]",
        ),
        (["--operating-specificity", "1.1"], "EVAL.OPERATING_SPECIFICITY is 1.1"),
        (["--ignored-classes", "cyst"], "ignored class 'cyst' is not among the categories"),
        (["--ignored-classes", "malignant"], "both a target and ignored"),
        (["--subgroup", "age:70,50"], "subgroup 'age:70,50'"),
    ],
)
def test_illegal_settings_are_named(write_set, judge, words, message):
    assert message in refusal(judge, *write_set("test", TEST), *words)


def test_a_model_is_compared_with_readers(write_set, judge, tmp_path):
    points = tmp_path / "points.json"
    judge(*write_set("val", VAL), "--choose-operating-points", points)
    readers = tmp_path / "readers.csv"
    rows = [f"R{r},test{case}-exam,{1 + (case + r) % 5}" for r in (1, 2, 3) for case in range(1, 7)]
    readers.write_text("\n".join(["reader,case,rating", *rows]))
    words = [*write_set("test", TEST), "--operating-points", points, "--readers", readers]
    _, _, printed = judge(*words, "--recall-from", "4", "--triage-below", "0.2")
    assert "sensitivity: model 0.667 (" in printed
    assert f"readers: {tmp_path / 'test' / 'report' / 'readers.html'}" in printed
    study = json.loads((tmp_path / "test" / "report" / "readers.json").read_text())
    assert study["score_threshold"] == 0.4  # the operating point, not the fixed threshold
    assert study["covariance"] == "jackknife"
    assert study["pathways"]["readers"][-1]["name"] == "triage: not read below 0.2"
    assert study["pathways"]["readers"][-1]["figures"]["read"]["value"] == pytest.approx(5 / 6)
    recalls = [[1 + (case + r) % 5 >= 4 for case in range(1, 7)] for r in (1, 2, 3)]
    mean = study["model_against_readers"][1]["mean_of_readers"]["value"]
    assert mean == pytest.approx(np.mean([own[:3] for own in recalls]))
    readers.write_text("reader,case,rating\nR1,test9,1")
    assert "row 2, column 'case': the test set has no case 'test9'" in refusal(judge, *words)
    readers.write_text("reader,case,rating\nR1,test1-exam,low")
    assert "row 2, column 'rating': 'low' is not a number" in refusal(judge, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recall-from", "3"], "--recall-from: there are no readers"),
        (
            ["--readers", "r.csv", "--triage-below", "2"],
            "--triage-below is 2.0; legal is a score in [0, 1]",
        ),
        (["--margin", "0.05"], "--margin is for a difference: give several --detections"),
        (
            ["--readers", "r.csv", "--margin", "0"],
            "--margin is 0.0; legal is a number in (0, 1)",
        ),
        (["--readers", "/nowhere/r.csv"], "/nowhere/r.csv: cannot be read (No such file"),
    ],
)
def test_illegal_options_of_readers_are_named(write_set, judge, words, message):
    assert message in refusal(judge, *write_set("test", TEST), *words)
