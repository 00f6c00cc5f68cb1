"""A folder of one's own with a table: what it says, what headers fill in, every bad row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.folder.columns import COLUMNS
from simfrcnn.data.sources.folder.reader import FolderOptions, read_folder
from simfrcnn.data.sources.source import Reading, SourceData
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from support.data_examples import write_dicom
from support.tools import run_tool

pytestmark = pytest.mark.data

HEIGHT, WIDTH = 60, 40
Rows = list[dict[str, Any]]


def row(file: str, label: str, *box: float, **values: Any) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=False))
    return {"file": file, "label": label, **corners, **values}


def rows() -> Rows:
    """A DICOM exam of a malignant patient, and films of three others."""
    return [
        row("a/1.dcm", "malignant", 5, 10.5, 20, 30, lesion="L1"),
        row("a/1.dcm", "benign", 1, 1, 4, 4, density="C"),
        row("a/2.dcm", "malignant", lesion="L1"),
        row("a/3.dcm", "unlabelled"),
        row("b.png", "normal", patient="p2", laterality="L", view="MLO", exam="e2"),
        row("c/c.pgm", "benign", patient="p3"),
        row("d.png", "benign", 0, 0, 40, 60, patient="p4"),
        row("d.png", "benign", patient="p4"),
        row("e.png", "malignant", 2, 2, 9, 9, patient="p5"),
        row("e.png", "malignant", patient="p5"),
    ]


def write_table(root: Path, content: Rows, columns: tuple[str, ...] = COLUMNS) -> Path:
    with open(root / "labels.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(content)
    return root


def write_folder(root: Path, content: Rows | None = None) -> Path:
    content = rows() if content is None else content
    for file in {entry["file"] for entry in content}:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH)).astype(np.uint8)
        if path.suffix == ".dcm":
            side = {"1": "R", "2": "R", "3": "L"}.get(path.stem, "L")
            write_dicom(path, pixels.astype(np.uint16), ImageLaterality=side, ViewPosition="CC")
        else:
            cv2.imwrite(str(path), pixels)
    return write_table(root, content)


def read(root: Path, **options: Any) -> SourceData:
    how = Reading(skip_unreadable=options.pop("skip_unreadable", False), n_workers=0)
    return read_folder(root, FolderOptions(**options), how)


def by_name(data: SourceData) -> dict[str, ImageRecord]:
    return {record.path.name: record for record in data.records}


def test_what_is_known_of_each_image(tmp_path: Path) -> None:
    images = by_name(read(write_folder(tmp_path)))
    boxes, label = Supervision.BOXES, Supervision.IMAGE_LABEL
    assert {name: (i.supervision, i.pathology) for name, i in images.items()} == {
        "1.dcm": (boxes, Pathology.MALIGNANT),
        "2.dcm": (label, Pathology.MALIGNANT),
        "3.dcm": (Supervision.UNLABELLED, None),
        "b.png": (Supervision.NORMAL, Pathology.NORMAL),
        "c.pgm": (label, Pathology.BENIGN),
        "d.png": (boxes, Pathology.BENIGN),
        "e.png": (label, Pathology.MALIGNANT),  # one of its cancers has no box
    }
    assert not images["c.pgm"].is_known_normal(("malignant",))
    assert [(f.box, f.category, f.finding_id) for f in images["1.dcm"].findings] == [
        ((5, 10.5, 20, 30), "malignant", 1),
        ((1, 1, 4, 4), "benign", 2),
    ]
    assert images["1.dcm"].findings[0].lesion_id == "P7/L1"
    assert [f.finding_id for f in images["e.png"].findings] == [4]


def test_headers_fill_what_the_table_leaves_out(tmp_path: Path) -> None:
    images = by_name(read(write_folder(tmp_path)))
    dicom, film = images["1.dcm"], images["b.png"]
    assert (dicom.patient_id, dicom.exam_id) == ("P7", "1.2.3.4")
    assert (dicom.laterality, dicom.view_position) == (Laterality.RIGHT, ViewPosition.CC)
    assert dicom.pixel_spacing_mm == (0.07, 0.08)
    assert dicom.attributes["density"] == "C"
    assert (dicom.height, dicom.width) == (HEIGHT, WIDTH)
    assert (film.patient_id, film.exam_id) == ("p2", "p2/e2")
    assert (film.laterality, film.view_position) == (Laterality.LEFT, ViewPosition.MLO)
    assert images["c.pgm"].exam_id == "p3"
    assert images["c.pgm"].laterality is None


def test_the_table_is_followed_where_a_header_contradicts_it(tmp_path: Path) -> None:
    content = [
        row("a/1.dcm", "normal", laterality="L", view="MLO", patient="p1", exam="e1"),
        row("a/2.dcm", "normal", laterality="R", view="CC", patient="p1"),
    ]
    data = read(write_folder(tmp_path, content))
    first = data.records[0]
    assert (first.laterality, first.view_position) == (Laterality.LEFT, ViewPosition.MLO)
    assert (first.patient_id, first.exam_id) == ("p1", "p1/e1")
    what = "in the header than in the table, which was followed"
    assert data.notes == (
        f"1 image of another laterality {what}: a/1.dcm",
        f"1 image of another view {what}: a/1.dcm",
    )


def test_a_normal_view_of_a_breast_with_a_cancer_is_told(tmp_path: Path) -> None:
    content = [
        row("b.png", "malignant", patient="p", laterality="L"),
        row("c.png", "normal", patient="p", laterality="L"),
        row("d.png", "normal", patient="p", laterality="R"),
    ]
    data = read(write_folder(tmp_path, content))
    assert data.records[1].supervision is Supervision.NORMAL
    assert data.notes == ("1 image taken as normal, as stated, in a breast with a cancer: c.png",)


def test_what_unboxed_benign_images_are_is_a_choice(tmp_path: Path) -> None:
    data = read(write_folder(tmp_path), unboxed_benign="normal")
    assert by_name(data)["c.pgm"].supervision is Supervision.NORMAL
    assert by_name(data)["2.dcm"].supervision is Supervision.IMAGE_LABEL
    assert "known to hold no cancer" in str(data.info["benign_rule"])
    with pytest.raises(ConfigError, match="--unboxed-benign is 'boxes'; legal is image_label"):
        read(tmp_path, unboxed_benign="boxes")


def test_tables_as_spreadsheets_write_them(tmp_path: Path) -> None:
    write_folder(tmp_path, [row("c/c.png", "normal")])
    table = tmp_path / "elsewhere.csv"
    table.write_bytes(b"\xef\xbb\xbfFile; LABEL ;Patient;Nurse\r\nc\\c.png;normal;p1;x\r\n;;;\r\n")
    data = read(tmp_path, table=table, ignore_columns=("nurse",))
    assert data.records[0].patient_id == "p1"
    assert data.notes == ("1 column of the table left aside: nurse",)
    with pytest.raises(
        AnnotationError, match=r"elsewhere\.csv: line 1 .*column 'nurse'; known are "
    ):
        read(tmp_path, table=table)


def test_headers_that_tell_of_raw_values_and_burned_in_text(tmp_path: Path) -> None:
    write_folder(tmp_path)
    tags = {"PresentationIntentType": "FOR PROCESSING", "BurnedInAnnotation": "YES"}
    write_dicom(tmp_path / "a" / "1.dcm", np.zeros((40, 30), np.uint16), **tags)
    data = read(tmp_path)
    assert any(note.endswith("look at the pictures: a/1.dcm") for note in data.notes)
    records = by_name(data)
    assert records["1.dcm"].attributes == {"density": "C", "for_processing": "yes"}
    assert records["2.dcm"].attributes == {}


def test_images_without_a_row_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_table(tmp_path, rows()[:5])
    assert read(tmp_path).notes == (
        "3 images without a row of the table, not used: c/c.pgm, d.png, e.png",
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"file": ""}, "'file' is '': it must not be empty"),
        ({"file": "gone.png"}, "'file' is 'gone.png': there is no such file below the root"),
        ({"file": "../b.png"}, "'file' is '../b.png': it must be a path below the root"),
        ({"file": "/b.png"}, "'file' is '/b.png': it must be a path below the root"),
        ({"file": "bad.png"}, "'file' is 'bad.png': not a readable PNG"),
        ({"file": "bad.dcm"}, r"'file' is 'bad.dcm': not a DICOM file"),
        ({"label": "cancer"}, "'label' is 'cancer': legal are malignant, benign, normal, unlab"),
        ({"label": ""}, "'label' is '': legal are malignant"),
        ({"label": "normal"}, "'label' is 'normal': only malignant and benign findings have a"),
        ({"patient": ""}, "'patient' is '': who it is must stand here"),
        ({"laterality": "LEFT"}, "'laterality' is 'LEFT': legal are L, R"),
        ({"view": "LMLO"}, "'view' is 'LMLO': legal are CC, MLO, other"),
        ({"density": "3"}, "'density' is '3': legal are A, B, C, D"),
        ({"split": "my set"}, "'split' is 'my set': legal are train, training, val, valid"),
        ({"split": "test"}, "'split' is '': some images have one"),
        ({"x1": "ten"}, "'x1' is 'ten': it must be a number"),
        ({"x1": "1,500"}, "'x1' is '1,500': the comma can stand before decimals or after thou"),
        ({"x1": "1_5"}, "'x1' is '1_5': it must be a number, with a point"),
        ({"file": "."}, "'file' is '.': it must be a path below the root"),
        ({"file": "x" * 300}, "'file' is 'x+': there is no such file below the root"),
        ({"y2": ""}, "'y2' is '': a box needs x1, y1, x2 and y2"),
        ({"x2": 5}, "'x2' is '5': it must be above x1, which is 5"),
        ({"y2": 3}, "'y2' is '3': it must be above y1, which is 10"),
        ({"x1": -1}, "'x1' is '-1': the box leaves its image, .* at least 0"),
        ({"x2": 40.5}, "'x2' is '40.5': the box leaves its image, .* 40 wide .* at most 40"),
        ({"y2": 61}, "'y2' is '61': .* at most 60"),
    ],
)
def test_bad_rows(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    good = [row("b.png", "malignant", 5, 10, 20, 30, patient="p"), row("a/1.dcm", "normal")]
    write_folder(tmp_path, good)
    (tmp_path / "bad.png").write_bytes(b"cut off")
    (tmp_path / "bad.dcm").write_bytes(b"cut off")
    write_table(tmp_path, [good[0] | values, good[1]])
    line = 3 if "some images have one" in problem else 2
    with pytest.raises(
        AnnotationError, match=rf"(?s)labels\.csv: .*line {line}: column .*{problem}"
    ):
        read(tmp_path)


def test_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    content = [row(f"{n}.png", "cancer" if n % 2 else "normal", patient="p") for n in range(50)]
    write_table(tmp_path, content)
    both = r"(?s)50 errors:.*line 2: .*no such file.*line 3: .*'cancer'.*and 30 more"
    with pytest.raises(AnnotationError, match=both):
        read(tmp_path)
    with pytest.raises(AnnotationError, match=r"(?s)1 error:.*1\.png.*no such file"):
        read(
            write_table(
                write_folder(tmp_path, content[::2]), [content[0], content[1] | {"label": "normal"}]
            )
        )


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (
            row("b.png", "benign", 1, 1, 5, 5, patient="q"),
            "line 3: column 'patient' contradicts line 2",
        ),
        (row("b.png", "benign", 1, 1, 5, 5, laterality="R"), "'laterality' is 'R': line 2"),
        (row("b.png", "malignant", 5, 10, 20, 30), "line 3: column 'file' .*line 2 says the same"),
        (row("./b.png", "malignant", 5, 10, 20, 30), "line 3: column 'file' .*says the same"),
        (row("b.png", "normal"), "'label' is 'normal': an image that is normal has one row"),
        (row("b.png", "unlabelled"), "an image that is unlabelled has one row"),
    ],
)
def test_rows_of_one_image_that_contradict(
    tmp_path: Path, second: dict[str, Any], problem: str
) -> None:
    first = row("b.png", "malignant", 5, 10, 20, 30, patient="p", laterality="L")
    write_folder(tmp_path, [first])
    write_table(tmp_path, [first, second])
    with pytest.raises(AnnotationError, match=rf"(?s)labels\.csv: .*{problem}"):
        read(tmp_path)


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "gone")
    with pytest.raises(DataError, match=r"holds no labels\.csv and no labels\.xlsx: .*--table"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"other\.csv: cannot be opened"):
        read(tmp_path, table=tmp_path / "other.csv")
    for text, problem in (
        ("", "has no column file, label"),
        ("Bild;Art\nb.png;normal\n", r"columns are bild, art: say in a mapping file \(--mapping\)"),
        ("file,patient\nb.png,p\n", "line 1 has no column label"),
        ("file,label,file\nb.png,normal,b.png\n", "line 1 names 'file' twice"),
        ("file,label,laterallity\nb.png,normal,L\n", "unknown column 'laterallity'"),
        ("file,label\n", "has no row"),
        ("file,label\nb.png\n", "line 2: 1 value, but line 1 names 2 columns"),
        ('file,label\n"b.png,normal\n', "not a CSV table"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(AnnotationError, match=rf"labels\.csv: .*{problem}"):
            read(tmp_path)


def four_patients(**values: Any) -> Rows:
    """Two patients with a cancer and four without, two images each, in folders with names."""
    return [
        row(f"Doe^Jane/{n}_{view}.dcm", "malignant" if n < 2 else "normal",
            *((5, 5, 20, 30) if n < 2 else ()), patient=f"MRN{n}", view=view, **values)
        for n in range(6)
        for view in ("CC", "MLO")
    ]  # fmt: skip


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where keys and id maps go."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_tool_writes_pseudonyms(
    tmp_path: Path,
    private: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = write_folder(tmp_path / "root", four_patients()), tmp_path / "out"
    arguments = ["folder", "--root", root, "--out", out, "--workers", 0, "--size", 64]
    arguments += ["--fractions", "train=0.5", "test=0.5"]
    assert run_tool(monkeypatch, "prepare_data", *arguments, "--split", "published") == 2
    assert "12 of 12 images state no split" in capsys.readouterr().err
    assert run_tool(monkeypatch, "prepare_data", *arguments) == 0
    assert "divided: at random by patient, train=0.5 test=0.5" in capsys.readouterr().out
    sets = [read_coco(out / f"{name}.json") for name in ("train", "test")]
    assert [len(data.records) for data in sets] == [6, 6]
    assert sets[0].info["malignant_rule"] == "as the table says"
    for path in (path for path in out.rglob("*") if path.is_file()):
        for secret in ("MRN", "Doe", "Jane", "_CC", "root"):
            assert secret not in str(path.relative_to(out))
            assert secret.encode() not in path.read_bytes()
    maps = list(private.rglob("*.json"))
    assert len(maps) == 1
    assert "MRN1" in json.dumps(json.loads(maps[0].read_text()))


def test_the_tool_takes_the_split_of_the_table(
    tmp_path: Path,
    private: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = four_patients()
    for entry in content:
        n = int(entry["patient"][3:])
        entry["split"] = ("train", "test", "train", "val", "train", "test")[n]
    root, out = write_folder(tmp_path / "root", content), tmp_path / "out"
    arguments = ["folder", "--root", root, "--out", out, "--workers", 0, "--size", 64]
    assert run_tool(monkeypatch, "prepare_data", *arguments) == 0
    assert "divided: as published\n" in capsys.readouterr().out
    counts = {
        name: len(read_coco(out / f"{name}.json").records) for name in ("train", "val", "test")
    }
    assert counts == {"train": 6, "val": 2, "test": 4}
    write_table(root, [entry | {"patient": "MRN0"} for entry in content])
    again = [*arguments[:3], "--out", tmp_path / "2", "--workers", 0]
    assert run_tool(monkeypatch, "prepare_data", *again) == 2
    error = capsys.readouterr().err
    assert "share 1 patient " in error
    assert "MRN" not in error


def test_a_table_of_test_patients_alone(
    tmp_path: Path,
    private: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = write_folder(tmp_path / "root", four_patients(split="test")), tmp_path / "out"
    arguments = ["folder", "--root", root, "--out", out, "--workers", 0, "--size", 64]
    assert run_tool(monkeypatch, "prepare_data", *arguments, "--fractions", "train=1") == 2
    assert "divide the train part, and there are only test" in capsys.readouterr().err
    assert run_tool(monkeypatch, "prepare_data", *arguments) == 0
    assert [path.name for path in out.glob("*.json")] == ["test.json"]


def test_unreadable_images_are_left_out_when_asked(tmp_path: Path) -> None:
    content = [row("b.png", "normal", patient="p"), row("c.png", "normal", patient="q")]
    write_folder(tmp_path, content)
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(AnnotationError, match=r"--skip-unreadable:\n.*line 3.*not a readable PNG"):
        read(tmp_path)
    data = read(tmp_path, skip_unreadable=True)
    assert [record.path.name for record in data.records] == ["b.png"]
    assert data.notes == ("1 image that cannot be read, left out: c.png",)
    (tmp_path / "b.png").write_bytes(b"neither")
    with pytest.raises(AnnotationError, match="no image can be read"):
        read(tmp_path, skip_unreadable=True)


def test_equal_exam_numbers_of_two_patients_are_two_exams(tmp_path: Path) -> None:
    content = [row(f"{p}.png", "normal", patient=p, exam="1") for p in ("p", "q")]
    assert [r.exam_id for r in read(write_folder(tmp_path, content)).records] == ["p/1", "q/1"]


def test_one_patient_in_two_spellings(tmp_path: Path) -> None:
    spelt = [row("b.png", "normal", patient="M\u00fcller"), row("c.png", "normal", patient="X")]
    for other in ("m\u00fcller", "M\u00fcl ler"):
        write_folder(tmp_path, [*spelt, row("d.png", "normal", patient=other)])
        with pytest.raises(AnnotationError, match=r"line 4.* line 2 only in capitals") as caught:
            read(tmp_path)
        assert "ller" not in str(caught.value), "no message shows who it is"
    data = read(write_folder(tmp_path, [*spelt, row("d.png", "normal", patient="Mu\u0308ller")]))
    assert [r.patient_id for r in data.records] == ["M\u00fcller", "X", "M\u00fcller"]


def test_one_patient_by_the_header_and_others_by_the_table(tmp_path: Path) -> None:
    one, other = (row(f"a/{n}.dcm", "normal", patient=f"p{n}") for n in (1, 2))
    data = read(write_folder(tmp_path, [one, other]))
    assert [r.patient_id for r in data.records] == ["p1", "p2"]
    assert "with the same Patient ID in the header" in data.notes[0]
    write_table(tmp_path, [one, other | {"patient": ""}])
    with pytest.raises(AnnotationError, match=r"line 3: the header of a/2\.dcm .* them only"):
        read(tmp_path)


@pytest.mark.parametrize(("side", "is_normal"), [("L", False), ("", False), ("R", True)])
def test_benign_views_beside_a_cancer_are_not_normal_by_option(
    tmp_path: Path, side: str, is_normal: bool
) -> None:
    content = [
        row("b.png", "malignant", patient="p", laterality="L"),
        row("c.png", "benign", patient="p", laterality=side),
    ]
    data = read(write_folder(tmp_path, content), unboxed_benign="normal")
    assert data.records[1].is_known_normal(("malignant",)) is is_normal


def test_known_columns_are_not_left_aside(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--ignore-columns patient: a known column is read"):
        read(write_folder(tmp_path), ignore_columns=("patient",))


def test_outlines_of_a_table(tmp_path: Path) -> None:
    content = [
        row("a.png", "malignant", outline="5 10, 20 10, 12 30", patient="p1"),
        row("b.png", "malignant", 1, 1, 9, 9, outline="1 1, 9 1, 9 9; 3 3, 5 3, 5 5", patient="p2"),
        row("c.png", "normal", patient="p3"),
    ]
    images = by_name(read(write_folder(tmp_path, content)))
    (finding,) = images["a.png"].findings
    assert finding.outline == (((5.0, 10.0), (20.0, 10.0), (12.0, 30.0)),)
    assert finding.box == (5.0, 10.0, 20.0, 30.0)  # of the outline, where no corners are given
    assert len(images["b.png"].findings[0].outline) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"outline": "1 1, 9 9"}, "legal are x and y of three or more points"),
        ({"outline": "1 1, 9 nine, 3 3"}, "legal are x and y of three or more points"),
        ({"outline": "1 1, 90 1, 5 5"}, "leaves its image|the box leaves its image"),
        ({"outline": "1 1, 9 9, 9 1, 1 9"}, "it crosses itself"),
        ({"outline": "1 1, 9 1, 5 9", "x1": 1, "y1": 1, "x2": 20, "y2": 9}, "not that of x1 to y2"),
    ],
)
def test_outlines_of_a_table_that_are_none(tmp_path: Path, values: Any, message: str) -> None:
    content = [row("a.png", "malignant", patient="p1", **values)]
    with pytest.raises(AnnotationError, match=message):
        read(write_folder(tmp_path, content))
