"""What a methods section and a checklist are given, and what they are not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.interaction import Interaction
from simfrcnn.evaluation.recalibration import Recalibration
from simfrcnn.evaluation.reporting.changes import changes
from simfrcnn.evaluation.reporting.checklist import AUTHORS, ITEMS, checklist
from simfrcnn.evaluation.reporting.methods import UNKNOWN, flow_notes, flow_table, methods_table
from simfrcnn.evaluation.reporting.report import write_report
from simfrcnn.evaluation.reporting.wording import label_of
from simfrcnn.evaluation.results import Figure, Report, Subgroup
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import random_set

FACTS = {
    "date": "2026-01-31", "simfrcnn": "0.1.0", "engine": "torchvision", "seed": 3,
    "model": "SimRCNN, build_fpn", "checkpoint": "model_final.pth",
    "checkpoint_sha256": "c" * 64, "config": "demo/sim", "config_sha256": "d" * 64,
    "trained_on": ["a/train", "b/train"],
}  # fmt: skip


def report(with_facts: bool = True) -> Report:
    records, detections = random_set(4)
    if with_facts:
        detections = dataclasses.replace(detections, provenance=FACTS)
    return evaluate(
        records,
        detections,
        EvaluationSettings(bootstrap_replicates=20),
        provenance={"annotations": "test.json", "annotations_sha256": "a" * 64},
    )


def test_the_methods_repeat_what_is_known_and_guess_nothing() -> None:
    rows = dict(methods_table(report()).rows)
    assert rows["detections made on"] == "2026-01-31"
    assert rows["trained on"] == "a/train, b/train"
    assert rows["checkpoint"] == f"model_final.pth, sha256 {'c' * 64}"
    assert rows["config"] == f"demo/sim, sha256 {'d' * 64}"
    assert rows["seed"] == "3"
    assert "; " in rows["95% intervals by"]  # the name of a method may hold a comma
    assert rows["judged on"] == f"test.json, sha256 {'a' * 64}"
    assert rows["operating point, fixed"] == "score >= 0.5, as the settings say"
    bare = dict(methods_table(report(with_facts=False)).rows)
    for name in ("detections made on", "trained on", "config", "checkpoint", "seed", "model"):
        assert bare[name] == UNKNOWN
    records, detections = random_set(4)
    nameless = dataclasses.replace(detections, provenance={"config_sha256": "d" * 64})
    of = evaluate(records, nameless, EvaluationSettings(bootstrap_replicates=0))
    assert dict(methods_table(of).rows)["config"] == f"name not stated, sha256 {'d' * 64}"


def test_of_combined_detections_the_methods_say_what_each_model_says(tmp_path: Path) -> None:
    records, detections = random_set(4)
    other = {**FACTS, "checkpoint": "other.pth", "checkpoint_sha256": "e" * 64}
    del other["seed"]
    inputs = [{"file": "a.json", "provenance": FACTS}, {"file": "b.json", "provenance": other}]
    combined = {"combined": {"how": "union", "iou": 0.5, "inputs": inputs}}
    both = evaluate(
        records,
        dataclasses.replace(detections, provenance=combined),
        EvaluationSettings(bootstrap_replicates=0),
    )
    rows = dict(methods_table(both).rows)
    assert rows["combination"] == "union of a.json, b.json"
    assert rows["model"] == "SimRCNN, build_fpn"  # both are alike in this
    assert rows["trained on"] == "a/train, b/train"
    assert rows["checkpoint"] == (
        f"model 1: model_final.pth; model 2: other.pth, "
        f"sha256 model 1: {'c' * 64}; model 2: {'e' * 64}"
    )
    assert rows["seed"] == f"model 1: 3; model 2: {UNKNOWN}"
    assert "combination" not in dict(methods_table(report()).rows)
    page = write_report(
        tmp_path, both, records=records, detections=detections, load_pictures=None, n_gallery=0
    ).read_text(encoding="utf-8")
    assert "Tested: SimRCNN, build_fpn, torchvision, model 1: model_final.pth" in page


def test_the_flow_adds_up() -> None:
    of = report()
    table = flow_table(of)
    numbers = [[int(cell.replace(",", "")) for cell in row[1:]] for row in table.rows]
    total, unknown, judged, positive, normal = numbers
    assert total == [a + b for a, b in zip(unknown, judged, strict=True)]
    assert judged == [a + b for a, b in zip(positive, normal, strict=True)]
    place = list(table.columns).index("images") - 1
    assert total[place] == of.counts["images"]["total"]
    assert f"{of.counts['findings']} findings are to be found in" in flow_notes(of)[0]


def test_the_checklist_answers_what_it_knows_and_leaves_the_rest_to_the_authors() -> None:
    page = checklist(report())
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines()}
    partition = lines["Partition of the data"]
    assert "Trained on a/train, b/train; judged on test.json." in partition
    assert AUTHORS in partition  # at which level the parts are disjoint
    assert "| 35 | 33 | 20a |" in lines["Flow of participants"]
    assert "AUC by case 0." in lines["Performance"]
    assert lines["Objectives"].count(AUTHORS) == 1
    n_answered = sum(AUTHORS not in line for line in map(lines.get, (i.topic for i in ITEMS)))
    assert 8 <= n_answered < len(ITEMS)
    bare = checklist(report(with_facts=False))
    for topic in ("Partition of the data", "Model", "Software"):
        (line,) = (each for each in bare.splitlines() if each.startswith(f"| {topic} |"))
        assert AUTHORS in line


def test_every_item_of_claim_is_there_once_or_more() -> None:
    for which, n_items in (("claim", 44), ("claim_2020", 42)):
        numbers = {n for item in ITEMS for n in getattr(item, which).split(", ") if n}
        assert numbers == {str(n) for n in range(1, n_items + 1)}, which


CLAIM = {  # the item's topic in a word or two, its numbers in 2024 and in 2020, and our topic
    "eligibility": ("8", "8", "Who was eligible, treatments"),
    "subsets": ("10", "10", "Preparation of the data"),
    "data elements": (None, "11", "Preparation of the data"),
    "de-identification": ("11", "12", "Preparation of the data"),
    "missing data": ("12", "13", "Missing data"),
    "acquisition protocol": ("13", None, "Acquisition of the images"),
    "reference standard": ("14", "14", "Reference standard"),
    "its rationale": ("15", "15", "Reference standard"),
    "annotation of the test set": ("17", None, "Annotators and their agreement"),
    "annotation tools": (None, "17", "Annotators and their agreement"),
    "variability of raters": ("18", "18", "Annotators and their agreement"),
    "assignment to partitions": ("19", "20", "Partition of the data"),
    "level of disjointness": ("20", "21", "Partition of the data"),
    "sample size": ("21", "19", "Number of cases"),
    "model": ("22", "22", "Model"),
    "software": ("23", "23", "Software"),
    "ensembling": ("27", "27", "Training"),
    "metrics": ("28", "28", "Measures of performance"),
    "uncertainty": ("29", "29", "Uncertainty"),
    "explainability": ("31", "31", "Robustness, explanation"),
    "internal data": ("32", None, "Internal and external test data"),
    "external data": ("33", "32", "Internal and external test data"),
    "registration": ("34", "40", "Funding, conflicts, protocol, registration, data, code"),
    "flow": ("35", "33", "Flow of participants"),
    "demographics": ("36", "34", "Characteristics of participants"),
    "performance": ("37", "35", "Performance"),
    "diagnostic accuracy": ("38", "36", "Performance"),
    "failures": ("39", "37", "Failures"),
    "limitations": ("40", "38", "Limits, use in practice"),
    "implications": ("41", "39", "Limits, use in practice"),
    "protocol": ("42", "41", "Funding, conflicts, protocol, registration, data, code"),
    "availability": ("43", None, "Funding, conflicts, protocol, registration, data, code"),
    "funding": ("44", "42", "Funding, conflicts, protocol, registration, data, code"),
}


@pytest.mark.parametrize("topic", CLAIM)
def test_numbers_of_claim_stand_beside_their_topic_in_both_versions(topic: str) -> None:
    number, number_2020, ours = CLAIM[topic]
    (item,) = (each for each in ITEMS if each.topic == ours)
    assert number is None or number in item.claim.split(", ")
    assert number_2020 is None or number_2020 in item.claim_2020.split(", ")


def test_the_checklist_says_which_guidelines_its_numbers_are_of() -> None:
    page = checklist(report())
    assert "| topic | CLAIM 2024 | CLAIM 2020 | TRIPOD+AI | in this study |" in page
    (line,) = (each for each in page.splitlines() if each.startswith("| Failures |"))
    assert line.startswith("| Failures | 39 | 37 | - |")


def test_a_calibration_that_is_undefined_says_why() -> None:
    of = report()
    key = "case/calibration_slope"
    missing = Figure(math.nan, n={"positive": 1}, reason="all cases have one score")
    page = checklist(dataclasses.replace(of, figures={**of.figures, key: missing}))
    assert "Calibration slope by case undefined  [1 positive; all cases have one score]" in page


def test_every_item_of_tripod_is_there_once_or_more() -> None:
    parts = {
        3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc",
        23: "ab", 27: "abc",
    }  # fmt: skip
    expected = {f"{n}{part}" for n in range(1, 28) for part in parts.get(n, ("",))}
    assert {n for item in ITEMS for n in item.tripod.split(", ") if n} == expected


def test_a_small_p_is_no_zero_and_a_recalibration_is_answered() -> None:
    of = report()
    test = Interaction("density", "case/auc", ("1", "2"), (), 30.0, 1, 4e-8)
    group = Subgroup("density", "1", {}, {})
    line = Recalibration("case", -1.0, 2.0, 0.4, "val")
    page = checklist(
        dataclasses.replace(
            of, subgroups=(group,), interactions=(test,), recalibrations={"case": line}
        )
    )
    assert "density, AUC by case: interaction, p &lt; .001" in page
    assert "fitted on val: -1.000 + 2.000 x" in page
    assert "Scores made into probabilities | - | - | 12f, 24 | **to be" in checklist(of)


def test_figures_of_operating_points_are_told_apart() -> None:
    keys = [
        f"case/{rule}{figure}"
        for rule in ("", "youden/", "sensitivity/", "specificity/")
        for figure in ("sensitivity", "specificity", "accuracy", "ppv", "recalls_per_1000")
    ]
    labels = [label_of(key) for key in keys]
    assert len(set(labels)) == len(keys)
    assert label_of("case/youden/sensitivity") == "sensitivity by case (Youden)"
    assert label_of("case/sensitivity/recalls_per_1000") == (
        "recalls per 1,000 by case (by sensitivity)"
    )


def test_small_changes_of_net_benefit_are_seen() -> None:
    figures = [
        {"case/net_benefit_at_0.02": Figure(value, value - 0.001, value + 0.001, "mover")}
        for value in (0.0021, 0.0024)
    ]
    first, second = (dataclasses.replace(report(), figures=each) for each in figures)
    changed = {section.heading: section.blocks for section in changes(first, second)}
    assert changed["Figures"][0].rows[0][1:] == (
        "0.00210 (0.00110 to 0.00310)", "0.00240 (0.00140 to 0.00340)", "+0.00030",
    )  # fmt: skip


def test_what_changed_is_listed_and_what_did_not_is_not() -> None:
    first = report()
    same = {section.heading: section.blocks for section in changes(first, first)}
    assert [same[name] for name in ("Rules", "Provenance", "Counts")] == [["The same."]] * 3
    assert same["Figures"][0].rows == [("-", "-", "-", "none")]
    assert same["Notes"] == [["The same."]]
    value = first.figures["case/auc"].value
    moved = dataclasses.replace(first.figures["case/auc"], value=value - 0.25)
    second = dataclasses.replace(
        first,
        settings=dataclasses.replace(first.settings, pooling="mean"),
        figures={**first.figures, "case/auc": moved},
        provenance={**first.provenance, "annotations": "other.json"},
        notes=(*first.notes, "A new one."),
    )
    changed = {section.heading: section.blocks for section in changes(first, second)}
    assert changed["Rules"][0].rows == [("pooling", "max", "mean")]
    assert changed["Provenance"][0].rows == [("annotations", "test.json", "other.json")]
    assert changed["Counts"] == ["The same."]
    ((figure, _, _, change),) = changed["Figures"][0].rows
    assert (figure, change) == ("AUC by case", "-0.250")
    assert changed["Notes"] == [["Only in the later one: A new one."]]
