"""One patient in several spellings is never taken for two, whichever way the data come in."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simfrcnn.data.sources.coco.source import CocoOptions, read_plain_coco
from simfrcnn.data.sources.folder.reader import FolderOptions, read_folder
from simfrcnn.data.sources.source import Reading, SourceData
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import Supervision
from support.data_examples import write_dicom

pytestmark = pytest.mark.data

PIXELS = np.random.default_rng(0).integers(0, 200, (60, 40)).astype(np.uint8)
HOW = Reading(n_workers=0)
SPELLINGS = [
    ("M12", "m 12"),
    ("0012", "12"),
    ("12.0", "12"),
    ("\uff11\uff12", "12"),
    ("p\u200b12", "P12"),
    ("p\u201112", "p-12"),
]
PEOPLE = [("P12", "P012"), ("12", "120"), ("1-2", "12"), ("1.5", "15"), ("0", "1")]


def folder(root: Path, *patients: str, header: str = "file,label,patient") -> SourceData:
    lines = [header]
    for number, patient in enumerate(patients, start=1):
        cv2.imwrite(str(root / f"{number}.png"), PIXELS)
        lines.append(f"{number}.png,normal,{patient}")
    (root / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return read_folder(root, FolderOptions(), HOW)


def coco(
    root: Path, *facts: dict[str, Any], findings: Sequence[dict[str, Any]] = ({},), **options: Any
) -> SourceData:
    """The first images have a box each, with further keys; one has it by default."""
    images = []
    for number, own in enumerate(facts, start=1):
        cv2.imwrite(str(root / f"{number}.png"), PIXELS)
        images.append({"id": number, "file_name": f"{number}.png", **own})
    document = {
        "images": images,
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 9, 9], **own}
            for n, own in enumerate(findings, start=1)
        ],
        "categories": [{"id": 1, "name": "malignant"}],
    }
    (root / "x.json").write_text(json.dumps(document))
    return read_plain_coco(root, CocoOptions(unboxed="normal", **options), HOW)


def patients_of(data: SourceData) -> list[str]:
    return [record.patient_id for record in data.records]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_two_spellings_are_refused(tmp_path: Path, one: str, other: str) -> None:
    said = "only in capitals, blanks, dashes, zeros, widths of letters or invisible letters: spell "
    said += "both alike, or, of two patients, give"
    with pytest.raises(AnnotationError, match=rf"line 4: .* 3\.png .* line 2 {said}") as caught:
        folder(tmp_path, one, "x", other)
    shown = str(caught.value).replace(str(tmp_path), "")
    for patient in (one, other):
        assert not re.search(rf"(?<!\w){re.escape(patient)}(?!\w)", shown), "names are not shown"
    with pytest.raises(AnnotationError, match=rf"3\.png.*differs from.*1\.png\) {said}"):
        coco(tmp_path, {"patient_id": one}, {"patient_id": "x"}, {"patient_id": other})


@pytest.mark.parametrize(("one", "other"), PEOPLE)
def test_two_patients_stay_two(tmp_path: Path, one: str, other: str) -> None:
    assert patients_of(folder(tmp_path, one, other)) == [one, other]
    assert patients_of(coco(tmp_path, {"patient_id": one}, {"patient_id": other})) == [one, other]


def test_a_header_in_another_spelling_is_the_same_patient(tmp_path: Path) -> None:
    """The table names one of them, and the header of another has leading zeros."""
    for name, patient in (("a", "0012"), ("b", "12")):
        write_dicom(tmp_path / f"{name}.dcm", PIXELS.astype(np.uint16), PatientID=patient)
    (tmp_path / "labels.csv").write_text("file,label,patient\na.dcm,normal,p1\nb.dcm,normal,\n")
    with pytest.raises(AnnotationError, match=r"line 3: the header of b\.dcm has the Patient ID"):
        read_folder(tmp_path, FolderOptions(), HOW)


ROUNDED = ["1.23457E+15", "1E+15", "1.23457E15", "-1.2E+15", "1.E+15", "1,2e+15"]


@pytest.mark.parametrize("rounded", ROUNDED)
def test_numbers_that_a_spreadsheet_has_rounded_are_no_names(tmp_path: Path, rounded: str) -> None:
    with pytest.raises(AnnotationError, match=r"2 errors:\n.* line 2: column 'patient' is a num"):
        folder(tmp_path, f'"{rounded}"', f'"{rounded}"', "1E5")


@pytest.mark.parametrize("number", [1.2345678901234568e18, 1234567890123450, 10**30])
def test_long_numbers_of_a_sheet_are_no_names(tmp_path: Path, number: float) -> None:
    """A spreadsheet keeps 15 digits."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    kept = ["2.png", "normal", 123456789012345]
    for values in (["file", "label", "patient"], ["1.png", "normal", number], kept):
        book.active.append(values)
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), PIXELS)
    book.save(tmp_path / "labels.xlsx")
    with pytest.raises(AnnotationError, match=r"1 error:\n.*column 'patient' is a number that"):
        read_folder(tmp_path, FolderOptions(), HOW)


