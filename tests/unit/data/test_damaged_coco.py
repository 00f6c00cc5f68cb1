"""Entries that no tool should write are refused, or cost a box; they never end in a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.coco.boxes import box_of
from simfrcnn.data.sources.coco.documents import Drawn
from simfrcnn.errors import AnnotationError

HEIGHT, WIDTH = 64, 48
IMAGE = {
    **{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "supervision": "boxes"},
    **{"patient_id": "p1", "exam_id": "e1"},
}
FINDING = {
    **{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 10, 20, 30]},
    "segmentation": [[5, 10, 25, 10, 25, 40]],
}


def written(path: Path, image: dict[str, Any], finding: dict[str, Any]) -> Path:
    names = [{"id": 1, "name": "malignant"}]
    content = {"images": [image], "annotations": [finding], "categories": names}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("image", "finding", "message"),
    [
        ({"id": [1]}, {}, r"image \[1\]: 'id' must be a whole number"),
        ({}, {"image_id": [1]}, "annotation 1: 'image_id' must be a whole number"),
        ({}, {"image_id": {}}, "annotation 1: 'image_id' must be a whole number"),
        ({"height": 10**30}, {}, "'height' is 10{30}; pictures of up to 1000000 pixels are legal"),
        ({"pixel_spacing_mm": [10**400, 1]}, {}, "pixel_spacing_mm must be"),
        ({}, {"bbox": [10**400, 10, 20, 30]}, "bbox must be four finite numbers"),
        ({}, {"segmentation": [[5, 10, 10**400, 10, 25, 40]]}, "a polygon of 6 numbers; .* finite"),
        ({}, {"lesion_weight": 10**400}, "'lesion_weight' must be a finite number"),
        ({"width": 1e300}, {}, "'width' is 1.*; pictures of up to 1000000 pixels are legal"),
    ],
)
def test_what_no_tool_should_write(
    tmp_path: Path, image: dict[str, Any], finding: dict[str, Any], message: str
) -> None:
    path = written(tmp_path / "x.json", IMAGE | image, FINDING | finding)
    with pytest.raises(AnnotationError, match=message):
        read_coco(path, check_files=False)
    refused: list[AnnotationError] = []
    read_coco(path, check_files=False, refused=refused)
    assert any(re.search(message, str(error)) for error in refused)


UNREAD = "has a mask that cannot be read: "


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ([[]], "has an outline without a point"),
        ([[1, 2, float("nan"), 3, 5, 6]], "has an outline without a point, or with one that is no"),
        (
            {"size": [HEIGHT, WIDTH], "counts": [5, -1, HEIGHT * WIDTH - 4]},
            f"{UNREAD}'counts' must",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [10, 5]}, f"{UNREAD}'counts' must be"),
        ({"size": [HEIGHT, WIDTH], "counts": "zz"}, f"{UNREAD}'counts' holds 'z'"),
        (
            {"size": [10**30, 1], "counts": [10**30]},
            rf"{UNREAD}'size' is .*; fewer than 4294967296",
        ),
        ([[1, 2, 10**400, 3, 5, 6]], r"has an outline that is not understood \(OverflowError\)"),
        ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, r"has a mask of size \[48, 64\]"),
    ],
)
def test_outlines_that_are_none_give_no_box(segmentation: Any, why: str) -> None:
    drawn = Drawn(0, "malignant", {"segmentation": segmentation, "bbox": [10**400, 0, 1, 1]})
    found = box_of(drawn, HEIGHT, WIDTH, "pixels")
    assert isinstance(found, str)
    assert re.search(why, found)


def test_run_lengths_give_the_box_of_their_pixels() -> None:
    """One column, rows 10 to 14; in pixels, half open."""
    counts = [10, 5, HEIGHT * WIDTH - 15]
    drawn = Drawn(0, "m", {"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}})
    assert box_of(drawn, HEIGHT, WIDTH, "pixels") == (0, 10, 1, 15)
