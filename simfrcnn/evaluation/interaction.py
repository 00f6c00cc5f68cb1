"""Does the model fare differently in the parts of a test set, by more than chance?

Intervals of subgroups that overlap, or do not, are no test of a difference. Here the AUCs of all
groups of a key are tested at once, and groups may share patients (views, breasts).

Shapes: G groups, U units of a group, P patients of all groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, logit

from simfrcnn.evaluation.case import KnownUnits
from simfrcnn.evaluation.delong import FEWEST_CASES, auc_components
from simfrcnn.evaluation.results import NAN

FloatArray = NDArray[np.float64]

_SINGULAR = 1e-12


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
            tested[name] = _influence(group, n_patients)
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
    contrasts = np.eye(degrees, len(names), k=1) - np.eye(degrees, len(names))
    spread = contrasts @ covariance @ contrasts.T
    if np.linalg.eigvalsh(spread).min() < _SINGULAR:
        return without("no test: the groups do not vary independently of one another")
    apart = contrasts @ logits
    statistic = float(apart @ np.linalg.solve(spread, apart))
    p_value = float(chdtrc(degrees, statistic))
    return Interaction(key, figure, names, left_out, statistic, degrees, p_value)


def _influence(group: KnownUnits, n_patients: int) -> tuple[float, FloatArray]:
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
        influence += gains * np.sqrt(n_owners / (n_owners - 1))
    return auc, influence