NOBODY = [
    *("nan", "-nan", "NaT", "<NA>", "None", "(null)", r"\N", "n/a"),
    *("#N/A", "#NV", "#REF!", "#NAME?", "#\u00a1REF!", "#\u00bfNOMBRE?", "#\u00dcBERLAUF!"),
]


@pytest.mark.parametrize("nobody", NOBODY)
def test_what_programs_write_for_nothing_is_no_patient(tmp_path: Path, nobody: str) -> None:
    said = "is what programs write where nothing is known: leave it empty"
    with pytest.raises(AnnotationError, match=f"line 2: column 'patient' {said}"):
        folder(tmp_path, nobody, "p")
    with pytest.raises(AnnotationError, match=rf"1\.png\): 'patient_id' {said}"):
        coco(tmp_path, {"patient_id": nobody}, {"patient_id": "p"})


def test_short_ids_are_patients(tmp_path: Path) -> None:
    names = ["NA", "#12", "-", "1E5", "nana", "Nat"]
    assert patients_of(folder(tmp_path, *names)) == names
    assert patients_of(coco(tmp_path, *({"patient_id": name} for name in names))) == names


@pytest.mark.parametrize("column", ["patient", "exam", "lesion"])
def test_what_r_writes_for_nothing_joins_no_images(tmp_path: Path, column: str) -> None:
    header = ["file", "label", "patient", "x1", "y1", "x2", "y2"]
    rows = [
        {"file": f"{n}.png", "label": "malignant", "patient": f"p{n}"}
        | {"x1": 1, "y1": 1, "x2": 9, "y2": 9, column: "NA"}
        for n in (1, 2)
    ]
    for n in (1, 2):
        cv2.imwrite(str(tmp_path / f"{n}.png"), PIXELS)
    names = list(dict.fromkeys([*header, column]))
    lines = [",".join(str(row.get(name, "")) for name in names) for row in rows]
    (tmp_path / "labels.csv").write_text("\n".join([",".join(names), *lines]))
    said = "stands for 2 images, and is what R writes where nothing is known: leave it empty"
    with pytest.raises(AnnotationError, match=f"1 error:\n.*line 2: column '{column}' {said}"):
        read_folder(tmp_path, FolderOptions(), HOW)


@pytest.mark.parametrize("key", ["patient_id", "exam_id", "lesion_id"])
def test_names_of_coco_files_that_are_nobody_s(tmp_path: Path, key: str) -> None:
    def read(*values: object) -> SourceData:
        facts = [{"patient_id": f"p{n}", "exam_id": f"e{n}"} for n in range(len(values))]
        if key != "lesion_id":
            facts = [{**own, key: value} for own, value in zip(facts, values, strict=True)]
        return coco(tmp_path, *facts, findings=[{key: value} for value in values])

    for value, said in {
        7.5: "is a number with decimals; a text or a whole number is legal",
        1.2345678901234567e18: "is a number so long that its digits are lost; a text or a",
        True: "is true or false; a text",
        "#N/A": "is what programs write",
    }.items():
        with pytest.raises(AnnotationError, match=f"x.json: .*: '{key}' {said}"):
            read(value, "x")
    with pytest.raises(AnnotationError, match=rf"1\.png\): '{key}' stands for 2 images, and is"):
        read("NA", "NA")
    one, other = read("NA", 7.0).records
    found = [
        (record.patient_id, record.exam_id, record.findings[0].lesion_id) for record in (one, other)
    ]
    index = ["patient_id", "exam_id", "lesion_id"].index(key)
    assert [names[index] for names in found] == ["NA", "7"]


