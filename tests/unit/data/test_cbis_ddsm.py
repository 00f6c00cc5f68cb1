"""CBIS-DDSM: tables, layouts, masks and records; miniature files, and the real tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.selection import training_lists
from simfrcnn.data.sources.cbis_ddsm.files import find_files, find_mask, two_valued
from simfrcnn.data.sources.cbis_ddsm.reader import patients_in_both, read_cbis_ddsm, read_rows
from simfrcnn.data.sources.cbis_ddsm.tables import find_tables, read_tables
from simfrcnn.data.sources.films import Film, find_film
from simfrcnn.data.sources.source import SourceData
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from simfrcnn.settings import DataSettings
from support.cbis_examples import (
    HEIGHT,
    LAYOUTS,
    ROWS,
    WIDTH,
    changed,
    crop_pixels,
    film_pixels,
    mask_pixels,
    place_of,
    write_download,
    write_image,
    write_tables,
)
from support.data_examples import SHARED_DATA, needs_shared

MASS_TRAIN = "mass_case_description_train_set.csv"


def read(root: Path, **options: object) -> SourceData:
    return read_cbis_ddsm(root, **{"n_workers": 0, **options})  # type: ignore[arg-type]


def views(data: SourceData) -> dict[str, ImageRecord]:
    found = {
        f"{r.patient_id} {r.laterality.value} {r.view_position.value}": r  # type: ignore[union-attr]
        for r in data.records
    }
    assert len(found) == len(data.records)
    return found


# Tables


def test_tables_of_two_spellings(tmp_path: Path) -> None:
    rows, missing = read_rows(write_tables(tmp_path))
    assert missing == []
    assert [row.name for row in rows] == [
        "P_00001_LEFT_CC_mass_1",
        "P_00001_LEFT_CC_mass_2",
        "P_00001_LEFT_MLO_mass_1",
        "P_00002_RIGHT_CC_mass_1",
        "P_00002_RIGHT_CC_calc_1",
        "P_00003_RIGHT_MLO_calc_1",
    ]
    by_name = {row.name: row for row in rows}
    mass, calc = by_name["P_00001_LEFT_CC_mass_2"], by_name["P_00003_RIGHT_MLO_calc_1"]
    assert (mass.laterality, mass.view, mass.number) == (Laterality.LEFT, ViewPosition.CC, 2)
    assert mass.attributes["density"] == calc.attributes["density"] == "2"
    assert mass.attributes["mass_shape"] == "OVAL"
    assert "mass_margins" not in mass.attributes  # NA
    assert mass.mask_series == ROWS[1].uid("MASK")  # a line feed follows the path
    assert mass.crop_series != mass.mask_series
    assert (calc.kind, calc.split, calc.assessment, calc.pathology) == ("calc", "test", 0, "BENIGN")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("abnormality id", "number", "has no column abnormality_id: not a case-description table"),
        ("MALIGNANT", "CANCER", r"line \d+: pathology is 'CANCER'; legal are MALIGNANT, BENIGN"),
        ("LEFT,CC", "L,CC", r"left_or_right_breast is 'L'; legal are LEFT, RIGHT"),
        ("LEFT,MLO", "LEFT,ML", r"image_view is 'ML'; legal are CC, MLO"),
        ("P_00001,2", "00001,2", r"patient_id is '00001', not such as P_00001"),
        ("CC,2,mass", "CC,1,mass", "two rows are abnormality P_00001_LEFT_CC_mass_1"),
        ("CC,2,mass", "CC,two,mass", "abnormality_id is 'two', not a whole number"),
        (f"{ROWS[0].uid('FULL')}/", "", "image_file_path is .*second last part"),
        ("OVAL,NA", "OVAL", r"line \d+: 13 values, the first line names 14 columns"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_tables(tmp_path) / MASS_TRAIN
    text = path.read_text()
    assert old in text
    stem = "1.3.6.1.4.1.9590.100.1.2.7/"
    path.write_text(text.replace(stem, "folder/" if not new else stem).replace(old, new, 1))
    with pytest.raises(AnnotationError, match=message):
        read_rows(tmp_path)


def test_tables_in_capitals_and_behind_a_link(tmp_path: Path) -> None:
    write_tables(tmp_path / "a")
    for path in (tmp_path / "a").glob("*.csv"):
        path.rename(path.with_suffix(".CSV"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "a")
    assert len(find_tables(tmp_path / "b")) == 4


def test_which_tables_are_there(tmp_path: Path) -> None:
    write_tables(tmp_path / "a")
    (tmp_path / "a" / MASS_TRAIN).rename(tmp_path / "a" / "Mass-Training-Description.csv")
    assert find_tables(tmp_path / "a")["mass", "train"].name == "Mass-Training-Description.csv"
    (tmp_path / "a" / "meta.csv").write_text("other\n")
    (tmp_path / "a" / "calc_case_description_test_set.csv").unlink()
    _, missing = read_rows(tmp_path / "a")
    assert missing == [("calc", "test")]
    write_tables(tmp_path / "b")
    with pytest.raises(DataError, match="no such folder"):
        find_tables(tmp_path / "gone")
    assert len(find_tables(tmp_path)) == 4  # the same twice
    (tmp_path / "b" / MASS_TRAIN).write_text("another\n")
    with pytest.raises(DataError, match="are both the mass train table, and differ"):
        find_tables(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of the tables calc, mass"):
        read_rows(tmp_path / "empty")


@pytest.mark.data
@needs_shared("cbis_ddsm")
class TestRealTables:
    def test_published_counts(self) -> None:
        rows = read_tables(find_tables(SHARED_DATA / "cbis_ddsm"))
        assert Counter((row.kind, row.split) for row in rows) == {
            ("mass", "train"): 1318,
            ("mass", "test"): 378,
            ("calc", "train"): 1546,
            ("calc", "test"): 326,
        }
        assert len({row.patient for row in rows}) == 1566
        assert len({row.film for row in rows}) == 3032
        assert len({row.film for row in rows if row.kind == "mass"}) == 1592
        n_masses = Counter(row.film for row in rows if row.kind == "mass")
        assert sum(n > 1 for n in n_masses.values()) == 71
        assert max(Counter(row.image_series for row in rows).values()) == 7

    def test_patients_in_both_parts(self) -> None:
        rows, _ = read_rows(SHARED_DATA / "cbis_ddsm")
        of = {
            (kind, split): {r.patient for r in rows if (r.kind, r.split) == (kind, split)}
            for kind in ("mass", "calc")
            for split in ("train", "test")
        }
        assert len(of["mass", "train"] & of["calc", "test"]) == 13
        assert len(of["mass", "test"] & of["calc", "train"]) == 18
        assert len(patients_in_both(rows)) == 31
        assert not patients_in_both(row for row in rows if row.kind == "mass")

    def test_one_series_of_full_images_per_film_and_kind(self) -> None:
        rows, _ = read_rows(SHARED_DATA / "cbis_ddsm")
        series = {(row.film, row.kind): row.image_series for row in rows}
        assert all(series[row.film, row.kind] == row.image_series for row in rows)
        assert len(set(series.values())) == 3103
        apart = Counter((r.kind, r.split) for r in rows if r.crop_series != r.mask_series)
        assert apart == {("mass", "train"): 92, ("mass", "test"): 11, ("calc", "train"): 1}


# Records


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_records(tmp_path: Path, layout: str) -> None:
    data = read(write_download(tmp_path / "download", layout))
    found = views(data)
    assert {name: [(f.category, f.box) for f in r.findings] for name, r in found.items()} == {
        "P_00001 L CC": [("malignant", (8, 16, 24, 40)), ("benign", (32, 48, 40, 64))],
        "P_00001 L MLO": [("malignant", (0, 0, 16, 8))],
        "P_00002 R CC": [("benign", (8, 8, 32, 24)), ("malignant", (40, 72, 64, 96))],
        "P_00003 R MLO": [("benign", (16, 16, 48, 80))],
    }
    assert {r.supervision for r in data.records} == {Supervision.BOXES}
    assert {(r.height, r.width) for r in data.records} == {(HEIGHT, WIDTH)}
    assert {name: (r.split, r.pathology) for name, r in found.items()} == {
        "P_00001 L CC": ("train", Pathology.MALIGNANT),
        "P_00001 L MLO": ("train", Pathology.MALIGNANT),
        "P_00002 R CC": ("train", Pathology.MALIGNANT),
        "P_00003 R MLO": ("test", Pathology.BENIGN),
    }
    assert all(record.path.is_file() for record in data.records)
    assert found["P_00001 L CC"].path == place_of(tmp_path / "download", ROWS[0], "FULL", layout)
    both = found["P_00002 R CC"]
    assert both.attributes["abnormality"] == "mass,calc"
    assert both.attributes["pathology"] == "BENIGN_WITHOUT_CALLBACK,MALIGNANT"
    assert found["P_00003 R MLO"].attributes["density"] == "2"
    assert data.notes == (
        "CBIS-DDSM has no normal films: each has at least one abnormality (--normals-from)",
        "1 patient is in the published train and test parts (masses and calcifications were "
        "divided apart): they are in train, with 1 image",
        "1 film stored twice, for masses and for calcifications, joined: P_00002_RIGHT_CC",
    )


def test_records_survive_the_annotation_file(tmp_path: Path) -> None:
    data = read(write_download(tmp_path / "download"))
    write_coco(tmp_path / "all.json", data.records, data.categories, data.info)
    again = read_coco(tmp_path / "all.json")
    assert [r.findings for r in again.records] == [r.findings for r in data.records]
    assert again.info["licence"] == "CC BY 3.0"
    assert again.info["malignant_rule"].startswith("malignant: the published pathology MALIGNANT")


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    assert read(root, n_workers=2) == read(root, n_workers=0)


def test_numbers_do_not_depend_on_what_is_there(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    before = views(read(root))
    place_of(root, ROWS[0], "FULL", "first").unlink()
    data = read(root)
    assert "1 film without an image, left out: P_00001_LEFT_CC" in data.notes
    assert "1 image series missing" in data.notes
    after = views(data)
    assert after == {name: before[name] for name in after}
    assert len(after) == 3


def test_a_mask_of_another_size_is_scaled_and_told(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    path = place_of(root, ROWS[0], "MASK", "first")
    write_image(path, mask_pixels(ROWS[0], scale=2), ROWS[0].uid("MASK"))
    data = read(root)
    assert views(data)["P_00001 L CC"].findings[0].box == (8, 16, 24, 40)
    note = "1 mask of another size than its film, boxes scaled: P_00001_LEFT_CC_mass_1"
    assert note in data.notes


@pytest.mark.parametrize("case", ["gone", "empty", "crop only", "damaged"])
def test_without_a_mask_a_film_is_not_boxed(tmp_path: Path, case: str) -> None:
    root = write_download(tmp_path)
    path = place_of(root, ROWS[2], "MASK", "first")
    if case == "damaged":
        path.write_bytes(path.read_bytes()[:-50])
    elif case == "empty":
        write_image(path, np.zeros((HEIGHT, WIDTH), np.uint8), ROWS[2].uid("MASK"))
    else:
        path.unlink()
        if case == "gone":
            place_of(root, ROWS[2], "CROP", "first").unlink()
    data = read(root)
    record = views(data)["P_00001 L MLO"]
    assert (record.supervision, record.findings) == (Supervision.IMAGE_LABEL, ())
    assert record.pathology is Pathology.MALIGNANT
    assert record.labels == {"malignant": True}
    assert "1 image states in 'labels' what is visible: malignant visible in 1, not in 0" in (
        data.notes
    )
    lists = training_lists(data.records, DataSettings(batch_kind="positives", labels_per_item=1))
    assert [bag.records for bag in lists.labelled] == [(record,)]
    problem = {
        "gone": "no file",
        "empty": "empty mask",
        "crop only": "no file of two values in the film's shape",
        "damaged": "unreadable file",
    }[case]
    note = "1 abnormality without a box, its film is image_label: "
    assert f"{note}P_00001_LEFT_MLO_mass_1 ({problem})" in data.notes


def test_copies_of_a_film_that_differ_are_kept_apart(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    other = np.flip(film_pixels(ROWS[4]), axis=0)
    write_image(place_of(root, ROWS[4], "FULL", "first"), other, ROWS[4].uid("FULL"))
    data = read(root)
    both = [record for record in data.records if record.patient_id == "P_00002"]
    assert [record.supervision for record in both] == [Supervision.IMAGE_LABEL] * 2
    assert [len(record.findings) for record in both] == [1, 1]
    assert len({record.image_id for record in both}) == 2
    note = "film stored as pictures that differ, each without boxes of the other: P_00002_RIGHT_CC"
    assert f"1 {note}" in data.notes


def test_masks_find_the_other_copy_of_their_film(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    place_of(root, ROWS[4], "FULL", "first").unlink()
    record = views(read(root))["P_00002 R CC"]
    assert len(record.findings) == 2
    assert record.supervision is Supervision.BOXES


def test_masses_only(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    data = read(root, kinds=("mass",))
    found = views(data)
    assert len(found) == 3
    # A malignant calcification lies in this film, without a box here.
    hidden = found["P_00002 R CC"]
    assert [finding.category for finding in hidden.findings] == ["benign"]
    assert hidden.supervision is Supervision.IMAGE_LABEL
    assert hidden.pathology is Pathology.MALIGNANT
    assert hidden.split == "test"
    assert found["P_00001 L CC"].supervision is Supervision.BOXES
    assert data.info["kinds"] == ["mass"]
    for path in root.glob("calc*.csv"):
        path.unlink()
    alone = read(root, kinds=("mass",))
    assert alone.notes[:2] == ("there is no calc train table", "there is no calc test table")
    assert views(alone)["P_00002 R CC"].supervision is Supervision.BOXES


def test_a_cancer_in_the_other_view_makes_no_normal_film(tmp_path: Path) -> None:
    rows = changed(2, pathology="BENIGN")  # the MLO view; a cancer is marked in the CC view
    data = read(write_download(tmp_path, rows=rows))
    record = views(data)["P_00001 L MLO"]
    assert [finding.category for finding in record.findings] == ["benign"]
    assert record.findings[0].pathology is Pathology.BENIGN
    assert record.supervision is Supervision.IMAGE_LABEL
    assert record.pathology is Pathology.MALIGNANT


def test_malignant_by_assessment(tmp_path: Path) -> None:
    root = write_download(tmp_path, rows=changed(0, assessment="3"))
    data = read(root, malignant="assessment")
    found = views(data)
    categories = [finding.category for finding in found["P_00001 L CC"].findings]
    assert categories == ["benign", "malignant"]
    assert {record.pathology for record in data.records} == {None}
    incomplete = found["P_00003 R MLO"]
    assert (incomplete.supervision, incomplete.findings) == (Supervision.IMAGE_LABEL, ())
    note = "1 abnormality of assessment 0, left without a box: P_00003_RIGHT_MLO_calc_1"
    assert note in data.notes
    assert "BI-RADS assessment 4 or 5" in str(data.info["malignant_rule"])


def test_files_that_no_table_names(tmp_path: Path) -> None:
    root = write_download(tmp_path)
    write_image(root / "1.2.3.4.5.6" / "1-1.dcm", film_pixels(ROWS[0]), "1.2.3.4.5.6")
    write_image(root / "picture.jpg", film_pixels(ROWS[0]), "")
    (root / "broken.dcm").write_bytes(b"nothing")
    (root / ".hidden.dcm").write_bytes(b"nothing")
    notes = read(root).notes
    assert "2 images that no table names, not used: 1.2.3.4.5.6/1-1.dcm, picture.jpg" in notes
    assert "1 DICOM file without a readable header: broken.dcm" in notes


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kinds lump: CBIS-DDSM has mass, calc"):
        read(tmp_path, kinds=("lump",))
    with pytest.raises(ConfigError, match="kinds are empty"):
        read(tmp_path, kinds=())
    with pytest.raises(ConfigError, match="the rule for malignant is 'guess'"):
        read(tmp_path, malignant="guess")
    with pytest.raises(DataError, match="gone: no such folder"):
        read(tmp_path / "gone")
    write_tables(tmp_path)
    with pytest.raises(DataError, match="of the tables none of the 4 views is there"):
        read(tmp_path)


def test_tables_may_lie_elsewhere(tmp_path: Path) -> None:
    write_download(tmp_path / "images", tables=False)
    data = read(tmp_path / "images", tables=write_tables(tmp_path / "tables"))
    assert len(data.records) == 4


# Files


def test_a_mask_is_known_by_its_pixels(tmp_path: Path) -> None:
    row = ROWS[0]
    mask = write_image(tmp_path / "crop.dcm", mask_pixels(row), "1.2.3.4.5")
    crop = write_image(tmp_path / "mask.dcm", crop_pixels(row), "1.2.3.4.5")
    for paths in ((mask, crop), (crop, mask)):
        found = find_mask(paths, HEIGHT, WIDTH)
        assert (found.mask, found.crop, found.box) == (mask, crop, row.box)
        assert not found.scaled
        assert found.problem is None


def test_a_crop_of_two_values_is_no_mask(tmp_path: Path) -> None:
    mask = write_image(tmp_path / "1.dcm", mask_pixels(ROWS[0]), "1.2.3.4.5")
    for number, shape in enumerate(((40, 12), (48, 32))):  # another shape; the same, but smaller
        half = np.zeros(shape, np.uint8)
        half[:5] = 255
        crop = write_image(tmp_path / f"crop{number}.dcm", half, "1.2.3.4.5")
        found = find_mask((crop, mask), HEIGHT, WIDTH)
        assert (found.mask, found.crop, found.box) == (mask, crop, ROWS[0].box)


def test_a_mask_of_another_shape_is_no_box(tmp_path: Path) -> None:
    mask = write_image(tmp_path / "1.dcm", mask_pixels(ROWS[0])[:-8], "1.2.3.4.5")
    found = find_mask((mask,), HEIGHT, WIDTH)
    assert (found.box, found.problem) == (None, "no file of two values in the film's shape")


def test_masks_that_differ_are_no_box(tmp_path: Path) -> None:
    one = write_image(tmp_path / "1.dcm", mask_pixels(ROWS[0]), "1.2.3.4.5")
    two = write_image(tmp_path / "2.dcm", mask_pixels(ROWS[1]), "1.2.3.4.5")
    found = find_mask((one, two), HEIGHT, WIDTH)
    assert (found.box, found.problem) == (None, "several masks that differ")
    assert find_mask((one, one), HEIGHT, WIDTH).box == ROWS[0].box


def test_the_film_of_a_series(tmp_path: Path) -> None:
    assert find_film(()) == "missing"
    film = write_image(tmp_path / "1.dcm", film_pixels(ROWS[0]), "1.2.3.4.5")
    jpeg = write_image(tmp_path / "1.jpg", film_pixels(ROWS[0]), "")
    assert find_film((film, jpeg)) == Film(film, HEIGHT, WIDTH)
    other = write_image(tmp_path / "2.dcm", film_pixels(ROWS[2]), "1.2.3.4.5")
    assert find_film((film, other)) == "several files that differ"
    other.write_bytes(film.read_bytes())
    assert find_film((film, other)) == Film(film, HEIGHT, WIDTH)
    film.write_bytes(b"nothing")
    assert find_film((film,)) == "unreadable"


def test_two_values() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    assert two_valued(ramp) is None
    empty = two_valued(np.full((4, 4), 7, np.uint8))
    assert empty is not None
    assert not empty.any()
    small = two_valued(np.array([[0, 1], [1, 0]], np.uint8))
    assert small is not None
    assert small.tolist() == [[False, True], [True, False]]


def test_dicom_goes_before_a_converted_copy(tmp_path: Path) -> None:
    root = write_download(tmp_path, "first")
    write_download(tmp_path, "mirror", tables=False)
    assert {record.path.suffix for record in read(root).records} == {".dcm"}
    assert find_files(root).of_series[ROWS[0].uid("FULL")][0].suffix == ".dcm"
