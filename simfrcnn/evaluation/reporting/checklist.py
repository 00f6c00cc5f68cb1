"""Which items of reporting guidelines can this evaluation fill in, and which are the authors'?

Items are named by number and topic; the guidelines' own words are not repeated. A guideline asks
for more than an evaluation knows: what it does not know is left to the authors, not guessed.
docs/evaluation.md says by what the numbers were checked.

Reference:
    CLAIM: Tejani et al. 2024 (the update, 44 items), and Mongan, Moy and Kahn 2020 (42 items),
    which some journals still ask for; from item 11 on their numbers differ. TRIPOD+AI: Collins et
    al. 2024 (27 items).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simfrcnn.evaluation.reporting.documents import DISCLAIMER, Section, Table, markdown_page
from simfrcnn.evaluation.reporting.methods import UNKNOWN, facts_of_model, flow_table
from simfrcnn.evaluation.reporting.wording import RULES_OF_POINTS, label_of, p_of, text_of
from simfrcnn.evaluation.results import Report
from simfrcnn.wording import counted

FILE = "checklist.md"
HEADS = ("topic", "CLAIM 2024", "CLAIM 2020", "TRIPOD+AI", "in this study")
AUTHORS = "**to be written by the authors**"

Answer = Callable[[Report], str | None]


@dataclass(frozen=True)
class Item:
    """A topic, its numbers in the guidelines, and what an evaluation can say (None: nothing).

    ``claim`` are those of CLAIM's update of 2024, ``claim_2020`` those of its first version.
    """

    topic: str
    claim: str
    claim_2020: str
    tripod: str
    answer: Answer = lambda report: None


def checklist(report: Report) -> str:
    """The items as a Markdown page, each with what this evaluation says of it."""
    rows = [
        (
            item.topic,
            *(numbers or "-" for numbers in (item.claim, item.claim_2020, item.tripod)),
            item.answer(report) or AUTHORS,
        )
        for item in ITEMS
    ]
    n_answered = sum(item.answer(report) is not None for item in ITEMS)
    text = (
        f"{n_answered} of {len(ITEMS)} topics have an answer by this evaluation. It is a draft for "
        "the authors, who know the study: fill in the rest, and check what is here. The numbers "
        "are those of the items of CLAIM (its update of 2024, and the first version of 2020) and "
        "TRIPOD+AI (2024); read the guidelines themselves for what each asks."
    )
    table = Table(HEADS, rows)
    return markdown_page("Reporting checklist", [Section("Items", [text, table, DISCLAIMER])])


def _reference_standard(report: Report) -> str:
    classes = ", ".join(report.settings.target_classes)
    unknown = "; others count as normal" if report.settings.unknown_images == "normal" else ""
    return (
        f"An image is positive if it has a box of class {classes} or its labels say that one is "
        f"visible, normal if it is stated normal or its boxes are complete without one{unknown}. A "
        "breast or case is positive if an image of it is, or its recorded pathology says so. Who "
        f"drew the boxes or gave the labels, and on what evidence: {AUTHORS}."
    )


def _missing(report: Report) -> str:
    unknown = report.counts["cases"]["unknown"]
    left_out = (
        f"{counted(unknown, '[case|cases]')} of unknown truth left out of the figures by case"
    )
    if report.settings.unknown_images == "normal":
        return f"Images of unknown truth count as normal; {left_out}."
    return f"{left_out}."


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
    return (
        f"Trained on {names}{on}; judged on {test}. How patients were assigned, and at which level "
        f"the parts are disjoint: {AUTHORS}."
    )


def _model(report: Report) -> str | None:
    facts = facts_of_model(report)
    parts = [str(facts[key]) for key in ("model", "engine", "checkpoint") if facts.get(key)]
    return ", ".join(parts) or None


def _software(report: Report) -> str | None:
    version = facts_of_model(report).get("simfrcnn")
    return f"simfrcnn {version}" if version else None


def _measures(report: Report) -> str:
    has_localised = any(key.startswith("localised/") for key in report.figures)
    localised = ", AFROC and LROC" if has_localised else ""
    benefit = "; net benefit by case" if report.decisions else ""
    return (
        "AUC, partial AUC, sensitivity, specificity, Brier score and calibration by case, breast "
        f"and image; FROC and AP by finding{localised}{benefit}: definitions under Rules in the "
        "report."
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
        f"{label_of(key)} {text_of(report.figures[key])}" for key in keys if key in report.figures
    )


def _calibration(report: Report) -> str | None:
    keys = ("case/calibration_slope", "case/calibration_intercept")
    found = [
        f"{label_of(key)} {text_of(report.figures[key])}" for key in keys if key in report.figures
    ]
    return "; ".join(found) or None


def _updating(report: Report) -> str | None:
    line = report.recalibrations.get("case")
    if line is None:
        return None
    keys = (f"case/recalibrated/calibration_{name}" for name in ("slope", "intercept"))
    found = "; ".join(f"{label_of(k)} {report.figures[k]}" for k in keys if k in report.figures)
    return (
        f"Scores by case were turned into probabilities by a line on their log-odds, fitted on "
        f"{line.chosen_on}: {line.intercept:.3f} + {line.slope:.3f} x. {found}."
    )


def _heterogeneity(report: Report) -> str | None:
    if not report.subgroups:
        return None
    keys = ", ".join(dict.fromkeys(group.key for group in report.subgroups))
    tests = "; ".join(
        f"{test.key}, {label_of(test.figure)}: "
        + (test.reason or f"interaction, p {p_of(test.p_value)}")
        for test in report.interactions
    )
    return f"Subgroups by {keys}. {tests}".strip()


def _failures(report: Report) -> str:
    return (
        "Exams with the worst false positives and with missed lesions are under Exams in the "
        f"report, unless it was written without them. What they have in common: {AUTHORS}."
    )


_OF_OPEN_SCIENCE = "18a, 18b, 18c, 18d, 18e, 18f"
ITEMS: tuple[Item, ...] = (
    Item("Title and abstract", "1, 2", "1, 2", "1, 2"),
    Item("Background, intended use", "3", "3", "3a, 3b, 3c"),
    Item("Objectives", "4, 6", "4, 6", "4"),
    Item("Prospective or retrospective", "5", "5", "5a"),
    Item("Data sources, dates, setting", "7", "7", "5a, 5b, 6a"),
    Item("Who was eligible, treatments", "8", "8", "6b, 6c"),
    Item("Ethics", "", "", "17"),
    Item("Patients and the public", "", "", "19"),
    Item("Preparation of the data", "9, 10, 11", "9, 10, 11, 12", "7, 9a, 9b, 9c"),
    Item("Missing data", "12", "13", "11", _missing),
    Item("Acquisition of the images", "13", "", "9b"),
    Item("Reference standard", "14, 15", "14, 15", "8a, 8b, 8c", _reference_standard),
    Item("Annotators and their agreement", "16, 17, 18", "16, 17, 18", "8b, 8c"),
    Item("Number of cases", "21", "19", "10, 21", _size),
    Item("Partition of the data", "19, 20", "20, 21", "12a", _partition),
    Item("Model", "22", "22", "12c, 22", _model),
    Item("Software", "23", "23", "12c, 12g", _software),
    Item("Training", "24, 25, 26, 27", "24, 25, 26, 27", "12b, 12c, 21"),
    Item("Few positives among many", "", "", "13"),
    Item("Measures of performance", "28", "28", "12e", _measures),
    Item("Uncertainty", "29", "29", "12e", _uncertainty),
    Item("Robustness, explanation", "30, 31", "30, 31", ""),
    Item("Internal and external test data", "32, 33", "32", "12a, 16"),
    Item("Output and thresholds", "", "", "15", _thresholds),
    Item("Flow of participants", "35", "33", "20a", _flow),
    Item("Characteristics of participants", "36", "34", "20b, 20c"),
    Item("Performance", "37, 38", "35, 36", "23a", _performance),
    Item("Calibration", "38", "36", "23a", _calibration),
    Item("Scores made into probabilities", "", "", "12f, 24", _updating),
    Item("Parts of the population, fairness", "37, 38", "36", "12d, 14, 23a, 23b", _heterogeneity),
    Item("Failures", "39", "37", "", _failures),
    Item("Limits, use in practice", "40, 41", "38, 39", "25, 26, 27a, 27b, 27c"),
    Item(
        "Funding, conflicts, protocol, registration, data, code",
        "34, 42, 43, 44",
        "40, 41, 42",
        _OF_OPEN_SCIENCE,
    ),
)
"""In the order of a paper."""