def test_composed_letters_are_one_exam_and_no_contradiction(tmp_path: Path) -> None:
    composed, decomposed = "\u00e9", unicodedata.normalize("NFD", "\u00e9")
    cv2.imwrite(str(tmp_path / "1.png"), PIXELS)
    (tmp_path / "labels.csv").write_text(
        "file,label,patient,exam,x1,y1,x2,y2\n"
        f"1.png,malignant,{composed},{composed},1,1,9,9\n"
        f"1.png,benign,{decomposed},{decomposed},11,11,19,19\n",
        encoding="utf-8",
    )
    (record,) = read_folder(tmp_path, FolderOptions(), HOW).records
    assert (record.exam_id, len(record.findings)) == (f"{composed}/{composed}", 2)


def test_numbers_of_coco_files_are_one_patient(tmp_path: Path) -> None:
    facts = [{"patient_id": p, "exam_id": e} for p, e in ((7, 1), (7.0, 1.0), ("7 ", "1"), (0, 2))]
    data = coco(tmp_path, *facts)
    assert patients_of(data) == ["7", "7", "7", "0"]
    assert [record.exam_id for record in data.records] == ["1", "1", "1", "2"]


@pytest.mark.parametrize("nobody", [" ", None, float("nan")])
def test_patients_whom_a_coco_file_does_not_name_are_asked_for(
    tmp_path: Path, nobody: object
) -> None:
    with pytest.raises(ConfigError, match=r"--patient image \| key NAME"):
        coco(tmp_path, {"patient_id": nobody}, {"patient_id": "p"})
    with pytest.raises(ConfigError, match=r"--patient: 1 of 2 images have no key 'pat"):
        coco(tmp_path, {"patient_id": nobody}, {"patient_id": "p"}, patient=("key", "patient_id"))


def test_what_is_no_name_of_a_patient(tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"1\.png\): 'patient_id' is a list; a text or a whole"
    ):
        coco(tmp_path, {"patient_id": ["p"]}, {"patient_id": "p"})
    with pytest.raises(ConfigError, match=r"--patient: the pattern .* is not in 1 of 2 file names"):
        coco(tmp_path, {}, {}, patient=("from-name", r"(?P<patient>1)?\.png"))


def test_files_whose_names_differ_in_capitals_are_two_patients(tmp_path: Path) -> None:
    for name in ("a.png", "A.png"):
        cv2.imwrite(str(tmp_path / name), PIXELS)
    images = [{"file_name": "a.png"}, {"file_name": "A.png"}]
    assert patients_of(coco(tmp_path, *images, patient=("image",))) == ["a.png", "A.png"]


def test_equal_exam_ids_of_two_patients_are_two_exams(tmp_path: Path) -> None:
    """And a cancer of one of them says nothing of the other's views."""
    facts = [{"patient_id": p, "exam_id": "1"} for p in ("p", "p", "q")]
    data = coco(tmp_path, *facts)
    assert [record.exam_id for record in data.records] == ["p/1", "p/1", "q/1"]
    boxes, label, normal = Supervision.BOXES, Supervision.IMAGE_LABEL, Supervision.NORMAL
    assert [record.supervision for record in data.records] == [boxes, label, normal]
    assert (
        "1 exam_id is of several patients, each an exam of its own; images of it: 1.png"
    ) in data.notes


EXAM = r"(?P<exam>\w)_"


