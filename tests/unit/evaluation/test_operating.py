"""Operating points: chosen as a reader would by going through all thresholds, kept, and refused."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simfrcnn.errors import ArtifactError, ConfigError
from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.operating import (
    choose_operating_points,
    lines_on,
    notes_on,
    points_for,
    read_operating_points,
    write_operating_points,
)
from simfrcnn.evaluation.results import Confusion, OperatingPoint, UnitScore
from simfrcnn.evaluation.thresholds import RULES, choose_point
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

SETTINGS = EvaluationSettings(bootstrap_replicates=0)
BOX = (10, 10, 30, 30)


def units_of(positives, normals, unknown=()):
    groups = {"positive": positives, "normal": normals, "unknown": unknown}
    return [
        UnitScore(f"{truth}{number}", f"{truth}{number}", truth, score)
        for truth, scores in groups.items()
        for number, score in enumerate(scores)
    ]


def chosen(rule, positives, normals, unknown=(), **settings):
    return choose_point(
        units_of(positives, normals, unknown),
        "case",
        rule,
        replace(SETTINGS, **settings),
        chosen_on="clinic/val",
    )


# By falling score: + .9, + .8, - .7, + .6, - .5, - .3, + .2, - .1. After each, sensitivity and
# specificity: (1/4, 1) (2/4, 1) (2/4, 3/4) (3/4, 3/4) (3/4, 2/4) (3/4, 1/4) (1, 1/4) (1, 0).
POSITIVES, NORMALS = (0.9, 0.8, 0.6, 0.2), (0.7, 0.5, 0.3, 0.1)


@pytest.mark.parametrize(
    ("rule", "target", "threshold", "sensitivity", "specificity"),
    [
        # (2/4, 1) and (3/4, 3/4) have the index 1/2: the one with the higher sensitivity.
        ("youden", None, 0.55, 0.75, 0.75),
        ("sensitivity", 0.5, 0.75, 0.5, 1.0),
        ("sensitivity", 0.75, 0.55, 0.75, 0.75),
        ("sensitivity", 0.9, 0.15, 1.0, 0.25),
        ("specificity", 1.0, 0.75, 0.5, 1.0),
        ("specificity", 0.75, 0.55, 0.75, 0.75),
        # (3/4, 3/4) has no lower sensitivity than (3/4, 1/2), and more specificity.
        ("specificity", 0.5, 0.55, 0.75, 0.75),
        ("specificity", 0.25, 0.15, 1.0, 0.25),
    ],
)
def test_points_worked_out_by_hand(rule, target, threshold, sensitivity, specificity):
    targets = {} if target is None else {f"operating_{rule}": target}
    point = chosen(rule, POSITIVES, NORMALS, unknown=(0.72, 0.99), **targets)
    assert point == OperatingPoint(
        level="case",
        rule=rule,
        score_threshold=pytest.approx(threshold),
        target=target,
        chosen_on="clinic/val",
        sensitivity=sensitivity,
        specificity=specificity,
    )


@pytest.mark.parametrize(
    ("rule", "positives", "normals", "reason"),
    [
        ("youden", (), (0.2,), "clinic/val has 0 positive and 1 normal"),
        ("sensitivity", (0.2,), (), "clinic/val has 1 positive and 0 normal"),
        ("youden", (0.4, 0.4), (0.4,), "no score threshold .* better than chance"),
        ("youden", (0.5, 0.1), (0.9, 0.4), "better than chance"),
        ("sensitivity", (0.9, 0.0), (0.3, 0.0), "sensitivity of 0.9 or more .* every normal"),
        # Of two normal ones .9 spares both, and the highest score is a normal one's.
        ("specificity", (0.9, 0.8), (0.95, 0.1), "specificity of 0.9 or more .* no positive"),
    ],
)
def test_there_may_be_no_point_and_then_it_says_why(rule, positives, normals, reason):
    answer = chosen(rule, positives, normals)
    assert isinstance(answer, str)
    assert re.search(reason, answer)


def test_a_certain_normal_unit_does_not_push_the_threshold_beyond_1():
    point = chosen("specificity", (1.0, 0.4), (1.0, *[0.1] * 9))
    assert point.score_threshold == pytest.approx(0.25)
    assert (point.sensitivity, point.specificity) == (1.0, 0.9)


def test_the_threshold_still_parts_neighbouring_floats():
    low, high = 0.5, float(np.nextafter(0.5, 1))
    point = chosen("youden", (high,), (low,))
    assert low < point.score_threshold <= high
    assert (point.sensitivity, point.specificity) == (1.0, 1.0)


SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=8)


@given(SCORES, SCORES, st.sampled_from(list(RULES)), st.sampled_from([0.3, 0.5, 0.75, 0.9, 1.0]))
def test_no_threshold_of_a_fine_grid_is_better(positives, normals, rule, target):
    point = chosen(
        rule, positives, normals, operating_sensitivity=target, operating_specificity=target
    )

    def at(threshold):
        sensitivity = sum(score >= threshold for score in positives) / len(positives)
        return sensitivity, sum(score < threshold for score in normals) / len(normals)

    grid = [at(threshold) for threshold in np.linspace(0.005, 0.995, 100)]
    grid = [rates for rates in grid if min(rates) > 0]
    if rule == "youden":
        rank = lambda rates: (round(sum(rates), 9), rates[0])  # noqa: E731 - equal sums are equal
        allowed = [rank(rates) for rates in grid if sum(rates) > 1 + 1e-9]
    elif rule == "sensitivity":
        allowed = [(rates[1], rates[0]) for rates in grid if rates[0] >= target]
        rank = lambda rates: (rates[1], rates[0])  # noqa: E731
    else:
        allowed = [rates for rates in grid if rates[1] >= target]
        rank = lambda rates: rates  # noqa: E731
    if not allowed:
        assert isinstance(point, str)
        return
    assert isinstance(point, OperatingPoint)
    rates = at(point.score_threshold)
    assert rates == (point.sensitivity, point.specificity)
    assert rank(rates) == pytest.approx(max(allowed))


# -- from reports to a file ------------------------------------------------------------------------


ALIKE = {"TEST.FLIPS": "none"}


def report_on(
    scores, *, checkpoint="c" * 64, annotations="a" * 64, settings=SETTINGS, detected_with=ALIKE
):
    """Of one-image cases: score and whether it is positive."""
    stated = {"checkpoint_sha256": checkpoint, "detected_with": detected_with}
    records = [
        image(number, f"patient{number}", *([finding(BOX, number)] if is_positive else []))
        for number, (_, is_positive) in enumerate(scores, 1)
    ]
    detections = replace(
        detection_file(*(found(n, (BOX, score)) for n, (score, _) in enumerate(scores, 1))),
        provenance={key: value for key, value in stated.items() if value},
    )
    return evaluate(records, detections, settings, provenance={"annotations_sha256": annotations})


VALIDATION = ((0.9, True), (0.6, True), (0.7, False), (0.2, False))


def test_every_rule_at_every_level_and_a_file_that_gives_it_back(tmp_path):
    report = report_on(VALIDATION)
    points = choose_operating_points({"clinic/val": report})
    of_levels = [(point.level, point.rule) for point in points.points]
    assert of_levels == [(level, rule) for level in report.units for rule in RULES]
    assert {"case", "breast", "image"} <= set(report.units)
    assert points.missing == {}
    assert points.checkpoint_sha256 == "c" * 64
    path = tmp_path / "operating_points.json"
    write_operating_points(path, points)
    assert read_operating_points(path) == points
    assert json.loads(path.read_text())["chosen_on"] == [
        {"name": "clinic/val", "annotations_sha256": "a" * 64}
    ]
    assert points_for(points, SETTINGS, checkpoint_sha256="c" * 64) == points.points
    assert list(notes_on(points, "b" * 64, "c" * 64, detected_with=ALIKE)) == []


def test_several_validation_sets_are_one(tmp_path):
    one, other = report_on(VALIDATION[:2]), report_on(VALIDATION[2:], annotations="b" * 64)
    points = choose_operating_points({"a/val": one, "b/val": other})
    whole = choose_operating_points({"clinic/val": report_on(VALIDATION)})
    assert [replace(point, chosen_on="clinic/val") for point in points.points] == list(whole.points)
    assert {point.chosen_on for point in points.points} == {"a/val and b/val"}
    # Alone, one of them has positives only.
    alone = choose_operating_points({"a/val": one})
    assert alone.points == ()
    assert "a/val has 2 positive and 0 normal" in alone.missing["case/youden"]
    # One for all levels: each has as many of both.
    note, no_line = notes_on(alone, None, "c" * 64, detected_with=ALIKE)
    assert no_line == (
        "Scores by case were not turned into probabilities, and there is no net benefit: needs two "
        "positive and two normal ones; there are 2 and 0, on a/val."
    )
    assert note.startswith("There is no operating point case/youden, case/sensitivity, case/spec")
    assert "a/val has 2 positive and 0 normal" in note


def test_sets_judged_by_other_rules_or_models_are_not_put_together():
    one = report_on(VALIDATION)
    other_rules = report_on(VALIDATION, settings=replace(SETTINGS, pooling="mean"))
    with pytest.raises(ConfigError, match="a and b follow different rules"):
        choose_operating_points({"a": one, "b": other_rules})
    with pytest.raises(ArtifactError, match="a and b are of different checkpoints"):
        choose_operating_points({"a": one, "b": report_on(VALIDATION, checkpoint="d" * 64)})
    with pytest.raises(ConfigError, match="none was given"):
        choose_operating_points({})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling": "mean"}, "pooling 'max', but 'mean' is in use"),
        ({"case_by": "patient"}, "case_by 'exam', but 'patient'"),
        ({"unknown_images": "normal"}, "unknown_images 'exclude', but 'normal'"),
        ({"target_classes": ("benign",)}, r"target_classes \['malignant'\], but \['benign'\]"),
        ({"operating_sensitivity": 0.8}, "operating_sensitivity 0.9, but 0.8"),
    ],
)
def test_points_are_refused_under_other_settings(changed, message):
    points = choose_operating_points({"clinic/val": report_on(VALIDATION)})
    with pytest.raises(ConfigError, match=message):
        points_for(points, replace(SETTINGS, **changed), checkpoint_sha256=None)
    assert points_for(
        points, replace(SETTINGS, score_threshold=0.7, iou_threshold=0.1), checkpoint_sha256=None
    )


def test_points_are_refused_for_another_model_and_suspect_on_their_own_set():
    points = choose_operating_points({"clinic/val": report_on(VALIDATION)})
    with pytest.raises(ArtifactError, match=r"another checkpoint.*cccccccccccc.*dddddddddddd"):
        points_for(points, SETTINGS, checkpoint_sha256="d" * 64)
    (note,) = notes_on(points, "a" * 64, "c" * 64, detected_with=ALIKE)
    assert note.startswith("OPTIMISTIC: the operating points were chosen on clinic/val, the very")
    assert "probabilities and net benefit" in note
    nameless = choose_operating_points({"clinic/val": report_on(VALIDATION, checkpoint=None)})
    assert points_for(nameless, SETTINGS, checkpoint_sha256="d" * 64)
    assert points_for(points, SETTINGS, checkpoint_sha256=None)
    for which, judged in ((nameless, "c" * 64), (nameless, None), (points, None)):
        (note,) = notes_on(which, "b" * 64, judged, detected_with=ALIKE)
        assert "taken on trust" in note


def test_points_are_refused_for_other_detections_of_the_same_model(tmp_path):
    plain, flips = ({"TEST.FLIPS": x, "INPUT.MAMMO.SIZE": [64, 64]} for x in ("none", "all"))
    reports = {
        name: report_on(VALIDATION, detected_with=keys)
        for name, keys in (("plain", plain), ("flips", flips))
    }
    chosen = choose_operating_points({"val": reports["flips"]})
    write_operating_points(tmp_path / "points.json", chosen)
    points = read_operating_points(tmp_path / "points.json")
    assert points == chosen
    assert points.detected_with == flips

    def applied(with_):
        return points_for(points, SETTINGS, checkpoint_sha256="c" * 64, detected_with=with_)

    message = "made with TEST.FLIPS 'all', and those judged here were made with 'none'"
    with pytest.raises(ArtifactError, match=message):
        applied(plain)
    for fine in (flips, {"INPUT.MAMMO.SIZE": [64, 64], "TEST.LATER_KEY": 1}, None):
        assert applied(fine) == chosen.points
    unknown = choose_operating_points({"val": report_on(VALIDATION, detected_with=None)})
    assert unknown.detected_with is None
    assert points_for(unknown, SETTINGS, checkpoint_sha256=None, detected_with=plain)
    with pytest.raises(ArtifactError, match=r"different values of TEST\.FLIPS: detect on all"):
        choose_operating_points(reports)
    (note,) = notes_on(points, "b" * 64, "c" * 64)
    assert "do not state the keys that they were found under" in note
    assert list(notes_on(points, "b" * 64, "c" * 64, detected_with=flips)) == []
    (note,) = notes_on(unknown, "b" * 64, "c" * 64, detected_with=flips)
    assert "that both were found alike is taken on trust" in note


def test_each_validation_set_is_compared_with_all_before_it():
    """The first may state nothing, and the next two different things."""
    plain, flips, small = {"TEST.FLIPS": "none"}, {"TEST.FLIPS": "all"}, {"INPUT.MAMMO.SIZE": [1]}
    for kinds in itertools.permutations((None, plain, small)):
        sets = {
            str(number): report_on(VALIDATION, detected_with=keys)
            for number, keys in enumerate(kinds)
        }
        assert choose_operating_points(sets).detected_with == {**plain, **small}
    for kinds in itertools.permutations((None, plain, flips)):
        sets = {str(n): report_on(VALIDATION, detected_with=keys) for n, keys in enumerate(kinds)}
        with pytest.raises(ArtifactError, match=r"different values of TEST\.FLIPS"):
            choose_operating_points(sets)


def test_how_many_boxes_are_kept_changes_no_score_of_one_class():
    cap = "TEST.DETECTIONS_PER_IMAGE"
    few, many = ({"TEST.FLIPS": "none", cap: n} for n in (10, 100))
    points = choose_operating_points({"val": report_on(VALIDATION, detected_with=many)})

    def applied(detected_with, n_classes):
        return points_for(
            points,
            SETTINGS,
            checkpoint_sha256="c" * 64,
            detected_with=detected_with,
            n_classes=n_classes,
        )

    assert applied(few, 1) == points.points
    for unlike, n_classes in (
        (few, 2),
        (few, None),
        ({**few, "MODEL.SECOND_LOOK.SIZE": 64}, 1),
        ({**few, "TEST.FLIPS": "all"}, 1),
    ):
        with pytest.raises(ArtifactError, match="were chosen on detections made with TEST"):
            applied(unlike, n_classes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detected_with": 7}, "damaged .TypeError"),
        ({"kind": "simfrcnn-detections"}, "'kind' must be 'simfrcnn-operating-points'"),
        ({"schema_version": 7}, "schema version 7; this program reads 1"),
        ({"points": [{"level": "case"}]}, "damaged .TypeError"),
        ({"settings": {}}, "damaged .KeyError: 'target_classes'"),
        ({"missing": None}, "damaged"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path, changes, message):
    path = tmp_path / "operating_points.json"
    write_operating_points(path, choose_operating_points({"val": report_on(VALIDATION)}))
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ArtifactError, match=message) as error:
        read_operating_points(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("score_threshold", 1.5, r"threshold of case/youden is 1\.5"),
        ("score_threshold", 0, "threshold of case/youden is 0; a number in"),
        ("score_threshold", float("nan"), "threshold of case/youden is nan"),
        ("score_threshold", None, "threshold of case/youden is None"),
        ("rule", "fixed", "the rule 'fixed' is none of youden"),
    ],
)
def test_a_point_that_is_none_is_refused(tmp_path, key, value, message):
    path = tmp_path / "operating_points.json"
    write_operating_points(path, choose_operating_points({"val": report_on(VALIDATION)}))
    content = json.loads(path.read_text())
    content["points"][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=message):
        read_operating_points(path)


def test_a_threshold_of_1_is_legal_and_lines_for_a_terminal_are_by_case(tmp_path):
    path = tmp_path / "operating_points.json"
    points = choose_operating_points({"val": report_on(VALIDATION)})
    (of_case, *_), others = points.points, [p for p in points.points if p.level != "case"]
    at_1 = replace(of_case, score_threshold=1.0)
    write_operating_points(path, replace(points, points=(at_1, *others)))
    read = read_operating_points(path)
    assert read.points[0] == at_1
    missing = {"case/sensitivity": "no case", "breast/youden": "no breast"}
    assert lines_on(replace(read, missing=missing)) == [
        "case/youden: positive from score 1.0000 on (sensitivity 1.000, specificity 0.500 on val)",
        "case/sensitivity: none; no case",
    ]


def test_a_missing_or_torn_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere\.json cannot be read \(No such file"):
        read_operating_points(tmp_path / "nowhere.json")
    torn = tmp_path / "torn.json"
    torn.write_text('{"kind": ')
    with pytest.raises(ArtifactError, match=r"torn\.json is not a file of operating points"):
        read_operating_points(torn)


# -- in a report -----------------------------------------------------------------------------------


def of_case(rule="youden", threshold=0.65, level="case"):
    return OperatingPoint(level, rule, threshold, chosen_on="clinic/val")


def test_a_report_has_the_fixed_point_of_every_level_and_those_that_were_chosen():
    records = [image(n, f"p{n}", *([finding(BOX, n)] if n < 4 else [])) for n in range(1, 7)]
    scores = {1: 0.9, 2: 0.65, 3: 0.6, 4: 0.7, 5: 0.5, 6: 0.1}
    detections = detection_file(*(found(n, (BOX, score)) for n, score in scores.items()))
    chosen = (of_case(), of_case("specificity", 0.8, "image"))
    report = evaluate(
        records,
        detections,
        replace(SETTINGS, bootstrap_replicates=100, prevalence=0.01),
        operating_points=chosen,
        notes=["from elsewhere"],
    )
    keys = [point.key for point in report.operating_points]
    assert keys == ["case", "case/youden", "patient", "breast", "image", "image/specificity"]
    assert list(report.confusions) == keys
    # At .65 or more: 1 and 2 of the positives, 4 of the normals.
    assert report.confusions["case/youden"] == Confusion(2, 1, 1, 2)
    assert report.confusions["image/specificity"] == Confusion(1, 2, 0, 3)
    assert report.confusions["case"] == Confusion(3, 0, 2, 1)
    youden = report.figures["case/youden/sensitivity"]
    assert youden.value == pytest.approx(2 / 3)
    # Clopper-Pearson of 2 in 3, from tables.
    assert (youden.low, youden.high) == pytest.approx((0.0943, 0.9916), abs=1e-4)
    assert report.figures["case/youden/specificity"].value == pytest.approx(2 / 3)
    ppv = 0.01 * 2 / 3 / (0.01 * 2 / 3 + 0.99 / 3)
    assert report.figures["case/youden/ppv"].value == pytest.approx(ppv)
    assert "case/sensitivity/sensitivity" not in report.figures
    assert report.notes[0] == "from elsewhere"
    assert report.to_json()["operating_points"][1]["chosen_on"] == "clinic/val"


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((of_case(level="exam"),), "level 'exam'; legal are case, patient, breast, image"),
        ((of_case(), of_case(threshold=0.1)), "two operating points case/youden; one is legal"),
        ((of_case("fixed"),), "two operating points case; one is legal"),
    ],
)
def test_points_that_a_report_cannot_have_are_refused(points, message):
    with pytest.raises(ConfigError, match=message):
        evaluate([image(1, "A")], detection_file(found(1)), SETTINGS, operating_points=points)
