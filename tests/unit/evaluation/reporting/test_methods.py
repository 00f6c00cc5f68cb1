"""What a methods section and a checklist are given, and what they are not."""

from __future__ import annotations

import dataclasses

from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.reporting.changes import changes
from simfrcnn.evaluation.reporting.checklist import AUTHORS, ITEMS, checklist
from simfrcnn.evaluation.reporting.methods import UNKNOWN, flow_notes, flow_table, methods_table
from simfrcnn.evaluation.results import Report
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import random_set

FACTS = {
    "date": "2026-01-31", "simfrcnn": "0.1.0", "engine": "torchvision", "seed": 3,
    "model": "SimRCNN, build_fpn", "checkpoint": "model_final.pth",
    "checkpoint_sha256": "c" * 64, "trained_on": ["a/train", "b/train"],
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
    assert rows["seed"] == "3"
    assert rows["judged on"] == f"test.json, sha256 {'a' * 64}"
    assert rows["operating point, fixed"] == "score >= 0.5, fixed beforehand"
    bare = dict(methods_table(report(with_facts=False)).rows)
    for name in ("detections made on", "trained on", "checkpoint", "seed", "model"):
        assert bare[name] == UNKNOWN


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
    assert "Trained on a/train, b/train; judged on test.json." in lines["Partition of the data"]
    assert "| 33 | 20a |" in lines["Flow of participants"]
    assert "case/auc 0." in lines["Performance"]
    assert lines["Objectives"].count(AUTHORS) == 1
    n_answered = sum(AUTHORS not in line for line in map(lines.get, (i.topic for i in ITEMS)))
    assert 8 <= n_answered < len(ITEMS)
    bare = checklist(report(with_facts=False))
    for topic in ("Partition of the data", "Model", "Software"):
        (line,) = (each for each in bare.splitlines() if each.startswith(f"| {topic} |"))
        assert AUTHORS in line


def test_every_item_of_claim_is_there_once_or_more() -> None:
    numbers = {n for item in ITEMS for n in item.claim.split(", ") if n}
    assert numbers == {str(n) for n in range(1, 43)}


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
