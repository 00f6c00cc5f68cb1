"""INbreast in miniature: its table, names and property lists in their real form, every defect."""

from __future__ import annotations

import plistlib
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.inbreast import KINDS, Roi, read_inbreast, read_rois
from simfrcnn.data.sources.source import SourceData
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.outlines import fits, problem_of
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from support.data_examples import write_dicom
from support.tools import run_tool

pytestmark = pytest.mark.data

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
HEIGHT, WIDTH = 60, 40
A, B, C = "6c613a14b80a8591", "61b13c59bcba149e", "d8205a09c8173f44"
Points = list[tuple[float, float]]
MASS: Points = [(10.5, 20.25), (18.75, 30.5), (12, 33.5)]
CLUSTER: Points = [(2, 2), (8, 2), (8, 9), (2, 9)]

# Number, patient, side, view in the table, view in the name, date, ACR, BI-RADS, outlines.
Image = tuple[int, str, str, str, str, str, str, str, list[tuple[str, Points]] | None]
IMAGES: tuple[Image, ...] = (
    (20586908, A, "R", "CC", "CC", "201001", "1", "1", None),
    (20586934, A, "L", "MLO", "ML", "201001", "1", "2", None),
    (20586960, A, "R", "MLO", "ML", "201101", "     ", "2", [("Calcification", [(7.5, 8.5)])]),
    (20586986, B, "L", "CC", "CC", "200812", "3", "3", None),
    (20587012, B, "L", "MLO", "ML", "200812", "3", "3", [("Mass", MASS), ("Cluster", CLUSTER)]),
    (20587054, B, "R", "FB", "FB", "200812", "3", "4a", [("Mass", MASS)]),
    (20587080, C, "L", "CC", "CC", "200901", "2", "5", [("Calcifications", [(3, 3), (5, 6)])]),
    (20587148, C, "L", "MLO", "ML", "200901", "2", "5", [("Mass", MASS), ("Assymetry", [(1, 1)])]),
    (20587174, C, "R", "CC", "CC", "200901", "2", "6", None),
)


def changed(number: int, place: int, value: object) -> tuple[Image, ...]:
    """:data:`IMAGES` with another value at one place of one image."""
    return tuple(
        (*image[:place], value, *image[place + 1 :]) if image[0] == number else image
        for image in IMAGES
    )  # type: ignore[return-value]


def rows_of(images: tuple[Image, ...]) -> list[str]:
    return [
        f"removed;removed;{side};{view};{date};{number};{acr};{birads}"
        for number, _, side, view, _, date, acr, birads, _ in images
    ]


def plist(outlines: list[tuple[str, Points]]) -> bytes:
    """What a workstation exports, with the keys that nobody reads."""
    rois = [
        {
            "Area": 1.5,
            "Center": "(1.0, 2.0, 0.0)",
            "IndexInImage": index,
            "Name": name,
            "NumberOfPoints": len(points),
            "Point_mm": [f"({x * 0.07:f}, {y * 0.07:f}, 0.0)" for x, y in points],
            "Point_px": [f"({x:f}, {y:f})" for x, y in points],
            "Type": 15,
        }
        for index, (name, points) in enumerate(outlines)
    ]
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]})


def name_of(image: Image) -> str:
    number, patient, side, _, view, *_ = image
    return f"{number}_{patient}_MG_{side}_{view}_ANON.dcm"


def write_release(folder: Path, images: tuple[Image, ...] = IMAGES) -> Path:
    """A folder that holds the release, as it is unpacked."""
    release = folder / "INbreast Release 1.0"
    for name in ("AllDICOMs", "AllXML"):
        (release / name).mkdir(parents=True)
    (release / "INbreast.csv").write_text("\r\n".join([HEADER, *rows_of(images), ""]))
    for image in images:
        write_dicom(
            release / "AllDICOMs" / name_of(image),
            np.full((HEIGHT, WIDTH), image[0] % 4000, np.uint16),
            PatientID="removed",
        )
        if image[-1] is not None:
            (release / "AllXML" / f"{image[0]}.xml").write_bytes(plist(image[-1]))
    (release / "AllXML" / "._20586908.xml").write_bytes(b"a shadow that a file system left")
    return folder


def by_number(data: SourceData) -> dict[int, ImageRecord]:
    return {record.image_id: record for record in data.records}


