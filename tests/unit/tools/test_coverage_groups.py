"""The simulation of subgroup differences: its studies, and that its table is complete."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage_groups
from benchmarks.coverage_groups import STUDIES, Groups, rows


def test_drawn_groups_have_the_figures_that_are_called_true() -> None:
    study = Groups((4000, 4000), (4000, 4000), (2.3, 1.8), of_each=2)
    groups = coverage_groups._drawn(study, np.random.default_rng(0))
    for place, units in enumerate(groups):
        patients, scores, is_positive = units.known()
        truths = study.truths(place)
        found = scores[is_positive] >= study.threshold
        assert found.mean() == pytest.approx(truths["sensitivity"], abs=0.02)
        spared = scores[~is_positive] < study.threshold
        assert spared.mean() == pytest.approx(truths["specificity"], abs=0.02)
        assert (np.bincount(patients)[patients] == 2).all()
    assert not set(groups[0].patients) & set(groups[1].patients)
    views = coverage_groups._drawn(
        Groups((9, 9), (9, 9), are_shared=True), np.random.default_rng(0)
    )
    assert views[0].patients.tolist() == views[1].patients.tolist()


def test_a_few_studies_give_a_row_each_with_plausible_parts(monkeypatch) -> None:
    monkeypatch.setattr(coverage_groups, "_REPLICATES", 30)
    small = (Groups((60, 60), (40, 40)), Groups((60, 60), (40, 40), (2.3, 1.8)), STUDIES[-1])
    heading, _, *lines = rows(12, 0, small)
    assert len(lines) == 3
    for line, study in zip(lines, small, strict=True):
        name, apart, *parts = (each.strip() for each in line.strip("|").split("|"))
        assert name == study.name
        assert len(parts) + 2 == heading.count("|") - 1
        assert all(0.6 <= float(part) <= 1 for part in parts[:3])
        are_alike = float(apart) == 0
        assert [part == "-" for part in parts[3:5]] == [not are_alike] * 2
