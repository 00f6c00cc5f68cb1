"""The ladder as files: pages for people, ``ladder.json`` with every number, pictures.

``ladder.html`` and ``ladder.md`` hold the same text; the first needs no other file. Beside them are
the scores of every case (``case_scores.csv``), for whoever wants to recompute.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simfrcnn.evaluation.comparison import delong_json, without_nan
from simfrcnn.evaluation.delong import FEWEST_CASES
from simfrcnn.evaluation.metrics import METRICS, PRIMARY
from simfrcnn.evaluation.reporting.comparison_report import optimism_rule, p_of_test
from simfrcnn.evaluation.reporting.documents import (
    DISCLAIMER,
    Picture,
    Section,
    Table,
    markdown_page,
)
from simfrcnn.evaluation.reporting.figures import by_file_name
from simfrcnn.evaluation.reporting.page import NO_DATA, html_page, picture_drawings
from simfrcnn.evaluation.reporting.wording import cell, number, p_of
from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.summary import note_on_few_cases
from simfrcnn.evaluation.trainings import why_no_claim, wider
from simfrcnn.files import as_json, as_utf8, write_files
from simfrcnn.ladder.figures import (
    draw_ladder_differences,
    draw_ladder_frocs,
    draw_ladder_rocs,
)
from simfrcnn.ladder.plan import Ladder, Rung
from simfrcnn.ladder.processes import clock
from simfrcnn.ladder.results import LadderResult, Pair, RungResult, RunResult
from simfrcnn.ladder.scores import case_scores
from simfrcnn.ladder.tables import ONE_TRAINING, completed, ladder_tables
from simfrcnn.trees import leaves_of
from simfrcnn.wording import counted

SCHEMA_VERSION = 1
PAGE, TEXT, DATA, SCORES = "ladder.html", "ladder.md", "ladder.json", "case_scores.csv"
_DASH = "-"
_WIDER = "With the wider of the two intervals, over patients and over trainings and patients."


def write_ladder(folder: Path, result: LadderResult) -> Path:
    """Write the pages, the numbers, the scores of every case and the pictures; all or nothing.

    Returns:
        The path of ``ladder.html``.

    Raises:
        OutputError: The folder cannot be written.
    """
    document = to_json(result, folder)
    sections = list(_sections(result, ladder_tables(document)))
    pictures = by_file_name(
        {
            "roc": draw_ladder_rocs(result),
            "froc": draw_ladder_frocs(result),
            "differences": draw_ladder_differences(result),
        }
    )
    title = f"Ladder {result.ladder.path.stem}"
    write_files(
        folder,
        {
            **pictures,
            TEXT: as_utf8(markdown_page(title, sections)),
            PAGE: as_utf8(html_page(title, sections, picture_drawings(pictures), NO_DATA)),
            DATA: as_utf8(as_json(document)),
            SCORES: case_scores({each.rung.name: each.models for each in result.rungs}),
        },
    )
    return folder / PAGE


def summary_lines(result: LadderResult) -> list[str]:
    """The primary metric of every rung and planned difference, one line each, for a terminal.

    With the wider interval, and of a difference the verdict.
    """
    n_seeds = len(result.ladder.seeds)
    figures = {e.rung.name: (len(e.models), _primary(e)) for e in result.rungs}
    for pair in result.pairs:
        if "planned" in pair.roles:
            figures[_name(pair)] = (len(pair.seeds), _difference_words(pair, result.ladder))
    width = max(map(len, figures))
    return [
        f"{name:<{width}}  {n}/{counted(n_seeds, '[seed|seeds]')}  {METRICS[PRIMARY].name} {shown}"
        for name, (n, shown) in figures.items()
    ]


def to_json(result: LadderResult, folder: Path) -> dict[str, Any]:
    """Every number, in JSON types, without NaN.

    Args:
        result: What :func:`simfrcnn.ladder.results.judge_ladder` returned.
        folder: The ladder's folder; run folders are given relative to it.
    """
    ladder = result.ladder
    document = {
        "schema_version": SCHEMA_VERSION,
        "ladder": {
            "file": ladder.path.name,
            "config": ladder.config.name,
            "seeds": list(ladder.seeds),
            "baseline": ladder.baseline,
            "comparisons": [list(pair) for pair in ladder.comparisons],
            "equivalence_margin": ladder.equivalence_margin,
        },
        "engine": result.engine,
        "test_set": {"name": result.test_set, "sha256": result.test_sha256},
        "settings": dataclasses.asdict(result.settings),
        "metrics": {key: metric.name for key, metric in METRICS.items()},
        "primary_metric": PRIMARY,
        "rungs": {each.rung.name: _rung_json(each) for each in result.rungs},
        "pairs": [_pair_json(pair) for pair in result.pairs],
        "shared_facts": dict(result.shared),
        "runs": [_run_json(each, folder) for each in result.runs],
        "notes": _notes(result),
        "rules": _rules(result),
    }
    return completed(document)


def _sections(result: LadderResult, tables: Mapping[str, Table]) -> Iterator[Section]:
    yield Section("Summary", [_what(result), tables["rungs"], DISCLAIMER])
    yield Section("Notes", [_notes(result) or ["None."]])
    yield Section(
        "Differences on the same cases",
        [tables["differences"], Picture("differences.svg", "Differences")],
    )
    yield Section(
        "Other figures",
        [f"{_WIDER} {ONE_TRAINING}", tables["figures"], tables["figures of differences"]],
    )
    yield Section(f"{METRICS[PRIMARY].name}, seed by seed", [_seed_table(result)])
    yield Section("Curves", [Picture("roc.svg", "ROC"), Picture("froc.svg", "FROC")])
    yield Section("Negative control", [_control_text(result), _control_table(result)])
    yield Section("Time and memory", [_cost_table(result)])
    yield Section("Rungs", [_definition_table(result)])
    yield Section("Rules", [_rules(result)])
    yield Section("Provenance", [_provenance_table(result)])


def _n_cases(result: LadderResult) -> Mapping[str, int] | None:
    """How many are positive and normal; None as long as no run is done."""
    return next((m.n[PRIMARY] for each in result.rungs for m in each.models.values()), None)


def _notes(result: LadderResult) -> list[str]:
    """Those of the result, and why there is no test."""
    judged = next((model for each in result.rungs for model in each.models.values()), None)
    few = None if judged is None else note_on_few_cases(judged.cases.n, judged.cases.n_patients)
    reasons = dict.fromkeys(
        test.reason
        for pair in result.pairs
        if pair.comparison is not None
        for test in pair.comparison.delong
        if test.reason
    )
    why = [f"DeLong's test is missing for some seeds: {reason}." for reason in reasons]
    return [*result.notes, *([few] if few else []), *why]


def _what(result: LadderResult) -> str:
    n = _n_cases(result)
    cases = ""
    if n is not None:
        cases = f", {n['positive']} positive and {n['normal']} normal cases"
    n_done = sum(each.facts is not None for each in result.runs)
    return (
        f"{counted(len(result.rungs), '[rung|rungs]')} x "
        f"{counted(len(result.ladder.seeds), '[seed|seeds]')} on {result.test_set}{cases}; engine "
        f"{result.engine}; {n_done} of {counted(len(result.runs), '[run is|runs are]')} done. "
        "Means over seeds, with two 95% intervals: over patients, for these trainings, and over "
        "trainings and patients, for other trainings of the method as well. Quote the wider. SEN "
        f"and SPE are by case, at score >= {result.settings.score_threshold:g}."
    )


def _seed_table(result: LadderResult) -> Table:
    rows = []
    for pair in result.pairs:
        if pair.comparison is None:
            rows.append((_name(pair), "missing", _DASH, _DASH, _DASH))
            continue
        difference = pair.comparison.differences[PRIMARY]
        by_seed = zip(pair.seeds, difference.by_seed, pair.comparison.delong, strict=True)
        rows.append(
            (
                _name(pair),
                number(difference.figure.value, signed=True),
                number(difference.lowest, signed=True),
                number(difference.highest, signed=True),
                "; ".join(
                    f"seed {s}: {number(d, signed=True)}, {p_of_test(t)}" for s, d, t in by_seed
                ),
            )
        )
    columns = ("difference", "mean of seeds", "lowest seed", "highest seed", "each seed, DeLong")
    return Table(columns, rows)


def _control_text(result: LadderResult) -> list[str]:
    lines = [
        "The table: AUC by case when the truth is shuffled 2,000 times among the test patients. "
        "The mean must be .5; this tests the evaluation. The table is empty where the part of "
        "positive cases differs between patients with one case, with two ...: the mean would not "
        "be .5.",
        "A rung with PERMUTE_LABELS is trained and tested on labels permuted by patient. Its AUC "
        "must be .5 within its interval over patients; this tests the whole pipeline.",
    ]
    for each in result.rungs:
        if each.rung.permute_labels:
            auc = each.figures.get(PRIMARY)
            shown = "missing" if auc is None else f"{cell(auc)}{_control_verdict(each, auc)}"
            lines.append(f"{each.rung.name}: AUC by case {shown}.")
    return lines


def _control_verdict(each: RungResult, auc: Figure) -> str:
    """Whether .5 is within the interval; no word where there is none."""
    if math.isnan(auc.low):
        return ""
    too_few = why_no_claim(next(iter(each.models.values())).n_patients[PRIMARY])
    if too_few is not None:
        return f": {too_few}"
    holds = auc.low <= 0.5 <= auc.high
    return f": .5 is {'within' if holds else 'OUTSIDE'} the interval"


def _control_table(result: LadderResult) -> Table:
    rows = [
        (each.rung.name, str(seed), f"{c.mean:.3f} ({c.low:.3f} to {c.high:.3f})", p_of(c.p_value))
        for each in result.rungs
        for seed, c in each.permuted_truth.items()
        if c is not None
    ]
    columns = ("rung", "seed", "AUC under permuted truth", "p of the real AUC")
    return Table(columns, rows or [(_DASH,) * 4])


def _cost_table(result: LadderResult) -> Table:
    rows = []
    for each in result.runs:
        facts = each.facts
        if each.run.rung.detector_of is not None:
            cells = (f"in {each.run.rung.detector_of}", _DASH, _DASH, _DASH, _DASH)
        elif facts is None:
            cells = (each.state.value, _DASH, _DASH, _DASH, _DASH)
        else:
            gpu = facts.peak_gpu_memory_mb
            cells = (
                "done, resumed" if facts.was_interrupted else "done",
                str(facts.steps),
                clock(facts.wall_seconds),
                f"{facts.peak_memory_mb:.0f} MB",
                f"{gpu:.0f} MB" if gpu else _DASH,
            )
        rows.append((each.run.rung.name, str(each.run.seed), *cells))
    return Table(
        ("rung", "seed", "state", "steps", "training time", "peak memory", "peak GPU memory"), rows
    )


def _definition_table(result: LadderResult) -> Table:
    rows = [
        (
            each.rung.name,
            each.rung.kind,
            each.rung.config.name,
            _settings(each.rung),
            each.rung.labels,
        )
        for each in result.rungs
    ]
    return Table(("rung", "kind", "config", "options", "labels"), rows)


def _rules(result: LadderResult) -> list[str]:
    settings = result.settings
    return [
        f"Bootstrap over patients: {settings.bootstrap_replicates} resamplings (seed "
        f"{settings.bootstrap_seed}), stratified by the patient's truth, percentiles 2.5 and 97.5. "
        "Every model is judged on the same resamplings.",
        "A rung's figure is the mean over its seeds; each resampling gives the mean of the seeds "
        "on it. That interval says what other patients would do with these trainings.",
        "The interval over trainings and patients adds the variance between the seeds: t quantile "
        "with Satterthwaite's degrees of freedom, each side by the interval over patients on that "
        "side, never narrower than that or than Student's t of the seeds. With one seed there is "
        "none.",
        *_verdict_rules(result.ladder),
        "A difference is the mean over the seeds that both rungs have of the same-seed difference, "
        "on the same resampling.",
        "DeLong: paired test of the AUC by case for each seed alone, two-sided; where a patient "
        f"gives several cases, Obuchowski's (1997). It needs {FEWEST_CASES} patients with a "
        f"positive and {FEWEST_CASES} with a normal case.",
        optimism_rule("for every rung alike"),
        "AP50 and FROC as in the report of a run; a hit is a centre in the box, false positives "
        "are counted over all evaluated images.",
        "Nothing but 'p, Holm' is adjusted for the number of comparisons: neither intervals nor "
        "verdicts, nor DeLong's p of a seed, nor differences that were not planned.",
    ]


def _verdict_rules(ladder: Ladder) -> list[str]:
    """How the verdicts and p-values are made."""
    p_values = (
        "p, Holm: of the planned comparisons, over trainings and patients (below .05 before the "
        "adjustment exactly where that interval excludes 0), adjusted for all that were planned, "
        "also those that are missing."
    )
    fewest = (
        f"With fewer than {FEWEST_CASES} patients with a positive or a normal unit of the metric "
        "there is no p, and no difference is called a result or equivalent: intervals of so few "
        "exclude 0 too often."
    )
    verdicts = (
        "Verdicts, by the wider interval: a result where it excludes 0 and no two seeds "
        "disagree in sign"
    )
    if ladder.equivalence_margin is None:
        return [
            f"{verdicts}; no EQUIVALENCE_MARGIN is stated, so nothing is called equivalent.",
            p_values,
            fewest,
        ]
    margin = f"{ladder.equivalence_margin:g}"
    return [
        f"{verdicts}; before that, equivalent where it lies within -{margin} to +{margin} "
        f"(EQUIVALENCE_MARGIN), two one-sided tests at 2.5% each, of the {METRICS[PRIMARY].name} "
        "alone.",
        p_values,
        fewest,
    ]


def _provenance_table(result: LadderResult) -> Table:
    rows = [("ladder file", result.ladder.path.name), ("test set", result.test_set)]
    rows += [("test set sha256", result.test_sha256)]
    rows += [(key, as_json(value, indent=None).strip()) for key, value in result.shared.items()]
    return Table(("fact of all runs", "value"), rows)


def _rung_json(each: RungResult) -> dict[str, Any]:
    rung = each.rung
    return {
        "kind": rung.kind,
        "config": rung.config.name,
        "options": dict(rung.options),
        "detector_of": rung.detector_of,
        "below": rung.below,
        "permute_labels": rung.permute_labels,
        "labels": rung.labels,
        "seeds_done": list(each.models),
        "seeds_missing": list(each.missing),
        "figures": {key: figure.to_json() for key, figure in each.figures.items()},
        "by_seed": {
            str(seed): {key: without_nan(model.values[key][0]) for key in METRICS}
            for seed, model in each.models.items()
        },
        "auc_under_permuted_truth": {
            str(seed): None if control is None else dataclasses.asdict(control)
            for seed, control in each.permuted_truth.items()
        },
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    compared = pair.comparison
    return {
        "first": pair.first,
        "second": pair.second,
        "roles": list(pair.roles),
        "seeds": list(pair.seeds),
        "differences": None
        if compared is None
        else {key: each.to_json() for key, each in compared.differences.items()},
        "delong": None if compared is None else [delong_json(each) for each in compared.delong],
    }


def _run_json(each: RunResult, folder: Path) -> dict[str, Any]:
    return {
        "rung": each.run.rung.name,
        "seed": each.run.seed,
        "folder": each.run.folder.relative_to(folder).as_posix(),
        "state": each.state.value,
        "facts": None if each.facts is None else dataclasses.asdict(each.facts),
    }


def _primary(each: RungResult) -> str:
    return cell(each.quoted(PRIMARY)) if each.models else "missing"


def _difference_words(pair: Pair, ladder: Ladder) -> str:
    if pair.comparison is None:
        return "missing"
    difference = pair.comparison.differences[PRIMARY]
    quoted = wider(difference.figure, difference.over_trainings)
    verdict = difference.verdict(ladder.equivalence_margin)
    return f"{cell(quoted, signed=True)}; {verdict}"


def _name(pair: Pair) -> str:
    return f"{pair.first} - {pair.second}"


def _settings(rung: Rung) -> str:
    if rung.detector_of is not None:
        return f"the detector of {rung.detector_of}, by its own score"
    options = "; ".join(f"{key} {value}" for key, value in leaves_of(rung.options))
    return options or "as in the config"
