"""AFROC, wAFROC, LROC and the AUC of the highest mark, against figures that RJafroc publishes.

The figures are those of RJafroc's own tests (``tests/testthat/goodValues361``). Everywhere they
are asserted on counts: how many lesions, and how many cases by their highest mark, have each
rating. The figures depend on nothing else. The data sets themselves need a checkout: see
``support.rjafroc``.

RJafroc's AFROC1 and wAFROC1 compare lesions with the false positives of all cases; AFROC and
wAFROC, as ours, with those of normal ones. They are the same figures of a set in which the false
positives of each case are a normal image of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from simfrcnn.evaluation import evaluate
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image
from support.rjafroc import ratings, rjafroc_data

NEVER = float("-inf")
NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
FAR = (50, 50, 60, 60)
START = "localised/centre/image"

# RJafroc: its test file goodValues361/UtilOutputReport/dataset04-OR-wAFROC.rds.
WAFROC_OF_DATASET04 = (
    (0.77926667, 0.72489167, 0.703625, 0.80509167),
    (0.787, 0.7269, 0.72261667, 0.80378333),
    (0.72969167, 0.71575833, 0.67230833, 0.77265833),
    (0.81013333, 0.74311667, 0.69435833, 0.82940833),
    (0.7488, 0.682275, 0.655175, 0.77125),
)


# goodValues361/FOM/UtilFigureOfMeritFROC-AFROC1.rds, -wAFROC1.rds and -HrAuc.rds, of dataset01.
AFROC1 = (
    (0.80733997, 0.86722617, 0.87123755, 0.84421053, 0.85658606),
    (0.72514936, 0.7771266, 0.8086771, 0.79385491, 0.74739687),
)
WAFROC1 = (
    (0.807987, 0.869663, 0.874780, 0.851761, 0.856347),
    (0.727710, 0.778151, 0.822563, 0.796842, 0.749696),
)
HR_AUC = (
    (0.795997, 0.865227, 0.841175, 0.831110, 0.846559),
    (0.668949, 0.721149, 0.784118, 0.797928, 0.706110),
)
# UtilFigureOfMeritLROC-Wilcoxon.rds, -ALROC.rds and -PCL.rds, of datasetCadLroc: the area and the
# part of correct localisations at a false positive fraction of .2, 24 of 120 normal cases.
WILCOXON = (
    *(0.81692708, 0.8415625, 0.84119792, 0.89973958, 0.838125),
    *(0.85635417, 0.87869792, 0.85838542, 0.79703125, 0.826875),
)
ALROC = {2: 0.10890625, 4: 0.11890625, 7: 0.1221875, 8: 0.10604167, 9: 0.10541667}
PCL = {2: 0.65, 4: 0.725, 7: 0.7375, 8: 0.675, 9: 0.675}
# Of the other readers RJafroc interpolates between ratings that the 24th and the 25th case share.
N_NORMAL, N_POSITIVE, N_HIGHEST = 120, 80, 24


def marked_set(data, modality: int, reader: int, *, splits: bool = False):
    """A reader's marks as detections: a case is an image, a lesion a box, a mark its copy.

    ``splits``: the false positives of a positive case are a normal image of their own.
    """
    nl, ll = ratings(data, "NL")[modality, reader], ratings(data, "LL")[modality, reader]
    n_lesions = np.asarray(data["lesions"]["perCase"]).astype(int)
    n_normal = len(nl) - len(ll)
    levels = np.unique(np.concatenate([nl.ravel(), ll.ravel()]))
    score_of = {level: (rank + 1) / (len(levels) + 1) for rank, level in enumerate(levels)}
    records, images = [], []
    for case, marks in enumerate(nl):
        n = n_lesions[case - n_normal] if case >= n_normal else 0
        boxes = [(10 * i, 0, 10 * i + 8, 8) for i in range(n)]
        records.append(
            image(case + 1, f"{case}", *(finding(b, 10 * case + i) for i, b in enumerate(boxes)))
        )
        rated = [(FAR, mark) for mark in marks]
        if n and splits:
            records.append(image(1001 + case, f"{case}-false"))
            images.append(found(1001 + case, *_scored(rated, score_of)))
            rated = []
        if n:
            rated += list(zip(boxes, ll[case - n_normal], strict=False))
        images.append(found(case + 1, *_scored(rated, score_of)))
    return records, detection_file(*images)


def _scored(rated, score_of):
    return [(box, score_of[mark]) for box, mark in rated if mark > NEVER]


@pytest.mark.parametrize("modality", range(5))
def test_wafroc_of_rjafroc_s_dataset04(modality):
    data = rjafroc_data("dataset04")
    for reader, published in enumerate(WAFROC_OF_DATASET04[modality]):
        records, detections = marked_set(data, modality, reader)
        figures = evaluate(records, detections, NO_INTERVALS).figures
        for level in ("image", "case"):
            value = figures[f"localised/centre/{level}/wafroc"].value
            assert value == pytest.approx(published, abs=1e-6)


@pytest.mark.parametrize("modality", range(2))
def test_afroc_wafroc_and_auc_of_rjafroc_s_dataset01(modality):
    data = rjafroc_data("dataset01")
    for reader in range(5):
        split = evaluate(*marked_set(data, modality, reader, splits=True), NO_INTERVALS).figures
        assert split[f"{START}/afroc"].value == pytest.approx(AFROC1[modality][reader], abs=1e-6)
        assert split[f"{START}/wafroc"].value == pytest.approx(WAFROC1[modality][reader], abs=1e-6)
        whole = evaluate(*marked_set(data, modality, reader), NO_INTERVALS).figures
        assert whole["image/auc"].value == pytest.approx(HR_AUC[modality][reader], abs=1e-6)


def lroc_set(normal: Sequence[float], right: Sequence[float], wrong: Sequence[float]):
    """Ratings of normal cases, and of positive ones in the right or a wrong place; 0 is none."""
    box = (0, 0, 20, 20)
    records = [image(n, f"{n}") for n in range(1, len(normal) + 1)]
    images = [found(n, *_marks((FAR, rating))) for n, rating in enumerate(normal, start=1)]
    for n, pair in enumerate(zip(right, wrong, strict=True), start=1001):
        records.append(image(n, f"{n}", finding(box, n)))
        images.append(found(n, *_marks((box, pair[0]), (FAR, pair[1]))))
    return records, detection_file(*images)


def _marks(*rated):
    return [(box, rating / 101) for box, rating in rated if rating > 0]


@pytest.mark.parametrize("reader", range(10))
def test_lroc_of_rjafroc_s_cad_and_radiologists(reader):
    """Up to a false positive fraction of .2 they depend on the 24 highest normal cases alone."""
    data = rjafroc_data("datasetCadLroc")
    normal = ratings(data, "NL")[0, reader, :N_NORMAL, 0]
    right, wrong = (ratings(data, kind)[0, reader, :, 0] for kind in ("LL", "LL_IL"))
    whole = evaluate(*lroc_set(normal, right, wrong), NO_INTERVALS).figures
    assert whole["image/auc"].value == pytest.approx(WILCOXON[reader], abs=1e-6)
    if reader in ALROC:
        assert_lroc(reader, np.sort(normal)[-N_HIGHEST:], right, wrong)


def assert_lroc(reader, highest, right, wrong) -> None:
    """At the rating of the lowest of the 24 highest, .2 of the normal cases are recalled."""
    settings = EvaluationSettings(bootstrap_replicates=0, score_threshold=float(min(highest)) / 101)
    figures = evaluate(*lroc_set(highest, right, wrong), settings).figures
    area = figures[f"{START}/lroc"].value * N_HIGHEST / N_NORMAL
    assert area == pytest.approx(ALROC[reader], abs=1e-6)
    found_there = figures["localised/centre/case/sensitivity"].value
    assert found_there == pytest.approx(PCL[reader], abs=1e-6)
    assert figures["case/specificity"].value == 0


# -- everywhere: counts of marks, of one reader each -----------------------------------------------

RATINGS_01 = (NEVER, 3.0, 3.5, 4.0, 4.5, 5.0)
RATINGS_04 = (NEVER, 1.0, 2.0, 3.0, 4.0, 5.0)


def counted_set(
    levels: Sequence[float], normal: Sequence[int], lesions: Mapping[int, Sequence[int]]
):
    """A set with so many images of each highest rating.

    Args:
        levels: The ratings; -inf is no mark.
        normal: How many normal images have each as their highest.
        lesions: By the lesions that an image holds: how many lesions have each rating.
    """
    score_of = {level: (rank + 1) / (len(levels) + 1) for rank, level in enumerate(levels)}
    records, images = [], []
    for rating in _spread(levels, normal):
        records.append(image(len(records) + 1, f"{len(records)}"))
        images.append(found(len(records), *_scored([(FAR, rating)], score_of)))
    for n, counts in lesions.items():
        rated = _spread(levels, counts)
        assert len(rated) % n == 0
        boxes = [(10 * i, 0, 10 * i + 8, 8) for i in range(n)]
        for first in range(0, len(rated), n):
            own = len(records) + 1
            records.append(
                image(own, f"{own}", *(finding(b, 10 * own + i) for i, b in enumerate(boxes)))
            )
            marks = list(zip(boxes, rated[first : first + n], strict=True))
            images.append(found(own, *_scored(marks, score_of)))
    return records, detection_file(*images)


def _spread(levels: Sequence[float], counts: Sequence[int]) -> list[float]:
    return [level for level, n in zip(levels, counts, strict=True) for _ in range(n)]


@pytest.mark.parametrize(
    ("modality", "reader", "false", "lesions"),
    [
        (0, 0, (94, 70, 12, 4, 3, 2), (17, 11, 15, 17, 18, 17)),
        (1, 3, (166, 10, 3, 4, 1, 1), (32, 16, 8, 11, 17, 11)),
    ],
)
def test_afroc_of_two_readers_of_dataset01(modality, reader, false, lesions):
    """95 lesions against the highest false positives of 185 cases."""
    figures = evaluate(*counted_set(RATINGS_01, false, {1: lesions}), NO_INTERVALS).figures
    for level in ("image", "case"):
        value = figures[f"localised/centre/{level}/afroc"].value
        assert value == pytest.approx(AFROC1[modality][reader], abs=1e-6)


@pytest.mark.parametrize(
    ("modality", "reader", "normal", "positive"),
    [
        (0, 0, (32, 46, 10, 3, 3, 2), (10, 14, 14, 17, 17, 17)),
        (1, 3, (81, 6, 3, 4, 1, 1), (25, 17, 8, 11, 17, 11)),
    ],
)
def test_the_auc_of_the_highest_mark_of_two_readers_of_dataset01(
    modality, reader, normal, positive
):
    figures = evaluate(*counted_set(RATINGS_01, normal, {1: positive}), NO_INTERVALS).figures
    for key in ("image/auc", "case/auc"):
        assert figures[key].value == pytest.approx(HR_AUC[modality][reader], abs=1e-6)


@pytest.mark.parametrize(
    ("modality", "reader", "normal", "lesions"),
    [
        (
            *(0, 0, (52, 14, 17, 14, 3, 0)),
            {1: (14, 0, 2, 5, 17, 31), 2: (16, 1, 0, 5, 8, 10), 3: (15, 0, 3, 1, 5, 9)},
        ),
        (
            *(4, 2, (52, 9, 10, 16, 12, 1)),
            {1: (31, 1, 0, 3, 11, 23), 2: (8, 0, 9, 2, 14, 7), 3: (14, 1, 4, 2, 8, 4)},
        ),
    ],
)
def test_wafroc_of_two_readers_of_dataset04(modality, reader, normal, lesions):
    """Each of a case's lesions weighs as one over their number."""
    figures = evaluate(*counted_set(RATINGS_04, normal, lesions), NO_INTERVALS).figures
    for level in ("image", "case"):
        value = figures[f"localised/centre/{level}/wafroc"].value
        assert value == pytest.approx(WAFROC_OF_DATASET04[modality][reader], abs=1e-6)


def test_lroc_of_a_reader_of_the_cad_study():
    """Its 24 highest normal cases, and 54 of 80 cancers rated as high in the right place."""
    levels = (90, 81, 79, 76, 74, 72, 71, 70, 69, 68, 66)
    highest = _spread(levels, (1, 2, 3, 1, 2, 2, 7, 2, 2, 1, 1))
    above = (95, 85, 80, 78, 75, 73, 71.5, 70.5, 69.5, 68.5, 67)
    n_above = (8, 8, 7, 4, 3, 3, 0, 0, 0, 0, 0)
    right = _spread(levels, (0, 4, 3, 3, 3, 2, 4, 1, 1, 0, 0)) + _spread(above, n_above)
    missed = N_POSITIVE - len(right)
    assert missed == 26
    assert_lroc(9, highest, [*right, *[0] * missed], [0] * N_POSITIVE)
