"""Ranks with ties, by hand; and the comparison of models drawn at random, pair by pair."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from simfrcnn.errors import ArtifactError, ConfigError
from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.comparison import compare, resample
from simfrcnn.evaluation.metrics import ALL_METRICS, LOCALISED, METRICS
from simfrcnn.evaluation.ranking import compare_all, holm, mirrored, rank, require_metric_of
from simfrcnn.evaluation.reporting.comparison_report import (
    PICTURES,
    ComparisonReport,
    p_of,
    summary_lines,
    to_json,
    write_comparison,
)
from simfrcnn.evaluation.reporting.margin_table import claims_on_models
from simfrcnn.evaluation.results import NAN, Figure
from simfrcnn.records import Pathology, Supervision
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image, random_set

SETTINGS = EvaluationSettings(bootstrap_replicates=80, case_by="patient")
BOX = (10, 10, 30, 30)
BETTER, TIE = Figure(0.1, 0.02, 0.2, "bootstrap"), Figure(0.05, -0.01, 0.1, "bootstrap")


def places(ranking):
    return [(each.name, each.ranks, set(each.ties)) for each in ranking]


def test_three_models_that_all_differ_have_one_rank_each():
    values = {"low": Figure(0.7), "high": Figure(0.9), "middle": Figure(0.8)}
    differences = {
        ("low", "high"): mirrored(BETTER),
        ("low", "middle"): mirrored(BETTER),
        ("high", "middle"): BETTER,
    }
    assert places(rank(values, differences)) == [
        ("high", "1", set()),
        ("middle", "2", set()),
        ("low", "3", set()),
    ]


def test_ties_that_are_not_transitive_give_ranges():
    """A beats C; B ties with both::

    A |---1---2---|          A can be first or second,
    B |---1---2---3---|      B anything,
    C     |---2---3---|      C second or third.
    """
    values = {"A": Figure(0.90), "B": Figure(0.88), "C": Figure(0.86)}
    differences = {("A", "B"): TIE, ("B", "C"): TIE, ("A", "C"): BETTER}
    assert places(rank(values, differences)) == [
        ("A", "1-2", {"B"}),
        ("B", "1-3", {"A", "C"}),
        ("C", "2-3", {"B"}),
    ]


def test_an_interval_that_ends_at_0_or_is_missing_is_a_tie():
    values = {"A": Figure(0.9), "B": Figure(0.8)}
    for difference in (Figure(0.1, 0.0, 0.2), Figure(0.1), Figure(NAN)):
        assert places(rank(values, {("A", "B"): difference})) == [
            ("A", "1-2", {"B"}),
            ("B", "1-2", {"A"}),
        ]


def test_the_order_of_a_pair_does_not_matter_and_undefined_values_come_last():
    values = {"none": Figure(NAN), "A": Figure(0.7), "B": Figure(0.9)}
    pairs = {("none", "A"): Figure(NAN), ("none", "B"): Figure(NAN), ("A", "B"): mirrored(BETTER)}
    turned = {("A", "none"): Figure(NAN), ("B", "none"): Figure(NAN), ("B", "A"): BETTER}
    for differences in (pairs, turned):
        assert places(rank(values, differences)) == [
            ("B", "1-2", {"none"}),
            ("A", "2-3", {"none"}),
            ("none", "1-3", {"A", "B"}),
        ]


def test_a_mirrored_difference_turns_its_ends():
    turned = mirrored(TIE)
    assert (turned.value, turned.low, turned.high) == (-0.05, -0.1, 0.01)


def graded_models(n_patients=60):
    """Patients of one image each; three models: sharp, almost the same, and noise."""
    random = np.random.default_rng(1)
    records, images = [], {"sharp": [], "like it": [], "noise": []}
    for number in range(1, n_patients + 1):
        is_positive = number % 2 == 0
        records.append(image(number, f"p{number:02}", *([finding(BOX, number)] * is_positive)))
        sharp = float(np.clip(random.normal(0.3 + 0.4 * is_positive, 0.15), 0, 1))
        near = float(np.clip(sharp + random.normal(0, 0.02), 0, 1))
        scores = {"sharp": sharp, "like it": near, "noise": random.random()}
        for name, score in scores.items():
            images[name].append(found(number, (BOX, score)))
    return records, {name: detection_file(*each) for name, each in images.items()}


def resampled(records, files, settings=SETTINGS):
    return {name: resample(records, each, settings) for name, each in files.items()}


def test_every_pair_is_the_comparison_of_the_two():
    records, files = graded_models()
    models = resampled(records, files)
    compared = compare_all(models)
    assert [(pair.first, pair.second) for pair in compared.pairs] == [
        ("sharp", "like it"),
        ("sharp", "noise"),
        ("like it", "noise"),
    ]
    for pair in compared.pairs:
        assert pair.comparison == compare([models[pair.first]], [models[pair.second]])
    for level in compared.pairs[0].comparison.tests:
        p_values = [pair.comparison.tests[level][0].p_value for pair in compared.pairs]
        adjusted = [pair.p_holm[level] for pair in compared.pairs]
        assert adjusted == pytest.approx(holm(p_values), nan_ok=True)
    assert {each.name: each.ranks for each in compared.ranking} == {
        "sharp": "1-2",
        "like it": "1-2",
        "noise": "3",
    }
    for key in METRICS:
        one, other = (compared.difference(*names, key) for names in
                      (("sharp", "noise"), ("noise", "sharp")))  # fmt: skip
        assert (one.value, one.low, one.high) == (-other.value, -other.high, -other.low)


def test_another_primary_metric_ranks_by_it():
    records, files = graded_models()
    compared = compare_all(resampled(records, files), "case/specificity")
    values = [each.figure.value for each in compared.ranking]
    assert values == sorted(values, reverse=True)
    assert compared.primary == "case/specificity"
    for each in compared.ranking:
        assert each.figure == compared.figures[each.name]["case/specificity"]


def test_what_cannot_be_compared_is_refused():
    records, files = graded_models()
    models = resampled(records, files)
    with pytest.raises(ConfigError, match=r"'case/acu'.*case/auc \| image/auc"):
        compare_all(models, "case/acu")
    with pytest.raises(ConfigError, match="two or more"):
        compare_all({"sharp": models["sharp"]})
    others, detections = random_set(0)
    with pytest.raises(ArtifactError, match="same cases"):
        compare_all({"a": models["sharp"], "b": resample(others, detections, SETTINGS)})


def report_of(settings=SETTINGS, primary="case/auc", n_patients=60):
    records, files = graded_models(n_patients)
    compared = compare_all(resampled(records, files, settings), primary)
    counts = evaluate(
        records, files["sharp"], dataclasses.replace(settings, bootstrap_replicates=0)
    ).counts
    return ComparisonReport(
        compared=compared,
        settings=settings,
        figures=compared.figures,
        counts=counts,
        reports={name: f"{name.replace(' ', '_')}/report.html" for name in files},
        provenance={name: {"detections": f"{name}.json"} for name in files},
        tested_on={"annotations": "test.json"},
        notes=("A note with <angle> brackets & such.",),
    )


def test_the_pages_hold_the_ranking_the_differences_and_the_rules(tmp_path):
    report = report_of()
    page = write_comparison(tmp_path, report)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"comparison.html", "comparison.md", "comparison.json", *PICTURES}
    text = (tmp_path / "comparison.md").read_text()
    first = report.compared.ranking[0].name
    assert f"{first} has the highest value, but cannot be told from" in text
    assert "It is better than noise." in text
    assert "| sharp - noise | +0." in text
    assert "60 cases (30 positive, 30 normal, 0 of unknown truth)" in text
    assert "[like it](like_it/report.html)" in text
    shown = page.read_text()
    assert '<a href="like_it/report.html">like it</a>' in shown
    assert "prefers-color-scheme: dark" in shown
    assert "&lt;angle&gt; brackets &amp; such" in shown
    assert set(re.findall(r"https?://[^/\"]+", shown)) <= {"http://www.w3.org"}
    assert set(re.findall(r'src="(.{5})', shown)) == {"data:"}


def test_a_margin_says_what_is_shown_of_every_ordered_pair(tmp_path):
    report = dataclasses.replace(report_of(), margin=0.05)
    write_comparison(tmp_path, report)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["margin"] == 0.05
    shown = {(one["model"], one["against"]): one["shown"] for one in content["claims"]}
    assert len(shown) == 6
    for (first, second), claim in shown.items():
        difference = report.compared.difference(first, second, "case/auc")
        is_within = difference.low > -0.05 and difference.high < 0.05
        words = [
            "superior" if difference.low > 0 else "non-inferior" if difference.low > -0.05 else "",
            "equivalent" if is_within else "",
        ]
        assert claim == (", ".join(word for word in words if word) or "not shown")
    assert shown["sharp", "noise"] == "superior"
    assert shown["noise", "sharp"] == "not shown"
    assert "| sharp | noise | superior |" in (tmp_path / "comparison.md").read_text()
    few = dataclasses.replace(report_of(n_patients=38), margin=0.05)
    claims = {one["shown"] for one in to_json(few)["claims"]}
    assert claims == {
        "no test with fewer than 20 patients with a positive and 20 with a normal unit; "
        "there are 19 and 19"
    }
    assert "margin" not in to_json(report_of())
    lines = summary_lines(report)
    assert "sharp against noise, margin 0.05: superior" in lines
    assert len([line for line in lines if ", margin" in line]) == 6
    assert not any(", margin" in line for line in summary_lines(report_of()))


@pytest.mark.parametrize(
    ("replicates", "claim"),
    [(50, "the interval has no width"), (0, "the difference has no interval")],
)
def test_models_that_are_never_wrong_are_not_shown_to_be_equal(replicates, claim):
    """Both have an AUC of 1 on 44 cases, in every resampled set: that is no proof."""
    records = [
        image(n, f"{n}", *([finding((10, 10, 40, 40), n)] if n <= 22 else [])) for n in range(1, 45)
    ]
    models = {
        name: resample(
            records,
            detection_file(
                *(
                    found(n, ((10, 10, 40, 40), (0.6 if n <= 22 else 0.1) + n / step))
                    for n in range(1, 45)
                )
            ),
            EvaluationSettings(bootstrap_replicates=replicates),
        )
        for name, step in (("first", 200), ("second", 500))
    }
    compared = compare_all(models)
    assert compared.difference("first", "second", "case/auc").value == 0
    shown = claims_on_models(compared, 0.01)
    assert set(shown) == {("first", "second"), ("second", "first")}
    assert all(claim in one for one in shown.values())


def test_on_too_few_cases_no_model_is_called_better(tmp_path):
    """Where p is refused, an interval that excludes 0 is no verdict either: it errs as often."""
    report = report_of(n_patients=38)
    compared = report.compared
    difference = compared.difference("sharp", "noise", "case/auc")
    assert difference.low > 0
    assert {each.ranks for each in compared.ranking} == {"1-3"}
    write_comparison(tmp_path, report)
    text = (tmp_path / "comparison.md").read_text()
    assert "No model is called better than another: no test with fewer than 20 patients" in text
    assert "better:" not in text
    assert "worse:" not in text
    assert "there are 19 and 19" in to_json(report)["too_few_to_rank"]
    assert to_json(report_of())["too_few_to_rank"] is None


def test_models_of_one_value_share_the_first_place_in_words():
    records, files = graded_models()
    twins = {"one": files["sharp"], "other": files["sharp"], "noise": files["noise"]}
    plain = report_of()
    compared = compare_all(resampled(records, twins))
    report = dataclasses.replace(plain, compared=compared, figures=compared.figures)
    assert summary_lines(report)[-1] == (
        "one and other have the highest value. They are better than noise."
    )


def several_exams(n_patients=12, n_exams=5):
    """Every second patient is positive; of each exam one image, found by one model alone."""
    records, found_by = [], {"good": [], "bad": []}
    for number in range(n_patients * n_exams):
        patient, is_positive = number // n_exams, number // n_exams % 2 == 0
        boxes = [finding(BOX, number + 1)] * is_positive
        records.append(image(number + 1, f"p{patient:02}", *boxes, exam=f"e{number:03}"))
        score = 0.2 + number / 1000
        found_by["good"].append(found(number + 1, (BOX, score + 0.5 * is_positive)))
        found_by["bad"].append(found(number + 1, (BOX, score + (0.5 * (number % 3 == 0)))))
    return records, {name: detection_file(*each) for name, each in found_by.items()}


def test_what_counts_are_patients_not_their_cases():
    """Thirty positive and thirty normal exams of six patients each are too few to rank by."""
    records, files = several_exams()
    models = resampled(records, files, EvaluationSettings(bootstrap_replicates=80))
    assert models["good"].n["case/auc"] == {"positive": 30, "normal": 30}
    assert models["good"].n_patients["case/auc"] == {"positive": 6, "normal": 6}
    compared = compare_all(models)
    assert compared.difference("good", "bad", "case/auc").low > 0
    assert {each.ranks for each in compared.ranking} == {"1-2"}
    assert "there are 6 and 6" in compared.too_few
    assert set(claims_on_models(compared, 0.01).values()) == {compared.too_few}


def test_a_metric_of_lesions_counts_the_patients_who_have_one():
    """Of 24 positive patients four have a box; the others are positive by pathology alone."""
    records, images = [], []
    for number in range(1, 49):
        pathology = Pathology.MALIGNANT if number <= 24 else None
        boxes = [finding(BOX, number)] * (number <= 4)
        supervision = Supervision.UNLABELLED if 4 < number <= 24 else None
        records.append(
            image(number, f"p{number:02}", *boxes, pathology=pathology, supervision=supervision)
        )
        images.append(found(number, (BOX, number / 100)))
    model = resample(records, detection_file(*images), SETTINGS, with_further=True)
    assert model.n_patients["case/auc"]["positive"] == 24
    for key in ("localised/centre/case/wafroc", "finding/ap50", "froc/centre/all/sensitivity_at_1"):
        assert model.n_patients[key]["positive"] == 4, key


def test_localised_figures_have_a_table_of_their_own(tmp_path):
    records, files = graded_models()
    models = {
        name: resample(records, each, SETTINGS, with_further=True) for name, each in files.items()
    }
    key = "localised/centre/case/wafroc"
    compared = compare_all(models, key)
    assert set(models["sharp"].metrics) == {*METRICS, "exam/auc", "breast/auc", *LOCALISED}
    assert compared.primary_name == "wAFROC by case"
    difference = compared.difference("sharp", "noise", key)
    values = [models[name].values[key] for name in ("sharp", "noise")]
    assert difference.value == values[0][0] - values[1][0]
    assert (difference.low, difference.high) == pytest.approx(
        tuple(np.quantile((values[0] - values[1])[1:], [0.025, 0.975]))
    )
    plain = report_of()
    write_comparison(
        tmp_path, dataclasses.replace(plain, compared=compared, figures=compared.figures)
    )
    text = (tmp_path / "comparison.md").read_text()
    assert "## Lesions found where they are" in text
    assert "wAFROC by case" in text
    with pytest.raises(ConfigError, match="sharp was not judged by wAFROC by case; rank by one of"):
        compare_all(plain.compared.models, key)


def test_localised_metrics_need_lesions_whose_place_is_known_and_normal_units():
    records, files = graded_models(20)
    unplaced = [
        dataclasses.replace(
            each,
            findings=(),
            pathology=Pathology.MALIGNANT,
            supervision=Supervision.IMAGE_LABEL,
        )
        if each.findings
        else each
        for each in records
    ]
    for level in ("case", "image"):
        key = f"localised/centre/{level}/lroc"
        require_metric_of(key, records, files["sharp"], SETTINGS)
        reason = rf"needs a lesion and a normal {level}, .*there are 0 and 10\. These data have"
        with pytest.raises(ConfigError, match=reason):
            require_metric_of(key, unplaced, files["sharp"], SETTINGS)


def test_what_is_refused_beforehand_is_what_resampling_does_not_give():
    records, files = graded_models(20)
    model = resample(records, files["sharp"], SETTINGS, with_further=True)
    for key in ALL_METRICS:
        if key in model.metrics:
            require_metric_of(key, records, files["sharp"], SETTINGS)
        else:
            with pytest.raises(ConfigError, match="is not there to rank by"):
                require_metric_of(key, records, files["sharp"], SETTINGS)


def test_a_file_name_that_is_not_utf_8_is_written(tmp_path):
    report = dataclasses.replace(report_of(), tested_on={"annotations": "M\udce4rz.json"})
    page = write_comparison(tmp_path, report)
    assert "M\\udce4rz.json" in (tmp_path / "comparison.md").read_text("utf-8")
    assert "M\\udce4rz.json" in page.read_text("utf-8")
    document = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert document["tested_on"]["annotations"] == "M\udce4rz.json"


def test_too_few_cases_have_the_reason_in_place_of_p(tmp_path):
    report = report_of(n_patients=38)
    write_comparison(tmp_path, report)
    text = (tmp_path / "comparison.md").read_text()
    reason = (
        "no test with fewer than 20 patients with a positive and 20 with a normal unit; "
        "there are 19 and 19"
    )
    # The two models that are almost the same call every case alike: they have another reason.
    assert text.count(f"| {reason} | - |") == 2 * 4  # by case, exam, breast and image
    assert "the difference has no variance" in text
    note = "The figures by case rest on 19 positive and 19 normal cases."
    assert note in text
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert any(one.startswith(note) for one in content["notes"])
    for pair in content["pairs"]:
        assert pair["delong"]["p_value"] is None
        assert pair["delong"]["p_holm"] is None
    reasons = [pair["delong"]["reason"] for pair in content["pairs"]]
    assert reasons[1:] == [reason, reason]
    enough = report_of(n_patients=40)
    assert not any("rest on" in one for one in enough.all_notes)
    assert all(0 <= pair.p_holm["case"] <= 1 for pair in enough.compared.pairs[1:])


def test_the_numbers_are_all_in_the_json(tmp_path):
    report = report_of()
    content = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert content["schema_version"] == 1
    assert content["primary_metric"] == "case/auc"
    assert [each["name"] for each in content["ranking"]][2] == "noise"
    pair = content["pairs"][1]
    assert (pair["first"], pair["second"]) == ("sharp", "noise")
    difference = report.compared.difference("sharp", "noise", "case/auc")
    assert pair["differences"]["case/auc"]["value"] == difference.value
    assert pair["differences"]["case/auc"]["low"] == difference.low
    by_level = report.compared.pairs[1].p_holm
    assert pair["delong"]["p_holm"] == by_level["case"]
    assert {level: test["p_holm"] for level, test in pair["tests"].items()} == {
        level: p for level, p in by_level.items() if level != "case"
    }
    for name, model in content["models"].items():
        assert set(model["figures"]) == set(METRICS)
        assert model["roc"]["sensitivity"][-1] == 1
        assert model["provenance"] == {"detections": f"{name}.json"}


def test_without_intervals_all_tie_and_the_page_says_so(tmp_path):
    report = report_of(dataclasses.replace(SETTINGS, bootstrap_replicates=0))
    assert {each.ranks for each in report.compared.ranking} == {"1-3"}
    write_comparison(tmp_path, report)
    assert "(no interval)" in (tmp_path / "comparison.md").read_text()
    assert "cannot be told from" in summary_lines(report)[-1]


def test_an_undefined_metric_gives_no_ranking_but_the_reason(tmp_path):
    records = [image(n, f"p{n}") for n in (1, 2, 3)]
    files = {name: detection_file(*(found(n) for n in (1, 2, 3))) for name in ("a", "b")}
    compared = compare_all(resampled(records, files))
    report = dataclasses.replace(
        report_of(),
        compared=compared,
        figures=compared.figures,
        reports={"a": "a/report.html", "b": "b/report.html"},
        provenance={"a": {}, "b": {}},
    )
    write_comparison(tmp_path, report)
    text = (tmp_path / "comparison.md").read_text()
    assert "No ranking: needs a positive and a normal case" in text
    assert json.loads((tmp_path / "comparison.json").read_text())["ranking"][0]["value"] is None


def test_small_p_values_are_no_zero():
    assert [p_of(p) for p in (0.0002, 0.0123)] == ["< .001", "0.012"]
