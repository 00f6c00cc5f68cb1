"""The files: valid objects of both vendors, that look alike when read as the standard says."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from simfrcnn.dicom.mammogram import read_mammogram
from simfrcnn.phantom.dicom_writer import FULL_SCALE, dicom_bytes
from simfrcnn.phantom.exams import VENDORS, VIEWS_OF_EXAM, Vendor, draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.phantom.render import render_view
from simfrcnn.records import Laterality, ViewPosition

TINY = PRESETS["tiny"]
EXAM = draw_exams(TINY, seed=0)[0]

# PS3.3 A.27: modules of Digital Mammography X-Ray Image - For Presentation, as far as they are
# mandatory. Type 1: present and not empty; type 2: present.
TYPE_1 = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "PresentationIntentType",
    "ImageLaterality",
    "OrganExposed",
    "AnatomicRegionSequence",
    "ViewCodeSequence",
    "PositionerType",
    "ImageType",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PresentationLUTShape",
    "LossyImageCompression",
    "BurnedInAnnotation",
    "ImagerPixelSpacing",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
]
TYPE_2 = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "Manufacturer",
    "InstanceNumber",
    "PatientOrientation",
    "DetectorType",
    "AcquisitionContextSequence",
]


def encode(vendor: Vendor, laterality: Laterality, view: ViewPosition) -> bytes:
    picture = render_view(EXAM, laterality, view, TINY, 0)
    return dicom_bytes(picture, replace(EXAM, vendor=vendor), laterality, view, TINY, 0)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("laterality", "view"), VIEWS_OF_EXAM)
def test_mandatory_attributes_are_there(
    vendor: Vendor, laterality: Laterality, view: ViewPosition
) -> None:
    dataset = pydicom.dcmread(io.BytesIO(encode(vendor, laterality, view)))
    for keyword in TYPE_1:
        assert keyword in dataset, keyword
        assert dataset[keyword].value not in (None, "", []), keyword
    for keyword in TYPE_2:
        assert keyword in dataset, keyword
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.2"
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert "ViewModifierCodeSequence" in dataset.ViewCodeSequence[0]
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (16, 12, 11)
    assert dataset.pixel_array.max() <= FULL_SCALE
    assert (dataset.ImageLaterality, dataset.ViewPosition) == (laterality.value, view.value)
    # Rows run away from the chest wall, which is on the left of a left breast's image.
    assert dataset.PatientOrientation[0] == ("A" if laterality is Laterality.LEFT else "P")
    assert dataset.ImagerPixelSpacing == [1.0, 1.0]
    assert dataset.PatientName == f"PHANTOM^{EXAM.number:06d}"
    assert dataset.PatientBirthDate == ""
    inverse = dataset.PresentationLUTShape == "INVERSE"
    assert (dataset.PhotometricInterpretation == "MONOCHROME1") is inverse is (vendor == "A")


@pytest.mark.service("dicom3tools")
@pytest.mark.parametrize("vendor", VENDORS)
def test_dciodvfy_finds_no_error(vendor: Vendor, tmp_path: Path) -> None:
    for laterality, view in VIEWS_OF_EXAM:
        path = tmp_path / f"{laterality.value}{view.value}.dcm"
        path.write_bytes(encode(vendor, laterality, view))
        check = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        report = check.stdout + check.stderr
        assert "MammographyImageForPresentation" in report
        assert "Error" not in report, report


@pytest.mark.parametrize(("laterality", "view"), VIEWS_OF_EXAM)
def test_both_vendors_look_like_the_picture(
    laterality: Laterality, view: ViewPosition, tmp_path: Path
) -> None:
    picture = render_view(EXAM, laterality, view, TINY, 0)
    read = {}
    for vendor in VENDORS:
        path = tmp_path / f"{vendor}.dcm"
        path.write_bytes(encode(vendor, laterality, view))
        mammogram = read_mammogram(path)
        assert mammogram.laterality is laterality
        assert mammogram.view_position is view
        assert mammogram.patient_id == EXAM.patient_id
        assert mammogram.pixel_spacing_mm == (1.0, 1.0)
        read[vendor] = np.asarray(mammogram.pixels, dtype=np.float64) / 255.0
    stored = {vendor: pydicom.dcmread(tmp_path / f"{vendor}.dcm").pixel_array for vendor in VENDORS}
    assert np.corrcoef(stored["A"].ravel(), stored["B"].ravel())[0, 1] < -0.9
    for vendor in VENDORS:
        np.testing.assert_allclose(read[vendor], picture, atol=1.6 / 255.0)


def test_a_file_follows_from_its_arguments_alone() -> None:
    first = encode("A", Laterality.LEFT, ViewPosition.CC)
    assert first == encode("A", Laterality.LEFT, ViewPosition.CC)
    uid = pydicom.dcmread(io.BytesIO(first)).SOPInstanceUID
    assert uid.is_valid
    others = [
        pydicom.dcmread(io.BytesIO(encode("A", side, view))).SOPInstanceUID
        for side, view in VIEWS_OF_EXAM
    ]
    assert len(set(others)) == 4
    picture = render_view(EXAM, Laterality.LEFT, ViewPosition.CC, TINY, 0)
    reseeded = dicom_bytes(picture, EXAM, Laterality.LEFT, ViewPosition.CC, TINY, 1)
    assert pydicom.dcmread(io.BytesIO(reseeded)).SOPInstanceUID not in others
