"""The comparison of several models as files: JSON for programs, Markdown and HTML for people.

``comparison.json`` holds every number; the two pages hold the same text, the ranking first. How
differences and tests are worded is here too, for other tables of models.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.evaluation.comparison import without_nan
from simfrcnn.evaluation.delong import FEWEST_CASES, DeLong
from simfrcnn.evaluation.metrics import (
    BY_LEVEL,
    FIXED_SENSITIVITY,
    LOCALISED,
    METRICS,
    SPECIFICITY_AT_SENSITIVITY,
    metric_of,
)
from simfrcnn.evaluation.multilabel import MEAN
from simfrcnn.evaluation.ranking import ModelPair, ModelsCompared, Ranked
from simfrcnn.evaluation.reporting.auc_tests import RULE_OF_TESTS, auc_test_table, auc_tests_json
from simfrcnn.evaluation.reporting.documents import (
    DISCLAIMER,
    Links,
    Picture,
    Section,
    Table,
    markdown_page,
)
from simfrcnn.evaluation.reporting.figures import by_file_name
from simfrcnn.evaluation.reporting.margin_table import claims_json, claims_on_models, margin_table
from simfrcnn.evaluation.reporting.overlays import (
    Model,
    draw_differences,
    draw_froc_overlay,
    draw_roc_overlay,
)
from simfrcnn.evaluation.reporting.page import NO_DATA, html_page, picture_drawings
from simfrcnn.evaluation.reporting.wording import cell, fact_in_words, flat_facts, p_of
from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.summary import note_on_few_cases
from simfrcnn.files import as_json, as_utf8, write_files
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import counted

SCHEMA_VERSION = 1
PAGE, TEXT, DATA = "comparison.html", "comparison.md", "comparison.json"
PICTURES = tuple(
    f"{name}.{image_format}"
    for name in ("roc", "froc", "differences")
    for image_format in ("svg", "png")
)
_DASH = "-"
_LARGEST_MATRIX = 8
_ALWAYS_DRAWN = (SPECIFICITY_AT_SENSITIVITY, "froc/centre/all/sensitivity_at_1")


@dataclass(frozen=True)
class ComparisonReport:
    """What the pages show.

    ``figures`` are by model and metric, those of the models' own reports where these have them;
    ``reports`` are the models' own pages, relative to the folder of the comparison; ``provenance``
    holds the facts of each model, and ``tested_on`` those of the test set; ``margin`` is the
    difference in the metric that ranks which does not matter, if one was stated.
    """

    compared: ModelsCompared
    settings: EvaluationSettings
    figures: Mapping[str, Mapping[str, Figure]]
    counts: Mapping[str, Any]
    reports: Mapping[str, str]
    provenance: Mapping[str, Mapping[str, Any]]
    tested_on: Mapping[str, Any]
    notes: tuple[str, ...]
    margin: float | None = None

    @property
    def all_notes(self) -> list[str]:
        """Those given, and what the numbers themselves call for; each once."""
        cases = next(iter(self.compared.models.values())).cases
        few = note_on_few_cases(cases.n, cases.n_patients)
        return list(dict.fromkeys([*self.notes, few] if few else self.notes))


def write_comparison(folder: Path, report: ComparisonReport) -> Path:
    """Write the pages, the numbers and the pictures; together or not at all.

    Returns:
        The path of ``comparison.html``.

    Raises:
        OutputError: The folder cannot be written.
    """
    pictures = _pictures(report)
    sections = list(_sections(report))
    title = f"{len(report.compared.models)} models compared"
    sections.append(Section("Reports", [Links(report.reports)]))  # these alone leave the page
    page = html_page(title, sections, picture_drawings(pictures), data=NO_DATA)
    write_files(
        folder,
        {
            **pictures,
            TEXT: as_utf8(markdown_page(title, sections)),
            PAGE: as_utf8(page),
            DATA: as_utf8(as_json(to_json(report))),
        },
    )
    return folder / PAGE


def summary_lines(report: ComparisonReport) -> list[str]:
    """The ranking, one line a model, and what is shown by a margin, for a terminal."""
    ranking = report.compared.ranking
    width = max(len(each.name) for each in ranking)
    rows = [
        f"{each.ranks:>5}  {each.name:<{width}}  {_primary(report, each.name)}  {_ties(each)}"
        for each in ranking
    ]
    claims = (
        []
        if report.margin is None
        else [
            f"{first} against {second}, margin {report.margin:g}: {claim}"
            for (first, second), claim in claims_on_models(report.compared, report.margin).items()
        ]
    )
    return [f"rank by {report.compared.primary_name}", *rows, *_verdict(report), *claims]


def to_json(report: ComparisonReport) -> dict[str, Any]:
    """Every number, in JSON types, without NaN."""
    compared = report.compared
    curve = {"roc": "one_minus_specificity", "froc": "false_positives_per_image"}
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": dataclasses.asdict(report.settings),
        "metrics": {key: metric_of(key).name for key in compared.metrics},
        "primary_metric": compared.primary,
        "counts": dict(report.counts),
        "tested_on": dict(report.tested_on),
        "models": {
            name: {
                "figures": {key: figure.to_json() for key, figure in report.figures[name].items()},
                "roc": model.roc.to_json(curve["roc"], "sensitivity"),
                "froc": model.froc.to_json(curve["froc"], "sensitivity"),
                "report": report.reports[name],
                "provenance": dict(report.provenance[name]),
            }
            for name, model in compared.models.items()
        },
        "ranking": [
            {
                "name": each.name,
                "value": without_nan(each.figure.value),
                "best_rank": each.best_rank,
                "worst_rank": each.worst_rank,
                "ties": list(each.ties),
            }
            for each in compared.ranking
        ],
        "too_few_to_rank": compared.too_few,
        **claims_json(compared, report.margin),
        "pairs": [_pair_json(pair) for pair in compared.pairs],
        "notes": report.all_notes,
        "rules": _rules(report),
    }


# The pages


def _sections(report: ComparisonReport) -> Iterator[Section]:
    compared = report.compared
    primary = compared.primary_name
    yield Section("Summary", [_what(report), _ranking_table(report), *_verdict(report), DISCLAIMER])
    yield Section("Notes", [report.all_notes or ["None."]])
    yield Section("Models", [_model_table(report, METRICS)])
    by_level = [key for key in BY_LEVEL if key in compared.metrics]
    if by_level:
        tables = [_model_table(report, by_level), _difference_table(compared, by_level)]
        yield Section("By patient and breast", tables)
    if MEAN in compared.metrics:
        yield Section("Labels", [_model_table(report, [MEAN]), _difference_table(compared, [MEAN])])
    localised = [key for key in LOCALISED if key in compared.metrics]
    if localised:
        tables = [_model_table(report, localised), _difference_table(compared, localised)]
        yield Section("Lesions found where they are", tables)
    if len(compared.models) <= _LARGEST_MATRIX:
        text = (
            f"Row less column. All tie: {compared.too_few}."
            if compared.too_few
            else "Row less column: better or worse where the 95% interval excludes 0, else a tie."
        )
        yield Section(f"Who is better by {primary}", [text, _matrix(compared)])
    yield Section(
        "Differences on the same cases",
        [
            _difference_table(compared, METRICS),
            Picture("differences.svg", "Differences"),
            auc_test_table(compared),
            *([] if report.margin is None else [margin_table(compared, report.margin)]),
        ],
    )
    yield Section("Curves", [Picture("roc.svg", "ROC by case"), Picture("froc.svg", "FROC")])
    yield Section("Rules", [_rules(report)])
    yield Section("Provenance", [_provenance_table(report)])


def _what(report: ComparisonReport) -> str:
    cases, counts = report.counts["cases"], report.counts
    return (
        f"{len(report.compared.models)} models on the same "
        f"{counted(cases['total'], '[case|cases]')} ({cases['positive']} positive, "
        f"{cases['normal']} normal, {cases['unknown']} of unknown truth) of "
        f"{counted(counts['patients']['total'], '[patient|patients]')}, with "
        f"{counted(counts['images']['total'], '[image|images]')} and "
        f"{counted(counts['findings'], '[finding|findings]')}. Ranked by "
        f"{report.compared.primary_name}. SEN and SPE are by case, at score >= "
        f"{report.settings.score_threshold:g}. Intervals are 95%."
    )


def _ranking_table(report: ComparisonReport) -> Table:
    rows = [
        (each.ranks, each.name, _primary(report, each.name), _ties(each))
        for each in report.compared.ranking
    ]
    return Table(("rank", "model", report.compared.primary_name, "cannot be told from"), rows)


def _verdict(report: ComparisonReport) -> list[str]:
    """The ranking in a sentence; no model is called the best that only looks so."""
    first, *others = report.compared.ranking
    if math.isnan(first.figure.value):
        return [f"No ranking: {first.figure.reason}."]
    alike = [each.name for each in others if each.figure.value == first.figure.value]
    best = f"{_listed([first.name, *alike])} {'have' if alike else 'has'} the highest value"
    if report.compared.too_few:
        return [f"{best}. No model is called better than another: {report.compared.too_few}."]
    beaten = [each.name for each in others if each.name not in first.ties]
    who = "They are" if alike else "It is"
    than = f" {who} better than {_listed(beaten)}." if beaten else ""
    if not first.ties:
        return [f"{first.name} is better than every other model."]
    if alike:
        return [f"{best}.{than}"]
    return [f"{best}, but cannot be told from {_listed(first.ties)}.{than}"]


def _model_table(report: ComparisonReport, keys: Iterable[str]) -> Table:
    rows = [
        (name, *(cell(report.figures[name][key]) for key in keys))
        for name in report.compared.models
    ]
    return Table(("model", *_headings(keys)), rows)


def _matrix(compared: ModelsCompared) -> Table:
    names = [each.name for each in compared.ranking]
    rows = [
        (
            row,
            *(
                _DASH
                if row == column
                else _judged(
                    compared.difference(row, column, compared.primary),
                    can_differ=not compared.too_few,
                )
                for column in names
            ),
        )
        for row in names
    ]
    return Table(("less", *names), rows)


def _judged(difference: Figure, *, can_differ: bool) -> str:
    word = "better" if difference.low > 0 else "worse" if difference.high < 0 else "tie"
    word = word if can_differ else "tie"
    return f"{word}: {cell(difference, signed=True)}"


def _difference_table(compared: ModelsCompared, keys: Iterable[str]) -> Table:
    rows = [
        (
            pair.name,
            *(cell(pair.comparison.differences[key].figure, signed=True) for key in keys),
        )
        for pair in compared.pairs
    ]
    return Table(("difference", *_headings(keys)), rows)


def _rules(report: ComparisonReport) -> list[str]:
    settings = report.settings
    return [
        f"Every difference is that of two models on the same {settings.bootstrap_replicates} "
        f"resamplings of the same patients (seed {settings.bootstrap_seed}), stratified by the "
        "patient's truth, percentiles 2.5 and 97.5. Interval of a model alone: as in its own "
        "report. Two such intervals that overlap say nothing about the difference.",
        "Two models tie where the interval of their difference contains 0, or is missing, and all "
        f"do where fewer than {FEWEST_CASES} patients have a positive or a normal unit. The best "
        "rank that a model can have is one more than the number of models that are better; the "
        "worst is the number of models, itself among them, that it is not better than. A tie is no "
        "proof that two models are equally good.",
        f"Ranked by {report.compared.primary_name} alone, a choice to be made before the "
        "results are seen. The other figures are shown, not ranked.",
        RULE_OF_TESTS,
        optimism_rule("for every model alike"),
        "AP50 and FROC as in the report of a model; a hit is a centre in the box, false positives "
        "are counted over all evaluated images.",
        "All of this is about these trained models on other patients. What another training of "
        "the same model would do, only other trainings say (tools/ladder.py).",
    ]


def _provenance_table(report: ComparisonReport) -> Table:
    rows = [("test set", key, fact_in_words(value)) for key, value in report.tested_on.items()]
    for name, facts in report.provenance.items():
        rows += [(name, key, fact_in_words(value)) for key, value in flat_facts(facts)]
    return Table(("of", "fact", "value"), rows)


# Pictures


def _pictures(report: ComparisonReport) -> dict[str, bytes]:
    compared = report.compared
    rocs = [
        Model(f"{name}: {report.figures[name]['case/auc']}", (model.roc,))
        for name, model in compared.models.items()
    ]
    frocs = [Model(name, (model.froc,)) for name, model in compared.models.items()]
    rows = [(pair.name, pair.comparison) for pair in compared.pairs]
    shown = tuple(dict.fromkeys((compared.primary, *_ALWAYS_DRAWN)))
    return by_file_name(
        {
            "roc": draw_roc_overlay(rocs, "ROC by case; AUC with 95% interval"),
            "froc": draw_froc_overlay(frocs, "FROC, centre in box, all images"),
            "differences": draw_differences(rows, shown),
        }
    )


# Words and numbers


def _headings(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(metric_of(key).heading for key in keys)


def optimism_rule(for_whom: str) -> str:
    """What a specificity at a sensitivity of the test set itself is."""
    return (
        f"{METRICS[SPECIFICITY_AT_SENSITIVITY].heading}: the highest specificity at a score "
        f"threshold with a sensitivity of at least {FIXED_SENSITIVITY:g}, chosen again on each "
        "resampling. It is optimistic: the threshold is chosen on the test set, "
        f"{for_whom}."
    )


def p_of_test(test: DeLong) -> str:
    """``p 0.012``; a dash where there is no test."""
    return f"p {_DASH}" if math.isnan(test.p_value) else f"p {p_of(test.p_value)}"


def _primary(report: ComparisonReport, name: str) -> str:
    return cell(report.figures[name][report.compared.primary])


def _ties(each: Ranked) -> str:
    return ", ".join(each.ties) or _DASH


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _pair_json(pair: ModelPair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "differences": {
            key: difference.figure.to_json()
            for key, difference in pair.comparison.differences.items()
        },
        **auc_tests_json(pair),
    }
