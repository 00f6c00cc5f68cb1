"""Does the model fare differently in the parts of a test set, by more than chance?

Intervals of subgroups that overlap, or do not, are no test of a difference. Here the AUCs, or the
parts of units that are called right, of all groups of a key are tested at once, and groups may
share patients (views, breasts).

Shapes: G groups, U units of a group, P patients of all groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, logit

from simfrcnn.evaluation.case import KnownUnits
from simfrcnn.evaluation.delong import FEWEST_CASES, auc_components
from simfrcnn.evaluation.results import NAN

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

FEWEST_EXPECTED = 5
"""Right and wrong calls that a group must lead to expect if all are alike, for a chi-square test
(Cochran 1954): with fewer its distribution is another."""
_SINGULAR = 1e-12
_NOT_APART = "no test: the groups do not vary independently of one another"


class Trials(NamedTuple):
    """Units of one kind, (U,) each: whose each is, and whether it is called right."""

    patients: IntArray
    is_right: BoolArray


@dataclass(frozen=True)
class Interaction:
    """Whether a figure differs among the groups of ``key``.

    ``statistic`` is chi-square with ``degrees`` of freedom where all ``groups`` share one value;
    ``left_out`` groups have too few units. NaN with a ``reason`` where there is no test.
    """

    key: str
    figure: str
    groups: tuple[str, ...]
    left_out: tuple[str, ...]
    statistic: float
    degrees: int
    p_value: float
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The test in JSON types, ``null`` for NaN."""
        is_there = self.reason is None
        return {
            "key": self.key,
            "figure": self.figure,
            "groups": list(self.groups),
            "left_out": list(self.left_out),
            "statistic": self.statistic if is_there else None,
            "degrees": self.degrees,
            "p_value": self.p_value if is_there else None,
            "reason": self.reason,
        }


def auc_interaction(
    key: str, figure: str, groups: Mapping[str, KnownUnits], *, fewest: int = FEWEST_CASES
) -> Interaction:
    """Wald's test that the AUCs of all groups are equal.

    The logits of the AUCs, with their covariance over patients: what the units of a patient
    contribute to each AUC is summed before it is multiplied, so that groups may share patients.

    Args:
        key: By which the set was parted.
        figure: What the AUC is called (``case/auc``).
        groups: The units of known truth of each; patients are numbered over all groups.
        fewest: Patients of each kind that a group needs to take part.

    Reference:
        DeLong, DeLong and Clarke-Pearson 1988 (components, and the test of a contrast);
        Obuchowski 1997 (several units of a patient).
    """
    tested: dict[str, tuple[float, FloatArray]] = {}
    n_patients = 1 + max((int(g.patients.max(initial=-1)) for g in groups.values()), default=-1)
    for name, group in groups.items():
        by_kind = [len(np.unique(group.patients[group.is_positive == kind])) for kind in (0, 1)]
        if min(by_kind) >= fewest:
            tested[name] = auc_influence(group, n_patients)
    names = tuple(tested)
    left_out = tuple(name for name in groups if name not in tested)
    degrees = max(len(names) - 1, 0)

    def without(reason: str) -> Interaction:
        return Interaction(key, figure, names, left_out, NAN, degrees, NAN, reason)

    if len(names) < 2:
        return without(
            f"no test: it needs two groups with {fewest} patients of either kind; "
            f"there {'is' if len(names) == 1 else 'are'} {len(names)}"
        )
    if any(auc in (0.0, 1.0) for auc, _ in tested.values()):
        return without("no test: the AUC of a group is exactly 1 or 0 and has no variance")
    logits = np.array([logit(auc) for auc, _ in tested.values()])
    influences = np.array([each / (auc * (1 - auc)) for auc, each in tested.values()])  # (G, P)
    covariance = influences @ influences.T
    statistic = _chi_square(logits, covariance)
    if statistic is None:
        return without(_NOT_APART)
    p_value = float(chdtrc(degrees, statistic))
    return Interaction(key, figure, names, left_out, statistic, degrees, p_value)


