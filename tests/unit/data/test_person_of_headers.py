"""Age and sex in DICOM headers, by every reader that takes them: beside a table's own age."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfrcnn.data.sources.cmmd import read_cmmd
from simfrcnn.data.sources.coco.source import CocoOptions, read_plain_coco
from simfrcnn.data.sources.folder.reader import FolderOptions, read_folder
from simfrcnn.data.sources.rsna import read_rsna
from simfrcnn.data.sources.source import Reading, SourceData
from simfrcnn.data.sources.vindr_mammo import read_vindr_mammo
from support.data_examples import write_dicom

pytestmark = pytest.mark.data

HEIGHT, WIDTH = 60, 40
HERE = Reading(n_workers=0)
Reader = Callable[[Path, Any, dict[str, Any]], SourceData]
"""Reads a download of one image: (folder, the table's own age or None, header)."""


def dicom(path: Path, header: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(path, np.full((HEIGHT, WIDTH), 9, np.uint16), **header)


def table(path: Path, row: dict[str, Any]) -> None:
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)


def coco(root: Path, age: Any, header: dict[str, Any]) -> SourceData:
    dicom(root / "a.dcm", header)
    own = {} if age is None else {"attributes": {"age": str(age)}}
    image = {"id": 1, "file_name": "a.dcm", "height": HEIGHT, "width": WIDTH, **own}
    categories = [{"id": 1, "name": "malignant"}]
    finding = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    content = {"images": [image], "annotations": [finding], "categories": categories}
    (root / "x.json").write_text(json.dumps(content))
    return read_plain_coco(root, CocoOptions(patient=("image",), unboxed="normal"), HERE)


def folder(root: Path, age: Any, header: dict[str, Any]) -> SourceData:
    dicom(root / "a.dcm", header)
    mapping = {"file": "a.dcm", "label": "normal", "years": "" if age is None else age}
    table(root / "labels.csv", mapping)
    (root / "map.yaml").write_text(
        "columns: {file: file, label: label}\nattributes: {age: years}\n"
    )
    return read_folder(root, FolderOptions(mapping=root / "map.yaml"), HERE)


def rsna(root: Path, age: Any, header: dict[str, Any]) -> SourceData:
    names = "site_id,biopsy,cancer,implant,invasive,machine_id,difficult_negative_case"
    row = dict.fromkeys(names.split(","), "0")
    row |= {"patient_id": "10006", "image_id": "7", "laterality": "L", "view": "CC"}
    row |= {"age": "" if age is None else f"{age}.0", "BIRADS": "", "density": ""}
    table(root / "train.csv", row | {"difficult_negative_case": "False"})
    dicom(root / "train_images" / "10006" / "7.dcm", header)
    return read_rsna(root, n_workers=0)


def vindr(root: Path, age: Any, header: dict[str, Any]) -> SourceData:
    assert age is None  # its table has no such column
    row = {
        **{"study_id": "s1", "series_id": "x", "image_id": "i1", "laterality": "L"},
        **{"view_position": "CC", "height": HEIGHT, "width": WIDTH},
        **{"breast_birads": "BI-RADS 1", "breast_density": "DENSITY C"},
        "finding_categories": "['No Finding']",
        **dict.fromkeys(("finding_birads", "xmin", "ymin", "xmax", "ymax"), ""),
        "split": "training",
    }
    table(root / "finding_annotations.csv", row)
    dicom(root / "images" / "s1" / "i1.dicom", header)
    return read_vindr_mammo(root, n_workers=0)


def cmmd(root: Path, age: Any, header: dict[str, Any]) -> SourceData:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    names = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
    book.active.append(names)
    book.active.append(("D1-0001", "L", age, 2, "mass", "Malignant", None))
    book.save(root / "CMMD_clinicaldata_revision.xlsx")
    own = {"PatientID": "D1-0001", "ImageLaterality": "L", "ViewPosition": "CC"}
    dicom(root / "CMMD" / "D1-0001" / "study" / "series" / "1-1.dcm", own | header)
    return read_cmmd(root, n_workers=0)


def person_of(data: SourceData) -> dict[str, str]:
    (record,) = data.records
    facts = {name: record.attributes.get(name, "") for name in ("age", "sex")}
    return {name: value for name, value in facts.items() if value}


@pytest.mark.parametrize("read", [coco, folder, rsna, vindr, cmmd])
def test_age_and_sex_of_the_header_are_attributes(tmp_path: Path, read: Reader) -> None:
    for name, header, person in (
        ("both", {"PatientAge": "057Y", "PatientSex": "F"}, {"age": "57", "sex": "F"}),
        ("sex", {"PatientSex": "F"}, {"sex": "F"}),
        ("none", {}, {}),
    ):
        root = tmp_path / name
        root.mkdir()
        assert person_of(read(root, None, header)) == person, name


@pytest.mark.parametrize("read", [coco, folder, rsna, cmmd])
def test_a_table_s_own_age_goes_first(tmp_path: Path, read: Reader) -> None:
    header = {"PatientAge": "057Y", "PatientSex": "F"}
    assert person_of(read(tmp_path, 61, header)) == {"age": "61", "sex": "F"}
