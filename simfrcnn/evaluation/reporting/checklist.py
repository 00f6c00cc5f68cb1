"""Which items of reporting guidelines can this evaluation fill in, and which are the authors'?

Items are named by number and topic; the guidelines' own words are not repeated. A guideline asks
for more than an evaluation knows: what it does not know is left to the authors, not guessed.

Reference:
    CLAIM: Mongan, Moy and Kahn 2020 (42 items). TRIPOD+AI: Collins et al. 2024 (27 items).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simfrcnn.evaluation.reporting.documents import DISCLAIMER, Section, Table, markdown_page
from simfrcnn.evaluation.reporting.methods import UNKNOWN, facts_of_model, flow_table
from simfrcnn.evaluation.reporting.wording import RULES_OF_POINTS, text_of
from simfrcnn.evaluation.results import Report
from simfrcnn.wording import counted

FILE = "checklist.md"
AUTHORS = "**to be written by the authors**"

Answer = Callable[[Report], str | None]


@dataclass(frozen=True)
class Item:
    """A topic, its numbers in the guidelines, and what an evaluation can say (None: nothing)."""

    topic: str
    claim: str
    tripod: str
    answer: Answer = lambda report: None


def checklist(report: Report) -> str:
    """The items as a Markdown page, each with what this evaluation says of it."""
    rows = [
        (item.topic, item.claim or "-", item.tripod or "-", item.answer(report) or AUTHORS)
        for item in ITEMS
    ]
    n_answered = sum(item.answer(report) is not None for item in ITEMS)
    text = (
        f"{n_answered} of {len(ITEMS)} topics have an answer by this evaluation. It is a draft for "
        "the authors, who know the study: fill in the rest, and check what is here. The numbers "
        "are those of the items of CLAIM (2020) and TRIPOD+AI (2024); read the guidelines "
        "themselves for what each asks."
    )
    table = Table(("topic", "CLAIM", "TRIPOD+AI", "in this study"), rows)
    return markdown_page("Reporting checklist", [Section("Items", [text, table, DISCLAIMER])])


def _reference_standard(report: Report) -> str:
    classes = ", ".join(report.settings.target_classes)
    return (
        f"An image is positive if it has a box of class {classes}, normal if it is stated normal "
        "or its boxes are complete without one. Who drew the boxes, and on what evidence: "
        f"{AUTHORS}."
    )


def _missing(report: Report) -> str:
    unknown = report.counts["cases"]["unknown"]
    rule = report.settings.unknown_images
    return (
        f"{counted(unknown, '[case|cases]')} of unknown truth left out of the figures by case; "
        f"unknown images: {rule}."
    )


def _size(report: Report) -> str:
    cases = report.counts["cases"]
    return (
        f"{cases['positive']} positive and {cases['normal']} normal cases of "
        f"{counted(report.counts['patients']['total'], '[patient|patients]')}. Why so many: "
        f"{AUTHORS}."
    )


def _partition(report: Report) -> str | None:
    chosen = [p.chosen_on for p in report.operating_points if p.chosen_on]
    trained = facts_of_model(report).get("trained_on")
    if not trained:
        return None
    names = ", ".join(trained) if isinstance(trained, list | tuple) else str(trained)
    on = f"; operating points on {chosen[0]}" if chosen else ""
    test = report.provenance.get("annotations", UNKNOWN)
    return f"Trained on {names}{on}; judged on {test}."


def _model(report: Report) -> str | None:
    facts = facts_of_model(report)
    parts = [str(facts[key]) for key in ("model", "engine", "checkpoint") if facts.get(key)]
    return ", ".join(parts) or None


def _software(report: Report) -> str | None:
    version = facts_of_model(report).get("simfrcnn")
    return f"simfrcnn {version}" if version else None


def _measures(report: Report) -> str:
    return (
        "AUC, partial AUC, sensitivity, specificity, Brier score and calibration by case, breast "
        "and image; FROC, AP and localised ROC by finding: definitions under Rules in the report."
    )


def _uncertainty(report: Report) -> str:
    n = report.settings.bootstrap_replicates
    if not n:
        return "No intervals were asked for."
    return (
        f"95% intervals over patients; {n:,} resamplings where no formula serves (Rules in the "
        "report)."
    )


def _thresholds(report: Report) -> str:
    words = [
        f"{RULES_OF_POINTS[p.rule]}: score >= {p.score_threshold:.4g}"
        + (f", chosen on {p.chosen_on}" if p.chosen_on else "")
        for p in report.operating_points
        if p.level == "case"
    ]
    return "; ".join(words) + "."


def _flow(report: Report) -> str:
    table = flow_table(report)
    return "; ".join(
        f"{row[0]}: "
        + ", ".join(
            f"{number} {level}" for level, number in zip(table.columns[1:], row[1:], strict=True)
        )
        for row in table.rows[:3]
    )


def _performance(report: Report) -> str:
    keys = (
        "case/auc",
        *(
            f"{p.key}/{name}"
            for p in report.operating_points
            if p.level == "case"
            for name in ("sensitivity", "specificity")
        ),
    )
    return "; ".join(
        f"{key} {text_of(report.figures[key])}" for key in keys if key in report.figures
    )


def _calibration(report: Report) -> str | None:
    keys = ("case/calibration_slope", "case/calibration_intercept")
    found = [f"{key} {report.figures[key]}" for key in keys if key in report.figures]
    return "; ".join(found) or None


def _heterogeneity(report: Report) -> str | None:
    if not report.subgroups:
        return None
    keys = ", ".join(dict.fromkeys(group.key for group in report.subgroups))
    tests = "; ".join(
        f"{test.key}, {test.figure}: " + (test.reason or f"interaction p = {test.p_value:.3f}")
        for test in report.interactions
    )
    return f"Subgroups by {keys}. {tests}".strip()


def _failures(report: Report) -> str:
    return (
        "The worst false positives and the missed lesions are shown under Exams in the report. "
        f"What they have in common: {AUTHORS}."
    )


ITEMS: tuple[Item, ...] = (
    Item("Title and abstract", "1, 2", "1, 2"),
    Item("Background, intended use", "3", "3a, 3b, 3c"),
    Item("Objectives", "4, 6", "4"),
    Item("Prospective or retrospective", "5", "5a"),
    Item("Data sources, dates, setting", "7", "5a, 5b, 6a"),
    Item("Who was eligible", "8", "6b"),
    Item("Preparation of the data", "9, 10, 11, 12", "7"),
    Item("Missing data", "13", "11", _missing),
    Item("Reference standard", "14, 15", "8a, 8b", _reference_standard),
    Item("Annotators and their agreement", "16, 17, 18", "8b"),
    Item("Number of cases", "19", "10", _size),
    Item("Partition of the data", "20, 21", "12a", _partition),
    Item("Model", "22", "12c", _model),
    Item("Software", "23", "12c", _software),
    Item("Training", "24, 25, 26, 27", "12c"),
    Item("Measures of performance", "28", "12e", _measures),
    Item("Uncertainty", "29", "12e", _uncertainty),
    Item("Robustness, explanation", "30, 31", ""),
    Item("External data", "32", "12a, 16"),
    Item("Output and thresholds", "", "15", _thresholds),
    Item("Flow of participants", "33", "20a", _flow),
    Item("Characteristics of participants", "34", "20b"),
    Item("Performance", "35, 36", "23a", _performance),
    Item("Calibration", "36", "23a", _calibration),
    Item("Parts of the population, fairness", "36", "14, 23b", _heterogeneity),
    Item("Failures", "37", "", _failures),
    Item("Limits, use in practice", "38, 39", "25, 26, 27a, 27b, 27c"),
    Item("Registration, protocol, code, funding", "40, 41, 42", "18a to 18f"),
)
"""In the order of a paper."""
