"""NIH ChestX-ray14 in miniature: its tables and lists in their published form, every refusal."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from simfrcnn.data.selection import image_lists
from simfrcnn.data.sources.chestxray14 import LABELS, read_chestxray14
from simfrcnn.data.sources.source import SourceData
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.records import Supervision
from simfrcnn.settings import DataSettings
from simfrcnn.workflows.prepare import prepare
from support.data_examples import SHARED_DATA, needs_shared

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
ROWS = {
    "00000001_000.png": "Cardiomegaly|Emphysema,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
    "00000001_001.png": "Cardiomegaly,1,1,058Y,M,AP,2682,2749,0.143,0.143,",
    "00000002_000.png": "No Finding,0,2,081Y,F,PA,2500,2048,0.171,0.171,",
    "00000003_000.png": "Hernia|Infiltration,0,3,74,F,PA,2500,2048,0.168,0.168,",
}
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def write_download(
    root: Path,
    rows: dict[str, str] | None = None,
    boxes: tuple[str, ...] = (
        "00000001_000.png,Cardiomegaly,256,512,512,256,,,",
        "00000003_000.png,Infiltrate,0,0,100.5,64,,,",
    ),
    train: tuple[str, ...] = ("00000001_000.png", "00000001_001.png", "00000002_000.png"),
    test: tuple[str, ...] = ("00000003_000.png",),
) -> Path:
    rows = ROWS if rows is None else rows
    images = root / "images_001" / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = [HEADER, *(f"{name},{rest}" for name, rest in rows.items())]
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    (root / "BBox_List_2017.csv").write_text("\n".join([BOXES, *boxes]) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(train))
    (root / "test_list.txt").write_text("\n".join(test))
    for name in rows:
        assert cv2.imwrite(str(images / name), np.full((512, 512), 90, np.uint8))
    return root


def read(root: Path) -> SourceData:
    return read_chestxray14(root, n_workers=0)


def test_every_film_says_of_all_fourteen_and_boxes_are_in_its_own_pixels(tmp_path: Path) -> None:
    data = read(write_download(tmp_path))
    assert len(LABELS) == 14
    assert tuple(data.categories.values()) == LABELS
    first, again, free, other = data.records
    assert all(tuple(record.labels) == LABELS for record in data.records)
    assert [n for n, there in first.labels.items() if there] == ["Cardiomegaly", "Emphysema"]
    assert not any(free.labels.values())
    label, normal = Supervision.IMAGE_LABEL, Supervision.NORMAL
    assert [r.supervision for r in data.records] == [label, label, normal, label]
    # Published in 1024 pixels, stored in 512.
    (box,) = first.findings
    assert (box.category, box.box) == ("Cardiomegaly", (128.0, 256.0, 384.0, 384.0))
    assert other.findings[0].category == "Infiltration"
    assert other.findings[0].box == (0.0, 0.0, 50.25, 32.0)
    assert (first.patient_id, first.exam_id, again.exam_id) == ("1", "1-0", "1-1")
    assert first.attributes == {"age": "58", "sex": "M", "view": "PA"}
    assert other.attributes["age"] == "74"
    assert [r.split for r in data.records] == ["train", "train", "train", "test"]
    assert "1 film with none of the 14" in data.notes


def test_it_trains_a_classifier_of_many_labels(tmp_path: Path) -> None:
    records = read(write_download(tmp_path)).records
    names = ("Cardiomegaly", "Emphysema", "Hernia")
    lists = image_lists(records, DataSettings(names, names))
    assert [r.image_id for r in lists.positives] == [1, 2, 4]
    assert [r.image_id for r in lists.normals] == [3]
    with pytest.raises(DataError, match="of the class 'Edema' 0 training images show"):
        image_lists(records, DataSettings(("Cardiomegaly", "Edema"), ("Cardiomegaly",)))


def test_it_is_prepared_as_published(tmp_path: Path) -> None:
    root = write_download(tmp_path / "in")
    done = prepare("chestxray14", root, tmp_path / "out", workers=0, fractions={"train": 1.0})
    assert sorted(done.files) == ["test", "train"]
    counts = done.counts["train"]
    assert (counts.n_positive, counts.n_normal, counts.n_left_out) == (2, 1, 0)
    assert not any("malignant" in line for line in done.lines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"00000001_000.png": "Cardiomegaly|Fracture,0,1,058Y,M,PA,1,1,1,1,"},
            r"line 2: column 'finding labels' is 'Cardiomegaly\|Fracture': legal are Atelectasis",
        ),
        (
            {"00000002_000.png": "No Finding|Edema,0,2,081Y,F,PA,1,1,1,1,"},
            "line 4: .*'No Finding' stands alone",
        ),
        ({"00000002_000.png": ",0,2,081Y,F,PA,1,1,1,1,"}, "line 4: .*must not be empty"),
        (
            {"00000002_000.png": "No Finding,0,2,old,F,PA,1,1,1,1,"},
            "line 4: column 'patient age' is 'old': legal are years such as 58",
        ),
    ],
)
def test_labels_that_are_not_understood_are_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(write_download(tmp_path, ROWS | change))


def test_lists_and_boxes_that_do_not_fit_are_refused_or_said(tmp_path: Path) -> None:
    both = write_download(tmp_path / "a", test=("00000003_000.png", "00000002_000.png"))
    with pytest.raises(AnnotationError, match=r"00000002_000\.png is in train_val_list"):
        read(both)
    with pytest.raises(AnnotationError, match=r"00000003_000\.png is in none of"):
        read(write_download(tmp_path / "b", test=()))
    (both / "test_list.txt").unlink()
    with pytest.raises(DataError, match=r"has one of the official lists, but not test_list\.txt"):
        read(both)
    (both / "train_val_list.txt").unlink()
    assert {record.split for record in read(both).records} == {None}
    odd = write_download(tmp_path / "c", boxes=("00000002_000.png,Mass,1,1,9,9,,,",))
    assert "1 box of a label that the table does not give the film, left out" in "\n".join(
        read(odd).notes
    )
    flat = write_download(tmp_path / "d", boxes=("00000001_000.png,Mass,1,1,0,9,,,",))
    with pytest.raises(AnnotationError, match="width and height must be above 0"):
        read(flat)


@pytest.mark.parametrize(
    ("stated", "age"),
    [
        *(("013M", "1"), ("001D", "0"), ("010W", "0"), ("000Y", None), ("", None), ("0", "0")),
        *(("122", "122"), ("414", None), ("414Y", None), ("999M", "83")),
    ],
)
def test_ages_are_whole_years(tmp_path: Path, stated: str, age: str | None) -> None:
    row = {"00000002_000.png": f"No Finding,0,2,{stated},F,PA,2500,2048,0.171,0.171,"}
    data = read(write_download(tmp_path, ROWS | row))
    assert data.records[2].attributes.get("age") == age
    is_said = "1 film of a patient of more than 122 years, whose age is not kept" in str(data.notes)
    assert is_said is stated.startswith("414")


@pytest.mark.parametrize("sides", ["1024,512,100,256", "-500,512,500,256", "1,-9,100,9"])
def test_a_box_outside_of_its_film_is_refused(tmp_path: Path, sides: str) -> None:
    root = write_download(tmp_path, boxes=(f"00000001_000.png,Cardiomegaly,{sides},,,",))
    with pytest.raises(AnnotationError, match=r"line 2: .* lies outside its film of 1024 x 1024"):
        read(root)


def test_a_film_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    (root / "small").mkdir()
    assert cv2.imwrite(str(root / "small" / "00000001_000.jpg"), np.full((64, 64), 90, np.uint8))
    with pytest.raises(DataError, match=r"00000001_000\.\w+ and .* of the same image: remove one"):
        read(root)


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    (root / "test_list.txt").write_bytes("00000003_000.png".encode("utf-16"))
    with pytest.raises(AnnotationError, match=r"test_list\.txt: cannot be read as text in UTF-8"):
        read(root)


def test_films_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    (root / "images_001" / "images" / "00000002_000.png").unlink()
    data = read(root)
    assert len(data.records) == 3
    assert "1 image of Data_Entry_2017.csv is not there: 00000002_000.png" in data.notes
    with pytest.raises(DataError, match="must hold one of Data_Entry_2017_v2020"):
        read_chestxray14(root / "images_001", n_workers=0)


@needs_shared("nih_chest_xray")
def test_the_real_part_is_read() -> None:
    data = read_chestxray14(SHARED_DATA / "nih_chest_xray", n_workers=0)
    assert len(data.records) == len({r.patient_id for r in data.records}) == 621
    assert sum(not any(r.labels.values()) for r in data.records) == 100
    assert sum(len(r.findings) for r in data.records) == 12
    for record in data.records:
        for finding in record.findings:
            x1, y1, x2, y2 = finding.box
            assert 0 <= x1 < x2 <= record.width
            assert 0 <= y1 < y2 <= record.height
