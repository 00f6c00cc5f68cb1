"""Laterality, view and orientation, from every place they hide in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from simfrcnn.dicom.mammogram import Mammogram, read_mammogram
from simfrcnn.dicom.view import Flips
from simfrcnn.records import Laterality, ViewPosition
from support.data_examples import SECRET_NAME, write_dicom

pytestmark = pytest.mark.data

PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4)
NOWHERE = {"ImageLaterality": None, "ViewPosition": None}


def read(folder: Path, **tags: Any) -> Mammogram:
    return read_mammogram(write_dicom(folder / "v.dcm", PIXELS, **NOWHERE | tags))


def coded(value: str, **more: Any) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    for keyword, content in more.items():
        setattr(item, keyword, content)
    return item


LATERALITIES: dict[str, tuple[dict[str, Any], Laterality | None]] = {
    "image": ({"ImageLaterality": "R"}, Laterality.RIGHT),
    "series": ({"Laterality": "L"}, Laterality.LEFT),
    "image before series": ({"ImageLaterality": "R", "Laterality": "L"}, Laterality.RIGHT),
    "frame": ({"FrameLaterality": "L"}, Laterality.LEFT),
    "both breasts": ({"ImageLaterality": "B", "SeriesDescription": "L CC"}, None),
    "region": (
        {
            "AnatomicRegionSequence": [
                coded("76752008", AnatomicRegionModifierSequence=[coded("24028007")])
            ]
        },
        Laterality.RIGHT,
    ),
    "view position": ({"ViewPosition": "LCC"}, Laterality.LEFT),
    "description": ({"SeriesDescription": "R MLO"}, Laterality.RIGHT),
    "joined": ({"SeriesDescription": "Mammo LMLO (raw)"}, Laterality.LEFT),
    "word": ({"ProtocolName": "left breast"}, Laterality.LEFT),
    "small letters": ({"SeriesDescription": "rcc"}, Laterality.RIGHT),
    "device": ({"AcquisitionDeviceProcessingDescription": "L XCCL"}, Laterality.LEFT),
    "both in one text": ({"SeriesDescription": "L CC, R CC"}, None),
    "no code": ({"SeriesDescription": "LARGE RELIEF"}, None),
    "not the patient's direction": ({"PatientOrientation": ["A", "R"]}, None),
    "nowhere": ({}, None),
}


@pytest.mark.parametrize("name", LATERALITIES)
def test_laterality(tmp_path: Path, name: str) -> None:
    tags, expected = LATERALITIES[name]
    assert read(tmp_path, **tags).laterality is expected


SIDE_OF_REGION = [coded("T-04000", AnatomicRegionModifierSequence=[coded("G-A100")])]


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        (
            {"ImageLaterality": "L", "Laterality": "R"},
            "Image Laterality (0020,0062) says L and was followed; Laterality (0020,0060) says R",
        ),
        (
            {"ImageLaterality": "L", "AnatomicRegionSequence": SIDE_OF_REGION},
            "Image Laterality (0020,0062) says L and was followed; Anatomic Region Modifier "
            "Sequence (0008,2220) says R",
        ),
        (
            {"ViewPosition": "CC", "ViewCodeSequence": [coded("R-10226")]},
            "View Position (0018,5101) and View Code Sequence (0054,0220) differ: CC was followed",
        ),
        (
            {"ViewPosition": "ML", "ViewCodeSequence": [coded("R-10226")]},
            "View Position (0018,5101) and View Code Sequence (0054,0220) differ: MLO was followed",
        ),
    ],
)
def test_elements_that_contradict_each_other_are_noted(
    tmp_path: Path, tags: dict[str, Any], note: str
) -> None:
    assert read(tmp_path, **tags).notes.count(note) == 1


def test_elements_that_agree_are_no_contradiction(tmp_path: Path) -> None:
    said = read(tmp_path, ImageLaterality="R", Laterality="B", ViewPosition="RMLO").notes
    assert not [note for note in said if "followed" in note]


VIEWS: dict[str, tuple[dict[str, Any], ViewPosition | None]] = {
    "position": ({"ViewPosition": "CC"}, ViewPosition.CC),
    "with side": ({"ViewPosition": "RMLO"}, ViewPosition.MLO),
    "another": ({"ViewPosition": "ML"}, ViewPosition.OTHER),
    "exaggerated": ({"ViewPosition": "XCCL"}, ViewPosition.OTHER),
    "code": ({"ViewCodeSequence": [coded("399368009")]}, ViewPosition.MLO),
    "old code": ({"ViewCodeSequence": [coded("R-10242")]}, ViewPosition.CC),
    "other code": (
        {"ViewCodeSequence": [coded("R-10224")], "SeriesDescription": "L CC"},
        ViewPosition.OTHER,
    ),
    "position says nothing, code does": (
        {"ViewPosition": "UNKNOWN", "ViewCodeSequence": [coded("399162004")]},
        ViewPosition.CC,
    ),
    "orientation": ({"PatientOrientation": "MLO"}, ViewPosition.MLO),  # CBIS-DDSM
    "description": ({"SeriesDescription": "L CC"}, ViewPosition.CC),
    "protocol": ({"ProtocolName": "Screening RMLO"}, ViewPosition.MLO),
    "two in one text": ({"SeriesDescription": "CC and MLO"}, None),
    "no code": ({"SeriesDescription": "ACCESS"}, None),
    "nowhere": ({}, None),
}


@pytest.mark.parametrize("name", VIEWS)
def test_view_position(tmp_path: Path, name: str) -> None:
    tags, expected = VIEWS[name]
    assert read(tmp_path, **tags).view_position is expected


def test_a_note_says_which_text_it_was_and_nothing_of_the_text(tmp_path: Path) -> None:
    mammogram = read(tmp_path, SeriesDescription=f"{SECRET_NAME} L CC")
    assert "laterality was read from Series Description (0008,103E)" in mammogram.notes
    assert "view position was read from Series Description (0008,103E)" in mammogram.notes
    assert SECRET_NAME not in repr(mammogram.notes)


# Side, Patient Orientation -> flips that lead to the standard hanging.
ORIENTATIONS: list[tuple[str | None, Any, Flips]] = [
    ("L", ["A", "R"], Flips()),
    ("L", ["A", "FR"], Flips()),
    ("L", ["A", "F"], Flips()),
    ("R", ["P", "L"], Flips()),
    ("R", ["P", "FL"], Flips()),
    ("L", ["P", "R"], Flips(horizontal=True)),
    ("L", ["A", "L"], Flips(vertical=True)),
    ("L", ["P", "HL"], Flips(horizontal=True, vertical=True)),
    ("R", ["A", "L"], Flips(horizontal=True)),
    ("R", ["P", "R"], Flips(vertical=True)),
    ("R", ["P", "H"], Flips(vertical=True)),
    (None, ["P", "L"], Flips()),
    ("L", ["F", "A"], Flips()),
    ("L", None, Flips()),
    ("L", "CC", Flips()),
    ("L", ["A", "nonsense"], Flips()),
]


@pytest.mark.parametrize(("side", "orientation", "flips"), ORIENTATIONS)
def test_orientation(tmp_path: Path, side: str | None, orientation: Any, flips: Flips) -> None:
    mammogram = read(tmp_path, ImageLaterality=side, PatientOrientation=orientation)
    assert mammogram.display.flips == flips
    np.testing.assert_array_equal(np.argsort(mammogram.pixels, axis=None), np.arange(12))
    said = [note for note in mammogram.notes if note.startswith("Patient Orientation")]
    is_undecided = (side, orientation) in [(None, ["P", "L"]), ("L", ["F", "A"])]
    is_illegal = orientation in ("CC", ["A", "nonsense"])
    assert bool(said) == (flips != Flips() or is_undecided or is_illegal)
    assert any("no legal value" in note for note in said) == is_illegal
    assert "NONSENSE" not in repr(said).upper()
