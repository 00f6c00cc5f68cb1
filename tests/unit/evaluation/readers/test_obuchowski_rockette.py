"""Readers and cases random: published analyses, and slow twins of their formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simfrcnn.evaluation.delong import paired_delong
from simfrcnn.evaluation.readers.obuchowski_rockette import (
    Components,
    auc_cells,
    compare_modalities,
    components_of,
    of_one,
    over_readers,
    share_cells,
)
from support.rjafroc import ratings, rjafroc_data

# Van Dyke et al. 1993, 69 normal and 45 positive cases, five readers and two modalities, as
# analysed by OR-DBM MRMC 2.51 (trapezoidal area, jackknife) and RJafroc's dataset02-OR-Wilcoxon.
AUCS = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
JACKKNIFE = Components(0.0008022882656, 0.0003466137094, 0.0003440748289, 0.0002390283709)
# RJafroc's UtilVarComponents/DeLongDataset02.rds, to the digits it prints.
DELONG = Components(0.000792, 0.000342, 0.000340, 0.000236)
SINGLE = {  # mean, standard error, degrees of freedom, interval
    0: (0.897037037, 0.03317359696, 12.7446476, 0.8252235975, 0.9688504765),
    1: (0.9408373591, 0.02156636837, 12.71018964, 0.8941378312, 0.987536887),
}


def drawn(seed: int, n_cells: int, *, n_levels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Ratings of 30 cases, with what makes a case hard common to all readers."""
    random = np.random.default_rng(seed)
    is_positive = np.arange(30) % 5 < 2
    common = random.normal(size=30) + 1.2 * is_positive
    scores = common + random.normal(size=(n_cells, 30))
    return np.round(scores * n_levels / 6), is_positive


def test_a_published_comparison_of_two_modalities():
    result = compare_modalities(AUCS, JACKKNIFE)
    assert result.f_value == pytest.approx(4.456318693, abs=1e-6)
    assert (result.df_between, result.df_within) == pytest.approx((1, 15.25967459), abs=1e-5)
    assert result.p_value == pytest.approx(0.05166568582, abs=1e-7)
    difference = result.differences[0, 1]
    assert difference.value == pytest.approx(-0.04380032206, abs=1e-8)
    assert difference.standard_error == pytest.approx(0.02074861838, abs=1e-8)
    assert (difference.low, difference.high) == pytest.approx(
        (-0.08795949857, 0.0003588544442), abs=1e-7
    )
    assert difference.p_value == pytest.approx(0.05166568582, abs=1e-7)


def van_dyke() -> tuple[np.ndarray, np.ndarray]:
    """RJafroc's copy: ratings (10, 114), modality by modality, and which cases are positive."""
    data = rjafroc_data("dataset02")
    normal, positive = ratings(data, "NL"), ratings(data, "LL")
    n_normal = normal.shape[2] - positive.shape[2]
    joined = np.concatenate([normal[..., :n_normal, 0], positive[..., 0]], axis=2)
    return joined.reshape(10, -1), np.arange(joined.shape[2]) >= n_normal


def test_van_dyke_s_readers_from_their_ratings():
    cells = auc_cells(*van_dyke())
    assert cells.values == pytest.approx(AUCS.ravel(), abs=1e-8)
    ours = components_of(cells.covariance("jackknife"), 2, 5)
    assert vars(ours) == pytest.approx(vars(JACKKNIFE), abs=1e-12)
    assert vars(components_of(cells.covariance("delong"), 2, 5)) == pytest.approx(
        vars(DELONG), abs=1e-6
    )
    for modality, (value, error, df, low, high) in SINGLE.items():
        mean = over_readers(cells[slice(5 * modality, 5 * modality + 5)], "jackknife")
        assert (mean.value, mean.standard_error) == pytest.approx((value, error), abs=1e-8)
        assert mean.df == pytest.approx(df, abs=1e-5)
        assert (mean.low, mean.high) == pytest.approx((low, high), abs=1e-7)


