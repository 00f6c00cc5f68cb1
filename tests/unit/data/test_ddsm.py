"""DDSM: markings, cases and records, from files written by hand; and as the source of normals."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.cli import prepare_data
from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.cbis_ddsm.reader import read_cbis_ddsm
from simfrcnn.data.sources.ddsm.cases import find_cases
from simfrcnn.data.sources.ddsm.overlay import read_overlay
from simfrcnn.data.sources.ddsm.reader import read_ddsm
from simfrcnn.data.sources.normals import with_normals
from simfrcnn.data.sources.source import SourceData
from simfrcnn.data.splits import assert_no_patient_leak
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from support import cbis_examples
from support.data_examples import write_dicom
from support.ddsm_examples import (
    HEIGHT,
    VIEWS,
    WIDTH,
    abnormality,
    film_pixels,
    overlay,
    rectangle,
    write_case,
    write_png,
)

BOX = (10, 20, 40, 45)  # of the default outline


def read(root: Path, **options: object) -> SourceData:
    return read_ddsm(root, **{"n_workers": 0, **options})  # type: ignore[arg-type]


def views(data: SourceData) -> dict[str, ImageRecord]:
    found = {record.path.name.rsplit(".", 1)[0]: record for record in data.records}
    assert len(found) == len(data.records)
    return found


def supervisions(data: SourceData) -> dict[str, str]:
    """View of the only case -> what is known of it."""
    return {name.split(".")[1]: record.supervision.value for name, record in views(data).items()}


# Markings


def test_a_chain_code_goes_clockwise_from_up(tmp_path: Path) -> None:
    path = tmp_path / "a.OVERLAY"
    path.write_text(overlay(abnormality(outline="5 7 0 1 2 3 4 5 6 7 #")))
    (found,) = read_overlay(path)
    assert found.outline == (
        *((5, 7), (5, 6), (6, 5), (7, 5), (8, 6)),
        *((8, 7), (7, 8), (6, 8), (5, 7)),
    )
    assert found.box == (5, 5, 9, 9)


def test_everything_of_an_abnormality(tmp_path: Path) -> None:
    path = tmp_path / "a.OVERLAY"
    both = abnormality(2, pathology="BENIGN", assessment=3).replace(
        "ASSESSMENT",
        "LESION_TYPE CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED\nASSESSMENT",
    )
    cores = [rectangle(15, 25, 3, 3), "1 1 9 9 nonsense"]
    path.write_text(overlay(abnormality(cores=cores), both).replace("\n", "\r\n"))
    one, two = read_overlay(path)
    assert (one.number, one.box, one.subtlety) == (1, BOX, "3")
    assert one.lesion_types == ("MASS SHAPE OVAL MARGINS SPICULATED",)
    assert (two.number, two.pathology, two.assessment) == (2, "BENIGN", 3)
    assert two.lesion_types[1] == "CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED"


def test_a_wrong_count_of_outlines_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.OVERLAY"
    path.write_text(overlay(abnormality()).replace("TOTAL_OUTLINES 1", "TOTAL_OUTLINES 3"))
    assert [one.box for one in read_overlay(path)] == [BOX]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "no TOTAL_ABNORMALITIES: not an OVERLAY file of DDSM"),
        (overlay(abnormality(), total=2), "TOTAL_ABNORMALITIES is 2, but 1 follow"),
        (overlay(), "TOTAL_ABNORMALITIES is 0, but 0 follow"),
        (
            overlay(abnormality(pathology="CANCER")),
            "ABNORMALITY 1: PATHOLOGY is 'CANCER'; legal is MALIGNANT, BENIGN, BENIGN_WITHOUT",
        ),
        (overlay(abnormality(assessment=9)), r"ASSESSMENT is '9'; legal is \[0-6\]"),
        (overlay(abnormality().replace("ASSESSMENT 4\n", "")), "ASSESSMENT is missing"),
        (overlay(abnormality().replace("BOUNDARY", "OUTLINE")), "0 entries BOUNDARY"),
        (overlay(abnormality(outline="5 7 0 1")), "has no '#' at its end: the file is cut off"),
        (overlay(abnormality(outline="5 7 #")), "must be 'x y d d d ... #', whole numbers"),
        (overlay(abnormality(outline="5 -7 0 1 #")), "must be 'x y d d d ... #', whole numbers"),
        (overlay(abnormality(outline="5 7 0 8 #")), "has the direction 8; legal are 0 to 7"),
    ],
)
def test_markings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "A_0001_1.LEFT_CC.OVERLAY"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=rf"LEFT_CC\.OVERLAY: .*{message}"):
        read_overlay(path)


def test_markings_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be opened"):
        read_overlay(tmp_path / "gone.OVERLAY")


# Cases


def test_a_case(tmp_path: Path) -> None:
    write_case(tmp_path, "cancer_01", "A_1141_1", {"LEFT_CC": overlay(abnormality())})
    (case,) = find_cases(tmp_path)
    assert (case.name, case.patient, case.volume) == ("A_1141_1", "A_1141", "cancer")
    assert case.facts == {"density": "3", "digitizer": "LUMISYS LASER", "age": "42"}
    case.path.write_text(case.path.read_text().replace("AGE 42", "AGE 142"))  # nobody has it
    assert "age" not in find_cases(tmp_path)[0].facts
    assert [view.name for view in case.views] == list(VIEWS)
    assert [view.has_overlay for view in case.views] == [True, False, False, False]
    first = case.views[0]
    assert (first.height, first.width, first.spacing_mm) == (HEIGHT, WIDTH, 0.05)
    assert [path.name for path in first.images] == ["A_1141_1.LEFT_CC.png"]


@pytest.mark.parametrize(
    ("volume", "kind"),
    [
        ("normal_01", "normal"),
        ("normals/normal_12", "normal"),
        ("Normal_01", "normal"),
        ("normals/cancer_03", "cancer"),
        ("benign_without_callback_02", "benign_without_callback"),
        ("abnormal_01", None),
        ("normal_films_of_mine", None),
    ],
)
def test_the_volume_is_the_nearest_folder_of_its_name(
    tmp_path: Path, volume: str, kind: str | None
) -> None:
    write_case(tmp_path / "ddsm", volume, "A_0029_1")
    (case,) = find_cases(tmp_path / "ddsm")
    assert case.volume == kind
    assert case.is_normal == (kind == "normal")


def test_the_root_can_be_a_volume(tmp_path: Path) -> None:
    write_case(tmp_path, "normal_03", "C_0300_1")
    assert find_cases(tmp_path / "normal_03")[0].is_normal


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("LEFT_CC LINES 80", "LEFT_CC LINES", "'LEFT_CC LINES PIXELS_PER_LINE 60.* is not a view"),
        ("LEFT_CC LINES 80", "LEFT_CC LINES 0", ".* is not a view of DDSM"),
        ("LEFT_MLO", "LEFT_CC", "LEFT_CC is there twice"),
        ("T_", "T ", "names no view such as LEFT_CC"),
    ],
)
def test_case_files_that_are_none(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_case(tmp_path, "normal_01", "A_0029_1") / "A-0029-1.ics"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AnnotationError, match=rf"A-0029-1\.ics: {message}"):
        find_cases(tmp_path)


def test_roots_without_cases(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder"):
        find_cases(tmp_path / "gone")
    with pytest.raises(DataError, match=r"holds no \.ics file"):
        find_cases(tmp_path)
    write_case(tmp_path, "normal_01", "A_0029_1")
    write_case(tmp_path, "normal_02", "A_0029_1")
    with pytest.raises(DataError, match="are the same case; remove one"):
        find_cases(tmp_path)


# Records


def test_what_is_known_of_each_film(tmp_path: Path) -> None:
    write_case(tmp_path, "normal_01", "A_0029_1")
    marked = overlay(abnormality(), abnormality(2, rectangle(0, 0, 5, 5), "BENIGN"))
    write_case(tmp_path, "cancer_01", "B_3024_1", {"RIGHT_CC": marked})
    data = read(tmp_path)
    assert data.notes == ()
    found = views(data)
    normal = found["A_0029_1.LEFT_CC"]
    assert (normal.supervision, normal.pathology) == (Supervision.NORMAL, Pathology.NORMAL)
    assert (normal.patient_id, normal.exam_id) == ("ddsm-A_0029", "ddsm-A_0029_1")
    assert normal.pixel_spacing_mm == (0.05, 0.05)
    assert normal.attributes == {"density": "3", "digitizer": "LUMISYS LASER", "age": "42"}
    film = found["B_3024_1.RIGHT_CC"]
    assert (film.supervision, film.pathology) == (Supervision.BOXES, Pathology.MALIGNANT)
    assert [(f.category, f.box, f.pathology) for f in film.findings] == [
        ("malignant", BOX, Pathology.MALIGNANT),
        ("benign", (0, 0, 5, 5), Pathology.BENIGN),
    ]
    assert (film.laterality, film.view_position) == (Laterality.RIGHT, ViewPosition.CC)
    assert (film.height, film.width) == (HEIGHT, WIDTH)
    assert film.attributes["pathology"] == "MALIGNANT,BENIGN"
    assert film.attributes["assessment"] == "4"
    other_view, other_breast = found["B_3024_1.RIGHT_MLO"], found["B_3024_1.LEFT_CC"]
    assert other_view.supervision is Supervision.IMAGE_LABEL
    assert other_view.pathology is Pathology.MALIGNANT
    assert (other_breast.supervision, other_breast.pathology) == (Supervision.UNLABELLED, None)
    assert len({record.image_id for record in data.records}) == 8
    assert pickle.loads(pickle.dumps(data)) == data
    assert data.info["malignant_rule"].startswith("malignant: the published pathology")  # type: ignore[attr-defined]


def test_a_cancer_in_the_other_view_makes_no_normal_film(tmp_path: Path) -> None:
    benign = overlay(abnormality(pathology="BENIGN"))
    marked = {"LEFT_CC": benign, "LEFT_MLO": overlay(abnormality()), "RIGHT_CC": benign}
    write_case(tmp_path, "cancer_01", "A_1141_1", marked)
    assert supervisions(read(tmp_path)) == {
        "LEFT_CC": "image_label",
        "LEFT_MLO": "boxes",
        "RIGHT_CC": "boxes",
        "RIGHT_MLO": "image_label",
    }


def test_what_is_unproven_is_not_boxed(tmp_path: Path) -> None:
    unproven = abnormality(2, rectangle(0, 0, 5, 5), "UNPROVEN", assessment=5)
    benign = abnormality(pathology="BENIGN_WITHOUT_CALLBACK", assessment=2)
    marked = {
        "LEFT_CC": overlay(benign, unproven),
        "RIGHT_CC": overlay(abnormality(pathology="UNPROVEN")),
    }
    write_case(tmp_path, "benign_01", "A_1141_1", marked)
    data = read(tmp_path)
    film = views(data)["A_1141_1.LEFT_CC"]
    assert [finding.category for finding in film.findings] == ["benign"]
    assert (film.supervision, film.pathology) == (Supervision.IMAGE_LABEL, None)
    assert supervisions(data)["RIGHT_CC"] == "unlabelled"
    note = "2 abnormalities without a verdict by the rule, left without a box: A_1141_1.LEFT_CC, "
    assert f"{note}A_1141_1.RIGHT_CC" in data.notes
    judged = views(read(tmp_path, malignant="assessment"))["A_1141_1.LEFT_CC"]
    assert [finding.category for finding in judged.findings] == ["benign", "malignant"]
    assert (judged.supervision, judged.pathology) == (Supervision.BOXES, None)


def test_images_of_another_size(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "cancer_01", "A_1141_1", {"LEFT_CC": overlay(abnormality())})
    path = folder / "A_1141_1.LEFT_CC.png"
    write_png(path, film_pixels("half", HEIGHT // 2, WIDTH // 2))
    data = read(tmp_path)
    film = views(data)["A_1141_1.LEFT_CC"]
    assert (film.findings[0].box, film.pixel_spacing_mm) == ((5, 10, 20, 22.5), (0.1, 0.1))
    assert data.notes == (
        "1 film of another size than the original, boxes scaled: A_1141_1.LEFT_CC",
    )
    write_png(path, film_pixels("turned", WIDTH, HEIGHT))
    data = read(tmp_path)
    film = views(data)["A_1141_1.LEFT_CC"]
    assert (film.supervision, film.findings) == (Supervision.IMAGE_LABEL, ())
    assert (film.pathology, film.pixel_spacing_mm) == (Pathology.MALIGNANT, None)
    assert data.notes == (
        "1 film whose markings cannot be used: A_1141_1.LEFT_CC: its image is 60 x 80, the "
        "original 80 x 60",
    )


def test_boxes_that_leave_their_film(tmp_path: Path) -> None:
    over = abnormality(outline=rectangle(50, 70, 30, 30))
    away = abnormality(outline=rectangle(70, 90, 5, 5))
    marked = {"LEFT_CC": overlay(over), "RIGHT_CC": overlay(away)}
    write_case(tmp_path, "cancer_01", "A_1141_1", marked)
    data = read(tmp_path)
    found = views(data)
    assert found["A_1141_1.LEFT_CC"].findings[0].box == (50, 70, WIDTH, HEIGHT)
    lost = found["A_1141_1.RIGHT_CC"]
    assert (lost.supervision, lost.findings) == (Supervision.IMAGE_LABEL, ())
    assert data.notes == (
        "1 marking outside of its film, without a box: A_1141_1.RIGHT_CC",
        "1 film with boxes clipped to it: A_1141_1.LEFT_CC",
    )


@pytest.mark.parametrize("case", ["damaged", "gone", "twice"])
def test_markings_that_cannot_be_used_are_named(tmp_path: Path, case: str) -> None:
    benign = overlay(abnormality(pathology="BENIGN"))
    folder = write_case(tmp_path, "benign_01", "A_1141_1", dict.fromkeys(VIEWS[:2], benign))
    path = folder / "A_1141_1.LEFT_CC.OVERLAY"
    if case == "damaged":
        path.write_text(benign.replace("#", ""))
    elif case == "gone":
        path.unlink()
    else:
        (folder / "copy").mkdir()
        (folder / "copy" / path.name).write_text(benign)
    data = read(tmp_path)
    problem = {
        "damaged": "A_1141_1.LEFT_CC.OVERLAY: ABNORMALITY 1: the BOUNDARY has no '#' at its end: "
        "the file is cut off",
        "gone": "A_1141_1.LEFT_CC: its .OVERLAY file is missing",
        "twice": "A_1141_1.LEFT_CC: has 2 .OVERLAY files",
    }[case]
    assert data.notes == (f"1 film whose markings cannot be used: {problem}",)
    # What is marked in this view may be a cancer: the other view is not known to be without.
    assert supervisions(data)["LEFT_CC"] == supervisions(data)["LEFT_MLO"] == "image_label"


def test_what_is_marked_counts_also_without_its_image(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "cancer_01", "A_1141_1", {"LEFT_CC": overlay(abnormality())})
    (folder / "A_1141_1.LEFT_CC.png").unlink()
    (folder / "A_1141_1.RIGHT_CC.png").rename(folder / "A_1141_1.RIGHT_CC.LJPEG")
    data = read(tmp_path)
    assert views(data)["A_1141_1.LEFT_MLO"].supervision is Supervision.IMAGE_LABEL
    assert data.notes == (
        "1 film as .LJPEG only, left out: convert it: A_1141_1.RIGHT_CC",
        "1 film without an image, left out: A_1141_1.LEFT_CC (missing)",
    )


def test_where_and_how_films_may_lie(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "normal_01", "A_0029_1")
    (folder / "A_0029_1.LEFT_CC.png").rename(folder / "A_0029_1.LEFT_CC.LJPEG.png")
    (folder / "PNGFiles").mkdir()
    (folder / "A_0029_1.LEFT_MLO.png").rename(folder / "PNGFiles" / "A-0029-1_LEFT_MLO.png")
    write_dicom(folder / "A_0029_1.RIGHT_CC.dcm", np.full((HEIGHT, WIDTH), 7, np.uint16))
    write_png(folder / "A_0029_1.RIGHT_CC_mask.png", film_pixels("mask"))
    assert [record.path.name for record in read(tmp_path).records] == [
        "A_0029_1.LEFT_CC.LJPEG.png",
        "A-0029-1_LEFT_MLO.png",
        "A_0029_1.RIGHT_CC.dcm",
        "A_0029_1.RIGHT_MLO.png",
    ]


def test_packed_films_are_refused(tmp_path: Path) -> None:
    write_case(tmp_path, "normal_01", "A_0029_1", suffix=".LJPEG")
    with pytest.raises(DataError, match=r"4 films are there as \.LJPEG only.* convert them to 16-"):
        read(tmp_path)
    for path in tmp_path.rglob("*.LJPEG"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"none of the 4 films is there.*A_0029_1\.LEFT_CC\.png or \.dcm"
    ):
        read(tmp_path)


def test_cases_that_are_not_known_to_be_normal(tmp_path: Path) -> None:
    write_case(tmp_path, "mine", "A_0029_1")
    write_case(tmp_path, "normal_01", "A_0030_1", {"LEFT_CC": overlay(abnormality())})
    data = read(tmp_path)
    assert {record.supervision for record in data.records if "0029" in record.path.name} == {
        Supervision.UNLABELLED
    }
    notes = (
        "1 case of normal volumes with markings, not taken as normal: A_0030_1",
        "1 case without markings outside of normal volumes, unlabelled: A_0029_1",
    )
    assert data.notes == notes
    with pytest.raises(DataError, match="none of its 2 cases is known to be normal"):
        read(tmp_path, only_normal=True)
    with pytest.raises(ConfigError, match="the rule for malignant is 'guess'"):
        read(tmp_path, malignant="guess")


def test_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        write_case(tmp_path / "in", "normal_01", f"A_000{number}_1")
        marked = {"LEFT_CC": overlay(abnormality())}
        write_case(tmp_path / "in", "cancer_01", f"B_300{number}_1", marked)
    half = ("--fractions", "train=0.5", "test=0.5")
    assert prepare("ddsm", "--root", tmp_path / "in", "--out", tmp_path / "out", *half) == 0
    sets = {name: read_coco(tmp_path / "out" / f"{name}.json") for name in ("train", "test")}
    assert_no_patient_leak({name: data.records for name, data in sets.items()})
    for data in sets.values():
        kinds = [record.supervision for record in data.records]
        assert kinds.count(Supervision.NORMAL) == 8
        assert kinds.count(Supervision.BOXES) == 2
    assert "images: 2 boxes, 2 image_label, 8 normal, 4 unlabelled" in capsys.readouterr().out


# The normals of another set


def prepare(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    prepare_data.add_arguments(parser)
    return prepare_data.run(parser.parse_args([*map(str, arguments), "--workers", "0"]))


@pytest.fixture
def downloads(tmp_path: Path) -> tuple[Path, Path]:
    """CBIS-DDSM with 3 patients (1 of them in its test part), and DDSM with 6 normal cases."""
    ddsm = tmp_path / "ddsm"
    for number in range(6):
        write_case(ddsm, "normal_01", f"A_000{number}_1")
    write_case(ddsm, "cancer_01", "B_3024_1", {"LEFT_CC": overlay(abnormality())})
    return cbis_examples.write_download(tmp_path / "cbis"), ddsm


def test_normals_join_both_published_parts(downloads: tuple[Path, Path]) -> None:
    cbis, ddsm = downloads
    alone, normals = read_cbis_ddsm(cbis, n_workers=0), read(ddsm, only_normal=True)
    joined = with_normals(alone, normals, "ddsm", ddsm, seed=0)
    assert joined.records[: len(alone.records)] == alone.records
    added = joined.records[len(alone.records) :]
    assert {record.supervision for record in added} == {Supervision.NORMAL}
    patients = {
        split: {record.patient_id for record in added if record.split == split}
        for split in ("train", "test")
    }
    assert {split: len(ids) for split, ids in patients.items()} == {"train": 4, "test": 2}
    assert not patients["train"] & patients["test"]
    assert len({record.image_id for record in joined.records}) == len(joined.records) == 4 + 24
    assert joined.info["description"] == "CBIS-DDSM with DDSM, normal cases"
    assert joined.info["normals"]["patients"] == 6  # type: ignore[index]
    assert any("a detector can learn to tell them by their grey values" in n for n in joined.notes)
    again = with_normals(alone, normals, "ddsm", ddsm, seed=1)
    assert {r.path: r.split for r in again.records} != {r.path: r.split for r in joined.records}
    with pytest.raises(DataError, match="share 6 patients"):
        with_normals(normals, normals, "ddsm", ddsm, seed=0)


def test_normals_by_command(tmp_path: Path, downloads: tuple[Path, Path]) -> None:
    cbis, ddsm = downloads
    arguments = ("cbis_ddsm", "--root", cbis, "--normals-from", ddsm)
    half = ("--fractions", "train=0.5", "val=0.5", "--copy")
    assert prepare(*arguments, "--out", tmp_path / "out", *half) == 0
    sets = {name: read_coco(tmp_path / "out" / f"{name}.json") for name in ("train", "val", "test")}
    assert_no_patient_leak({name: data.records for name, data in sets.items()})
    normal = {
        name: sum(r.supervision is Supervision.NORMAL for r in data.records)
        for name, data in sets.items()
    }
    assert (sum(normal.values()), normal["test"]) == (24, 8)
    assert min(normal.values()) > 0
    assert sets["train"].info["normals"]["images"] == 24
    with pytest.raises(ConfigError, match="--normals-from: is for annotation files"):
        prepare(*arguments, "--out", tmp_path / "flat", "--layout", "flat")