def share_interaction(
    key: str,
    figure: str,
    groups: Mapping[str, Trials],
    *,
    kind: str,
    fewest: int = FEWEST_CASES,
) -> Interaction:
    """The test that all groups have the same part of units that are called right.

    Where every patient gives one unit in all, Pearson's chi-square. Else a score test: with s the
    part over all groups, a patient contributes (right units - s * units) / (units of the group) to
    a group's deviation from s, and the covariance of the groups is the sum of products of what
    patients contribute. Two groups of the same patients, one unit each, are compared by McNemar's
    test but for the correction for few patients.

    Args:
        key: By which the set was parted.
        figure: What the part is called (``case/sensitivity``).
        groups: The units of one kind of each; patients are numbered over all groups.
        kind: What these units are (``positive``), for the reason why there is no test.
        fewest: Patients that a group needs to take part.

    Reference:
        Pearson 1900; Rao 1948 (score tests), Liang and Zeger 1986 (their variance over patients).
    """
    names = _testable(groups, fewest)
    left_out = tuple(name for name in groups if name not in names)
    degrees = max(len(names) - 1, 0)

    def without(reason: str) -> Interaction:
        return Interaction(key, figure, names, left_out, NAN, degrees, NAN, reason)

    if len(names) < 2:
        return without(
            f"no test: it needs two groups with {fewest} patients with a {kind} unit, of whom "
            f"{FEWEST_EXPECTED} or more are to be expected to be called right and as many wrong; "
            f"there {'is' if len(names) == 1 else 'are'} {len(names)}"
        )
    tested = [groups[name] for name in names]
    shares = np.array([each.is_right.mean() for each in tested])
    pooled = _pooled(tested)
    owners = np.concatenate([each.patients for each in tested])
    if len(np.unique(owners)) == len(owners):
        covariance = np.diag([pooled * (1 - pooled) / len(each.is_right) for each in tested])
    else:
        n_patients = int(owners.max()) + 1
        gains = np.array([_gains(each, pooled, n_patients) for each in tested])  # (G, P)
        if _fewest_who_differ(gains) < 2 * FEWEST_EXPECTED:
            return without(
                f"no test: fewer than {2 * FEWEST_EXPECTED} patients make out the difference of "
                "two groups"
            )
        covariance = gains @ gains.T
    statistic = _chi_square(shares, covariance)
    if statistic is None:
        return without(_NOT_APART)
    p_value = float(chdtrc(degrees, statistic))
    return Interaction(key, figure, names, left_out, statistic, degrees, p_value)


def share_influence(trials: Trials, n_patients: int) -> tuple[float, FloatArray]:
    """The part of units that are called right, and what each patient (P,) contributes to it.

    Squares of contributions sum to the variance of the part.
    """
    share = float(trials.is_right.mean())
    return share, _gains(trials, share, n_patients)


def _testable(groups: Mapping[str, Trials], fewest: int) -> tuple[str, ...]:
    """The groups that are large enough for a chi-square test; the smallest are left out first."""
    n_of = {name: len(np.unique(each.patients)) for name, each in groups.items()}
    names = [name for name in groups if n_of[name] >= fewest]
    while names:
        pooled = _pooled([groups[name] for name in names])
        smallest = min(names, key=lambda name: n_of[name])
        if n_of[smallest] * min(pooled, 1 - pooled) >= FEWEST_EXPECTED:
            break
        names.remove(smallest)
    return tuple(names)


def _pooled(groups: Sequence[Trials]) -> float:
    return float(np.concatenate([each.is_right for each in groups]).mean())


def _gains(trials: Trials, share: float, n_patients: int) -> FloatArray:
    """What each patient (P,) adds to a group's deviation from ``share``, corrected for few."""
    n_owners = len(np.unique(trials.patients))
    gains = np.bincount(trials.patients, trials.is_right - share, n_patients)
    return np.asarray(gains * _correction(n_owners) / len(trials.is_right), dtype=np.float64)


def _fewest_who_differ(gains: FloatArray) -> float:
    """How many patients make out the difference of two groups, the pair with the fewest.

    The effective number (Kish) of squared contributions: of two groups of the same patients, those
    who are called right in one group alone.
    """
    fewest = np.inf
    for one, other in itertools.combinations(gains, 2):
        squares = (one - other) ** 2
        total = float((squares**2).sum())
        fewest = min(fewest, float(squares.sum()) ** 2 / total if total > 0 else 0.0)
    return fewest


def _chi_square(values: FloatArray, covariance: FloatArray) -> float | None:
    """How far values (G,) are from all being equal; None where they do not vary by themselves."""
    degrees = len(values) - 1
    contrasts = np.eye(degrees, len(values), k=1) - np.eye(degrees, len(values))
    spread = contrasts @ covariance @ contrasts.T
    if np.linalg.eigvalsh(spread).min() < _SINGULAR:
        return None
    apart = contrasts @ values
    return float(apart @ np.linalg.solve(spread, apart))


def _correction(n_patients: int) -> float:
    """By how much a deviation from a mean is larger than it seems; 0 where one has no variance."""
    return float(np.sqrt(n_patients / (n_patients - 1))) if n_patients > 1 else 0.0


def auc_influence(group: KnownUnits, n_patients: int) -> tuple[float, FloatArray]:
    """An AUC, and what each patient (P,) contributes to its deviation; squares sum to its variance.

    The corrections for few patients are those of the two kinds; a patient of both kinds counts in
    each.
    """
    below, above = auc_components(group.scores, group.is_positive)
    auc = float(below.mean())
    influence = np.zeros(n_patients)
    for components, is_kind in ((below, group.is_positive), (above, ~group.is_positive)):
        owners = group.patients[is_kind]
        n_owners = len(np.unique(owners))
        gains = np.bincount(owners, components - auc, n_patients) / len(components)
        influence += gains * _correction(n_owners)
    return auc, influence
