"""VinDr-Mammo in miniature: its table in its real form, every trap and every refusal."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.source import SourceData
from simfrcnn.data.sources.vindr_mammo import read_vindr_mammo
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from support.data_examples import write_dicom
from support.tools import run_tool

pytestmark = pytest.mark.data

HEADER = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,"
    "breast_density,finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"
)
HEIGHT, WIDTH = 60, 40
NONE = "['No Finding']"
Rows = list[dict[str, Any]]


def row(study: str, image: str, birads: int, finding: str = NONE, **values: Any) -> dict[str, Any]:
    """A row as published: assessments in words, coordinates empty without a finding."""
    empty = dict.fromkeys(("finding_birads", "xmin", "ymin", "xmax", "ymax"), "")
    return {
        "study_id": study,
        "series_id": f"{study}-series",
        "image_id": image,
        "laterality": image[0].upper(),
        "view_position": image[1:].upper().split("-")[0],
        "height": HEIGHT,
        "width": WIDTH,
        "breast_birads": f"BI-RADS {birads}",
        "breast_density": "DENSITY C",
        "finding_categories": finding,
        **empty,
        "split": "training",
    } | values


def box(x1: float, y1: float, x2: float, y2: float, birads: str = "") -> dict[str, Any]:
    stated = f"BI-RADS {birads}" if birads else ""
    return {"finding_birads": stated, "xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2}


def published() -> Rows:
    mixed = "['Suspicious Calcification', 'Mass']"
    return [
        row("s1", "lcc-1", 1),
        row("s1", "lmlo-1", 1),
        row("s1", "rcc-1", 5, "['Mass']", **box(-6.25, 10.5, 20.75, 30, "5")),
        row("s1", "rmlo-1", 5),  # the mass is not seen in this view
        row("s2", "lcc-2", 2),
        row("s2", "rcc-2", 3, "['Focal Asymmetry']", **box(5, 5, 15, 25, "3")),
        row("s2", "rmlo-2", 3),
        row("s3", "lcc-3", 4, mixed, split="test", **box(1, 2, 11.5, 12, "4")),
        row("s3", "lcc-3", 4, "['Nipple Retraction']", split="test", **box(20, 20, 50, 70)),
        row("s3", "lmlo-3", 4, "['Skin Thickening']", split="test", **box(3, 3, 9, 9)),
        row("s3", "rcc-3", 2, "['Skin Retraction']", split="test", **box(3, 3, 9, 9)),
    ]


def write_table(root: Path, rows: Rows) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "finding_annotations.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER.split(","), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return root


def write_download(root: Path, rows: Rows | None = None) -> Path:
    rows = published() if rows is None else rows
    write_table(root, rows)
    for entry in rows:
        path = root / "images" / entry["study_id"] / f"{entry['image_id']}.dicom"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, np.full((HEIGHT, WIDTH), 9, np.uint16), Manufacturer="SIEMENS")
    return root


def read(root: Path, **options: Any) -> SourceData:
    return read_vindr_mammo(root, n_workers=0, **options)


def by_name(data: SourceData) -> dict[str, ImageRecord]:
    return {record.path.stem: record for record in data.records}


def test_what_is_known_of_each_image(tmp_path: Path) -> None:
    images = by_name(read(write_download(tmp_path)))
    boxes, normal, label = Supervision.BOXES, Supervision.NORMAL, Supervision.IMAGE_LABEL
    malignant, benign = Pathology.MALIGNANT, Pathology.BENIGN
    assert {name: (i.supervision, i.pathology) for name, i in images.items()} == {
        "lcc-1": (normal, Pathology.NORMAL),  # the other breast has the cancer
        "lmlo-1": (normal, Pathology.NORMAL),
        "rcc-1": (boxes, malignant),
        "rmlo-1": (label, malignant),
        "lcc-2": (normal, benign),
        "rcc-2": (boxes, benign),
        "rmlo-2": (label, benign),  # probably benign: not known to be normal
        "lcc-3": (boxes, malignant),
        "lmlo-3": (label, malignant),  # only a sign without an assessment
        "rcc-3": (boxes, benign),
    }


def test_boxes_are_clipped_and_counted(tmp_path: Path) -> None:
    data = read(write_download(tmp_path))
    images = by_name(data)
    assert [(f.box, f.category, f.finding_id) for f in images["rcc-1"].findings] == [
        ((0, 10.5, 20.75, 30), "malignant", 1)
    ]
    assert [(f.box, f.category, f.finding_id) for f in images["lcc-3"].findings] == [
        ((1, 2, 11.5, 12), "malignant", 3),
        ((20, 20, WIDTH, HEIGHT), "unassessed", 4),
    ]
    assert [f.pathology for f in images["lcc-3"].findings] == [Pathology.MALIGNANT, None]
    assert images["rcc-2"].findings[0].category == "benign"
    assert data.notes == (
        "patients are not published: each study counts as one",
        "2 boxes clipped to their image",
        "3 findings without an assessment of their own, boxed as unassessed",
    )


def test_who_and_which_view(tmp_path: Path) -> None:
    images = by_name(read(write_download(tmp_path)))
    record = images["lmlo-3"]
    assert (record.patient_id, record.exam_id, record.split) == ("s3", "s3", "test")
    assert images["lcc-1"].split == "train"
    assert (record.laterality, record.view_position) == (Laterality.LEFT, ViewPosition.MLO)
    assert record.pixel_spacing_mm == (0.07, 0.08)
    assert images["lcc-3"].attributes == {
        "birads": "4",
        "density": "C",
        "findings": "Suspicious Calcification,Mass,Nipple Retraction",
        "manufacturer": "SIEMENS",
    }
    assert [images[name].image_id for name in ("lcc-1", "rcc-3")] == [1, 10]


def test_the_rule_for_malignant_moves(tmp_path: Path) -> None:
    write_download(tmp_path)
    data = read(tmp_path, malignant_from=3)
    images = by_name(data)
    assert images["rcc-2"].findings[0].category == "malignant"
    assert images["rmlo-2"].pathology is Pathology.MALIGNANT
    assert "BI-RADS 3 or higher" in str(data.info["malignant_rule"])
    strict = by_name(read(tmp_path, malignant_from=5))
    assert strict["lcc-3"].findings[0].category == "benign"
    assert (strict["lmlo-3"].supervision, strict["lmlo-3"].pathology) == (
        Supervision.BOXES,
        Pathology.BENIGN,
    )
    with pytest.raises(ConfigError, match="BI-RADS 2: legal are 3, 4, 5"):
        read(tmp_path, malignant_from=2)


def test_a_finding_can_be_assessed_higher_than_its_breast(tmp_path: Path) -> None:
    rows = [
        row("s1", "lcc-1", 2, "['Mass']", **box(1, 1, 9, 9, "4")),
        row("s1", "lmlo-1", 2),
        row("s1", "rmlo-1", 2),
    ]
    data = read(write_download(tmp_path, rows))
    assert data.records[0].pathology is Pathology.MALIGNANT
    assert [record.supervision for record in data.records] == [
        Supervision.BOXES,
        Supervision.IMAGE_LABEL,  # the other view of that breast
        Supervision.NORMAL,
    ]
    assert "1 finding assessed higher than the breast, which counts as malignant" in data.notes


def test_missing_files_and_repeated_rows_are_told(tmp_path: Path) -> None:
    rows = published()
    write_download(tmp_path / "files" / "1.0.0", [*rows, rows[2], rows[0]])
    folder = tmp_path / "files" / "1.0.0" / "images"
    (folder / "s1" / "lcc-1.dicom").unlink()
    (folder / "s2" / "lcc-2.dicom").rename(folder / "s2" / "lcc-2.dcm")
    data = read(tmp_path)
    images = by_name(data)
    assert "lcc-1" not in images
    assert images["lcc-2"].path.suffix == ".dcm"
    assert [finding.finding_id for finding in images["rcc-1"].findings] == [1]
    assert images["rcc-3"].image_id == 10  # numbers do not depend on what is there
    assert "2 rows given twice, taken once" in data.notes
    assert "1 image of finding_annotations.csv is not there: lcc-1" in data.notes


def test_a_view_stays_doubtful_without_the_image_of_the_cancer(tmp_path: Path) -> None:
    rows = [row("s1", "lcc-1", 2, "['Mass']", **box(1, 1, 9, 9, "4")), row("s1", "lmlo-1", 2)]
    write_download(tmp_path, rows)
    (tmp_path / "images" / "s1" / "lcc-1.dicom").unlink()
    assert by_name(read(tmp_path))["lmlo-1"].supervision is Supervision.IMAGE_LABEL


def test_unreadable_images_are_told_at_once_and_left_out_when_asked(tmp_path: Path) -> None:
    write_download(tmp_path)
    for name in ("lcc-2", "rcc-2"):
        (tmp_path / "images" / "s2" / f"{name}.dicom").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"(?s)2 of 10 images.*--skip-unr.*lcc-2.*rcc-2\.dicom"):
        read(tmp_path)
    data = read(tmp_path, skip_unreadable=True)
    assert len(data.records) == 8
    assert "2 images that cannot be read, left out: lcc-2, rcc-2" in data.notes


def test_workers_give_the_same_records(tmp_path: Path) -> None:
    write_download(tmp_path, published()[:2])
    assert read_vindr_mammo(tmp_path, n_workers=2).records == read(tmp_path).records


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"finding_categories": "Mass"}, "'finding_categories' is 'Mass': it must be a list"),
        ({"finding_categories": "__import__('os')"}, "'finding_categories' .* must be a list"),
        ({"finding_categories": "[]"}, "'finding_categories' .* must be a list of names"),
        ({"finding_categories": "['Mass', 3]"}, "'finding_categories' .* must be a list of names"),
        ({"finding_categories": "['Mass', 'No Finding']"}, "must be a list of names"),
        ({"finding_categories": NONE}, "'finding_categories' .*but the row has a box"),
        ({"finding_birads": "BI-RADS 7"}, "'finding_birads' is 'BI-RADS 7': legal are BI-RADS 1"),
        ({"breast_birads": "4"}, "'breast_birads' is '4': legal are BI-RADS 1"),
        ({"breast_density": "C"}, "'breast_density' is 'C': legal are DENSITY A"),
        ({"laterality": "LEFT"}, "'laterality' is 'LEFT': legal are L, R"),
        ({"view_position": "ML"}, "'view_position' is 'ML': legal are CC, MLO"),
        ({"split": "validation"}, "'split' is 'validation': legal are training, test"),
        ({"xmin": ""}, "'xmin' is '': it must be a number"),
        ({"ymax": "nan"}, "'ymax' is 'nan': it must be a number"),
        ({"height": "60.5"}, "'height' is '60.5': it must be a whole number"),
        ({"xmin": 20, "xmax": 10}, r"the box \(20, 5, 10, 25\) is empty or lies outside"),
        ({"xmin": 45, "xmax": 50}, "is empty or lies outside its image, which is 40 wide"),
        ({"study_id": "../s2"}, "'study_id' is '../s2': it must be a plain name"),
        ({"image_id": ""}, "'image_id' is '': it must not be empty"),
        ({"height": 61}, r"the table says 61 x 40 .* has 60 x 40"),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    right = row("s2", "rcc-2", 3, "['Focal Asymmetry']", **box(5, 5, 15, 25, "3"))
    write_download(tmp_path, [right])
    write_table(tmp_path, [right | values])
    with pytest.raises(AnnotationError, match=rf"finding_annotations\.csv: line 2.*{problem}"):
        read(tmp_path)


def test_rows_of_one_image_that_contradict(tmp_path: Path) -> None:
    first = row("s2", "rcc-2", 3, "['Mass']", **box(5, 5, 15, 25, "3"))
    write_download(tmp_path, [first])
    for values, problem in (
        ({"breast_birads": "BI-RADS 4"}, "line 3: column 'breast_birads' .*line 2, of the same"),
        ({"split": "test"}, "line 3: column 'split' is 'test': line 2"),
        (row("s2", "rcc-2", 3), "both findings and 'No Finding'"),
    ):
        write_table(tmp_path, [first, first | values])
        with pytest.raises(AnnotationError, match=problem):
            read(tmp_path)


def test_downloads_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "gone")
    with pytest.raises(DataError, match=r"must hold one finding_annotations\.csv, found none"):
        read(tmp_path)
    write_table(tmp_path, published())
    with pytest.raises(DataError, match=r"none of the 10 images .*<image_id>\.dicom"):
        read(tmp_path)
    text = (tmp_path / "finding_annotations.csv").read_text()
    (tmp_path / "finding_annotations.csv").write_text(text.replace("finding_birads", "birads"))
    with pytest.raises(AnnotationError, match="line 1 has no column finding_birads"):
        read(tmp_path)
    write_download(tmp_path)
    (tmp_path / "images" / "s2" / "rcc-2.dicom").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"rcc-2\.dicom: not a DICOM file"):
        read(tmp_path)


def test_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = [row(f"s{number}", f"lcc-{number}", 1) for number in (4, 5)]
    root = write_download(tmp_path / "root", [*published(), *more])
    arguments = ["vindr_mammo", "--root", root, "--workers", 0]
    arguments += ["--fractions", "train=0.5", "val=0.5"]
    assert run_tool(monkeypatch, "prepare_data", *arguments, "--out", out) == 0
    sets = {name: read_coco(out / f"{name}.json") for name in ("train", "val", "test")}
    patients = {name: {r.patient_id for r in data.records} for name, data in sets.items()}
    assert patients["test"] == {"s3"}
    assert sorted([*patients["train"], *patients["val"]]) == ["s1", "s2", "s4", "s5"]
    assert "BI-RADS 4 or higher" in sets["test"].info["malignant_rule"]
    assert sets["test"].categories == {1: "malignant", 2: "benign", 3: "unassessed"}
    assert "note: 2 boxes clipped to their image" in capsys.readouterr().out
    arguments[2] = tmp_path / "gone"
    assert run_tool(monkeypatch, "prepare_data", *arguments, "--out", tmp_path / "other") == 2
    assert "error: " in capsys.readouterr().err


def test_an_id_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    write_download(tmp_path)
    write_table(tmp_path, [*published(), row("s1", "lcc-" + "x" * 300, 1)])
    data = read(tmp_path)
    assert len(data.records) == 10
    assert f"1 image of finding_annotations.csv is not there: lcc-{'x' * 300}" in data.notes
