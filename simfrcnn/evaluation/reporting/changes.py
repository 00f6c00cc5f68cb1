"""What changed from one report to another: rules, data, counts and figures?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simfrcnn.evaluation.report_file import read_report
from simfrcnn.evaluation.reporting.documents import Section, Table, markdown_page
from simfrcnn.evaluation.reporting.wording import fact_in_words, flat_facts, label_of, short
from simfrcnn.evaluation.results import Figure, Report
from simfrcnn.trees import without_tuples

_NOT_A_TEST = (
    "Whether a figure of the later report lies in the interval of the earlier one is no test of a "
    "difference: for two models on the same cases compare them (simfrcnn evaluate with "
    "--detections twice)."
)


def report_changes(before: str | Path | Report, after: str | Path | Report) -> str:
    """What changed between two reports: the rules, data, counts, figures and notes that differ.

    It compares what was written, and tests nothing: for two models on the same cases see
    :func:`simfrcnn.compare`.

    Args:
        before: The earlier report: ``report.json``, its folder, or a report in memory.
        after: The later one.

    Returns:
        A page of Markdown.

    Raises:
        ArtifactError: A file is missing, is no report, is of another schema version, or damaged.

    Example:
        >>> import dataclasses
        >>> import simfrcnn
        >>> from simfrcnn.evaluation.results import Report
        >>> empty = {key: {} for key in ("counts", "figures", "roc", "froc", "precision_recall",
        ...     "bands", "confusions", "calibration", "units", "provenance")}
        >>> before = Report(settings=simfrcnn.EvaluationSettings(), operating_points=(),
        ...     subgroups=(), notes=(), **empty)
        >>> after = dataclasses.replace(
        ...     before, settings=simfrcnn.EvaluationSettings(score_threshold=0.3)
        ... )
        >>> page = simfrcnn.report_changes(before, after)
        >>> print("\\n".join(page.splitlines()[:6]))
        # What changed
        <BLANKLINE>
        ## Rules
        <BLANKLINE>
        | what | earlier | later |
        | --- | --- | --- |
        >>> "| score_threshold | 0.5 | 0.3 |" in page
        True
    """
    first, second = (
        each if isinstance(each, Report) else read_report(each) for each in (before, after)
    )
    return markdown_page("What changed", changes(first, second))


def changes(first: Report, second: Report) -> list[Section]:
    """The rules, facts, counts and figures that differ, in the order of a report.

    Args:
        first: The earlier report.
        second: The later one.
    """
    rules = _flat(dataclasses.asdict(first.settings)), _flat(dataclasses.asdict(second.settings))
    facts = _flat(first.provenance), _flat(second.provenance)
    counts = _flat(first.counts), _flat(second.counts)
    sections = [
        _section("Rules", *rules),
        _section("Provenance", *facts),
        _section("Counts", *counts),
        Section("Figures", [_figure_table(first, second), _NOT_A_TEST]),
    ]
    notes = [f"Only in the earlier one: {note}" for note in first.notes if note not in second.notes]
    notes += [f"Only in the later one: {note}" for note in second.notes if note not in first.notes]
    return [*sections, Section("Notes", [notes or ["The same."]])]


def _section(heading: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Section:
    rows = [
        (key, _worded(first, key), _worded(second, key))
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    table = Table(("what", "earlier", "later"), rows)
    return Section(heading, [table] if rows else ["The same."])


def _figure_table(first: Report, second: Report) -> Table:
    rows = []
    for key in dict.fromkeys([*first.figures, *second.figures]):
        one, other = first.figures.get(key), second.figures.get(key)
        if one is None or other is None or not _is_equal(one, other):
            rows.append((label_of(key), *_cells(one, other, _n_digits(key))))
    return Table(("figure", "earlier", "later", "change"), rows or [("-", "-", "-", "none")])


def _is_equal(one: Figure, other: Figure) -> bool:
    return all(
        a == b or (math.isnan(a) and math.isnan(b))
        for a, b in ((one.value, other.value), (one.low, other.low), (one.high, other.high))
    )


def _n_digits(key: str) -> int:
    """Net benefit is small where cancer is rare; recalls per 1,000 are large."""
    return 5 if "/net_benefit_at_" in key else 1 if "_per_1000" in key else 3


def _cells(one: Figure | None, other: Figure | None, n_digits: int) -> tuple[str, str, str]:
    shown = ["-" if each is None else short(each, n_digits) for each in (one, other)]
    if one is None or other is None or math.isnan(one.value) or math.isnan(other.value):
        return shown[0], shown[1], "-"
    return shown[0], shown[1], f"{other.value - one.value:+.{n_digits}f}"


def _worded(facts: Mapping[str, Any], key: str) -> str:
    return fact_in_words(facts[key]) if key in facts else "-"


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists: a report that was read has lists."""
    return {key: without_tuples(value) for key, value in flat_facts(facts)}
