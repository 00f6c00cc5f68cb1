"""Which pictures are no screening views, by what their headers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sr import codedict
from pydicom.sr._snomed_dict import mapping

from simfrcnn.dicom import screening
from simfrcnn.dicom.mammogram import read_mammogram
from support.data_examples import SECRET_NAME, write_dicom

pytestmark = pytest.mark.data

PIXELS = np.arange(100, dtype=np.uint16).reshape(10, 10)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def code(value: str, scheme: str = "SRT", modifier: Dataset | None = None) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    if modifier is not None:
        item.ViewModifierCodeSequence = [modifier]
    return item


def reason(folder: Path, **tags: Any) -> str | None:
    return read_mammogram(write_dicom(folder / "a.dcm", PIXELS, **tags)).not_screening


NOT_SCREENING: dict[str, tuple[dict[str, Any], str]] = {
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a scout (Image Type"),
    "stereo scout": ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]}, "a scout"),
    "needle": ({"ImageType": ["ORIGINAL", "PRIMARY", "POSTFIRE_PLUS"]}, "a picture of a biopsy"),
    "projection": ({"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ"]}, "a projection of tomo"),
    "subtraction": (
        {"ImageType": ["DERIVED", "PRIMARY", "POST_CONTRAST", "SUBTRACTION"]},
        "an image of a contrast agent",
    ),
    "screen": ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a page of a screen"),
    "workstation": ({"ConversionType": "WSD"}, "a page of a screen (Conversion Type (0008,0064))"),
    "document": ({"ConversionType": "SD"}, "a scanned document"),
    "capture": ({"SOPClassUID": SECONDARY_CAPTURE}, "a secondary capture (SOP Class UID"),
    "specimen": (
        {"ViewCodeSequence": [code("G-8310")]},
        "a specimen (View Code Sequence (0054,0220))",
    ),
    "specimen described": ({"SpecimenDescriptionSequence": [code("1")]}, "a specimen (Specimen"),
    "phantom": ({"QualityControlImage": "YES"}, "a picture for quality control"),
    "magnification": (
        {"ViewCodeSequence": [code("R-10242", modifier=code("R-102D6"))]},
        "magnification (View Modifier Code Sequence (0054,0222))",
    ),
    "spot": (
        {"ViewCodeSequence": [code("399162004", "SCT", code("399055006", "SCT"))]},
        "spot compression (View Modifier",
    ),
    "modifier at the top": (
        {"ViewModifierCodeSequence": [code("R-102D5", "SNM3")]},
        "implant displaced (View Modifier",
    ),
    "mag view": ({"ViewPosition": "LMCC"}, "magnification (View Position (0018,5101))"),
    "spot view": ({"ViewPosition": "SMLO"}, "spot compression (View Position"),
    "both": ({"ViewPosition": "SMCC"}, "spot compression"),
    "implant": ({"ViewPosition": "mlo-id"}, "implant displaced (View Position"),
    "rolled": ({"ViewPosition": "CCRL"}, "rolled"),
    "cleavage": ({"ViewPosition": "CV"}, "cleavage"),
    "factor": ({"EstimatedRadiographicMagnificationFactor": 1.5}, "magnification (Estimated"),
    "paddle": ({"PaddleDescription": "10CM MAG"}, "magnification (Paddle Description"),
    "spot paddle": ({"PaddleDescription": "SPOT CONTACT"}, "spot compression (Paddle"),
}
SCREENING: dict[str, dict[str, Any]] = {
    "plain": {},
    "synthesised": {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]},
    "low energy": {"ImageType": ["ORIGINAL", "PRIMARY", "POST_CONTRAST", "", "LOW_ENERGY"]},
    "film": {"ConversionType": "DF", "SOPClassUID": SECONDARY_CAPTURE},
    "CBIS-DDSM": {
        "ConversionType": "WSD",
        "SOPClassUID": SECONDARY_CAPTURE,
        "PatientOrientation": "CC",
    },
    "nipple in profile": {"ViewCodeSequence": [code("R-10242", modifier=code("R-40AB3"))]},
    "part of a large breast": {"PartialView": "YES"},
    "implant, ordinary view": {"BreastImplantPresent": "YES"},
    "contact": {"EstimatedRadiographicMagnificationFactor": 1.07},
    "flexible paddle": {"PaddleDescription": "18X24CM FLEX"},
    "factor that is none": {"EstimatedRadiographicMagnificationFactor": []},
    **{view: {"ViewPosition": view} for view in ("CC", "LMLO", "ML", "LM", "RML", "XCCL", "SIO")},
}


@pytest.mark.parametrize("name", NOT_SCREENING)
def test_pictures_that_are_no_screening_views(tmp_path: Path, name: str) -> None:
    tags, expected = NOT_SCREENING[name]
    found = reason(tmp_path, **tags)
    assert found is not None
    assert found.startswith(expected)
    assert SECRET_NAME not in found


@pytest.mark.parametrize("name", SCREENING)
def test_pictures_that_are(tmp_path: Path, name: str) -> None:
    assert reason(tmp_path, **SCREENING[name]) is None


def test_a_malformed_element_says_nothing(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS, EstimatedRadiographicMagnificationFactor=1.5)
    content = path.read_bytes()
    assert content.count(b"1.5 ") == 1
    path.write_bytes(content.replace(b"1.5 ", b"x.y "))
    assert read_mammogram(path).not_screening is None


def test_codes_are_those_of_the_standard() -> None:
    """CID 4015 as pydicom has it, every code but nipple in profile, each in both schemes."""
    by_code: dict[str, str] = {}
    for keyword in codedict.codes.cid4015.dir():
        concept = getattr(codedict.codes.cid4015, keyword)
        old = mapping["SCT"][concept.value]
        by_code |= {concept.value: concept.meaning.lower(), old: concept.meaning.lower()}
    profile = {value for value, meaning in by_code.items() if meaning == "nipple in profile"}
    assert by_code.keys() - profile == screening._VIEW_MODIFIERS.keys()
    for value, meaning in screening._VIEW_MODIFIERS.items():
        assert by_code[value].startswith(meaning)
    specimen = codedict.codes.cid4014.TissueSpecimenFromBreast.value
    assert {specimen, mapping["SCT"][specimen]} == screening._SPECIMEN_VIEWS


def test_a_mammogram_says_who_it_is(tmp_path: Path) -> None:
    tags = {"SOPInstanceUID": "1.2.3.9", "SeriesInstanceUID": "1.2.3.5", "ViewPosition": "MCC"}
    view = read_mammogram(write_dicom(tmp_path / "a.dcm", PIXELS, **tags))
    assert (view.sop_instance_uid, view.series_instance_uid) == ("1.2.3.9", "1.2.3.5")
    assert view.exam_id == "1.2.3.4"
    assert view.patient_id == "P7"
    assert view.not_screening == "magnification (View Position (0018,5101))"
    nobody = read_mammogram(
        write_dicom(tmp_path / "b.dcm", PIXELS, PatientID="", StudyInstanceUID=None)
    )
    assert nobody.patient_id is None
    assert nobody.exam_id is None
