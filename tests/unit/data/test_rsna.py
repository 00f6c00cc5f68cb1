"""The RSNA screening set in miniature: its table in its published form, and every refusal."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfrcnn.data.selection import training_lists
from simfrcnn.data.sources.rsna import read_rsna
from simfrcnn.data.sources.source import SourceData
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from simfrcnn.settings import DataSettings
from support.data_examples import make_finding, make_record, write_dicom

HEADER = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,"
    "density,machine_id,difficult_negative_case"
)
Rows = list[dict[str, Any]]


def row(patient: int, image: int, breast: str, view: str, **values: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(HEADER.split(","), ""),
        "site_id": 2,
        "patient_id": patient,
        "image_id": image,
        "laterality": breast,
        "view": view,
        "age": 61.0,
        "cancer": 0,
        "biopsy": 0,
        "invasive": 0,
        "implant": 0,
        "machine_id": 29,
        "difficult_negative_case": "False",
    } | values


def published() -> Rows:
    cancer = {"cancer": 1, "biopsy": 1, "invasive": 1, "BIRADS": 0.0}
    return [
        row(10006, 462822612, "L", "CC"),
        row(10006, 1459541791, "L", "MLO"),
        row(10011, 541722628, "R", "CC", density="C", **cancer),
        row(10011, 220375232, "R", "MLO", density="C", **cancer),
        row(10011, 270344397, "L", "ML", BIRADS=1.0),
        row(10025, 562340703, "L", "CC", biopsy=1, implant=1, difficult_negative_case="True"),
    ]


def write_download(root: Path, rows: Rows | None = None) -> Path:
    rows = published() if rows is None else rows
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "train.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER.split(","))
        writer.writeheader()
        writer.writerows(rows)
    for entry in rows:
        path = root / "train_images" / str(entry["patient_id"]) / f"{entry['image_id']}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, np.full((60, 40), 9, np.uint16))
    return root


def read(root: Path, **options: Any) -> SourceData:
    return read_rsna(root, n_workers=0, **options)


def by_id(data: SourceData) -> dict[int, ImageRecord]:
    return {record.image_id: record for record in data.records}


def test_what_is_known_of_each_view(tmp_path: Path) -> None:
    data = read(write_download(tmp_path))
    images = by_id(data)
    normal, label = Supervision.NORMAL, Supervision.IMAGE_LABEL
    assert {number: (r.supervision, r.pathology) for number, r in images.items()} == {
        462822612: (normal, Pathology.NORMAL),
        1459541791: (normal, Pathology.NORMAL),
        541722628: (label, Pathology.MALIGNANT),
        220375232: (label, Pathology.MALIGNANT),
        270344397: (normal, Pathology.NORMAL),  # the other breast of a woman with cancer
        562340703: (normal, Pathology.BENIGN),
    }
    # That the cancer is visible in this view nobody says: it is the breast's.
    assert all(record.labels == {} and record.findings == () for record in data.records)
    one = images[541722628]
    assert (one.patient_id, one.exam_id, one.height, one.width) == ("10011", "10011", 60, 40)
    assert (one.laterality, one.view_position) == (Laterality.RIGHT, ViewPosition.CC)
    assert one.attributes["birads"] == "0"
    assert {k: one.attributes[k] for k in ("density", "age", "machine", "invasive")} == {
        **{"density": "C", "age": "61", "machine": "29"},
        "invasive": "yes",
    }
    assert images[270344397].view_position is ViewPosition.OTHER
    assert "density" not in images[462822612].attributes
    assert images[562340703].attributes["difficult_negative"] == "true"
    assert data.notes[0].startswith("1 breast with a cancer: known of the breast, not of its views")


def test_a_breast_with_a_cancer_trains_as_one_bag(tmp_path: Path) -> None:
    records = [*read(write_download(tmp_path)).records, make_record(1, make_finding(), patient="m")]
    by_breast = DataSettings(labels_per_item=1, label_bags="breast")
    (bag,) = training_lists(records, by_breast).labelled
    assert [record.image_id for record in bag.records] == [541722628, 220375232]
    with pytest.raises(DataError, match="no image trains by its label"):
        training_lists(records, DataSettings(labels_per_item=1))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    root = write_download(tmp_path / "in" / "rsna")
    (root / "train_images" / "10006" / "462822612.dcm").unlink()
    data = read(tmp_path / "in", leave_out_implants=True)
    assert sorted(by_id(data)) == [220375232, 270344397, 541722628, 1459541791]
    notes = "\n".join(data.notes)
    assert "1 image of train.csv is not there: 462822612" in notes
    assert "1 image of breasts with an implant, left out: 562340703" in notes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cancer": 2}, "line 5: column 'cancer' is '2': legal are 0, 1"),
        ({"cancer": 0}, "line 5: column 'cancer' is '0': line 4, of the same breast, says '1'"),
        ({"laterality": "B"}, "column 'laterality' is 'B': legal are L, R"),
        ({"view": "XX"}, "column 'view' is 'XX': legal are CC, MLO, ML"),
        ({"image_id": 541722628}, "line 5: the image of line 4 is listed twice"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    rows = published()
    rows[3] |= values
    with pytest.raises(AnnotationError, match=message):
        read(write_download(tmp_path, rows))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold one train\.csv, found none"):
        read(tmp_path)
    root = write_download(tmp_path / "set")
    (root / "train_images").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"none of the 6 images of train\.csv is there"):
        read(root)


def test_an_id_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    rows = published()
    write_download(tmp_path, rows)
    rows[0]["image_id"] = "9" * 300
    with open(tmp_path / "train.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER.split(","))
        writer.writeheader()
        writer.writerows(rows)
    data = read(tmp_path)
    assert len(data.records) == len(rows) - 1
    assert f"1 image of train.csv is not there: {'9' * 300}" in data.notes
