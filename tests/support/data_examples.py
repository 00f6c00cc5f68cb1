"""Small DICOM files and records for the tests of the data package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from simfrcnn.records import Box, Finding, ImageRecord, Pathology, Supervision

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
SECRET_NAME = "Doe^Jane"

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = Path(os.environ.get("SIMFRCNN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))


def needs_shared(folder: str) -> pytest.MarkDecorator:
    """Skip where the real data are not beside the project."""
    path = SHARED_DATA / folder
    return pytest.mark.skipif(not path.is_dir(), reason=f"no real data at {path}")


def mammogram_dataset(stored: NDArray[Any], **tags: Any) -> Dataset:
    """A For Presentation mammogram around stored values; a tag of None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * stored.dtype.itemsize
    elements = {
        "SOPClassUID": FOR_PRESENTATION,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3.4",
        "Modality": "MG",
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientName": SECRET_NAME,
        "PatientID": "P7",
        "ImageLaterality": "L",
        "ViewPosition": "MLO",
        "ImagerPixelSpacing": [0.07, 0.08],
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.tobytes(),
    } | tags
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = elements["SOPClassUID"]
    dataset.file_meta.MediaStorageSOPInstanceUID = elements["SOPInstanceUID"]
    return dataset


def write_dicom(path: Path, stored: NDArray[Any], **tags: Any) -> Path:
    """Write :func:`mammogram_dataset` as a DICOM file."""
    mammogram_dataset(stored, **tags).save_as(path, enforce_file_format=True)
    return path


def make_finding(
    box: Box = (10, 10, 20, 30), category: str = "malignant", finding_id: int = 1, **facts: Any
) -> Finding:
    return Finding(box=box, category=category, finding_id=finding_id, **facts)


def make_record(
    image_id: int = 1,
    *findings: Finding,
    supervision: Supervision = Supervision.BOXES,
    patient: str = "p1",
    pathology: Pathology | None = None,
    path: Path = Path("/nowhere/image.png"),
    height: int = 100,
    width: int = 80,
    **facts: Any,
) -> ImageRecord:
    return ImageRecord(
        image_id=image_id,
        file_name=path.name,
        path=path,
        height=height,
        width=width,
        patient_id=patient,
        exam_id=f"{patient}-exam",
        supervision=supervision,
        pathology=pathology,
        findings=findings,
        **facts,
    )
