"""CMMD in miniature: its clinical table in its published form, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfrcnn.data.selection import training_lists
from simfrcnn.data.sources.cmmd import read_cmmd
from simfrcnn.data.sources.source import SourceData
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.records import ImageRecord, Pathology, Supervision, ViewPosition
from simfrcnn.settings import DataSettings
from support.data_examples import make_finding, make_record, write_dicom

HEADER = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
ROWS: list[tuple[Any, ...]] = [
    ("D1-0001", "R", 44, 2, "calcification", "Benign", None),
    ("D1-0002", "L", 40, 2, "calcification", "Malignant", None),
    ("D2-0003", "L", 39, 2, "mass", "Malignant", "Luminal B"),
    ("D2-0003", "R", 39, 2, "both", "Benign", None),
    ("D1-0009", "L", 50, 2, "mass", "Benign", None),  # its images are not there
]
VIEWS = [
    ("D1-0001", "R", "CC"), ("D1-0001", "R", "MLO"), ("D1-0001", "L", "CC"),
    ("D1-0002", "L", "CC"), ("D1-0002", "L", "MLO"),
    ("D2-0003", "L", "CC"), ("D2-0003", "R", "MLO"),
]  # fmt: skip


def write_download(root: Path, rows: list[tuple[Any, ...]] | None = None, **tags: Any) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for values in (HEADER, *(ROWS if rows is None else rows)):
        book.active.append(values)
    root.mkdir(parents=True, exist_ok=True)
    book.save(root / "CMMD_clinicaldata_revision.xlsx")
    for number, (patient, side, view) in enumerate(VIEWS, start=1):
        folder = root / "CMMD" / patient / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244"
        folder.mkdir(parents=True, exist_ok=True)
        given = {"PatientID": patient, "ImageLaterality": side, "ViewPosition": view} | tags
        pixels = np.full((60, 40), number, np.uint16)
        write_dicom(folder / f"1-{number}.dcm", pixels, **given)
    return root


def read(root: Path, **options: Any) -> SourceData:
    return read_cmmd(root, n_workers=0, **options)


def facts_of(records: tuple[ImageRecord, ...]) -> list[tuple[Any, ...]]:
    return [
        (r.patient_id, r.laterality.value, r.supervision, r.pathology)
        for r in records
        if r.laterality
    ]


def test_what_is_known_of_each_view(tmp_path: Path) -> None:
    data = read(write_download(tmp_path))
    label, benign, malignant = Supervision.IMAGE_LABEL, Pathology.BENIGN, Pathology.MALIGNANT
    assert facts_of(data.records) == [
        ("D1-0001", "R", label, benign),
        ("D1-0001", "R", label, benign),
        ("D1-0001", "L", Supervision.UNLABELLED, None),
        ("D1-0002", "L", label, malignant),
        ("D1-0002", "L", label, malignant),
        ("D2-0003", "L", label, malignant),
        ("D2-0003", "R", label, benign),
    ]
    assert all(record.labels == {} and record.findings == () for record in data.records)
    one = data.records[5]
    assert {name: one.attributes[name] for name in ("age", "abnormality", "subtype")} == {
        **{"age": "39", "abnormality": "mass"},
        "subtype": "Luminal B",
    }
    assert one.view_position is ViewPosition.CC
    assert (one.height, one.width) == (60, 40)
    notes = "\n".join(data.notes)
    assert "5 breasts in the table: known of the breast" in notes
    assert "1 breast of the table without images: D1-0009 L" in notes
    assert "1 breast without a row, unlabelled: D1-0001 L" in notes
    normal = read(tmp_path, benign_is_normal=True)
    assert [r.supervision for r in normal.records].count(Supervision.NORMAL) == 3


def test_malignant_breasts_train_as_bags(tmp_path: Path) -> None:
    data = read(write_download(tmp_path), benign_is_normal=True)
    records = [*data.records, make_record(99, make_finding(), patient="m")]
    lists = training_lists(records, DataSettings(labels_per_item=1, label_bags="breast"))
    assert [[r.image_id for r in bag.records] for bag in lists.labelled] == [[4, 5], [6]]
    assert [r.image_id for r in lists.normals] == [1, 2, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("D1-0001", "B", 44, 2, "mass", "Benign", None), "column 'leftright' is 'B': legal are"),
        (("D1-0001", "R", 44, 2, "mass", "Unsure", None), "'classification' is 'Unsure': legal"),
        (("D1-0001", "R", 44, 2, "cyst", "Benign", None), "column 'abnormality' is 'cyst'"),
        (
            ("D1-0001", "R", 44, 2, "mass", "Malignant", None),
            "'classification' is 'Malignant': line 2, of the same breast, says 'Benign'",
        ),
    ],
)
def test_a_table_that_is_not_understood_is_refused(
    tmp_path: Path, change: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(write_download(tmp_path, [*ROWS, change]))


def test_missing_files_and_sides_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold one CMMD_clinicaldata_revision\.xlsx or "):
        read(tmp_path)
    with pytest.raises(AnnotationError, match=r"Image Laterality \(0020,0062\) is not stated"):
        read(write_download(tmp_path / "set", ImageLaterality=None))
