"""MIAS: every form of row by hand, every refusal, and the real files where they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from simfrcnn.data.sources.mias import MiasRow, read_info, read_mias
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision
from support.data_examples import SHARED_DATA, needs_shared

ROWS = """\
mdb001 G CIRC B 50 954 10
mdb002 G NORM\x20
mdb003 F CIRC B
mdb004 D CALC M *NOTE 3*
mdb005 F MISC B 20 944 5
mdb005 F MISC M 60 994 8
mdb006 F ARCH M 10 1019 12
"""
PROSE = "INFORMATION:\n\n1st column: MIAS database reference number.\n NOTES mdb001\n\n"


def write_films(
    folder: Path, rows: str = ROWS, films: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
) -> Path:
    (folder / "Info.txt").write_text(PROSE + rows)
    for number in films:
        suffix = "pgm" if number % 2 else "png"
        cv2.imwrite(str(folder / f"mdb{number:03d}.{suffix}"), np.full((1024, 1024), 9, np.uint8))
    return folder


def by_film(folder: Path, *target_classes: str) -> dict[int, ImageRecord]:
    data = read_mias(folder, target_classes) if target_classes else read_mias(folder)
    return {record.image_id: record for record in data.records}


def test_all_forms_of_rows(tmp_path: Path) -> None:
    assert read_info(write_films(tmp_path) / "Info.txt") == [
        MiasRow(1, "G", "CIRC", "B", (50, 954, 10)),
        MiasRow(2, "G", "NORM", None, None),
        MiasRow(3, "F", "CIRC", "B", None),
        MiasRow(4, "D", "CALC", "M", None),
        MiasRow(5, "F", "MISC", "B", (20, 944, 5)),
        MiasRow(5, "F", "MISC", "M", (60, 994, 8)),
        MiasRow(6, "F", "ARCH", "M", (10, 1019, 12)),
    ]


def test_y_counts_from_the_bottom(tmp_path: Path) -> None:
    films = by_film(write_films(tmp_path))
    assert films[1].findings[0].box == (40, 60, 60, 80)
    assert [finding.box for finding in films[5].findings] == [(15, 75, 25, 85), (52, 22, 68, 38)]


def test_boxes_are_clipped_and_counted(tmp_path: Path) -> None:
    data = read_mias(write_films(tmp_path))
    assert data.records[5].findings[0].box == (0, 0, 22, 17)
    assert data.notes == ("1 box clipped to its film",)


def test_what_is_known_of_each_film(tmp_path: Path) -> None:
    films = by_film(write_films(tmp_path))
    assert {number: (film.supervision, film.pathology) for number, film in films.items()} == {
        1: (Supervision.BOXES, Pathology.BENIGN),
        2: (Supervision.NORMAL, Pathology.NORMAL),
        3: (Supervision.IMAGE_LABEL, Pathology.BENIGN),
        4: (Supervision.IMAGE_LABEL, Pathology.MALIGNANT),
        5: (Supervision.BOXES, Pathology.MALIGNANT),
        6: (Supervision.BOXES, Pathology.MALIGNANT),
    }
    assert [finding.category for finding in films[5].findings] == ["benign", "malignant"]
    assert [finding.lesion_id for finding in films[5].findings] == ["mdb005-1", "mdb005-2"]
    ids = [finding.finding_id for film in films.values() for finding in film.findings]
    assert ids == [1, 2, 3, 4]


def test_patients_are_pairs_odd_is_right(tmp_path: Path) -> None:
    films = by_film(write_films(tmp_path))
    assert [films[n].patient_id for n in range(1, 7)] == [
        "mias-001", "mias-001", "mias-002", "mias-002", "mias-003", "mias-003",
    ]  # fmt: skip
    assert films[1].laterality is Laterality.RIGHT
    assert films[2].laterality is Laterality.LEFT
    assert films[5].exam_id == films[6].exam_id
    assert films[5].breast_id != films[6].breast_id
    assert films[1].pixel_spacing_mm == (0.2, 0.2)
    assert films[1].attributes == {"tissue": "G", "abnormality": "CIRC"}


def test_malignant_findings_that_are_no_target(tmp_path: Path) -> None:
    films = by_film(write_films(tmp_path), "CIRC", "SPIC", "MISC")
    assert films[5].supervision is Supervision.BOXES
    assert films[6].findings[0].category == "malignant_other"
    assert films[6].supervision is Supervision.IMAGE_LABEL
    assert not films[6].is_known_normal(("malignant",))
    assert not films[6].is_positive(("malignant",))


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    write_films(tmp_path, films=(1, 2, 3))
    cv2.imwrite(str(tmp_path / "mdb099.png"), np.zeros((1024, 1024), np.uint8))
    data = read_mias(tmp_path)
    assert data.notes == (
        "3 rows of Info.txt without a film: mdb004, mdb005, mdb006",
        "1 film without a row of Info.txt, not used: mdb099.png",
    )
    assert len(data.records) == 3


def test_films_in_capitals_and_damaged_ones(tmp_path: Path) -> None:
    write_films(tmp_path, films=(1, 2))
    (tmp_path / "mdb001.pgm").rename(tmp_path / "MDB001.PGM")
    (tmp_path / "mdb002.png").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"1 of 2 images.*\(--skip-unreadable\):\n.*mdb002\.png"):
        read_mias(tmp_path)
    data = read_mias(tmp_path, skip_unreadable=True)
    assert [record.image_id for record in data.records] == [1]
    assert "1 film that cannot be read, left out: mdb002.png" in data.notes


@pytest.mark.parametrize(
    "row",
    [
        "mdb001 G CIRC B 50 30",
        "mdb001 G CIRC X 50 30 10",
        "mdb001 G LUMP B 50 30 10",
        "mdb001 G CIRC B 50 thirty 10",
        "mdb001 G NORM B",
        "mdb001 G",
    ],
)
def test_rows_that_are_none(tmp_path: Path, row: str) -> None:
    write_films(tmp_path, rows=f"mdb002 G NORM\n{row}\n")
    with pytest.raises(AnnotationError, match=r"Info\.txt: line 7: .*mdb001 G.* is not a row"):
        read_mias(tmp_path)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="target classes LUMP: MIAS has CALC, CIRC"):
        read_mias(tmp_path, ["LUMP", "CIRC"])
    with pytest.raises(ConfigError, match="target classes are empty"):
        read_mias(tmp_path, [])
    with pytest.raises(DataError, match=r"gone: no such folder; give the folder with Info\.txt"):
        read_mias(tmp_path / "gone")
    with pytest.raises(DataError, match=r"Info\.txt: cannot be opened"):
        read_mias(tmp_path)
    write_films(tmp_path, films=())
    with pytest.raises(DataError, match="none of the films"):
        read_mias(tmp_path)
    write_films(tmp_path, rows="nothing\n")
    with pytest.raises(AnnotationError, match=r"Info\.txt: no row such as"):
        read_mias(tmp_path)
    write_films(tmp_path, rows="mdb001 G CIRC B 1500 30 10\n")
    with pytest.raises(
        AnnotationError, match=r"circle \(1500, 30, 10\).*lies outside.*mdb001\.pgm"
    ):
        read_mias(tmp_path)
    write_films(tmp_path, rows="mdb001 G NORM\nmdb001 G CIRC B 5 30 1\n")
    with pytest.raises(AnnotationError, match="mdb001 is both NORM and abnormal"):
        read_mias(tmp_path)


def test_films_of_another_size_are_refused(tmp_path: Path) -> None:
    """Info.txt states circles in pixels of the published films: on others they lie elsewhere."""
    write_films(tmp_path, films=(1, 2, 3))
    cv2.imwrite(str(tmp_path / "mdb002.png"), np.zeros((512, 512), np.uint8))
    with pytest.raises(AnnotationError, match=r"1 film is not of 1024 x 1024 .*mdb002\.png"):
        read_mias(tmp_path)


@pytest.mark.data
@needs_shared("mias")
class TestRealFiles:
    def test_counts(self) -> None:
        data = read_mias(SHARED_DATA / "mias")
        assert len(data.records) == 242
        assert len({record.patient_id for record in data.records}) == 121
        kinds = Counter(record.supervision.value for record in data.records)
        assert kinds["image_label"] == 3  # mdb059, mdb216, mdb233
        films = {record.image_id: record for record in data.records}
        assert films[59].supervision is Supervision.IMAGE_LABEL
        assert [f.category for f in films[144].findings] == ["benign", "malignant"]
        assert films[1].findings[0].box == (338, 402, 732, 796)

    def test_findings_are_brighter_than_the_film(self) -> None:
        """The y axis is turned the right way: lesions lie on tissue, not on the background."""
        from simfrcnn.images.reading import load_pixels

        n_brighter, n_findings = 0, 0
        for record in read_mias(SHARED_DATA / "mias").records:
            for finding in record.findings:
                x1, y1, x2, y2 = map(int, finding.box)
                pixels = load_pixels(record)
                n_findings += 1
                n_brighter += pixels[y1:y2, x1:x2].mean() > pixels.mean()
        assert n_findings > 80
        assert n_brighter >= n_findings - 3
