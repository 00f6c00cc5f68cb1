"""Which exams the report shows, and where their boxes lie."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simfrcnn.evaluation.reporting.gallery import (
    MAX_BOXES,
    Gallery,
    choose_exams,
    gallery_data,
    map_sources,
)
from simfrcnn.evaluation.truth import views_of
from simfrcnn.images.hanging import HungPicture
from simfrcnn.outlines import rle_of_box
from simfrcnn.records import Laterality, Pathology, Supervision
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

SETTINGS = EvaluationSettings()
BOX = (10, 10, 30, 30)
AWAY = (60, 60, 80, 80)


def gallery(records: list, *detections, n: int = 12, threshold: float = 0.5, **settings) -> Gallery:
    rules = EvaluationSettings(**settings)
    views, _ = views_of(records, detection_file(*detections).images, rules)
    return choose_exams(views, rules, score_threshold=threshold, n_per_group=n)


def of_group(chosen: Gallery, group: str) -> list[str]:
    return [exam.patient_id for exam in chosen.exams if group in exam.groups]


def test_the_worst_false_positives_are_those_with_the_highest_scores() -> None:
    records = [
        image(1, "A"),
        image(2, "B"),
        image(3, "C", finding(BOX)),
        image(4, "D", supervision=Supervision.UNLABELLED),
        image(5, "E"),
    ]
    chosen = gallery(
        records,
        found(1, (BOX, 0.2)),
        found(2, (BOX, 0.7)),
        found(3, (BOX, 0.95), (AWAY, 0.6)),  # the hit is no false positive
        found(4, (BOX, 0.99)),  # of unknown truth: nobody knows
        found(5),
        n=2,
    )
    assert of_group(chosen, "false_positive") == ["B", "C"]
    assert chosen.n_exams == 5


def test_missed_lesions_never_hit_come_first_then_the_lowest_scores_then_the_largest() -> None:
    records = [
        image(1, "A", finding((0, 0, 40, 40))),
        image(2, "B", finding(BOX)),
        image(3, "C", finding(BOX)),
        image(4, "D", finding((0, 0, 10, 10))),
        image(5, "E", finding(BOX)),
    ]
    chosen = gallery(
        records,
        found(1, (AWAY, 0.9)),
        found(2, (BOX, 0.3)),
        found(3, (BOX, 0.1)),
        found(4),
        found(5, (BOX, 0.5)),  # at the threshold is found
    )
    assert of_group(chosen, "missed") == ["A", "D", "C", "B"]
    assert of_group(chosen, "hit") == ["E"]


def test_a_lesion_that_is_hit_in_one_view_is_not_missed() -> None:
    records = [
        image(1, "A", finding(BOX, 1, lesion_id="one")),
        image(2, "A", finding(BOX, 2, lesion_id="one")),
        image(3, "B", finding(BOX, 3, lesion_id="one")),
        image(4, "B", finding(BOX, 4, lesion_id="two")),
    ]
    chosen = gallery(records, found(1, (BOX, 0.9)), found(2), found(3, (BOX, 0.9)), found(4))
    assert of_group(chosen, "hit") == ["A"]
    assert of_group(chosen, "missed") == ["B"]


def test_a_positive_exam_without_boxes_is_missed_by_its_own_score() -> None:
    records = [
        image(i, p, supervision=Supervision.IMAGE_LABEL, pathology=Pathology.MALIGNANT)
        for i, p in ((1, "A"), (2, "B"))
    ]
    chosen = gallery(records, found(1, (BOX, 0.4)), found(2, (BOX, 0.6)))
    assert of_group(chosen, "missed") == ["A"]
    assert of_group(chosen, "hit") == []  # whether the box was right, nobody knows


def test_the_sample_is_drawn_by_the_seed_and_says_so() -> None:
    records = [image(i, f"P{i:02d}", finding(BOX)) for i in range(1, 31)]
    detections = [found(i, (BOX, 0.9)) for i in range(1, 31)]
    first, again, other = (
        gallery(records, *detections, n=4, bootstrap_seed=seed) for seed in (1, 1, 2)
    )
    assert of_group(first, "hit") == of_group(again, "hit") != of_group(other, "hit")
    assert len(first.exams) == 4
    assert "4 of 30 exams are shown, at most 4 for each reason" in first.rules[0]
    assert any("(seed 1)" in rule for rule in first.rules)


def test_an_exam_is_shown_once_with_all_reasons() -> None:
    records = [image(1, "A", finding(BOX))]
    chosen = gallery(records, found(1, (AWAY, 0.9)))
    assert [exam.groups for exam in chosen.exams] == [("false_positive", "missed")]


def test_no_exams() -> None:
    assert gallery([image(1, "A")], found(1)).exams == ()
    records = [image(1, "A", finding(BOX))]
    assert gallery(records, found(1, (AWAY, 0.9)), n=0).exams == ()


def test_repeats_are_false_only_where_they_count_so() -> None:
    records = [image(1, "A", finding(BOX))]
    twice = found(1, (BOX, 0.9), ((11, 11, 31, 31), 0.8))
    assert of_group(gallery(records, twice), "false_positive") == []
    counted = gallery(records, twice, count_repeats_as_false_positives=True)
    assert of_group(counted, "false_positive") == ["A"]


def test_boxes_outcomes_and_scores_of_a_view() -> None:
    record = image(
        7, "A", finding(BOX, 1), finding((40, 0, 50, 10), 2, category="benign"),
        laterality=Laterality.RIGHT,
    )  # fmt: skip
    detections = found(7, (BOX, 0.9), (AWAY, 0.4), ((10, 10, 31, 31), 0.3))
    chosen = gallery([record], detections)
    pictures = {7: HungPicture(b"", "image/jpeg", is_mirrored=False)}
    ((view,),) = [exam["views"] for exam in gallery_data(chosen, pictures, SETTINGS)]
    assert (view["side"], view["view"], view["truth"], view["score"]) == (
        "R",
        "CC",
        "positive",
        0.9,
    )
    assert view["marked"] == [
        {"box": [10, 10, 30, 30], "name": "malignant", "target": True, "hit": 0.9},
        {"box": [40, 0, 50, 10], "name": "benign", "target": False, "hit": None},
    ]
    assert view["found"] == [
        [10, 10, 30, 30, 0.9, "hit"],
        [60, 60, 80, 80, 0.4, "false"],
        [10, 10, 31, 31, 0.3, "other"],
    ]
    mirrored = {7: HungPicture(b"", "image/jpeg", is_mirrored=True)}
    ((view,),) = [exam["views"] for exam in gallery_data(chosen, mirrored, SETTINGS)]
    assert view["mirrored"]
    assert view["marked"][0]["box"] == [70, 10, 90, 30]  # 100 pixels wide
    assert view["found"][1][:4] == [20, 60, 40, 80]
    assert not view["upside_down"]
    turned = {7: HungPicture(b"", "image/jpeg", is_mirrored=False, is_upside_down=True)}
    ((view,),) = [exam["views"] for exam in gallery_data(chosen, turned, SETTINGS)]
    assert view["upside_down"]
    assert view["marked"][0]["box"] == [10, 70, 30, 90]  # 100 pixels high
    assert view["found"][1][:4] == [60, 20, 80, 40]


def test_what_a_second_look_saw_and_outlines_hang_as_the_picture_does() -> None:
    ring = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))
    record = image(7, "A", dataclasses.replace(finding(BOX, 1), outline=(ring,)))
    nothing = np.full(4, np.nan)
    detections = dataclasses.replace(
        found(7, (AWAY, 0.4), (BOX, 0.9), (BOX, 0.1)),
        looks=np.array([[0.5, 0.6], [0.8, 0.7], [0.3, np.nan]]),
        squares=np.array([[55.0, 55.0, 105.0, 105.0], [5.0, 5.0, 35.0, 35.0], nothing]),
        masks=(None, rle_of_box((10, 10, 30, 20), 100, 100), None),
    )
    chosen = gallery([record], detections)
    ((view,),) = [exam["views"] for exam in gallery_data(chosen, {}, SETTINGS)]
    assert view["heat"] == []
    assert view["marked"][0]["outline"] == [[10, 10, 30, 10, 30, 30, 10, 30]]
    upper = [[10, 10, 30, 10, 30, 20, 10, 20]]
    assert [row[6:] for row in view["found"]] == [
        [{"looks": [0.8, 0.7], "square": [5, 5, 35, 35], "outline": upper}],
        [{"looks": [0.5, 0.6], "square": [55, 55, 105, 105]}],
        [],
    ]  # fmt: skip
    turned = {7: HungPicture(b"", "image/jpeg", is_mirrored=True, is_upside_down=True)}
    maps = {7: {"malignant": b"png"}}
    ((view,),) = [exam["views"] for exam in gallery_data(chosen, turned, SETTINGS, maps)]
    assert view["heat"] == ["malignant"]
    assert view["marked"][0]["outline"] == [[90, 90, 70, 90, 70, 70, 90, 70]]
    (more,) = view["found"][0][6:]
    assert more["square"] == [65, 65, 95, 95]
    assert more["outline"] == [[90, 90, 70, 90, 70, 80, 90, 80]]
    assert view["found"][1][6]["square"] == [-5, -5, 45, 45]  # it reaches beyond the image
    assert map_sources(maps) == {"7 malignant": "data:image/png;base64,cG5n"}


def test_a_crowded_image_shows_its_highest_boxes_and_counts_the_rest() -> None:
    scores = [i / 1000 for i in range(1, MAX_BOXES + 51)]
    chosen = gallery([image(1, "A")], found(1, *((BOX, score) for score in scores)))
    ((view,),) = [exam["views"] for exam in gallery_data(chosen, {}, SETTINGS)]
    assert len(view["found"]) == MAX_BOXES
    assert view["left_out"] == 50
    assert view["found"][-1][4] == pytest.approx(0.051)