def test_what_is_known_of_each_image(tmp_path: Path) -> None:
    images = by_number(read_inbreast(write_release(tmp_path)))
    boxes, normal, label = Supervision.BOXES, Supervision.NORMAL, Supervision.IMAGE_LABEL
    malignant, benign = Pathology.MALIGNANT, Pathology.BENIGN
    assert {n: (i.supervision, i.pathology) for n, i in images.items()} == {
        20586908: (normal, Pathology.NORMAL),  # BI-RADS 1, nothing drawn
        20586934: (normal, benign),  # BI-RADS 2, nothing drawn
        20586960: (boxes, benign),  # BI-RADS 2, drawn, but of no kind that is asked for
        20586986: (label, benign),  # BI-RADS 3, nothing drawn: not known to be normal
        20587012: (boxes, benign),
        20587054: (boxes, malignant),
        20587080: (label, malignant),  # only single calcifications
        20587148: (label, malignant),  # an asymmetry of one point: the boxes are not complete
        20587174: (label, malignant),  # nothing drawn
    }


def test_boxes_go_round_fractional_points(tmp_path: Path) -> None:
    images = by_number(read_inbreast(write_release(tmp_path)))
    assert [(f.box, f.category, f.finding_id) for f in images[20587012].findings] == [
        ((10.5, 20.25, 18.75, 33.5), "benign", 1),
        ((2, 2, 8, 9), "benign", 2),
    ]
    assert [(f.box, f.category, f.finding_id) for f in images[20587054].findings] == [
        ((10.5, 20.25, 18.75, 33.5), "malignant", 3)
    ]
    assert images[20587054].findings[0].pathology is Pathology.MALIGNANT
    assert images[20587054].findings[0].lesion_id is None


def test_who_and_which_view(tmp_path: Path) -> None:
    images = by_number(read_inbreast(write_release(tmp_path)))
    assert [images[n].patient_id for n in (20586908, 20586934, 20587174)] == [A, A, C]
    assert images[20586908].exam_id == images[20586934].exam_id == f"{A}-201001"
    assert images[20586960].exam_id == f"{A}-201101"
    assert images[20586934].laterality is Laterality.LEFT
    assert images[20586934].view_position is ViewPosition.MLO
    assert images[20587054].view_position is ViewPosition.OTHER
    assert images[20586934].pixel_spacing_mm == (0.07, 0.08)
    assert (images[20586908].height, images[20586908].width) == (HEIGHT, WIDTH)
    assert images[20587012].attributes == {
        "birads": "3",
        "density": "3",
        "findings": "mass,cluster",
    }
    assert "density" not in images[20586960].attributes  # only blanks in the table


def test_the_rule_for_malignant_moves(tmp_path: Path) -> None:
    write_release(tmp_path)
    data = read_inbreast(tmp_path, malignant_from="5")
    images = by_number(data)
    assert images[20587054].pathology is Pathology.BENIGN
    assert images[20587054].findings[0].category == "benign"
    assert images[20587080].pathology is Pathology.MALIGNANT
    assert "BI-RADS 5 or higher" in str(data.info["malignant_rule"])
    lower = by_number(read_inbreast(tmp_path, malignant_from="3"))
    assert lower[20587012].pathology is Pathology.MALIGNANT
    assert lower[20587012].is_positive(("malignant",))
    assert (lower[20586986].supervision, lower[20586986].pathology) == (
        Supervision.IMAGE_LABEL,
        Pathology.MALIGNANT,
    )
    assert lower[20586934].supervision is Supervision.NORMAL


def test_kinds_that_are_asked_for(tmp_path: Path) -> None:
    data = read_inbreast(write_release(tmp_path), kinds=["calcification", "mass"])
    images = by_number(data)
    assert [f.box for f in images[20587080].findings] == [(3, 3, 5, 6)]
    assert images[20587080].supervision is Supervision.BOXES
    assert images[20587148].supervision is Supervision.BOXES  # the asymmetry is not asked for
    assert [f.box for f in images[20587012].findings] == [(10.5, 20.25, 18.75, 33.5)]
    assert images[20586960].findings == ()  # a benign point
    assert data.info["kinds"] == ["mass", "calcification"]
    assert len(KINDS) == 6