@pytest.mark.parametrize(
    ("sides", "kinds"),
    [
        ("LLR", ["boxes", "image_label", "normal"]),
        (None, ["boxes", "image_label", "image_label"]),
    ],
)
@pytest.mark.parametrize("by", ["exam_id", "name", "header"])
def test_views_of_an_exam_whose_images_count_as_patients(
    tmp_path: Path, by: str, sides: str | None, kinds: list[str]
) -> None:
    """One exam, of which the first view is boxed; and one view of another exam."""
    suffix = "dcm" if by == "header" else "png"
    images: list[dict[str, Any]] = []
    for number, exam in enumerate("eeef"):
        images.append({"file_name": f"{exam}_{number}.{suffix}"})
        if sides:
            images[-1]["laterality"] = (sides + "L")[number]
        if by == "exam_id":
            images[-1]["exam_id"] = exam
        if by == "header":
            own = {"StudyInstanceUID": f"1.2.{ord(exam)}", "ImageLaterality": None}
            path = tmp_path / images[-1]["file_name"]
            write_dicom(path, PIXELS.astype(np.uint16), Laterality=None, **own)
        else:
            cv2.imwrite(str(tmp_path / images[-1]["file_name"]), PIXELS)
    views = {"views": EXAM} if by == "name" else {}
    data = coco(tmp_path, *images, patient=("image",), **views)
    assert [record.supervision.value for record in data.records] == [*kinds, "normal"]
    assert len({record.exam_id for record in data.records}) == 4, "each is of a patient of its own"
    assert not any("of several patients" in note for note in data.notes)


def test_no_picture_is_left(tmp_path: Path) -> None:
    names = ("a.dcm", "b.dcm")
    for name in names:
        write_dicom(tmp_path / name, PIXELS.astype(np.uint16), ViewPosition="MCC")
    images = [{"file_name": name, "patient_id": "p"} for name in names]
    said = r"no image is left: 2 pictures left out \(--all-views keeps them\)"
    with pytest.raises(DataError, match=said):
        coco(tmp_path, *images)


def test_ages_of_coco_files_are_those_that_somebody_can_have(tmp_path: Path) -> None:
    stated = {60: "60", 414: "", "61.0": "61", 60.5: "60", 414.5: "", "58 ": "58", "-1": ""}
    for name in ("age", "Age"):
        facts = [{"patient_id": f"p{age}", "attributes": {name: age}} for age in stated]
        ages = [record.attributes.get(name, "") for record in coco(tmp_path, *facts).records]
        assert ages == list(stated.values())


def test_attributes_that_say_nothing_are_none(tmp_path: Path) -> None:
    own = {"age": float("nan"), "site": "  ", "unit": "", "room": None, "device": "x"}
    (record,) = coco(tmp_path, {"patient_id": "p", "attributes": own}).records
    assert record.attributes == {"device": "x"}


def test_ages_of_a_table_are_whole_years(tmp_path: Path) -> None:
    ages = {"60.5": "60", "414.5": "", "nan": "", "058y": "58", "50-59": "50-59"}
    lines = ["file,label,patient,years"]
    for number, age in enumerate(ages):
        cv2.imwrite(str(tmp_path / f"{number}.png"), PIXELS)
        lines.append(f"{number}.png,normal,p{number},{age}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "columns: {file: file, label: label, patient: patient}\nattributes: {Age: years}\n"
    )
    data = read_folder(tmp_path, FolderOptions(mapping=mapping), HOW)
    assert [record.attributes.get("Age", "") for record in data.records] == list(ages.values())


def test_one_picture_under_two_names_is_not_two(tmp_path: Path) -> None:
    """A link, so that one picture would be of two patients and in two splits."""
    cv2.imwrite(str(tmp_path / "1.png"), PIXELS)
    (tmp_path / "2.png").symlink_to("1.png")
    (tmp_path / "labels.csv").write_text("file,label,patient\n1.png,normal,p\n2.png,normal,q\n")
    with pytest.raises(AnnotationError, match=r"line 3: .* '2\.png': it is the file of line 2 by"):
        read_folder(tmp_path, FolderOptions(), HOW)
    (tmp_path / "3.png").symlink_to("1.png")
    names = [{"file_name": "1.png"}, {"file_name": "3.png"}]
    with pytest.raises(DataError, match=r"1 file is listed twice: .*3\.png"):
        coco(tmp_path, *names, patient=("image",))
