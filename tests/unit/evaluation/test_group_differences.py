"""By how much do groups differ, and by more than chance? Against SciPy, and slow twins by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import beta, chi2, chi2_contingency

from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.bootstrap import limits_of_difference, limits_of_sum
from simfrcnn.evaluation.case import KnownUnits
from simfrcnn.evaluation.delong import auc_components
from simfrcnn.evaluation.group_differences import correlation_of, less, trials_of
from simfrcnn.evaluation.interaction import (
    Trials,
    auc_influence,
    share_influence,
    share_interaction,
)
from simfrcnn.evaluation.reporting.report_tables import subgroup_blocks
from simfrcnn.evaluation.results import Figure, OperatingPoint
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

BOX = (10, 10, 40, 40)
POINT = OperatingPoint("case", "youden", 0.45, chosen_on="val")


def trials(n_right: int, n_wrong: int, first: int = 0) -> Trials:
    """Of as many patients as units."""
    n = n_right + n_wrong
    return Trials(np.arange(n) + first, np.arange(n) < n_right)


@pytest.mark.parametrize(
    "counts",
    [((40, 10), (30, 20)), ((25, 12), (90, 10), (33, 9)), ((20, 20), (22, 18), (15, 25), (30, 30))],
)
def test_groups_of_other_patients_are_compared_by_pearsons_chi_square(counts) -> None:
    groups, first = {}, 0
    for number, (n_right, n_wrong) in enumerate(counts):
        groups[str(number)] = trials(n_right, n_wrong, first)
        first += n_right + n_wrong
    test = share_interaction("density", "case/sensitivity", groups, kind="positive")
    expected = chi2_contingency(np.array(counts), correction=False)
    assert test.statistic == pytest.approx(expected.statistic)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert (test.degrees, test.left_out) == (len(counts) - 1, ())


def test_two_groups_of_the_same_patients_are_compared_by_mcnemars_test() -> None:
    """Of 120 patients 18 are found in one view alone and 7 in the other: (18 - 7)^2 / 25."""
    n = 120
    one = Trials(np.arange(n), np.arange(n) < 90)
    other = Trials(np.arange(n), (np.arange(n) < 72) | (np.arange(n) >= n - 7))
    assert (int((one.is_right & ~other.is_right).sum()), int(other.is_right.sum())) == (18, 79)
    test = share_interaction("view", "case/sensitivity", {"CC": one, "MLO": other}, kind="positive")
    assert test.statistic == pytest.approx((n - 1) / n * 11**2 / 25)
    few = Trials(other.patients, one.is_right ^ (np.arange(n) < 9))
    test = share_interaction("view", "case/sensitivity", {"CC": one, "MLO": few}, kind="positive")
    assert math.isnan(test.p_value)  # nine differ
    assert test.reason == "no test: fewer than 10 patients make out the difference of two groups"
    same = share_interaction("view", "case/sensitivity", {"CC": one, "MLO": one}, kind="positive")
    assert "fewer than 10 patients" in str(same.reason)


def slow_score_test(groups: list[Trials]) -> float:
    """Patient by patient, in loops, with the contrasts to the last group."""
    right = [bool(r) for group in groups for r in group.is_right]
    pooled = sum(right) / len(right)
    patients = sorted({int(p) for group in groups for p in group.patients})
    deviations, covariance = [], np.zeros((len(groups), len(groups)))
    sums = np.zeros((len(groups), len(patients)))
    for g, group in enumerate(groups):
        deviations.append(float(np.mean(group.is_right)) - pooled)
        n_owners = len({int(p) for p in group.patients})
        for place, patient in enumerate(patients):
            own = [r for p, r in zip(group.patients, group.is_right, strict=True) if p == patient]
            total = sum(float(r) - pooled for r in own) / len(group.is_right)
            sums[g, place] = total * math.sqrt(n_owners / (n_owners - 1))
    for g in range(len(groups)):
        for h in range(len(groups)):
            covariance[g, h] = sum(a * b for a, b in zip(sums[g], sums[h], strict=True))
    last = len(groups) - 1
    contrasts = np.hstack([np.eye(last), -np.ones((last, 1))])
    apart = contrasts @ np.array(deviations)
    return float(apart @ np.linalg.inv(contrasts @ covariance @ contrasts.T) @ apart)


def test_patients_with_several_units_in_one_or_more_groups() -> None:
    random = np.random.default_rng(4)
    hard = random.normal(size=90)
    groups = {}
    for name, n_units in (("a", 120), ("b", 80), ("c", 100)):
        patients = random.integers(0, 90, n_units)
        groups[name] = Trials(patients, hard[patients] + random.normal(size=n_units) > -0.6)
    test = share_interaction("vendor", "case/sensitivity", groups, kind="positive")
    assert test.statistic == pytest.approx(slow_score_test(list(groups.values())))
    assert test.p_value == pytest.approx(chi2.sf(test.statistic, 2))


def test_small_groups_and_rare_errors_take_no_part() -> None:
    """By the bound of 20 patients, and by the calls to be expected if all groups are alike."""
    groups = {"a": trials(70, 30), "b": trials(60, 40, 100), "c": trials(10, 9, 200)}
    test = share_interaction("k", "case/sensitivity", groups, kind="positive")
    assert (test.groups, test.left_out) == (("a", "b"), ("c",))
    # One in twenty is wrong, so that a group of 24 leads to expect 1.2 wrong calls.
    rare = {"a": trials(190, 10), "b": trials(186, 14, 200), "c": trials(21, 3, 400)}
    test = share_interaction("k", "case/specificity", rare, kind="normal")
    assert (test.groups, test.left_out) == (("a", "b"), ("c",))
    assert test.p_value == pytest.approx(
        chi2_contingency([[190, 10], [186, 14]], correction=False).pvalue
    )
    for all_right in (trials(40, 0, 50), trials(0, 40, 50)):
        none = share_interaction("k", "f", {"a": trials(40, 0), "b": all_right}, kind="normal")
        if all_right.is_right.all():
            assert math.isnan(none.p_value)
            assert none.groups == ()
            assert "two groups with 20 patients with a normal unit" in str(none.reason)
            assert none.to_json()["p_value"] is None
        else:
            assert none.p_value < 1e-6
    nothing = Trials(np.zeros(0, np.intp), np.zeros(0, np.bool_))
    empty = share_interaction("k", "f", {"a": nothing, "b": nothing}, kind="positive")
    assert "there are 0" in str(empty.reason)


def test_the_size_of_the_test_is_what_it_says() -> None:
    """Patients of two units each, whose luck they share, and groups of other patients."""
    random = np.random.default_rng(7)
    n_wrong = 0
    for _ in range(500):
        groups = {}
        for place, name in enumerate("abc"):
            hard = np.repeat(random.normal(size=50), 2)
            right = np.sqrt(0.5) * (hard + random.normal(size=100)) > -0.8
            groups[name] = Trials(np.repeat(np.arange(50) + 50 * place, 2), right)
        n_wrong += share_interaction("k", "f", groups, kind="positive").p_value < 0.05
    assert 0.03 <= n_wrong / 500 <= 0.07


def test_limits_of_independent_shares_are_those_of_their_sum() -> None:
    first, second = (
        Figure(x / n, float(beta.ppf(0.025, x, n - x + 1)), float(beta.ppf(0.975, x + 1, n - x)))
        for x, n in ((31, 40), (52, 60))
    )
    limits = limits_of_difference(first, second)
    expected = limits_of_sum([(1.0, 31, 40), (-1.0, 52, 60)])
    assert (limits.low, limits.high) == pytest.approx((expected.low, expected.high))
    assert limits.method == "mover"


def test_correlated_figures_differ_as_their_errors_do() -> None:
    """Symmetric intervals: half^2 = a^2 + b^2 - 2 r a b; of one and the same figure nothing."""
    first, second = Figure(0.8, 0.7, 0.9), Figure(0.75, 0.7, 0.8)
    limits = limits_of_difference(first, second, 0.6)
    half = math.sqrt(0.1**2 + 0.05**2 - 2 * 0.6 * 0.1 * 0.05)
    assert (limits.low, limits.high) == pytest.approx((0.05 - half, 0.05 + half))
    same = limits_of_difference(first, first, 1.0)
    assert (same.low, same.high) == pytest.approx((0, 0), abs=1e-9)


def test_a_difference_without_an_interval_has_the_reason() -> None:
    one = Figure(0.8, 0.7, 0.9, n={"right": 8, "positive": 10})
    no_interval = Figure(0.5, n={"right": 1, "positive": 2}, reason="no interval: too small")
    difference = less(one, no_interval)
    assert difference.value == pytest.approx(0.3)
    assert math.isnan(difference.low)
    assert difference.reason == "no interval: too small"
    assert difference.n == {"positive": 10, "positive_of_reference": 2}
    undefined = less(Figure(math.nan, reason="needs a positive case"), one)
    assert (str(undefined), undefined.reason) == ("undefined", "needs a positive case")


def two_view_set(n_patients: int = 90):
    """Patients of two vendors and two densities; two views each, of which MLO is the harder."""
    random = np.random.default_rng(11)
    records, images = [], []
    for patient in range(n_patients):
        is_positive, hard = patient % 2 == 0, random.normal()
        for view in ("CC", "MLO"):
            number = len(records) + 1
            boxes = [finding(BOX, number)] * is_positive
            record = image(number, f"p{patient:03}", *boxes)
            attributes = {"vendor": "A" if patient % 3 else "B", "view": view}
            if patient % 9 == 0:
                del attributes["vendor"]
            records.append(dataclasses.replace(record, attributes=attributes))
            skill = 1.4 * is_positive - 0.5 * (view == "MLO" and is_positive)
            score = 1 / (1 + math.exp(0.6 - skill - hard - 0.5 * random.normal()))
            images.append(found(number, (BOX, score)))
    return records, detection_file(*images)


@pytest.fixture(scope="module")
def judged():
    records, detections = two_view_set()
    settings = EvaluationSettings(bootstrap_replicates=40, subgroups=("vendor", "view"))
    return evaluate(records, detections, settings, operating_points=(POINT,))


def test_every_group_is_set_against_the_largest(judged) -> None:
    shown = [(each.key, each.group, each.reference) for each in judged.group_differences]
    assert set(shown) == {("vendor", "B", "A"), ("view", "MLO", "CC")}  # "not known" is no group
    figures = ["case/auc", "image/auc", "case/youden/sensitivity", "case/youden/specificity"]
    assert [e.figure for e in judged.group_differences] == 2 * figures
    groups = {(group.key, group.value): group for group in judged.subgroups}
    for each in judged.group_differences:
        own, largest = (groups[each.key, name] for name in (each.group, each.reference))
        value = own.figures[each.figure].value - largest.figures[each.figure].value
        assert each.difference.value == pytest.approx(value)
        assert each.difference.low < value < each.difference.high
        if each.key == "vendor":  # other patients: the distances add in squares
            limits = limits_of_difference(own.figures[each.figure], largest.figures[each.figure])
            assert each.difference.low == pytest.approx(limits.low)


def test_the_correlation_of_two_views_is_that_of_a_jackknife(judged) -> None:
    """Leaving each patient out of both views at once, by the AUC and by sensitivity."""
    records, detections = two_view_set()
    views = {"CC": [], "MLO": []}
    for record in records:
        score = float(detections.images[record.image_id].scores[0])
        patient = int(record.patient_id[1:])
        views[record.attributes["view"]].append((patient, score, bool(record.findings)))

    def auc(view, left_out):
        rows = [row for row in views[view] if row[0] != left_out]
        pairs = [p > n for _, p, is_p in rows if is_p for _, n, other in rows if not other]
        return float(np.mean(pairs))

    def sensitivity(view, left_out):
        rows = [row for row in views[view] if row[0] != left_out and row[2]]
        return float(np.mean([score >= POINT.score_threshold for _, score, _ in rows]))

    groups = {(g.key, g.value): g.figures for g in judged.subgroups}
    by_figure = {e.figure: e.difference for e in judged.group_differences if e.key == "view"}
    for key, figure in (("case/auc", auc), ("case/youden/sensitivity", sensitivity)):
        moved = [
            [figure(view, patient) - figure(view, None) for patient in range(90)]
            for view in ("MLO", "CC")
        ]
        slow = float(np.corrcoef(*moved)[0, 1])
        limits = limits_of_difference(groups["view", "MLO"][key], groups["view", "CC"][key], slow)
        ours = by_figure[key]
        assert slow > 0.3
        assert (ours.low, ours.high) == pytest.approx((limits.low, limits.high), abs=2e-3)
        independent = limits_of_difference(groups["view", "MLO"][key], groups["view", "CC"][key])
        assert ours.high - ours.low < 0.9 * (independent.high - independent.low)


def test_contributions_sum_to_the_variances_of_the_figures() -> None:
    random = np.random.default_rng(3)
    share, influence = share_influence(trials(30, 20), 50)
    assert influence @ influence == pytest.approx(share * (1 - share) / 49)
    assert correlation_of(influence, influence) == pytest.approx(1)
    assert correlation_of(influence, np.zeros(50)) == 0
    is_positive = np.arange(80) < 30
    units = KnownUnits(np.arange(80), random.normal(size=80) + is_positive, is_positive)
    auc, influence = auc_influence(units, 80)
    below, above = auc_components(units.scores, is_positive)
    assert auc == below.mean()
    assert influence @ influence == pytest.approx(below.var(ddof=1) / 30 + above.var(ddof=1) / 50)


def test_sensitivity_counts_positives_and_specificity_normals() -> None:
    units = KnownUnits(np.arange(4), np.array([0.9, 0.1, 0.9, 0.1]), np.array([1, 1, 0, 0], bool))
    assert trials_of(units, "sensitivity", POINT).is_right.tolist() == [True, False]
    assert trials_of(units, "specificity", POINT).is_right.tolist() == [False, True]
    assert trials_of(units, "specificity", POINT).patients.tolist() == [2, 3]


def test_the_report_shows_the_differences_and_all_four_tests(judged) -> None:
    tables = {block.caption: block for block in subgroup_blocks(judged) if hasattr(block, "rows")}
    table = tables["By vendor: each group less A, the largest"]
    assert table.columns[3] == "sensitivity by case (Youden)"
    (row,) = table.rows
    assert row[0] == "B"
    difference = judged.group_differences[2].difference
    assert row[3].startswith(f"{difference.value:+.3f} (")
    tests = tables["Interaction: are all groups alike?"].rows
    assert [test[1] for test in tests[:4]] == [
        "AUC by case",
        "AUC by image",
        "sensitivity by case (Youden)",
        "specificity by case (Youden)",
    ]
    rules = next(b for b in subgroup_blocks(judged) if isinstance(b, list) and "MOVER" in str(b))
    assert "Pearson's chi-square" in str(rules)


def test_without_resampling_there_are_differences_without_intervals() -> None:
    records, detections = two_view_set(40)
    settings = EvaluationSettings(bootstrap_replicates=0, subgroups=("vendor",))
    report = evaluate(records, detections, settings)
    assert [each.figure for each in report.group_differences][2:] == [
        "case/sensitivity",
        "case/specificity",
    ]
    for each in report.group_differences:
        assert math.isnan(each.difference.low)
        assert "none was asked for" in str(each.difference.reason)