def test_what_is_repaired_or_missing_is_told(tmp_path: Path) -> None:
    images = changed(20587054, 8, [("Mass", [(-3.5, 5), (9, 70)]), ("Point 1", [(1, 1)])])
    write_release(tmp_path, images)
    release = tmp_path / "INbreast Release 1.0"
    dicoms = release / "AllDICOMs"
    (dicoms / name_of(IMAGES[0])).unlink()
    (dicoms / name_of(IMAGES[1])).rename(dicoms / f"99999999_{A}_MG_L_ML_ANON.dcm")
    (dicoms / name_of(IMAGES[3])).rename(dicoms / f"20586986_{B}_MG_R_CC_ANON.dcm")
    (release / "AllXML" / "77777777.xml").write_bytes(plist([]))
    (release / "AllXML" / "20586908.xml").write_bytes(plist([("Mass", MASS)]))
    data = read_inbreast(tmp_path)
    records = by_number(data)
    assert records[20587054].findings[0].box == (0, 5, 9, HEIGHT)
    assert records[20586986].laterality is Laterality.LEFT
    assert set(data.notes) == {
        "1 image whose outlines were clipped to the image: 20587054",
        "1 image with outlines of unknown names (Unnamed, Point 1 ...), not boxed: 20587054",
        "1 image with outlines of one point or line, which have no box: 20587148",
        "2 malignant images without a box of the kinds asked for: 20587080, 20587174",
        "1 image whose file names the other breast than the table, which was followed: 20586986",
        "2 rows of INbreast.csv without an image: 20586908, 20586934",
        "1 image without a row, not used: 99999999",
        "1 XML file without a row, not used: 77777777",
    }


def test_outlines_of_a_negative_image_are_told(tmp_path: Path) -> None:
    data = read_inbreast(write_release(tmp_path, changed(20586908, 8, [("Mass", MASS)])))
    record = by_number(data)[20586908]
    assert (record.supervision, len(record.findings)) == (Supervision.BOXES, 1)
    assert "1 image of BI-RADS 1 with outlines: 20586908" in data.notes


def test_a_view_is_not_normal_where_the_other_shows_a_cancer(tmp_path: Path) -> None:
    data = read_inbreast(write_release(tmp_path, changed(20586934, 7, "5")))
    assert by_number(data)[20586934].pathology is Pathology.MALIGNANT
    assert by_number(data)[20586908].supervision is Supervision.NORMAL  # the other breast
    images = changed(20586960, 5, "201001")
    write_release(
        tmp_path / "2", tuple(i if i[0] != 20586908 else (*i[:7], "4c", *i[8:]) for i in images)
    )
    data = read_inbreast(tmp_path / "2")
    doubtful = by_number(data)[20586960]
    assert (doubtful.supervision, doubtful.pathology) == (
        Supervision.IMAGE_LABEL,
        Pathology.BENIGN,
    )
    what = "image that is not malignant, but another view of its breast is: image_label"
    assert f"1 {what}: 20586960" in data.notes


def test_spellings_of_names() -> None:
    point = ((1.0, 2.0),)
    names = ("Mass", "Calcifications", "Assymetry", "Espiculated Region", "Spiculated region")
    assert [Roi(name, point).kind for name in names] == [
        "mass",
        "calcification",
        "asymmetry",
        "spiculated",
        "spiculated",
    ]
    assert Roi("Unnamed", point).kind is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<plist><dict>", "not a readable property list"),
        (b"", "not a readable property list"),
        (b"no XML", "not a readable property list"),
        (
            b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><plist><dict/></plist>',
            "not a readable property list",
        ),
        (plistlib.dumps([1]), "must hold 'Images', one"),
        (plistlib.dumps({"Images": []}), "must hold 'Images', one"),
        (plistlib.dumps({"Images": [{"ROIs": "none"}]}), "with a list of 'ROIs'"),
        (plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass"}]}]}), "ROI 1: 'Point_px' must be"),
        (
            plistlib.dumps({"Images": [{"ROIs": [{"Point_px": ["(1, 2)", "(1)"]}]}]}),
            r"ROI 1: '\(1\)' is no point",
        ),
        (
            plistlib.dumps({"Images": [{"ROIs": [{"Point_px": ["(1, nan)"]}]}]}),
            r"ROI 1: '\(1, nan\)' is no point",
        ),
    ],
)
def test_outlines_that_are_none(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "20586908.xml"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=rf"20586908\.xml: .*{problem}"):
        read_rois(path)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (7, "7", r"line 6: column 'bi-rads' is '7': legal are 1, 2, 3, 4a"),
        (7, "4", r"line 6: column 'bi-rads' is '4': legal are"),
        (2, "X", r"line 6: column 'laterality' is 'X': legal are L, R"),
        (3, "", r"line 6: column 'view' is '': it must not be empty"),
        (8, [("Mass", [(50, 5), (55, 9)])], r"20587012\.xml: .*'Mass'.* lies outside its image"),
    ],
)
def test_rows_and_outlines_that_are_wrong(
    tmp_path: Path, place: int, value: object, problem: str
) -> None:
    images = changed(20587012, place, value)
    write_release(tmp_path)
    release = tmp_path / "INbreast Release 1.0"
    (release / "INbreast.csv").write_text("\n".join([HEADER, *rows_of(images)]))
    image = images[4]
    assert image[-1] is not None
    (release / "AllXML" / "20587012.xml").write_bytes(plist(image[-1]))
    with pytest.raises(AnnotationError, match=problem):
        read_inbreast(tmp_path)


