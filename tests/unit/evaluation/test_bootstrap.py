"""What intervals are made of: by hand, and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from simfrcnn.evaluation.bootstrap import (
    Interval,
    Statistic,
    exact_intervals,
    figures_and_bands,
    limits_of_sum,
    ratio,
    why_no_resampling,
)

FOUR = np.array([1, 1, 0, 0])


def limits(n_right: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's, by SciPy's quantiles."""
    low = beta.ppf(0.025, n_right, n - n_right + 1) if n_right else 0.0
    high = beta.ppf(0.975, n_right + 1, n - n_right) if n_right < n else 1.0
    return float(low), float(high)


@pytest.mark.parametrize(
    ("strata", "is_enough"),
    [
        ([1, 1, 0, 0], True),
        ([1, 1, 0, 0, -1], True),  # a single patient of unknown truth is in no figure
        ([1, 1, 1, 0], False),
        ([1, 0, 0, 0], False),
        ([1, 1], True),
        ([0, 0], True),
        ([-1], False),
    ],
)
def test_resampling_needs_two_patients_of_each_kind_that_is_there(strata, is_enough) -> None:
    reason = why_no_resampling(np.array(strata), 100)
    assert (reason is None) == is_enough
    assert is_enough or "resampling cannot vary" in str(reason)
    assert "none was asked for" in str(why_no_resampling(np.array(strata), 0))


def test_exact_intervals_of_trials_of_which_a_patient_has_two() -> None:
    trials = np.array([2.0, 1.0, 1.0, 0.0])
    won = [np.array(each, float) for each in ([2, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0])]
    intervals = exact_intervals(("all", "none", "some"), won, trials)
    assert set(intervals) == {"all", "none"}  # of 3 of 4 won trials resamplings say how sure it is
    assert intervals["all"]() == Interval(pytest.approx(0.025 ** (1 / 3)), 1.0, "clopper-pearson")
    assert intervals["none"]() == Interval(
        0.0, pytest.approx(1 - 0.025 ** (1 / 3)), "clopper-pearson"
    )
    one_each = exact_intervals(("some",), [np.array([1.0, 0, 1, 0])], np.array([1.0, 1, 1, 0]))
    found = one_each["some"]()
    assert (found.low, found.high) == pytest.approx(limits(2, 3))


def test_limits_of_a_sum_of_three_parts_one_of_them_negative() -> None:
    parts = [(2.0, 3, 10), (-1.0, 7, 8), (0.5, 5, 5)]
    value, below, above = 0.0, [], []
    for scale, n_right, n in parts:
        low, high = limits(n_right, n)
        at = n_right / n
        value += scale * at
        distances = [abs(scale) * (at - low), abs(scale) * (high - at)]
        down, up = distances if scale > 0 else distances[::-1]
        below.append(down)
        above.append(up)
    interval = limits_of_sum(parts)
    assert interval.low == pytest.approx(value - math.sqrt(sum(each**2 for each in below)))
    assert interval.high == pytest.approx(value + math.sqrt(sum(each**2 for each in above)))
    assert interval.method == "mover"


def banded(n_undefined: int, n_replicates: int) -> Statistic:
    """Two bands: heights 0, 1, 2 ... of the resampled sets, plus 10 at the second place of one,
    plus 20 in the other band.

    Undefined ones come first; the test set itself is 5.
    """
    rows = np.arange(n_replicates, dtype=float)
    rows[:n_undefined] = np.nan
    column = iter(np.concatenate([[5.0], rows]))

    def compute(weights: np.ndarray) -> np.ndarray:
        heights = np.array([next(column) for _ in weights])
        return np.stack([heights, heights, heights + 10, heights + 20], axis=1)

    bands = {"b": np.array([0.1, 0.2]), "c": np.array([0.5])}
    return Statistic(("x",), compute, {"x": {}}, {"x": ""}, bands=bands)


def test_a_band_is_of_the_defined_curves_and_missing_where_too_few_are() -> None:
    _, bands = figures_and_bands([banded(10, 200)], FOUR, n_replicates=200, seed=0)
    band = bands["b"]
    assert band.x == (0.1, 0.2)
    # 10 ... 199: 2.5% and 97.5% of 189 steps.
    low, high = 10 + 0.025 * 189, 10 + 0.975 * 189
    assert band.low == pytest.approx((low, low + 10))
    assert band.high == pytest.approx((high, high + 10))
    other = bands["c"]
    assert (other.x, other.low, other.high) == (
        (0.5,), pytest.approx((low + 20,)), pytest.approx((high + 20,))
    )  # fmt: skip
    for n_undefined, n_replicates in ((11, 200), (0, 0)):
        statistic = banded(n_undefined, n_replicates)
        assert figures_and_bands([statistic], FOUR, n_replicates=n_replicates, seed=0)[1] == {}


def test_a_statistic_with_a_band_is_resampled_though_its_figures_need_it_not() -> None:
    own = Interval(4.0, 6.0, "mover")
    plain = banded(0, 50)
    both = Statistic(
        plain.keys, plain.compute, plain.n, plain.why_undefined, {"x": lambda: own}, plain.bands
    )
    figures, bands = figures_and_bands([both], FOUR, n_replicates=50, seed=0)
    assert (figures["x"].value, figures["x"].low, figures["x"].high) == (5.0, 4.0, 6.0)
    assert bands["b"].high[0] == pytest.approx(0.975 * 49)


def test_a_ratio_over_nothing_is_undefined() -> None:
    values = ratio(np.array([[1.0, 0.0], [3.0, 2.0]]), np.array([[2.0], [0.0]]))
    assert values[0].tolist() == [0.5, 0.0]
    assert np.isnan(values[1]).all()


def test_an_interval_in_json() -> None:
    assert Interval(0.25, 0.5, "mover").to_json() == {
        "low": 0.25, "high": 0.5, "method": "mover", "reason": None,
    }  # fmt: skip
    assert Interval.missing("why").to_json() == {
        "low": None, "high": None, "method": None, "reason": "why",
    }  # fmt: skip
