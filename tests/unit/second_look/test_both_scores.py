"""The two scores in results files and in the Python API; files without them stay legal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.artifacts import ImageDetections, read_detections, write_detections
from simfrcnn.errors import ArtifactError
from simfrcnn.exam import Detection
from simfrcnn.records import ImageRecord, Supervision

BOX = np.array([[1.0, 2.0, 11.0, 22.0]] * 2)


def written(path: Path, looks: list[list[float]] | None) -> Path:
    found = ImageDetections(
        7, BOX, np.array([0.4, 0.1]), ("m", "m"), None if looks is None else np.array(looks)
    )
    write_detections(path / "found.json", [found], categories={1: "m"})
    return path / "found.json"


def test_they_stand_beside_the_score(tmp_path: Path) -> None:
    path = written(tmp_path, [[0.8, 0.5], [0.2, np.nan]])
    first, second = json.loads(path.read_text())
    assert (first["score"], first["first_score"], first["second_score"]) == (0.4, 0.8, 0.5)
    assert second["first_score"] == 0.2
    assert "second_score" not in second
    looks = read_detections(path).images[7].looks
    assert looks is not None
    np.testing.assert_array_equal(looks, [[0.8, 0.5], [0.2, np.nan]])


def test_lists_without_them_are_read_as_before(tmp_path: Path) -> None:
    path = written(tmp_path, None)
    assert "first_score" not in path.read_text()
    assert read_detections(path).images[7].looks is None


def test_a_score_outside_its_range_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, [[0.8, 0.5], [0.2, 1.5]])
    with pytest.raises(ArtifactError, match=r"entry 1: second_score is 1\.5; a number in \[0, 1\]"):
        read_detections(path)


def test_squares_stand_beside_them_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    square = np.array([[-4.0, 2.0, 16.0, 22.0], [np.nan] * 4])
    looks = np.array([[0.8, 0.5], [0.2, np.nan]])
    found = ImageDetections(7, BOX, np.array([0.4, 0.1]), ("m", "m"), looks, squares=square)
    path = tmp_path / "found.json"
    write_detections(path, [found], categories={1: "m"})
    entries = json.loads(path.read_text())
    assert entries[0]["second_look_bbox"] == [-4.0, 2.0, 20.0, 20.0]
    assert "second_look_bbox" not in entries[1]
    squares = read_detections(path).images[7].squares
    assert squares is not None
    np.testing.assert_array_equal(squares, square)
    record = ImageRecord(7, "7.png", path, 30, 20, "p", "e", Supervision.NORMAL)
    for broken, why in (([1, 2, 3], r"\[x, y, width, height\]"), ([0, 0, -1, 5], "sides of 0 or")):
        entries[1]["second_look_bbox"] = broken
        other = tmp_path / "other.json"
        other.write_text(json.dumps(entries))
        with pytest.raises(ArtifactError, match=rf"entry 1: second_look_bbox is .*{why}"):
            read_detections(other, records=[record], categories={1: "m"})


def test_a_detection_shows_what_is_known() -> None:
    plain = Detection((1, 2, 3, 4), 0.4, "m")
    assert sorted(plain.to_dict()) == ["box_xyxy_px", "class", "score"]
    looked = Detection((1, 2, 3, 4), 0.4, "m", 0.8, 0.5)
    assert looked.to_dict()["first_score"] == 0.8
    assert looked.to_dict()["second_score"] == 0.5
    seen = Detection((1, 2, 3, 4), 0.4, "m", 0.8, 0.5, square=(-1, 0, 5, 6))
    assert seen.to_dict()["second_look_xyxy_px"] == [-1, 0, 5, 6]
