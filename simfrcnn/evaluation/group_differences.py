"""By how much do the groups of a key differ, and by more than chance?

The groups of each key of images are set against its largest group, figure by figure, with an
interval; a test asks whether all groups of the key are alike. Groups may share patients, as views
and breasts do. Keys of findings part the hits alone and are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import limits_of_difference
from simfrcnn.evaluation.case import KnownUnits, units_of
from simfrcnn.evaluation.interaction import (
    Interaction,
    Trials,
    auc_influence,
    auc_interaction,
    share_influence,
    share_interaction,
)
from simfrcnn.evaluation.results import NAN, Figure, OperatingPoint, Subgroup
from simfrcnn.evaluation.subgroups import NOT_KNOWN, Division, record_divisions, record_parts
from simfrcnn.evaluation.truth import View
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]

_LEVELS = ("case", "image")
_KINDS = {"sensitivity": "positive", "specificity": "normal"}


@dataclass(frozen=True)
class GroupDifference:
    """``figure`` of ``group`` less that of ``reference``, the largest group of ``key``."""

    key: str
    figure: str
    group: str
    reference: str
    difference: Figure

    def to_json(self) -> dict[str, Any]:
        """The difference in JSON types, ``null`` for NaN."""
        return {
            "key": self.key,
            "figure": self.figure,
            "group": self.group,
            "reference": self.reference,
            "difference": self.difference.to_json(),
        }


def interactions_of(
    views: Sequence[View], settings: EvaluationSettings, point: OperatingPoint
) -> tuple[Interaction, ...]:
    """Whether the groups of each key of images differ, by more than chance.

    In the AUC by case and by image, and by case in sensitivity and specificity. Images without a
    value of the key are left out: not to be known is no group.

    Args:
        views: All views of the test set.
        settings: The rules; ``subgroups`` says by what the set is parted.
        point: By case, from which score on a case is called positive.
    """
    tests = []
    for division in record_divisions(settings):
        groups = _groups(division, views, settings)
        for level in _LEVELS:
            own = {name: by_level[level] for name, by_level in groups.items()}
            tests.append(auc_interaction(division.key, f"{level}/auc", own))
        for name, kind in _KINDS.items():
            trials = {
                group: trials_of(by_level["case"], name, point)
                for group, by_level in groups.items()
            }
            figure = f"{point.key}/{name}"
            tests.append(share_interaction(division.key, figure, trials, kind=kind))
    return tuple(tests)


def group_differences(
    views: Sequence[View],
    subgroups: Sequence[Subgroup],
    settings: EvaluationSettings,
    point: OperatingPoint,
) -> tuple[GroupDifference, ...]:
    """Every group of a key of images less its largest, in the figures that are tested.

    Each limit is made from those of the two figures (MOVER), with the correlation that patients of
    both groups bring about.

    Args:
        views: All views of the test set.
        subgroups: The figures of its groups, with those at ``point``.
        settings: The rules; ``subgroups`` says by what the set is parted.
        point: By case, from which score on a case is called positive.

    Reference:
        Zou and Donner 2008; Zou 2007 (correlated parts).
    """
    found: list[GroupDifference] = []
    for division in record_divisions(settings):
        own = [g for g in subgroups if g.key == division.key and g.value != NOT_KNOWN]
        if len(own) < 2:
            continue
        largest = max(own, key=lambda group: group.counts["patients"])  # the first of equal ones
        influences = _Influences(_groups(division, views, settings), point, _n_patients(views))
        found += _from_largest(own, largest, influences)
    return tuple(found)


def trials_of(units: KnownUnits, figure: str, point: OperatingPoint) -> Trials:
    """The units that ``sensitivity`` or ``specificity`` counts, and which are called right."""
    is_counted = units.is_positive == (figure == "sensitivity")
    is_called = units.scores >= point.score_threshold
    return Trials(units.patients[is_counted], (is_called == units.is_positive)[is_counted])


def less(first: Figure, second: Figure, correlation: float = 0.0) -> Figure:
    """``first - second`` with its interval; without one, the reason of the figure that has none.

    Args:
        first: Of one group.
        second: Of another.
        correlation: Of the two figures, 0 where no patient is in both groups.

    Examples:
        >>> one = Figure(0.8, 0.7, 0.9, "clopper-pearson", n={"positive": 60})
        >>> other = Figure(0.9, 0.8, 0.95, "clopper-pearson", n={"positive": 90})
        >>> difference = less(one, other)
        >>> print(difference)
        -0.100 (-0.212 to 0.041)
        >>> difference.n
        {'positive': 60, 'positive_of_reference': 90}
    """
    n = {
        **{what: count for what, count in first.n.items() if what != "right"},
        **{f"{what}_of_reference": c for what, c in second.n.items() if what != "right"},
    }
    value = first.value - second.value
    for figure in (first, second):
        if figure.low != figure.low:
            return Figure(value, n=n, reason=figure.reason)
    limits = limits_of_difference(first, second, correlation)
    return Figure(value, limits.low, limits.high, limits.method, n)


def correlation_of(first: FloatArray, second: FloatArray) -> float:
    """Of two figures, from what each patient contributes, (P,); 0 where one has no variance."""
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(np.clip(first @ second / size, -1, 1)) if size > 0 else 0.0


@dataclass(frozen=True)
class _Influences:
    """What each patient contributes to a figure of a group, by the groups' units."""

    groups: Mapping[str, Mapping[str, KnownUnits]]
    point: OperatingPoint
    n_patients: int

    @property
    def figures(self) -> tuple[str, ...]:
        return (
            *(f"{level}/auc" for level in _LEVELS),
            *(f"{self.point.key}/{name}" for name in _KINDS),
        )

    def of(self, group: str, figure: str) -> FloatArray:
        """(P,) of a figure that is defined."""
        level, *_, name = figure.split("/")
        units = self.groups[group][level]
        if name == "auc":
            return auc_influence(units, self.n_patients)[1]
        return share_influence(trials_of(units, name, self.point), self.n_patients)[1]


def _from_largest(
    groups: Sequence[Subgroup], largest: Subgroup, influences: _Influences
) -> Iterator[GroupDifference]:
    for group in (each for each in groups if each is not largest):
        for key in influences.figures:
            pair = group.figures[key], largest.figures[key]
            is_there = all(each.value == each.value for each in pair)
            correlation = (
                correlation_of(influences.of(group.value, key), influences.of(largest.value, key))
                if is_there
                else NAN
            )
            yield GroupDifference(
                group.key, key, group.value, largest.value, less(*pair, correlation)
            )


def _groups(
    division: Division, views: Sequence[View], settings: EvaluationSettings
) -> dict[str, dict[str, KnownUnits]]:
    """The units of each group by level, their patients numbered over the whole set."""
    return {
        name: {level: units_of(part, level, settings).known() for level in _LEVELS}
        for name, part in record_parts(division, views).items()
        if name != NOT_KNOWN
    }


def _n_patients(views: Sequence[View]) -> int:
    return max(view.patient for view in views) + 1