def test_a_model_against_nine_readers_as_rjafroc_has_it():
    """Its datasetCadLroc, the first reader of which is a model: StCadVsRad, 1T-RRRC, Wilcoxon."""
    data = rjafroc_data("datasetCadLroc")
    positive = np.maximum(ratings(data, "LL"), ratings(data, "LL_IL"))[0, ..., 0]
    normal = ratings(data, "NL")[0, :, : 200 - positive.shape[1], 0]
    is_positive = np.arange(200) >= normal.shape[1]
    cells = auc_cells(np.concatenate([normal, positive], axis=1), is_positive)
    assert cells.values[0] == pytest.approx(0.8169270833, abs=1e-9)
    difference = over_readers(cells[slice(1, None)] - cells[slice(0, 1)], "jackknife")
    assert difference.value == pytest.approx(0.0317361111, abs=1e-9)
    assert (difference.low, difference.high) == pytest.approx(
        (-0.0309987688, 0.094470991), abs=1e-9
    )
    assert difference.df == pytest.approx(877.8863783331, abs=1e-4)
    assert difference.p_value == pytest.approx(0.3210474343, abs=1e-9)


@pytest.mark.parametrize("figure", ["auc", "sensitivity", "mixed"])
def test_covariances_are_those_of_leaving_cases_out(figure):
    scores, is_positive = drawn(1, 4)

    def values(kept: np.ndarray) -> np.ndarray:
        own, truth = scores[:, kept], is_positive[kept]
        if figure == "auc":
            return np.array([roc_auc_score(truth, row) for row in own])
        found, called = (own >= 1)[:, truth].mean(axis=1), (own >= 1)[:, ~truth].mean(axis=1)
        return found if figure == "sensitivity" else 0.1 * found + 0.9 * called

    if figure == "auc":
        cells = auc_cells(scores, is_positive)
    else:
        cells = share_cells(
            scores >= 1, is_positive, *((1, 0) if figure == "sensitivity" else (0.1, 0.9))
        )
    everybody = np.arange(30)
    assert cells.values == pytest.approx(values(everybody), abs=1e-12)
    left_out = np.array([values(np.delete(everybody, case)) for case in everybody])
    deviations = left_out - left_out.mean(axis=0)
    assert cells.covariance("jackknife") == pytest.approx(
        29 / 30 * deviations.T @ deviations, abs=1e-12
    )


def test_the_covariance_of_delong_is_that_of_his_test():
    scores, is_positive = drawn(2, 2)
    cells = auc_cells(scores, is_positive)
    difference = of_one(cells[slice(0, 1)] - cells[slice(1, 2)], "delong")
    test = paired_delong(scores[0], scores[1], is_positive, fewest_cases=2)
    assert difference.value == pytest.approx(test.difference, abs=1e-12)
    assert difference.standard_error == pytest.approx(test.standard_error, abs=1e-12)
    assert difference.p_value == pytest.approx(test.p_value, abs=1e-12)


def test_components_and_mean_squares_by_their_definitions():
    scores, is_positive = drawn(3, 12)
    cells = auc_cells(scores, is_positive)
    covariance = cells.covariance("delong")
    kinds: dict[tuple[bool, bool], list[float]] = {}
    places = list(itertools.product(range(3), range(4)))
    for (a, one), (b, other) in itertools.product(enumerate(places), repeat=2):
        key = (one[0] == other[0], one[1] == other[1])
        kinds.setdefault(key, []).append(covariance[a, b])
    ours = components_of(covariance, 3, 4)
    expected = [np.mean(kinds[key]) for key in
                ((True, True), (False, True), (True, False), (False, False))]  # fmt: skip
    assert [*vars(ours).values()] == pytest.approx(expected, abs=1e-15)
    table = cells.values.reshape(3, 4)
    between = sum(4 * (row.mean() - table.mean()) ** 2 for row in table) / 2
    rest = sum(
        (table[i, j] - table[i].mean() - table[:, j].mean() + table.mean()) ** 2 for i, j in places
    ) / 6  # fmt: skip
    within = rest + 4 * max(ours.same_modality - ours.neither, 0)
    result = compare_modalities(table, ours)
    assert result.f_value == pytest.approx(between / within, abs=1e-12)
    assert result.df_within == pytest.approx(within**2 / (rest**2 / 6), abs=1e-9)
    assert set(result.differences) == {(0, 1), (0, 2), (1, 2)}


def test_what_has_no_interval_says_so():
    scores, is_positive = drawn(4, 3)
    assert "single" in str(over_readers(auc_cells(scores[:1], is_positive), "delong").reason)
    perfect = share_cells(np.tile(is_positive, (3, 1)), is_positive, 1, 0)
    assert "no variance" in str(over_readers(perfect, "jackknife").reason)
    same = auc_cells(np.tile(scores[:1], (3, 1)), is_positive)
    # Readers who do not differ: the interval is that of one of them.
    mean, alone = over_readers(same, "jackknife"), of_one(same[slice(0, 1)], "jackknife")
    assert mean.df == math.inf
    assert (mean.low, mean.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
