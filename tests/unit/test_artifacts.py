"""Detections on disk: what is written is read back, and what is damaged is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.artifacts import (
    ImageDetections,
    read_detections,
    sidecar_of,
    write_detections,
    write_sidecar,
)
from simfrcnn.errors import ArtifactError, OutputError
from simfrcnn.outlines import rle_of_box
from simfrcnn.records import ImageRecord
from support.data_examples import make_record

CATEGORIES = {1: "malignant", 2: "suspected"}


def found(image_id: int, boxes: list, scores: list, categories: tuple = ()) -> ImageDetections:
    return ImageDetections(
        image_id,
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(scores, dtype=float),
        categories or ("malignant",) * len(scores),
    )


def written(folder: Path) -> Path:
    path = folder / "detections.json"
    images = [
        found(7, [[1, 2, 11, 22], [0.5, 0.25, 3, 4]], [0.9, 0.125], ("malignant", "suspected")),
        found(3, [], []),
    ]
    write_detections(path, images, categories=CATEGORIES, provenance={"engine": "torchvision"})
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = read_detections(path)
    assert sorted(file.images) == [3, 7]
    assert file.images[3].boxes.shape == (0, 4)
    assert file.images[7].boxes.tolist() == [[1, 2, 11, 22], [0.5, 0.25, 3, 4]]
    assert file.images[7].scores.tolist() == [0.9, 0.125]
    assert file.images[7].categories == ("malignant", "suspected")
    assert file.categories == CATEGORIES
    assert file.provenance == {"engine": "torchvision"}
    assert file.is_coverage_stated


def test_the_list_is_plain_coco_with_xywh(tmp_path: Path) -> None:
    entries = json.loads(written(tmp_path).read_text())
    assert entries[0] == {
        "image_id": 7,
        "category_id": 1,
        "bbox": [1.0, 2.0, 10.0, 20.0],
        "score": 0.9,
    }
    assert entries[1]["category_id"] == 2
    assert sidecar_of(tmp_path / "detections.json").name == "detections.meta.json"


def test_a_list_by_another_tool_covers_the_annotation_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    sidecar_of(path).unlink()
    file = read_detections(path, records=[make_record(n) for n in (3, 5, 7)], categories=CATEGORIES)
    assert sorted(file.images) == [3, 5, 7]
    assert not file.is_coverage_stated
    with pytest.raises(ArtifactError, match=r"has no sidecar detections\.meta\.json"):
        read_detections(path)


def test_a_sidecar_of_another_run_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="belongs to another version"):
        read_detections(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"kind": "something"}, "is not the sidecar"),
        ({"image_ids": None}, "is damaged"),
        ({"categories": {"one": "malignant"}}, "is damaged"),
    ],
)
def test_a_bad_sidecar_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    path = written(tmp_path)
    sidecar = sidecar_of(path)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    with pytest.raises(ArtifactError, match=f"detections.meta.json.*{words}"):
        read_detections(path)


GOOD = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": math.nan}, "score nan is not in"),
        ({"score": 1.5}, "score 1.5 is not in"),
        ({"score": -0.1}, "score -0.1 is not in"),
        ({"score": "high"}, "score is 'high'"),
        ({"score": True}, "score is True"),
        ({"image_id": 99}, "unknown image id 99"),
        ({"image_id": "x"}, "unknown image id 'x'"),
        ({"category_id": 9}, r"unknown category id 9; legal: 1 \(malignant\)"),
        ({"bbox": [0, 0, -5, 5]}, "negative size"),
        ({"bbox": [0, 0, 5, math.inf]}, "not finite"),
        ({"bbox": [0, 0, 5]}, r"bbox is \[0, 0, 5\]"),
        ({"bbox": None}, "bbox is None"),
    ],
)
def test_a_bad_entry_is_refused_by_number(tmp_path: Path, change: dict, words: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps([GOOD, GOOD | change]))
    with pytest.raises(ArtifactError, match=f"other.json, entry 1: .*{words}"):
        read_detections(path, records=[make_record(1)], categories={1: "malignant"})


def test_with_a_sidecar_an_id_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps([GOOD | {"image_id": "1"}]))
    write_sidecar(path, image_ids=[1], categories={1: "malignant"}, provenance={})
    with pytest.raises(ArtifactError, match=r"other\.json, entry 0: .*image_id is '1'"):
        read_detections(path)


def _entries(n: int) -> list[dict]:
    """Entries of eight images in no order: some with two scores, a square or a mask."""
    random = np.random.default_rng(0)
    entries = []
    for row in range(n):
        sides = random.uniform(0, 50, 4)
        entry = {
            "image_id": int(random.integers(1, 9)),
            "category_id": int(random.integers(1, 3)),
            "bbox": [7, *sides[1:].tolist()],
            "score": float(random.random()),
        }
        if row % 3 == 0:
            entry["first_score"] = float(random.random())
        if row % 6 == 0:
            entry |= {"second_score": 1, "second_look_bbox": [-3, *sides[:3].tolist()]}
        if row % 5 == 0:
            entry["segmentation"] = rle_of_box((1, 1, 3, 2 + row % 2), 4, 4).to_json()
        entries.append(entry)
    return entries


@pytest.mark.parametrize("left_out", [(), ("second_look_bbox",), ("segmentation", "first_score")])
def test_a_whole_number_written_with_a_point_changes_nothing(tmp_path: Path, left_out) -> None:
    """Most lists are read as columns; this one entry by entry."""
    entries = [
        {key: value for key, value in entry.items() if key not in left_out}
        for entry in _entries(200)
    ]
    read = []
    for name, category in (("columns", int), ("entries", float)):
        entries[100]["category_id"] = category(entries[100]["category_id"])
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(entries))
        write_sidecar(path, image_ids=range(1, 10), categories=CATEGORIES)
        read.append(read_detections(path).images)
    together, one_by_one = read
    assert list(together) == list(one_by_one) == list(range(1, 10))
    assert sum(len(image.scores) for image in together.values()) == 200
    for image_id, image in together.items():
        other = one_by_one[image_id]
        for name in ("boxes", "scores", "looks", "squares"):
            np.testing.assert_array_equal(getattr(image, name), getattr(other, name))
        assert (image.categories, image.masks) == (other.categories, other.masks)
        own = [entry for entry in entries if entry["image_id"] == image_id]
        assert image.scores.tolist() == [entry["score"] for entry in own]
        assert image.boxes[:, 0].tolist() == [7.0] * len(own)


def test_of_several_bad_entries_the_first_is_named(tmp_path: Path) -> None:
    entries = _entries(200)
    entries[50]["bbox"] = [0, 0, -1, 5]
    entries[120]["image_id"] = 99
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    write_sidecar(path, image_ids=range(1, 10), categories=CATEGORIES)
    with pytest.raises(ArtifactError, match=r"detections\.json, entry 50: the box has a negative"):
        read_detections(path)


def test_an_entry_without_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps([{"image_id": 1, "bbox": [0, 0, 1, 1]}]))
    with pytest.raises(ArtifactError, match="entry 0: an object with the keys"):
        read_detections(path, records=[make_record(1)], categories={1: "malignant"})


@pytest.mark.parametrize(
    ("content", "words"), [("{}", "holds a JSON dict"), ("[1,", "not valid JSON"), ("\xff", "JSON")]
)
def test_a_file_that_is_no_results_list_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=f"other.json.*{words}"):
        read_detections(path, records=[make_record(1)], categories={1: "malignant"})


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere\.json does not exist"):
        read_detections(tmp_path / "nowhere.json")
    with pytest.raises(ArtifactError, match="Is a directory"):
        read_detections(tmp_path)


def test_a_box_without_area_is_legal(tmp_path: Path) -> None:
    path = tmp_path / "thin.json"
    write_detections(path, [found(1, [[5, 5, 5, 9]], [0.5])], categories={1: "malignant"})
    assert read_detections(path).images[1].boxes.tolist() == [[5, 5, 5, 9]]


def test_bad_detections_cannot_be_made() -> None:
    with pytest.raises(ArtifactError, match="image 4, detection 1: score nan"):
        found(4, [[0, 0, 1, 1]] * 2, [0.5, math.nan])
    with pytest.raises(ArtifactError, match="image 4, detection 0: the box has a negative size"):
        found(4, [[5, 0, 1, 1]], [0.5])
    with pytest.raises(ArtifactError, match="do not belong together"):
        found(4, [[0, 0, 1, 1]], [0.5, 0.4])


def test_writing_refuses_an_image_twice_and_an_unknown_class(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    with pytest.raises(ArtifactError, match="image 1 was given twice"):
        write_detections(path, [found(1, [], []), found(1, [], [])], categories=CATEGORIES)
    strange = found(1, [[0, 0, 1, 1]], [0.5], ("cyst",))
    with pytest.raises(ArtifactError, match="class 'cyst'"):
        write_detections(path, [strange], categories=CATEGORIES)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_detections(tmp_path / "file" / "d.json", [], categories=CATEGORIES)


RECORDS = [
    make_record(1, path=Path("/data/images/0002.png"), patient="a"),
    make_record(2, path=Path("/data/images/0001.png"), patient="b"),
    make_record(3, path=Path("/data/images/0003.png"), patient="c"),
]


def image_of(folder: Path, records: list[ImageRecord] | None = None, **clues: object) -> int:
    """The image that the only entry of a foreign list is taken to be of."""
    path = folder / "other.json"
    entry = {"category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5} | clues
    path.write_text(json.dumps([entry]))
    file = read_detections(path, records=records or RECORDS, categories={1: "malignant"})
    (number,) = [number for number, image in file.images.items() if len(image.scores)]
    assert sorted(file.images) == sorted(r.image_id for r in records or RECORDS)
    return number


def test_another_tools_entry_is_matched_by_every_clue(tmp_path: Path) -> None:
    assert image_of(tmp_path, image_id=3) == 3
    assert image_of(tmp_path, image_id=3.0, category_id=1.0) == 3
    assert image_of(tmp_path, file_name="0001.png") == 2
    assert image_of(tmp_path, image_id=40, file_name="0001.png") == 2
    assert image_of(tmp_path, image_id="0001", file_name="0001.png") == 2
    assert image_of(tmp_path, image_id="0001") == 2
    assert image_of(tmp_path, image_id="1") == 1
    assert image_of(tmp_path, image_id=2, file_name="0001.png") == 2
    assert image_of(tmp_path, file_name=".\\runs\\0003.jpg") == 3


def test_an_id_and_a_name_of_two_images_are_refused_with_both_names(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        image_of(tmp_path, image_id=1, file_name="0001.png")
    assert "entry 0: image_id 1 is image 1 (0002.png)" in str(caught.value)
    assert "file_name is '0001.png', which is image 2 (0001.png)" in str(caught.value)
    with pytest.raises(ArtifactError, match=r"image 3 \(0003.png\).*'9.png', which is none of th"):
        image_of(tmp_path, image_id=3, file_name="9.png")
    numbered = [make_record(1, path=Path("/d/2.png")), make_record(2, path=Path("/d/7.png"))]
    with pytest.raises(ArtifactError, match=r"'2' is the number of image 2 .*name of image 1 \(2"):
        image_of(tmp_path, numbered, image_id="2")


def test_a_name_of_no_image_or_of_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"unknown file_name '0009\.png'"):
        image_of(tmp_path, file_name="0009.png")
    with pytest.raises(ArtifactError, match="unknown image id 'x'"):
        image_of(tmp_path, image_id="x")
    with pytest.raises(ArtifactError, match=r"file_name is \['a'\]; a text is legal"):
        image_of(tmp_path, file_name=["a"])
    twins = [
        dataclasses.replace(RECORDS[0], file_name="left/1.png"),
        dataclasses.replace(RECORDS[1], file_name="right/1.png"),
        dataclasses.replace(RECORDS[2], file_name="u\u0308ber.png"),
    ]
    with pytest.raises(ArtifactError, match=r"may be image 1 \(left/1.png\) or image 2 \(right/1"):
        image_of(tmp_path, twins, file_name="1.png")
    assert image_of(tmp_path, twins, file_name="./right/1.png") == 2
    assert image_of(tmp_path, twins, file_name="1.png", image_id=2) == 2
    assert image_of(tmp_path, twins, file_name="\u00fcber.dcm") == 3
