"""The tables of a ladder from its ``ladder.json``: of a new one, and of one that was published.

They need no run folder, so the tables of a page can be made again from the numbers beside it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from simfrcnn.evaluation.bootstrap import Interval
from simfrcnn.evaluation.comparison import Difference, without_nan
from simfrcnn.evaluation.metrics import METRICS, PRIMARY
from simfrcnn.evaluation.ranking import holm
from simfrcnn.evaluation.reporting.documents import Table
from simfrcnn.evaluation.reporting.wording import cell, number, p_of
from simfrcnn.evaluation.results import NAN, Figure
from simfrcnn.evaluation.trainings import over_trainings, wider

MISSING, _DASH = "missing", "-"
ONE_TRAINING = "With one seed, the interval is over patients only."
_OTHERS = tuple(key for key in METRICS if key != PRIMARY)
OF_AN_OLDER_VERSION = (
    "Of an older version: the file does not say on how many patients the differences rest, so that "
    "there is no p and no verdict. Write it again from the run folders: simfrcnn ladder "
    "--report-only."
)
_TWO_INTERVALS = ("over patients", "over trainings and patients", "each seed")

Document = Mapping[str, Any]


def completed(document: Document) -> dict[str, Any]:
    """A copy of ``ladder.json`` with its intervals over trainings and its verdicts.

    A file of an older version has none. They follow from the figures of the seeds, the intervals
    over patients and the numbers of patients; equivalence is tested for the primary metric alone,
    whose margin is ``ladder.equivalence_margin``. Where a file does not say on how many patients a
    difference rests, nothing is claimed of it, and a note says why.
    """
    full = copy.deepcopy(dict(document))
    margin = full["ladder"].setdefault("equivalence_margin", None)
    for rung in full["rungs"].values():
        for key, content in rung["figures"].items():
            interval = over_trainings(_by_seed(rung, key), _figure(content), 0, 1)
            content["over_trainings"] = interval.to_json()
    for pair in full["pairs"]:
        for key, content in (pair["differences"] or {}).items():
            difference = _difference(content)
            verdict = difference.verdict(margin if key == PRIMARY else None)
            content["over_trainings"] = difference.over_trainings.to_json()
            content["verdict"] = dataclasses.asdict(verdict)
    _add_p_values([pair for pair in full["pairs"] if "planned" in pair["roles"]])
    notes = full.setdefault("notes", [])
    if _lacks_patients(full) and OF_AN_OLDER_VERSION not in notes:
        notes.append(OF_AN_OLDER_VERSION)
    return full


def _lacks_patients(document: Document) -> bool:
    return any(
        content.get("n_patients") is None
        for pair in document["pairs"]
        for content in (pair["differences"] or {}).values()
    )


def _add_p_values(planned: Sequence[Document]) -> None:
    """Of the primary metric, over trainings and patients; adjusted for all that was planned."""
    contents = [pair["differences"][PRIMARY] for pair in planned if pair["differences"]]
    p_values = [_difference(content).p_value for content in contents]
    adjusted = holm(p_values, n_planned=len(planned))
    for content, p_value, p_holm in zip(contents, p_values, adjusted, strict=True):
        content["p_value"] = without_nan(p_value)
        content["p_holm"] = without_nan(p_holm)


def ladder_tables(document: Document) -> dict[str, Table]:
    """Every table of figures, by what it shows: ``rungs``, ``differences``, and the other metrics.

    Args:
        document: The content of ``ladder.json``, :func:`completed`.
    """
    return {
        "rungs": _rungs(document),
        "figures": _other_figures(document),
        "differences": _differences(document),
        "figures of differences": _other_differences(document),
    }


def quoted_cell(content: Document, *, signed: bool = False) -> str:
    """A figure of ``ladder.json`` with the wider of its two intervals."""
    return cell(wider(_figure(content), _interval(content)), signed=signed)


def verdict_words(content: Document) -> str:
    """``not a result: seeds disagree in sign``, of a difference of ``ladder.json``."""
    return f"{content['verdict']['word']}: {content['verdict']['reason']}"


def _rungs(document: Document) -> Table:
    rows = []
    for name, rung in document["rungs"].items():
        cells = [MISSING, *[_DASH] * 3]
        if rung["figures"]:
            cells = _two_intervals(rung["figures"][PRIMARY], _by_seed(rung, PRIMARY))
        rows.append((_label(document, name), _seeds(document, rung), *cells))
    columns = ("rung (baseline in bold)", "seeds", METRICS[PRIMARY].heading, *_TWO_INTERVALS)
    return Table(columns, rows)


def _other_figures(document: Document) -> Table:
    rows = []
    for name, rung in document["rungs"].items():
        cells = [MISSING] * len(_OTHERS)
        if rung["figures"]:
            cells = [quoted_cell(rung["figures"][key]) for key in _OTHERS]
        rows.append((_label(document, name), _seeds(document, rung), *cells))
    return Table(("rung (baseline in bold)", "seeds", *_headings()), rows)


def _differences(document: Document) -> Table:
    rows = []
    for pair in document["pairs"]:
        cells = [MISSING, *[_DASH] * 5]
        if pair["differences"] is not None:
            content = pair["differences"][PRIMARY]
            by_seed = _difference(content).by_seed
            cells = _two_intervals(content, by_seed, signed=True)
            p_holm = content.get("p_holm")
            cells.append(_DASH if p_holm is None else p_of(p_holm))
            cells.append(verdict_words(content))
        why = ", ".join(pair["roles"])
        rows.append((name_of(pair), why, str(len(pair["seeds"])), *cells))
    metric = METRICS[PRIMARY].heading
    return Table(
        ("difference", "why", "seeds", metric, *_TWO_INTERVALS, "p, Holm", "verdict"), rows
    )


def _other_differences(document: Document) -> Table:
    rows = []
    for pair in document["pairs"]:
        cells = [MISSING] * len(_OTHERS)
        if pair["differences"] is not None:
            cells = [quoted_cell(pair["differences"][key], signed=True) for key in _OTHERS]
        rows.append((name_of(pair), str(len(pair["seeds"])), *cells))
    return Table(("difference", "seeds", *_headings()), rows)


def name_of(pair: Document) -> str:
    """``sim - faster``."""
    return f"{pair['first']} - {pair['second']}"


def _two_intervals(
    content: Document, by_seed: Sequence[float], *, signed: bool = False
) -> list[str]:
    """The value, both intervals and each seed."""
    figure, interval = _figure(content), _interval(content)
    ends = [(figure.low, figure.high), (interval.low, interval.high)]
    return [
        number(figure.value, signed=signed),
        *(
            _DASH
            if math.isnan(low)
            else f"{number(low, signed=signed)} to {number(high, signed=signed)}"
            for low, high in ends
        ),
        ", ".join(number(value, signed=signed) for value in by_seed),
    ]


def _headings() -> tuple[str, ...]:
    return tuple(METRICS[key].heading for key in _OTHERS)


def _label(document: Document, name: str) -> str:
    return f"**{name}**" if name == document["ladder"]["baseline"] else name


def _seeds(document: Document, rung: Document) -> str:
    return f"{len(rung['seeds_done'])}/{len(document['ladder']['seeds'])}"


def _by_seed(rung: Document, key: str) -> tuple[float, ...]:
    return tuple(_value(figures[key]) for figures in rung["by_seed"].values())


def _difference(content: Document) -> Difference:
    by_seed = tuple(_value(each) for each in content["by_seed"])
    return Difference(_figure(content), by_seed, content.get("n_patients"))


def _figure(content: Document) -> Figure:
    low, high = _value(content["low"]), _value(content["high"])
    method, reason = content["method"], content["reason"]
    return Figure(_value(content["value"]), low, high, method, reason=reason)


def _interval(content: Document) -> Interval:
    each = content["over_trainings"]
    return Interval(_value(each["low"]), _value(each["high"]), each["method"], each["reason"])


def _value(number_or_null: float | None) -> float:
    return NAN if number_or_null is None else float(number_or_null)
