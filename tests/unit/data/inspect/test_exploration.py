"""Findings an image, their sizes and kinds, counted by hand."""

import dataclasses

import cv2
import numpy as np
import pytest

from simfrcnn.data.inspect.overview.exploration import draw_exploration, explore
from simfrcnn.data.inspect.overview.sheets import PictureTask, draw
from simfrcnn.data.inspect.overview.statistics import InputTask, measure_input
from simfrcnn.outlines import rle_of
from simfrcnn.settings import InputSettings
from support.examples import record
from support.outlined import ellipse_in

WHOLE = InputSettings((128, 128), crop_to_breast=False)
BOX, OTHER = (20.0, 20.0, 60.0, 50.0), (80.0, 70.0, 110.0, 100.0)


def outlined(made):
    findings = [dataclasses.replace(f, outline=ellipse_in(f.box)) for f in made.findings]
    return dataclasses.replace(made, findings=tuple(findings))


def test_what_is_in_the_files_is_counted():
    both = outlined(record(1, boxes=[BOX, OTHER]))
    findings = (both.findings[0], dataclasses.replace(both.findings[1], category="benign"))
    both = dataclasses.replace(
        both,
        findings=findings,
        pixel_spacing_mm=(0.5, 0.1),
        attributes={"abnormality": "mass,calc"},
    )
    training = [both, record(2, boxes=[BOX]), record(3)]
    found = explore({"train": training, "val": [training[1]]}, training, {"malignant": (0.1, 0.2)})
    assert found.findings == {
        "train": {"benign": (1, 1), "malignant": (2, 2)},
        "val": {"malignant": (1, 1)},
    }
    assert found.per_image == {1: 1, 2: 1}
    assert found.sides_mm == {"benign": [15.0], "malignant": [15.0]}  # 30 rows of .5 mm
    assert found.n_outlined == 2
    assert found.several_classes == {"benign + malignant": 1}
    assert found.several_kinds == {"calc + mass": 1}
    assert found.in_several_files == 1
    lines = found.lines()
    assert "findings an image: 1 in 1 image, 2 in 1 image" in lines
    assert "share of the breast, malignant: median 15%, 90% from 10.5 to 19.5%" in lines
    assert "1 image with several kinds: calc + mass" in lines
    picture = cv2.imdecode(np.frombuffer(draw_exploration(found), np.uint8), cv2.IMREAD_COLOR)
    assert picture.std() > 10


def test_a_crowd_region_is_no_finding(tmp_path):
    made = outlined(record(1, boxes=[BOX, OTHER], path=tmp_path))
    crowd = dataclasses.replace(made.findings[1], iscrowd=True, category="benign")
    made = dataclasses.replace(
        made, findings=(made.findings[0], crowd), pixel_spacing_mm=(0.5, 0.1)
    )
    found = explore({"train": [made]}, [made], {})
    assert found.findings == {"train": {"malignant": (1, 1)}}
    assert (found.per_image, found.sides_mm) == ({1: 1}, {"malignant": [15.0]})
    assert (found.n_outlined, found.several_classes) == (1, {})
    cv2.imwrite(str(made.path), np.full((128, 128), 90, np.uint8))
    facts = measure_input(InputTask(made, WHOLE, ("malignant",)))
    assert [name for name, _ in facts.shares] == ["malignant"]


def test_shares_are_of_the_breast_and_outlines_are_summed(tmp_path):
    made = outlined(record(1, boxes=[BOX, OTHER], path=tmp_path))
    pixels = np.full((128, 128), 90, np.uint8)
    cv2.imwrite(str(made.path), pixels)
    facts = measure_input(InputTask(made, WHOLE, ("malignant",)))
    areas = [rle_of(f.outline, 128, 128).area for f in made.findings]
    assert facts.shares == tuple(
        ("malignant", pytest.approx(area / 128**2)) for area in areas
    )  # a picture of one value is all breast
    drawn = draw(PictureTask(made, WHOLE, ("malignant",)))
    plain = draw(PictureTask(record(1, boxes=[BOX], path=tmp_path), WHOLE, ("malignant",)))
    assert plain.summed is None
    tile = drawn.summed[:256]  # twice as large, over its caption
    assert (tile.std(axis=2) > 5).sum() == pytest.approx(4 * sum(areas), rel=0.05)
