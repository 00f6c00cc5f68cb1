"""The control of the ladder of graded normal images weighs as much as what it is compared with."""

from __future__ import annotations

from collections import Counter

import pytest

from simfrcnn.labels import is_benign
from simfrcnn.ladder.plan import plan_runs, read_ladder
from simfrcnn.phantom.annotations import annotation_file
from simfrcnn.phantom.exams import draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.records import Pathology, Supervision
from support.commands import ONE_ENGINE
from support.evaluation_examples import image
from support.examples import CONFIGS, engine_named


@pytest.fixture
def engine():
    return engine_named(ONE_ENGINE)


def normal_training_images():
    """Of the study's training set, without its pictures: how many show what."""
    preset = PRESETS["study"]
    stated = annotation_file(draw_exams(preset, 0), preset, 0, split="train")["images"]
    return Counter(
        Pathology(one["pathology"])
        for one in stated
        if one["supervision"] == Supervision.NORMAL.value
    )


def test_the_heavier_control_weighs_as_much_as_graded_images_do_on_average(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "second_look_parts.yaml")
    assert ("tl_top_graded", "tl_top_heavier") in ladder.comparisons
    (tl_top,) = (rung for rung in ladder.rungs if rung.name == "tl_top")
    assert tl_top.detector_of == "second_look_tl"
    runs = {run.rung.name: run.cfg for run in plan_runs(ladder, engine, tmp_path)}
    graded, heavier, plain = (
        runs[name].MODEL.SIMFRCNN for name in ("tl_top_graded", "tl_top_heavier", "second_look_tl")
    )
    assert runs["tl_top_graded"].DATASETS.TRAIN == ("phantom_study/train",)
    shown = normal_training_images()
    assert shown == {Pathology.BENIGN: 337, Pathology.NORMAL: 1263}
    assert is_benign(image(1, "p", pathology=Pathology.BENIGN))
    mean = (shown[Pathology.BENIGN] * graded.BENIGN_WEIGHT + shown[Pathology.NORMAL]) / 1600
    assert abs(heavier.TOP_LIKELIHOOD.WEIGHT - mean * plain.TOP_LIKELIHOOD.WEIGHT) < 0.005
    assert (heavier.BENIGN_WEIGHT, plain.BENIGN_WEIGHT, plain.TOP_LIKELIHOOD.WEIGHT) == (1, 1, 1)
