"""A hospital's own columns and words, encodings and names, and what headers say of a table."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from simfrcnn.data.sources.folder.reader import FolderOptions, read_folder
from simfrcnn.data.sources.source import Reading, SourceData
from simfrcnn.data.sources.table import read_any_table
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.image_labels import bag_classes
from simfrcnn.records import Laterality, Supervision, ViewPosition
from simfrcnn.settings import DataSettings
from simfrcnn.workflows.prepare import prepare
from support.data_examples import SHARED_DATA, needs_shared, write_dicom

pytestmark = pytest.mark.data

HEIGHT, WIDTH = 60, 40
PIXELS = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH))


def pictures(root: Path, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    for name in names:
        if name.endswith(".dcm"):
            write_dicom(root / name, PIXELS.astype(np.uint16))
        else:
            content = cv2.imencode(".png", PIXELS.astype(np.uint8))[1].tobytes()
            Path(os.fsdecode(os.fsencode(root / name))).write_bytes(content)
    return root


def table(path: Path, *rows: list[Any], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with open(path, "w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def mapping(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def read(root: Path, **options: Any) -> SourceData:
    return read_folder(root, FolderOptions(**options), Reading(n_workers=0))


COLUMNS = {"file": "Bild", "patient": "PatNr", "label": "Histologie", "laterality": "Seite"}


def test_columns_boxes_and_words_of_a_hospital(tmp_path: Path) -> None:
    """Semicolons, decimal commas, width and height, words of its own and usual ones, capitals."""
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table(
        tmp_path / "befunde.csv",
        ["Bild", "PatNr", "Histologie", "Seite", "Aufnahme", "L", "T", "B", "H", "Alter", "Notiz"],
        ["a.png", "p1", "IDC", "Rechts", "cc", "3,5", "4", "10", "20,25", "61", "x"],
        ["a.png", "p1", "Zyste", "Rechts", "CC", "1", "1", "2", "2", "61", ""],
        ["b.png", "p2", "o.B.", "li", "MLO", "", "", "", "", "", ""],
        ["c.png", "p3", "doppelt", "li", "MLO", "", "", "", "", "", ""],
        ["d.png", "p4", "", "L", "XCCL", "", "", "", "", "50", ""],
        delimiter=";",
    )
    own = mapping(
        tmp_path / "m.yaml",
        table="befunde.csv",
        columns={**COLUMNS, "view": "AUFNAHME", "x": "L", "y": "T", "w": "B", "h": "H"},
        values={
            "label": {
                "zyste": "benign",
                "o.B.": "normal",
                "doppelt": "leave_out",
                "": "unlabelled",
            },
            "laterality": {"li": "L"},
        },
        attributes={"age": "Alter"},
    )
    data = read(tmp_path, mapping=own)
    a, b, d = data.records
    assert [(f.category, f.box) for f in a.findings] == [
        ("malignant", (3.5, 4, 13.5, 24.25)),
        ("benign", (1, 1, 3, 3)),
    ]
    assert (a.laterality, a.view_position) == (Laterality.RIGHT, ViewPosition.CC)
    assert (a.attributes, b.attributes) == ({"age": "61"}, {})
    assert (b.supervision, b.laterality) == (Supervision.NORMAL, Laterality.LEFT)
    assert (d.supervision, d.view_position) == (Supervision.UNLABELLED, ViewPosition.OTHER)
    assert "1 column of the table left aside: notiz" in data.notes
    assert "1 row left out, as the mapping says" in data.notes
    words = next(note for note in data.notes if note.startswith("words of the table"))
    assert "histologie 'IDC' is malignant (1 row)" in words
    assert "aufnahme 'XCCL' is other (1 row)" in words
    assert "1 image without a row of the table, not used: c.png" in data.notes


@pytest.mark.parametrize(
    ("threshold", "kinds"),
    [
        ("4", ["unlabelled", "normal", "image_label", "boxes-", "image_label+", "boxes+"]),
        ("5", ["unlabelled", "normal", "image_label", "boxes-", "image_label", "boxes-"]),
    ],
)
def test_labels_by_birads_with_a_stated_threshold(
    tmp_path: Path, threshold: str, kinds: list[str]
) -> None:
    """0, 1, 3, 2 with a box, 4a without one, BI-RADS 4c with one."""
    names = [f"{n}.png" for n in range(6)]
    words = ["0", "BI-RADS 1", "3", "2", "4a", "birads: 4C"]
    boxes: dict[int, list[int]] = {3: [1, 1, 9, 9], 5: [2, 2, 8, 8]}
    rows = [
        [name, f"p{n}", word, *boxes.get(n, [""] * 4)]
        for n, (name, word) in enumerate(zip(names, words, strict=True))
    ]
    header = ["file", "patient", "BIRADS", "x1", "y1", "x2", "y2"]
    table(pictures(tmp_path, *names) / "labels.csv", header, *rows)
    columns = {name.lower(): name for name in header}
    own = mapping(tmp_path / "m.yaml", columns=columns, malignant_from=threshold)
    data = read(tmp_path, mapping=own)
    found = [
        record.supervision.value
        + ("+" if record.pathology == "malignant" else "-" if record.findings else "")
        for record in data.records
    ]
    assert found == kinds
    assert f"BI-RADS {threshold} or higher" in str(data.info["malignant_rule"])
    table(tmp_path / "labels.csv", header, ["0.png", "p", "7", *[""] * 4])
    with pytest.raises(AnnotationError, match=r"line 2: column 'birads' is '7': legal are 0, 1"):
        read(tmp_path, mapping=own)


def test_a_plain_4_is_not_above_4b(tmp_path: Path) -> None:
    header = ["file", "patient", "birads"]
    table(pictures(tmp_path, "a.png") / "labels.csv", header, ["a.png", "p", "4"])
    columns = {name: name for name in header}
    own = mapping(tmp_path / "m.yaml", columns=columns, malignant_from="4b")
    with pytest.raises(AnnotationError, match=r"is '4', which may be below 4b or not"):
        read(tmp_path, mapping=own)
    own = mapping(tmp_path / "m.yaml", columns=columns, malignant_from="4a")
    assert read(tmp_path, mapping=own).records[0].pathology == "malignant"


def test_images_by_their_sop_instance_uid(tmp_path: Path) -> None:
    write_dicom(tmp_path / "x", PIXELS.astype(np.uint16), SOPInstanceUID="1.2.3")
    write_dicom(tmp_path / "y", PIXELS.astype(np.uint16), SOPInstanceUID="1.2.4")
    table(tmp_path / "labels.csv", ["UID", "Dx"], ["1.2.4", "Normal"])
    own = mapping(tmp_path / "m.yaml", columns={"sop_instance_uid": "uid", "label": "dx"})
    data = read(tmp_path, mapping=own)
    assert [record.path.name for record in data.records] == ["y"]
    assert "1 image without a row of the table, not used: x" in data.notes
    table(tmp_path / "labels.csv", ["UID", "Dx"], ["1.2.5", "Normal"])
    with pytest.raises(AnnotationError, match=r"column 'uid' is '1\.2\.5': no DICOM file below"):
        read(tmp_path, mapping=own)
    write_dicom(tmp_path / "z", PIXELS[::-1].astype(np.uint16), SOPInstanceUID="1.2.4")
    table(tmp_path / "labels.csv", ["UID", "Dx"], ["1.2.4", "Normal"])
    with pytest.raises(AnnotationError, match=r"z and y have it, but are no copies: other pixels"):
        read(tmp_path, mapping=own)


def test_unknown_words_are_listed_once_with_their_number(tmp_path: Path) -> None:
    rows = [[f"{n}.png", "p", "B3", "L"] for n in range(30)] + [["x.png", "p", "atypia", "beide"]]
    table(tmp_path / "labels.csv", [*COLUMNS.values()], *[[r[0], r[1], r[2], r[3]] for r in rows])
    own = mapping(tmp_path / "m.yaml", columns=COLUMNS)
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, mapping=own)
    lines = str(caught.value).splitlines()
    assert "3 words are not known; say in" in lines[0]
    assert lines[1].startswith("  values: label: 'B3' in 30 rows of column 'histologie'; legal")
    assert sorted(line.split(": ")[1] for line in lines[1:]) == ["label", "label", "laterality"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"column": {}}, "the key is 'column';.*Did you mean columns"),
        (
            {"columns": {"pateint": "x"}},
            "column is 'pateint';.*Did you mean patient",
        ),
        ({"columns": {"label": "x"}}, "columns needs file or sop_instance_uid"),
        ({"columns": {"file": "x"}}, "columns needs label or birads"),
        ({"columns": {"file": "f", "birads": "b"}}, "birads of columns and malignant_from go"),
        ({"columns": {"file": "f", "label": "l", "x": "a", "y": "b"}}, "a box needs all of x, y"),
        ({"values": {"label": {"x": "bening"}}}, "the word is 'bening';.*Did you mean benign"),
        ({"values": {"age": {}}}, "values: the column is 'age'; legal is"),
        (
            {"columns": {"file": "f", "birads": "b"}, "malignant_from": "2"},
            "malignant_from is '2'; legal are 3, 4, 4a",
        ),
        ({"visible": {"cyst": "x"}}, "visible: the category is 'cyst'; legal is"),
        (
            {"columns": {"file": "f", "label": "l", "labels": "m"}, "visible": {"benign": "x"}},
            "give labels of columns, or visible, not both",
        ),
        ({"decimal": ";"}, "decimal is ';'; legal are ., ,"),
        ({"columns": [1]}, "columns must be lines"),
    ],
)
def test_mapping_files_that_are_wrong(
    tmp_path: Path, content: dict[str, Any], problem: str
) -> None:
    whole = {"columns": {"file": "f", "label": "l"}}
    own = mapping(tmp_path / "m.yaml", **{**whole, **content})
    with pytest.raises(ConfigError, match=rf"(?s)m\.yaml: .*{problem}"):
        read(tmp_path, mapping=own)


def test_a_table_that_is_given_as_mapping_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\na.png,normal\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"t\.csv: is no mapping file, which is YAML with some "):
        read(tmp_path, mapping=tmp_path / "t.csv")


def test_mapped_columns_must_be_there(tmp_path: Path) -> None:
    table(pictures(tmp_path, "a.png") / "labels.csv", ["Bild", "Seite"], ["a.png", "L"])
    own = mapping(tmp_path / "m.yaml", columns=COLUMNS)
    with pytest.raises(AnnotationError, match=r"no column histologie, patnr, which .*bild, seite"):
        read(tmp_path, mapping=own)


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", "utf-16"), ("cp1252", "cp1252")],
)
def test_encodings_are_read_and_named(tmp_path: Path, encoding: str, note: str | None) -> None:
    header = ["file", "label", "patient"]
    rows = ["M\u00fcller.png", "Normal", "M\u00fcller"]
    pictures(tmp_path, "M\u00fcller.png")
    table(tmp_path / "labels.csv", header, rows, delimiter="\t", encoding=encoding)
    data = read(tmp_path)
    assert data.records[0].patient_id == "M\u00fcller"
    said = [one for one in data.notes if "was read as" in one]
    assert ([note] if note else []) == [n.split("read as ")[1].partition(":")[0] for n in said]


@pytest.mark.parametrize(
    ("on_disk", "in_table"),
    [
        (b"Mu\xcc\x88ller.png", "M\u00fcller.png"),
        (b"M\xc3\xbcller.png", "Mu\u0308ller.png"),
        (b"M\xfcller.png", "M\u00fcller.png"),
    ],
    ids=["decomposed on disk", "decomposed in the table", "not UTF-8 on disk"],
)
def test_names_are_compared_as_people_read_them(
    tmp_path: Path, on_disk: bytes, in_table: str
) -> None:
    pictures(tmp_path, os.fsdecode(on_disk))
    table(tmp_path / "labels.csv", ["file", "label", "patient"], [in_table, "normal", "p"])
    (record,) = read(tmp_path).records
    assert os.fsencode(record.path.name) == on_disk
    pictures(tmp_path, os.fsdecode(b"M\xc3\xbcller.png"), os.fsdecode(b"Mu\xcc\x88ller.png"))
    table(tmp_path / "labels.csv", ["file", "label", "patient"], ["m/../x", "normal", "p"])
    with pytest.raises(AnnotationError, match="it must be a path below the root"):
        read(tmp_path)


def test_excel_sheets(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "other"
    sheet = book.create_sheet("Findings")
    sheet.append(["file", "label", "patient", "x1", "y1", "x2", "y2", "density", None])
    sheet.append(["a.png", "Malignant", 17, 1.5, 2, 10, 20.25, "b"])
    sheet.append([])
    sheet.append(["b.png", "normal", 18.0])
    book.save(pictures(tmp_path, "a.png", "b.png") / "labels.xlsx")
    columns = ("file", "label", "patient", "x1", "y1", "x2", "y2", "density")
    own = mapping(tmp_path / "m.yaml", sheet="Findings", columns={n: n for n in columns})
    a, b = read(tmp_path, mapping=own).records
    assert (a.patient_id, b.patient_id) == ("17", "18")
    assert a.findings[0].box == (1.5, 2, 10, 20.25)
    assert a.attributes["density"] == "B"
    own = mapping(tmp_path / "m.yaml", sheet="none", columns={n: n for n in columns})
    with pytest.raises(ConfigError, match=r"labels\.xlsx: has no sheet 'none'; it has other, F"):
        read(tmp_path, mapping=own)
    (tmp_path / "bad.xlsx").write_bytes(b"no archive")
    with pytest.raises(AnnotationError, match=r"bad\.xlsx: is no Excel file"):
        read_any_table(tmp_path / "bad.xlsx", [])
    with pytest.raises(DataError, match=r"of old Excel \(\.xls\): save it as \.xlsx"):
        read_any_table(tmp_path / "old.xls", [])


def test_numbers_with_commas_are_read_in_one_way_or_refused(tmp_path: Path) -> None:
    def numbers(*cells: str, decimal: str | None = None) -> list[float]:
        table(tmp_path / "t.csv", ["x", "y"], *[[cell, ""] for cell in cells], delimiter=";")
        content = read_any_table(tmp_path / "t.csv", [], decimal=decimal)
        return [row.number("x") for row in content.rows]

    assert numbers("1,5", "2.25", "-0,125", decimal=",") == [1.5, 2.25, -0.125]
    assert numbers("1,5", "1234,75") == [1.5, 1234.75]
    assert numbers("1,204", decimal=",") == [1.204]
    with pytest.raises(AnnotationError, match=r"line 2: column 'x' is '1,204': the comma can"):
        numbers("1,204")
    with pytest.raises(AnnotationError, match="it must be a number"):
        numbers("1.204,5")
    assert numbers("1.204", "1204.5") == [1.204, 1204.5]
    assert numbers("1.20", "1.2045", decimal=",") == [1.2, 1.2045]
    for grouped in ("1.204", "-12.204", "1.204.300"):
        with pytest.raises(AnnotationError, match=rf"'{grouped}': decimals stand behind a comma h"):
            numbers(grouped, decimal=",")


def test_numbers_of_a_spreadsheet_have_points_whatever_its_texts_have(tmp_path: Path) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    for cells in (["x"], [1.204], ["1,204"]):
        book.active.append(cells)
    book.save(tmp_path / "t.xlsx")
    rows = read_any_table(tmp_path / "t.xlsx", [], decimal=",").rows
    assert [row.number("x") for row in rows] == [1.204, 1.204]


def test_an_outline_with_decimal_commas(tmp_path: Path) -> None:
    """Commas between digits are decimals where the mapping says so; others part the points."""
    pictures(tmp_path, "a.png")
    edge = "1,5 1, 9,25 1, 9 9,5"
    rows = ["file", "label", "patient", "outline"], ["a.png", "malignant", "p", edge]
    table(tmp_path / "labels.csv", *rows, delimiter=";")
    columns = {name: name for name in rows[0]}
    said = mapping(tmp_path / "m.yaml", columns=columns, decimal=",")
    (finding,) = read(tmp_path, mapping=said).records[0].findings
    assert finding.outline == (((1.5, 1.0), (9.25, 1.0), (9.0, 9.5)),)
    assert finding.box == (1.5, 1.0, 9.25, 9.5)


@pytest.mark.parametrize(
    "edge",
    [
        "1 1,9 1,9 9,5 9,1 9",  # five points, which would be (1, 1.9), (1.9, 9.5), (9.1, 9)
        "1,1 5,1 9,1 9,9 5,9 1,9",  # six, as SVG has them, which would be three
        "1 1,9 1,9 9,5 9,",
        "1.5 1,9 1,9 9,5 9,1 9",
        "1 1, 9 1,9 9,1 9",
        "0 2,5 3,5 9,5 8,5 1",  # these are decimals, perhaps
    ],
)
def test_an_outline_whose_commas_can_be_either_is_refused(tmp_path: Path, edge: str) -> None:
    pictures(tmp_path, "a.png")
    rows = ["file", "label", "patient", "outline"]
    table(tmp_path / "labels.csv", rows, ["a.png", "malignant", "p", edge], delimiter=";")
    said = mapping(tmp_path / "m.yaml", columns={name: name for name in rows}, decimal=",")
    with pytest.raises(AnnotationError, match=r"line 2.*as in `1,5 2, 3 2, 2,5 4`"):
        read(tmp_path, mapping=said)


def test_sides_with_three_decimals_under_decimal_commas(tmp_path: Path) -> None:
    """What is computed of x, y, w and h is written as it is read."""
    pictures(tmp_path, "a.png")
    rows = ["file", "label", "patient", "x", "y", "w", "h"]
    sides = ["1,125", "1,5", "7,375", "2,0625"]
    table(tmp_path / "labels.csv", rows, ["a.png", "malignant", "p", *sides], delimiter=";")
    said = mapping(tmp_path / "m.yaml", columns={name: name for name in rows}, decimal=",")
    (finding,) = read(tmp_path, mapping=said).records[0].findings
    assert finding.box == (1.125, 1.5, 8.5, 3.5625)


def test_a_cell_with_three_decimals_under_decimal_commas(tmp_path: Path) -> None:
    """A number of a spreadsheet is a number, also behind a mapping; a text has decimal commas."""
    openpyxl = pytest.importorskip("openpyxl", reason="needs openpyxl (extra `xlsx`)")
    pictures(tmp_path, "a.png")
    rows = ["file", "label", "patient", "x1", "y1", "x2", "y2"]
    book = openpyxl.Workbook()
    book.active.append(rows)
    book.active.append(["a.png", "malignant", "p", 1.125, "1,5", 9, 9.875])
    book.save(tmp_path / "labels.xlsx")
    said = mapping(tmp_path / "m.yaml", columns={name: name for name in rows}, decimal=",")
    (finding,) = read(tmp_path, mapping=said).records[0].findings
    assert finding.box == (1.125, 1.5, 9.0, 9.875)


def test_all_lines_of_another_width_are_listed_at_once(tmp_path: Path) -> None:
    """A line with another separator, and one with a decimal comma among commas."""
    (tmp_path / "t.csv").write_text("x,y\n1;2\n3,4\n5,6,7\n", encoding="utf-8")
    with pytest.raises(AnnotationError) as caught:
        read_any_table(tmp_path / "t.csv", [])
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/t.csv: 2 errors (part the values of each line as in line 1; one that holds "
        "that mark stands in quotes):",
        f"  {tmp_path}/t.csv: line 2: 1 value, but line 1 names 2 columns",
        f"  {tmp_path}/t.csv: line 4: 3 values, but line 1 names 2 columns",
    ]


def test_the_line_that_excel_puts_first(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\na,b;c\n1;2\n")
    (row,) = read_any_table(tmp_path / "t.csv", []).rows
    assert (row.line, row.values) == (3, {"a,b": "1", "c": "2"})


def dicom(path: Path, **tags: Any) -> None:
    write_dicom(path, PIXELS.astype(np.uint16), **tags)


def test_the_exams_of_a_table_are_equated_with_studies(tmp_path: Path) -> None:
    for number, study in ((1, "1.1"), (2, "1.1"), (3, "1.2"), (4, "1.3")):
        dicom(tmp_path / f"{number}.dcm", StudyInstanceUID=study)
    header = ["file", "label", "patient", "exam"]
    rows = [["1.dcm", "normal", "p", "2019"], ["2.dcm", "normal", "p", ""]]
    rows += [["3.dcm", "normal", "p", ""], ["4.dcm", "normal", "p", "1.3"]]
    table(tmp_path / "labels.csv", header, *rows)
    data = read(tmp_path)
    assert [record.exam_id for record in data.records] == ["p/2019", "p/2019", "1.2", "1.3"]
    assert data.notes == ()
    rows[1][3], rows[2][3] = "2020", "2019"
    table(tmp_path / "labels.csv", header, *rows)
    data = read(tmp_path)
    assert [record.exam_id for record in data.records] == ["p/2019", "p/2020", "p/2019", "1.3"]
    assert data.notes == (
        "1 exam of the table has several Study Instance UIDs, the table was followed; images of "
        "it: 1.dcm",
        "1 study (Study Instance UID) is several exams in the table, which was followed; images "
        "of it: 1.dcm",
    )
    dicom(tmp_path / "4.dcm", StudyInstanceUID="1.1")
    rows[3][3] = ""
    table(tmp_path / "labels.csv", header, *rows)
    with pytest.raises(AnnotationError, match=r"line 5: column 'exam' is '': other images of its"):
        read(tmp_path)


def test_two_patients_in_one_study_are_two_exams(tmp_path: Path) -> None:
    for number in (1, 2):
        dicom(tmp_path / f"{number}.dcm", StudyInstanceUID="1.1", PatientID=f"SYN{number}")
    table(tmp_path / "labels.csv", ["file", "label"], ["1.dcm", "normal"], ["2.dcm", "normal"])
    data = read(tmp_path)
    assert [record.exam_id for record in data.records] == ["SYN1/1.1", "SYN2/1.1"]
    assert data.notes == (
        "1 study (Study Instance UID) is of several patients, each an exam of its own; images "
        "of it: 1.dcm",
    )


def test_copies_of_one_instance_and_other_pictures_are_left_out_by_name(tmp_path: Path) -> None:
    for name in ("1.dcm", "2.dcm"):
        dicom(tmp_path / name, SOPInstanceUID="1.2.3")
    dicom(tmp_path / "3.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    header = ["file", "label"]
    rows = [[f"{n}.dcm", "normal"] for n in (1, 2, 3)]
    table(tmp_path / "labels.csv", header, *rows)
    data = read(tmp_path)
    assert [record.path.name for record in data.records] == ["1.dcm"]
    assert data.notes[0] == "1 further copy of one SOP instance, left out: 2.dcm (of 1.dcm)"
    assert data.notes[1].startswith("1 picture left out (--all-views keeps it): ")
    assert data.notes[1].endswith(": 3.dcm")
    assert len(read(tmp_path, all_views=True).records) == 2
    table(tmp_path / "labels.csv", header, rows[0], ["2.dcm", "malignant"])
    with pytest.raises(AnnotationError, match=r"2\.dcm and 1\.dcm \(line 2\) are one SOP instance"):
        read(tmp_path)
    table(tmp_path / "labels.csv", header, *rows[:2])
    dicom(tmp_path / "2.dcm", SOPInstanceUID="1.2.3", WindowCenter=40, WindowWidth=20)
    problem = r"have one SOP Instance UID \(0008,0018\), but are no copies: other pixels; keep the"
    with pytest.raises(AnnotationError, match=r"2\.dcm and 1\.dcm \(line 2\) " + problem):
        read(tmp_path)
    table(tmp_path / "labels.csv", header, rows[2])
    with pytest.raises(AnnotationError, match=r"the only picture is no screening view .*use it"):
        read(tmp_path)


def test_own_pictures_are_no_source(tmp_path: Path) -> None:
    header = ["file", "label", "patient"]
    root = pictures(tmp_path / "a", "a.png")
    table(root / "labels.csv", header, ["a.png", "normal", "p"])
    prepare("folder", root, tmp_path / "out", workers=0, size=64, fractions={"all": 1.0})
    (made,) = (tmp_path / "out" / "images").iterdir()
    table(made.parent / "labels.csv", header, [made.name, "normal", "p"])
    with pytest.raises(AnnotationError, match="prepare-data made this picture: give the folder"):
        read(made.parent)


def test_words_for_the_parts_of_a_division(tmp_path: Path) -> None:
    words = ["Training", "valid", "validation", "DEV", "testing", "test_site2"]
    names = [f"{n}.png" for n in range(len(words))]
    rows = [[name, "normal", name, word] for name, word in zip(names, words, strict=True)]
    header = ["file", "label", "patient", "split"]
    table(pictures(tmp_path, *names) / "labels.csv", header, *rows)
    data = read(tmp_path)
    assert [r.split for r in data.records] == ["train", "val", "val", "val", "test", "test_site2"]
    table(tmp_path / "labels.csv", header, ["0.png", "normal", "p", "fold1"])
    with pytest.raises(AnnotationError, match=r"'split' is 'fold1': legal are train, training"):
        read(tmp_path)


@needs_shared("failing_inputs")
def test_a_stated_validation_part_is_used(tmp_path: Path) -> None:
    root = SHARED_DATA / "failing_inputs" / "06_split_named_valid"
    done = prepare("folder", root, tmp_path, size=64, workers=0)
    assert {n: c.n_patients for n, c in done.counts.items()} == {"train": 10, "val": 5, "test": 5}
    assert "divided: as published" in done.notes
    assert "note: words of the table: split 'valid' is val (5 rows)" in done.notes


def test_folders_that_cannot_be_opened_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    pictures(closed, "a.png")
    table(tmp_path / "labels.csv", ["file", "label", "patient"], ["closed/x.png", "normal", "p"])
    listed = os.listdir

    def refusing(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", refusing)
    with pytest.raises(DataError, match=r"closed: cannot be opened \(Permission denied\)"):
        read(tmp_path)


SEEN = ["Bild", "PatNr", "Histologie", "Seite", "Gesehen", "Zyste"]


def test_columns_that_say_what_is_visible_in_an_image(tmp_path: Path) -> None:
    """A breast with a cancer, of which one view shows it; views of which more or less is known."""
    pictures(tmp_path, *(f"{name}.png" for name in "abcdef"))
    rows = [
        ["a.png", "p1", "IDC", "L", "yes", ""],
        ["b.png", "p1", "IDC", "L", "0", "1"],
        ["c.png", "p2", "unknown", "L", "1", "no"],
        ["d.png", "p3", "unknown", "L", "", ""],
        ["e.png", "p4", "Cyst", "L", "TRUE", "1"],
        ["f.png", "p5", "normal", "L", "", "1"],
    ]
    table(tmp_path / "labels.csv", SEEN, *rows)
    own = mapping(
        tmp_path / "m.yaml", columns=COLUMNS, visible={"malignant": "GESEHEN", "benign": "Zyste"}
    )
    data = read(tmp_path, mapping=own, unboxed_benign="normal")
    assert [dict(record.labels) for record in data.records] == [
        {"malignant": True},
        {"malignant": False, "benign": True},
        {"malignant": True, "benign": False},
        {},
        {"malignant": True, "benign": True},
        {"benign": True},
    ]
    assert [record.supervision.value for record in data.records] == [
        *("image_label", "image_label", "image_label", "unlabelled", "image_label", "normal"),
    ]
    note = "5 images state in 'labels' what is visible: malignant visible in 3, not in 1; benign "
    assert f"{note}visible in 3, not in 1" in data.notes
    assert not any("left aside" in note for note in data.notes)
    # The same in a table of our own words, and of the breast as a whole.
    ours = ["file,patient,label,laterality,labels", "a.png,p1,malignant,L,malignant=1; benign=NO"]
    (tmp_path / "ours.csv").write_text("\n".join([*ours, "b.png,p1,malignant,L,"]))
    of_image, of_breast = read(tmp_path, table=tmp_path / "ours.csv").records
    assert dict(of_image.labels) == {"malignant": True, "benign": False}
    assert dict(of_breast.labels) == {}
    known = [
        bag_classes([of_image, of_breast], DataSettings(labels_per_item=1, label_bags=bags))
        for bags in ("image", "breast")
    ]
    assert known == [["malignant", None], ["malignant", "malignant"]]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("malignant,malignant", r"'labels' is 'malignant': legal is malignant=1;benign=0"),
        ("malignant,mass=1", "'labels' is 'mass=1': legal is"),
        ("malignant,malignant=1;malignant=0", "legal is malignant=1;benign=0"),
        ("normal,malignant=1", "an image that is normal shows nothing malignant"),
        ("malignant,malignant=0,1,1,5,5", "a row of this image is the box of something malignant"),
    ],
)
def test_labels_that_are_wrong(tmp_path: Path, row: str, problem: str) -> None:
    pictures(tmp_path, "a.png")
    boxed = ",,,," if row.count(",") == 1 else ""
    (tmp_path / "labels.csv").write_text(
        f"file,patient,label,labels,x1,y1,x2,y2\na.png,p1,{row}{boxed}"
    )
    with pytest.raises(AnnotationError, match=f"line 2.*{problem}"):
        read(tmp_path)


def test_a_word_that_says_nothing_of_what_is_visible(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    table(tmp_path / "labels.csv", SEEN, ["a.png", "p1", "IDC", "L", "maybe", ""])
    own = mapping(tmp_path / "m.yaml", columns=COLUMNS, visible={"malignant": "Gesehen"})
    with pytest.raises(AnnotationError, match=r"line 2: column 'gesehen' is 'maybe'.*legal are 1"):
        read(tmp_path, mapping=own)


def test_an_outline_alone_says_that_something_is_marked(tmp_path: Path) -> None:
    """A benign finding of BI-RADS 2 that has an outline and no corners is no normal image."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    table(
        tmp_path / "labels.csv",
        ["file", "patient", "birads", "outline"],
        ["a.png", "p1", "2", "1 1, 9 1, 9 9"],
        ["b.png", "p2", "2", ""],
        ["c.png", "p3", "5", "2 2, 8 2, 8 8"],
    )
    columns = {name: name for name in ("file", "patient", "birads", "outline")}
    said = mapping(tmp_path / "m.yaml", columns=columns, malignant_from="4")
    records = read(tmp_path, mapping=said).records
    found = [[(f.category, f.box) for f in record.findings] for record in records]
    assert found == [[("benign", (1, 1, 9, 9))], [], [("malignant", (2, 2, 8, 8))]]
    assert records[1].supervision is Supervision.NORMAL


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_letter_whatever_encoding_is_stated(
    tmp_path: Path, encoding: str
) -> None:
    pictures(tmp_path, "a.png")
    table(tmp_path / "labels.csv", ["file", "label"], ["a.png", "normal"], encoding="utf-8-sig")
    found = read_any_table(tmp_path / "labels.csv", ["file", "label"], encoding=encoding)
    assert (found.columns, found.encoding) == (("file", "label"), "utf-8")


def test_ages_of_tables_are_whole_years_that_somebody_can_have(tmp_path: Path) -> None:
    stated = ["61.0", "058Y", "414", "95", "unknown", "0"]
    pictures(tmp_path, *(f"{n}.png" for n in range(len(stated))))
    rows = [[f"{n}.png", "normal", f"p{n}", age] for n, age in enumerate(stated)]
    table(tmp_path / "labels.csv", ["file", "label", "patient", "Alter"], *rows)
    columns = {name: name for name in ("file", "label", "patient")}
    said = mapping(tmp_path / "m.yaml", columns=columns, attributes={"age": "Alter"})
    ages = [record.attributes.get("age") for record in read(tmp_path, mapping=said).records]
    assert ages == ["61", "58", None, "95", "unknown", "0"]
