"""What if the model reads with the readers, or before them: which cases are recalled, and who
reads?

Shapes: J readers, K cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.readers.obuchowski_rockette import (
    Cells,
    CovarianceBy,
    Estimate,
    of_one,
    over_readers,
    share_cells,
)

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

ALONE = "readers alone"


@dataclass(frozen=True)
class Way:
    """One way of reading: ``recalled`` and ``read`` (J, K), read by the person that is."""

    name: str
    recalled: BoolArray
    read: BoolArray


@dataclass(frozen=True)
class Pathway:
    """A way of reading, as the mean over readers.

    ``figures`` are ``sensitivity``, ``specificity``, ``recall`` (part of cases recalled) and
    ``read`` (part of cases that a person reads; the rest is the work saved). ``differences`` are
    from the readers alone, missing for these themselves.
    """

    name: str
    figures: dict[str, Estimate]
    differences: dict[str, Estimate]


def ways_of(
    recalls: BoolArray, scores: FloatArray, threshold: float, triage_below: Sequence[float]
) -> Iterator[Way]:
    """The readers alone, and what becomes of them with the model.

    Args:
        recalls: (J, K) whom each reader recalls.
        scores: (K,) of the model, which recalls from ``threshold`` on.
        threshold: See ``scores``.
        triage_below: Cases with a lower score than one of these are not read, and not recalled.
    """
    by_model = np.broadcast_to(scores >= threshold, recalls.shape)
    everybody = np.ones_like(recalls)
    yield Way(ALONE, recalls, everybody)
    yield Way(f"reader or model recalls, model from {threshold:.4g}", recalls | by_model, everybody)
    yield Way(f"reader and model recall, model from {threshold:.4g}", recalls & by_model, everybody)
    for limit in triage_below:
        is_read = np.broadcast_to(scores >= limit, recalls.shape)
        yield Way(f"triage: not read below {limit:.4g}", recalls & is_read, is_read)


def pathways_of(
    ways: Sequence[Way],
    is_positive: BoolArray,
    prevalence: float | None,
    by: CovarianceBy,
    why_untested: str | None = None,
) -> list[Pathway]:
    """Figures with intervals over readers and cases, and paired differences from the first way.

    Args:
        ways: The readers alone first.
        is_positive: (K,) truth.
        prevalence: Of positive cases, for the parts recalled and read; None: that of the cases.
        by: How covariances are estimated.
        why_untested: Why differences have no p-value; None where they have one.
    """
    alone, *_ = cells = [_cells_of(way, is_positive, prevalence) for way in ways]
    return [
        Pathway(
            way.name,
            {name: _mean(each, by).as_share() for name, each in own.items()},
            {}
            if own is alone
            else {
                name: _mean(each - alone[name], by).without_test(why_untested)
                for name, each in own.items()
            },
        )
        for way, own in zip(ways, cells, strict=True)
    ]


def _cells_of(way: Way, is_positive: BoolArray, prevalence: float | None) -> dict[str, Cells]:
    part = float(is_positive.mean()) if prevalence is None else prevalence
    return {
        "sensitivity": share_cells(way.recalled, is_positive, 1, 0),
        "specificity": share_cells(~way.recalled, is_positive, 0, 1),
        "recall": share_cells(way.recalled, is_positive, part, 1 - part),
        "read": share_cells(way.read, is_positive, part, 1 - part),
    }


def _mean(cells: Cells, by: CovarianceBy) -> Estimate:
    """Over readers; over cases alone where there is one reader."""
    return of_one(cells, by) if len(cells.values) == 1 else over_readers(cells, by)