def test_tables_that_are_none(tmp_path: Path) -> None:
    write_release(tmp_path)
    table = tmp_path / "INbreast Release 1.0" / "INbreast.csv"
    rows = rows_of(IMAGES)
    for lines, problem in (
        ([HEADER.replace("Bi-Rads", "BIRADS"), *rows], "line 1 has no column bi-rads"),
        ([HEADER, *rows, rows[0]], "line 11: column 'file name' .*line 2 is of the same image"),
        ([HEADER, rows[0] + ";more"], "line 2: 9 values, but line 1 names 8 columns"),
        ([HEADER], "has no row"),
        ([HEADER, rows[0].replace("20586908", "one")], "line 2: column 'file name' is 'one'"),
    ):
        table.write_text("\n".join(lines))
        with pytest.raises(AnnotationError, match=rf"INbreast\.csv: {problem}"):
            read_inbreast(tmp_path)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_inbreast(tmp_path)


def test_releases_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_inbreast(tmp_path / "gone")
    write_release(tmp_path)
    release = tmp_path / "INbreast Release 1.0"
    dicoms = release / "AllDICOMs"
    again = tmp_path / "copy" / name_of(IMAGES[0])
    again.parent.mkdir()
    again.write_bytes(b"")
    with pytest.raises(DataError, match="are of the same image: remove one"):
        read_inbreast(tmp_path)
    again.unlink()
    (dicoms / name_of(IMAGES[2])).write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"20586960_.*not a DICOM file"):
        read_inbreast(tmp_path)
    data = read_inbreast(tmp_path, skip_unreadable=True)
    assert "1 image that cannot be read, left out: 20586960" in data.notes
    (release / "AllXML").rename(tmp_path / ".AllXML")
    with pytest.raises(DataError, match="holds no outlines"):
        read_inbreast(tmp_path)
    (tmp_path / ".AllXML").rename(release / "AllXML")
    for path in dicoms.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"none of the images of INbreast\.csv is there"):
        read_inbreast(tmp_path)
    (release / "INbreast.csv").unlink()
    with pytest.raises(DataError, match=r"must hold one INbreast\.csv, found none"):
        read_inbreast(tmp_path)


def test_options_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BI-RADS '2': legal are 3, 4a"):
        read_inbreast(tmp_path, malignant_from="2")
    with pytest.raises(ConfigError, match="kinds lump: INbreast has mass"):
        read_inbreast(tmp_path, kinds=["lump"])
    with pytest.raises(ConfigError, match="kinds are empty"):
        read_inbreast(tmp_path, kinds=[])


def test_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = write_release(tmp_path / "root"), tmp_path / "out"
    common = ["inbreast", "--root", root, "--out", out, "--fractions", "train=0.67", "test=0.33"]
    assert run_tool(monkeypatch, "prepare_data", *common, "--malignant-from", "4b") == 0
    sets = [read_coco(out / f"{name}.json") for name in ("train", "test")]
    assert sum(len(data.records) for data in sets) == 9
    assert {len({r.patient_id for r in data.records}) for data in sets} == {1, 2}
    assert "BI-RADS 4b or higher" in sets[0].info["malignant_rule"]
    assert sets[0].info["description"] == "INbreast, train"
    printed = capsys.readouterr().out
    assert "9 images" in printed
    assert "note: 1 image with outlines of one point or line" in printed
    assert (
        run_tool(
            monkeypatch, "prepare_data", *common[:3], "--out", tmp_path / "2", "--kinds", "lump"
        )
        == 2
    )
    assert "error: kinds lump" in capsys.readouterr().err


def test_points_are_the_outline(tmp_path: Path) -> None:
    images = by_number(read_inbreast(write_release(tmp_path)))
    (mass,) = images[20587054].findings
    assert mass.outline == (tuple((float(x), float(y)) for x, y in MASS),)
    crossing: Points = [(10, 10), (30, 40), (30, 10), (10, 40)]
    outside: Points = [(-2, 5), (12, 5), (12, 20)]
    made = changed(20587054, 8, [("Mass", crossing), ("Mass", outside)])
    mended = by_number(read_inbreast(write_release(tmp_path / "mended", made)))
    for finding in mended[20587054].findings:
        assert problem_of(finding.outline, HEIGHT, WIDTH) is None
        assert fits(finding.outline, finding.box)
