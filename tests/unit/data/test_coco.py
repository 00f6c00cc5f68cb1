"""COCO files: read what was written, refuse what is unclear, stay readable for pycocotools."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from simfrcnn.data.coco import read_coco, write_coco, write_extended
from simfrcnn.errors import AnnotationError, OutputError
from simfrcnn.records import (
    FindingSource,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)
from support.data_examples import make_finding, make_record

CATEGORIES = {1: "malignant", 2: "benign"}


def example() -> dict[str, Any]:
    return {
        "info": {"description": "example", "version": "1"},
        "images": [
            {
                "id": 1,
                "file_name": "images/a.png",
                "height": 100,
                "width": 80,
                "patient_id": "p1",
                "exam_id": "e1",
                "laterality": "L",
                "view_position": "MLO",
                "pixel_spacing_mm": [0.1, 0.2],
                "pathology": "malignant",
                "supervision": "boxes",
                "split": "train",
                "attributes": {"density": "B"},
            },
            {
                "id": 2,
                "file_name": "images/b.png",
                "height": 100,
                "width": 80,
                "patient_id": "p2",
                "exam_id": "e2",
                "supervision": "normal",
            },
        ],
        "annotations": [
            {
                "id": 7,
                "image_id": 1,
                "category_id": 1,
                "bbox": [10, 20, 30.5, 40],
                "area": 1220,
                "iscrowd": 0,
                "pathology": "malignant",
                "lesion_id": "l1",
                "source": "radiologist",
            }
        ],
        "categories": [{"id": 1, "name": "malignant"}, {"id": 2, "name": "benign"}],
    }


def write_json(folder: Path, document: Any) -> Path:
    path = folder / "set.json"
    path.write_text(json.dumps(document))
    return path


def test_every_value_is_read(tmp_path: Path) -> None:
    data = read_coco(write_json(tmp_path, example()), check_files=False)
    first, second = data.records
    assert first == ImageRecord(
        image_id=1,
        file_name="images/a.png",
        path=tmp_path / "images" / "a.png",
        height=100,
        width=80,
        patient_id="p1",
        exam_id="e1",
        supervision=Supervision.BOXES,
        laterality=Laterality.LEFT,
        view_position=ViewPosition.MLO,
        pixel_spacing_mm=(0.1, 0.2),
        pathology=Pathology.MALIGNANT,
        split="train",
        findings=(
            make_finding(
                (10, 20, 40.5, 60), finding_id=7, pathology=Pathology.MALIGNANT, lesion_id="l1"
            ),
        ),
        attributes={"density": "B"},
    )
    assert second.supervision is Supervision.NORMAL
    assert second.findings == ()
    assert second.laterality is None
    assert data.categories == CATEGORIES
    assert data.info["version"] == "1"
    assert len(data.sha256) == 64


def test_written_records_are_read_back_from_another_folder(tmp_path: Path) -> None:
    records = [
        make_record(
            3,
            make_finding((1.25, 2.5, 40, 50), pathology=Pathology.MALIGNANT, lesion_id="x"),
            make_finding((0, 0, 80, 100), "benign", 2, iscrowd=True),
            path=tmp_path / "films" / "é.png",
            laterality=Laterality.RIGHT,
            view_position=ViewPosition.OTHER,
            pixel_spacing_mm=(0.05, 0.05),
            split="val",
            labels={"malignant": True, "calcification": False},
            attributes={"vendor": "A"},
        ),
        make_record(
            9,
            make_finding((5, 5, 9, 9), "benign", 3, source=FindingSource.PSEUDO, score=0.875),
            supervision=Supervision.NORMAL,
            path=tmp_path / "films" / "b.png",
        ),
    ]
    path = tmp_path / "deep" / "er" / "set.json"
    write_coco(path, records, CATEGORIES, {"version": "1"})
    data = read_coco(path, check_files=False)
    assert [record.file_name for record in data.records] == [
        "../../films/é.png",
        "../../films/b.png",
    ]
    assert [dataclasses.replace(r, file_name=r.path.name) for r in data.records] == records


def test_pycocotools_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.json"
    write_coco(path, [make_record(3, make_finding((10, 10, 20, 30)))], CATEGORIES, {})
    theirs = COCO(str(path))
    capsys.readouterr()
    assert theirs.getImgIds() == [3]
    assert theirs.loadAnns(theirs.getAnnIds(imgIds=[3]))[0]["bbox"] == [10, 10, 10, 20]


def image(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["images"][0].update(values)


def annotation(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["annotations"][0].update(values)


def without(key: str, entry: str, number: int = 0) -> Callable[[dict[str, Any]], None]:
    return lambda document: document[entry][number].pop(key)


def repeat(entry: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document[entry].append(copy.deepcopy(document[entry][0]))


REFUSALS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no images": (lambda d: d.pop("images"), "'images' is missing"),
    "images no list": (lambda d: d.update(images={}), "'images' is not a list of objects"),
    "crowd": (
        lambda d: d["annotations"][0].update(iscrowd="0"),
        "'iscrowd' must be 0 or 1, not '0'",
    ),
    "no annotations": (lambda d: d.pop("annotations"), "'annotations' is missing"),
    "no categories": (lambda d: d.pop("categories"), "'categories' is missing"),
    "info": (lambda d: d.update(info=[1]), "'info' must be an object"),
    "no id": (without("id", "images"), "image None: 'id' is missing"),
    "id text": (image(id="1"), "'id' must be a whole number, not '1'"),
    "no file": (without("file_name", "images"), "image 1: 'file_name' is missing"),
    "height 0": (image(height=0), "image 1: 'height' must be at least 1, not 0"),
    "no patient": (without("patient_id", "images"), "image 1: 'patient_id' is missing"),
    "empty patient": (image(patient_id=" "), "image 1: 'patient_id' must be a text"),
    "patient number": (image(patient_id=5), "image 1: 'patient_id' must be a text"),
    "no exam": (without("exam_id", "images"), "image 1: 'exam_id' is missing"),
    "no supervision": (
        without("supervision", "images", 1),
        "image 2: 'supervision' is missing.*boxes, normal, image_label, unlabelled",
    ),
    "supervision": (
        image(supervision="full"),
        "image 1: 'supervision' is 'full'; legal are boxes, normal",
    ),
    "laterality": (image(laterality="left"), "image 1: 'laterality' is 'left'; legal are L, R"),
    "view": (image(view_position="ML"), "'view_position' is 'ML'; legal are CC, MLO, other"),
    "pathology": (image(pathology=["x"]), "'pathology' is .*legal are malignant, benign"),
    "spacing": (image(pixel_spacing_mm=[0.1, 0]), r"pixel_spacing_mm must be \[row, column\]"),
    "attributes": (image(attributes={"a": 1}), "image 1: 'attributes' must be"),
    "labels list": (image(labels=["malignant"]), "image 1: 'labels' must be an object such as"),
    "label 1": (image(labels={"malignant": 1}), "image 1: 'labels' says 1 of 'malignant'; legal"),
    "label null": (image(labels={"benign": None}), "image 1: 'labels' says None of 'benign'"),
    "label against box": (
        image(labels={"malignant": False}),
        "image 1: 'labels' says false of 'malignant', but annotation 7 is a box of it",
    ),
    "label against normal": (
        lambda d: d["images"][1].update(labels={"malignant": True}),
        "image 2: supervision is 'normal', but 'labels' says true of 'malignant'",
    ),
    "label without box": (
        lambda d: d["images"][1].update(supervision="boxes", labels={"malignant": True}),
        "image 2: supervision is 'boxes', by which every finding of 'malignant' is boxed",
    ),
    "image twice": (repeat("images"), "image id used more than once: 1"),
    "annotation twice": (repeat("annotations"), "annotation id used more than once: 7"),
    "category twice": (repeat("categories"), "category id used more than once: 1"),
    "category name twice": (
        lambda d: d["categories"][1].update(name="malignant"),
        "category name used more than once: 'malignant'",
    ),
    "two lists": (
        lambda d: (d.pop("images"), d.update(categories=3)),
        "'images' is missing, 'categories' is not a list of objects",
    ),
    "fractions": (
        annotation(bbox=[0.33, 0.37, 0.17, 0.12]),
        r"the only box is smaller than one pixel, such as \[0.33, 0.37, 0.17, 0.12\]",
    ),
    "category id list": (
        annotation(category_id=[1]),
        r"annotation 7: 'category_id' must be a whole number, not \[1\]",
    ),
    "category": (annotation(category_id=5), "annotation 7: category_id 5 is unknown.*1 .malignant"),
    "unknown image": (annotation(image_id=99), "annotation 7: image_id 99 is not among 'images'"),
    "no area": (annotation(bbox=[10, 20, 0, 40]), r"annotation 7: bbox .* has no area"),
    "negative": (annotation(bbox=[10, 20, 5, -4]), "annotation 7: bbox .* has no area"),
    "three numbers": (annotation(bbox=[10, 20, 5]), "annotation 7: bbox must be four finite"),
    "nan": (annotation(bbox=[10, 20, 5, float("nan")]), "annotation 7: bbox must be four finite"),
    "outside": (
        annotation(bbox=[70, 20, 11, 40]),
        r"annotation 7: bbox \[70, 20, 11, 40\] .* leaves image 1, which is 80 wide and 100 high",
    ),
    "left of it": (annotation(bbox=[-1, 20, 11, 40]), "annotation 7: .* leaves image 1"),
    "source": (annotation(source="me"), "'source' is 'me'; legal are radiologist, pseudo, oracle"),
    "score": (annotation(score="high"), "annotation 7: 'score' must be a finite number"),
    "malignant normal": (
        image(supervision="normal"),
        "image 1: supervision is 'normal', but annotation 7 is malignant",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_file_entry_and_key(tmp_path: Path, name: str) -> None:
    spoil, message = REFUSALS[name]
    document = example()
    spoil(document)
    path = write_json(tmp_path, document)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_coco(path, check_files=False)
    assert str(path) in str(caught.value)


def test_files_that_are_not_coco(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{broken")
    with pytest.raises(AnnotationError, match=r"a\.json: not a JSON file"):
        read_coco(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[1, 2]")
    with pytest.raises(AnnotationError, match=r"b\.json: must hold an object"):
        read_coco(tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(AnnotationError, match=r"c\.json: not a JSON file"):
        read_coco(tmp_path / "c.json")
    with pytest.raises(AnnotationError, match=r"gone\.json: cannot be opened"):
        read_coco(tmp_path / "gone.json")


def test_missing_image_files_are_listed(tmp_path: Path) -> None:
    path = write_json(tmp_path, example())
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    with pytest.raises(AnnotationError, match=r"1 of 2 image files are missing") as caught:
        read_coco(path)
    assert f"image 2: {tmp_path / 'images' / 'b.png'}" in str(caught.value)
    (tmp_path / "images" / "b.png").touch()
    assert len(read_coco(path).records) == 2


def test_rounding_beyond_the_edge_is_clipped(tmp_path: Path) -> None:
    document = example()
    document["annotations"][0]["bbox"] = [69.5, 20, 10.5000001, 40]
    data = read_coco(write_json(tmp_path, document), check_files=False)
    assert data.records[0].findings[0].box == (69.5, 20, 80, 60)


def test_a_pseudo_box_may_lie_on_a_normal_image(tmp_path: Path) -> None:
    document = example()
    document["categories"].append({"id": 3, "name": "suspected"})
    document["annotations"][0] |= {
        "image_id": 2,
        "category_id": 3,
        "pathology": None,
        "source": "pseudo",
        "score": 0.9,
    }
    data = read_coco(write_json(tmp_path, document), check_files=False)
    assert data.records[1].findings[0].score == 0.9


def test_writing_refuses_what_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    with pytest.raises(AnnotationError, match="finding 1 of image 1 is a 'mass'; the categories"):
        write_coco(path, [make_record(1, make_finding(category="mass"))], CATEGORIES, {})
    with pytest.raises(AnnotationError, match="image id used more than once: 1"):
        write_coco(path, [make_record(1), make_record(1)], CATEGORIES, {})
    twice = [make_record(1, make_finding()), make_record(2, make_finding())]
    with pytest.raises(AnnotationError, match="annotation id used more than once: 1"):
        write_coco(path, twice, CATEGORIES, {})
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_read_fast(tmp_path: Path) -> None:
    document = example()
    first, box = document["images"][0], document["annotations"][0]
    document["images"] = [first | {"id": n, "patient_id": f"p{n}"} for n in range(20_000)]
    document["annotations"] = [box | {"id": n, "image_id": n} for n in range(20_000)]
    path = write_json(tmp_path, document)
    start = time.process_time()
    data = read_coco(path, check_files=False)
    assert len(data.records) == 20_000
    assert time.process_time() - start < 6  # 100,000 images stay under 30 s


def suspected(finding_id: int) -> Any:
    return make_finding(
        (5, 6, 25, 36), "suspected", finding_id, source=FindingSource.PSEUDO, score=0.9
    )


def test_a_file_is_extended_without_a_change_to_what_is_there(tmp_path: Path) -> None:
    document = example()
    # Digits that do not survive XYWH -> XYXY -> XYWH, and a key that is not ours.
    document["annotations"][0] |= {"bbox": [0.1, 0.7, 10.3, 20.9], "reader": {"name": "x"}}
    document["images"][1]["modality"] = "MG"
    source = read_coco(write_json(tmp_path, document), check_files=False)
    n_before, new_id = len(document["annotations"]), 900
    path = tmp_path / "deeper" / "new.json"
    write_extended(
        path,
        source,
        {2: [suspected(new_id)]},
        kept_image_ids=[1, 2],
        new_category="suspected",
        info={"pseudo": {"n": 1}},
    )
    written = json.loads(path.read_text())
    before = [json.dumps(entry) for entry in document["annotations"]]
    assert [json.dumps(entry) for entry in written["annotations"][:n_before]] == before
    added = written["annotations"][n_before:]
    new_category = max(c["id"] for c in document["categories"]) + 1
    assert [(e["id"], e["image_id"], e["category_id"]) for e in added] == [
        (new_id, 2, new_category)
    ]
    assert (added[0]["bbox"], added[0]["score"]) == ([5, 6, 20, 30], 0.9)
    assert added[0]["source"] == "pseudo"
    assert written["categories"][:-1] == document["categories"]
    assert written["info"] == {**document["info"], "pseudo": {"n": 1}}
    for entry, old in zip(written["images"], document["images"], strict=True):
        assert entry == {**old, "file_name": f"../{old['file_name']}"}
    again = read_coco(path, check_files=False)
    assert [record.path for record in again.records] == [r.path for r in source.records]
    assert COCO(str(path)).getAnnIds(catIds=[new_category]) == [new_id]


def test_images_are_left_out_with_their_findings(tmp_path: Path) -> None:
    source = read_coco(write_json(tmp_path, example()), check_files=False)
    path = tmp_path / "new.json"
    write_extended(path, source, {}, kept_image_ids=[2], new_category="suspected", info={})
    again = read_coco(path, check_files=False)
    assert [record.image_id for record in again.records] == [2]
    assert {f for record in again.records for f in record.findings} == set(
        source.records[1].findings
    )
    assert "suspected" in again.categories.values()


def test_extending_refuses_the_source_itself_a_changed_source_and_a_used_id(
    tmp_path: Path,
) -> None:
    source = read_coco(write_json(tmp_path, example()), check_files=False)
    words: dict[str, Any] = {"kept_image_ids": [1, 2], "new_category": "suspected", "info": {}}
    with pytest.raises(OutputError, match="the file that is extended"):
        write_extended(source.path, source, {}, **words)
    used = source.records[0].findings[0].finding_id
    with pytest.raises(AnnotationError, match=f"used more than once: {used}"):
        write_extended(tmp_path / "new.json", source, {2: [suspected(used)]}, **words)
    source.path.write_text(json.dumps(example(), indent=2))
    with pytest.raises(AnnotationError, match="has changed since it was read"):
        write_extended(tmp_path / "new.json", source, {}, **words)
    assert [path.name for path in tmp_path.iterdir()] == [source.path.name]


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    document = example()
    for entry in document["images"]:
        for key in ("patient_id", "exam_id", "supervision"):
            del entry[key]
    document["images"][1]["patient_id"] = "p2"
    document["annotations"][0]["id"] = None
    path = write_json(tmp_path, document)
    with pytest.raises(AnnotationError) as caught:
        read_coco(path, check_files=False)
    assert str(caught.value) == (
        f"{path}: keys are missing: 'patient_id' in 1 of 2 images, 'exam_id' in 2 of 2 images, "
        "'supervision' in 2 of 2 images, 'id' in 1 of 1 annotations (the first is image 1); of "
        "'supervision', it says what the labels mean, one of boxes, normal, image_label, "
        "unlabelled; simfrcnn prepare-data coco completes plain COCO files"
    )
    refused: list[AnnotationError] = []
    assert read_coco(path, check_files=False, refused=refused).records == ()
    assert len(refused) == 3
    assert "image 2: 'exam_id', 'supervision' are missing" in str(refused[1])


def test_equal_ids_are_reported_before_what_follows_from_them(tmp_path: Path) -> None:
    document = example()
    for entry in document["images"]:
        entry["id"] = 1  # the second is stated to be normal, and now has a malignant box
    path = write_json(tmp_path, document)
    for refused in (None, []):
        with pytest.raises(AnnotationError, match="image id used more than once: 1; each"):
            read_coco(path, check_files=False, refused=refused)


def test_of_many_equal_ids_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    document = example()
    document["annotations"] = [document["annotations"][0] | {"id": n // 2} for n in range(2, 16)]
    words = "annotation id used more than once: 1, 2, 3, 4, 5, and 2 more; each"
    with pytest.raises(AnnotationError, match=words):
        read_coco(write_json(tmp_path, document), check_files=False)


def test_an_annotation_of_no_image_is_reported_before_what_it_says(tmp_path: Path) -> None:
    document = example()
    lost = document["annotations"][0] | {"id": 8, "image_id": 5, "bbox": [1, 2, 3, -4]}
    document["annotations"].insert(0, lost)
    path = write_json(tmp_path, document)
    with pytest.raises(AnnotationError, match="annotation 8: image_id 5 is not among 'images'"):
        read_coco(path, check_files=False)
    refused: list[AnnotationError] = []
    (first, _) = read_coco(path, check_files=False, refused=refused).records
    assert [finding.finding_id for finding in first.findings] == [7]
    assert len(refused) == 1


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    document = example()
    document["images"][0] |= {"id": 1.0, "height": 100.0}
    document["annotations"][0] |= {"image_id": 1.0, "category_id": 1.0}
    record = read_coco(write_json(tmp_path, document), check_files=False).records[0]
    assert (record.image_id, record.height, len(record.findings)) == (1, 100, 1)
    assert type(record.image_id) is int
    assert type(record.height) is int
    document["images"][0]["id"] = 1.5
    with pytest.raises(AnnotationError, match=r"image 1\.5: 'id' must be a whole number, not 1\.5"):
        read_coco(write_json(tmp_path, document), check_files=False)


def test_a_text_as_id_names_the_remedy(tmp_path: Path) -> None:
    document = example()
    document["images"][0]["id"] = "1"
    with pytest.raises(AnnotationError, match="not '1'; simfrcnn prepare-data coco numbers text"):
        read_coco(write_json(tmp_path, document), check_files=False)


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("images\\a.png", "images/a.png"),
        ("./images/a.png", "images/a.png"),
        ("images/m\u00e4r.png", "images/ma\u0308r.png"),
        ("images\\ma\u0308r.png", "images/m\u00e4r.png"),
        ("odd\\name.png", "odd\\name.png"),
    ],
)
def test_other_ways_to_write_a_file_name_find_the_file(
    tmp_path: Path, written: str, on_disk: str
) -> None:
    file = tmp_path / on_disk
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"")
    document = example()
    document["images"] = [document["images"][0] | {"file_name": written}]
    (record,) = read_coco(write_json(tmp_path, document)).records
    assert record.path == file
    assert record.file_name == written
