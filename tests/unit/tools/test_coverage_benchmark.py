"""The simulation of coverage, in small: its rows, and figures that a coverage can have.

Of 40 studies, an interval that holds the truth in .95 of them holds it in fewer than .75 once in
a hundred thousand times. Where positives are missed outright the interval is known to be too
narrow (docs/evaluation.md): .81 in the worst of those rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from benchmarks import coverage

N_STUDIES = 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind of study each."""
    monkeypatch.setattr(coverage, "CASES", coverage.CASES[:1])
    monkeypatch.setattr(coverage, "MARKS", coverage.MARKS[:1])
    monkeypatch.setattr(coverage, "READERS", coverage.READERS[:1])
    monkeypatch.setattr(coverage, "_LARGE", 20_000)
    monkeypatch.setattr(coverage, "_REPLICATES", 100)


@pytest.mark.parametrize(
    ("rows", "n_rows", "n_errs", "least"),
    [
        (coverage.unit_rows, 1, 2, 0.75),
        (coverage.missed_rows, 3, 0, 0.6),
        (coverage.mark_rows, 1, 0, 0.75),
        (coverage.reader_rows, 1, 0, 0.75),
    ],
)
def test_a_table_has_a_cell_for_each_column_and_plausible_figures(
    rows: Callable[[int, int], Iterator[str]], n_rows: int, n_errs: int, least: float
) -> None:
    head, line, *body = rows(N_STUDIES, 0)
    names = [cell.strip() for cell in head.strip("|").split("|")]
    assert line.count("---") == len(names)
    assert len(body) == n_rows
    for row in body:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == len(names)
        values = [float(c[:5]) for c in cells if re.fullmatch(r"[01]\.\d{3}( \(of \.?.*\))?", c)]
        assert len(values) >= 2
        held, errs = values[: len(values) - n_errs], values[len(values) - n_errs :]
        assert all(least <= part <= 1 for part in held), row
        assert all(0 <= part <= 0.25 for part in errs), row
    assert [*rows(N_STUDIES, 0)] == [head, line, *body]  # the seed decides
