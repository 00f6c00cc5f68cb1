"""How is a phantom picture stored as DICOM, the way each of two vendors would?

Object: Digital Mammography X-Ray Image Storage - For Presentation (PS3.3 A.27), explicit VR little
endian, 12 bits stored in 16. Both vendors describe the same display: vendor A through MONOCHROME1
and a SIGMOID VOI function, vendor B through MONOCHROME2 and a linear window. Nothing depends on the
clock: dates are fixed and UIDs are derived from the seed and the identifiers.
"""

from __future__ import annotations

import hashlib
import io
import uuid

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from simfrcnn.phantom.exams import PhantomExam, Vendor, exam_random
from simfrcnn.phantom.presets import Preset
from simfrcnn.phantom.texture import FloatImage
from simfrcnn.records import Laterality, ViewPosition

FULL_SCALE = 4095
"""Largest stored value: 12 bits."""

DATE, TIME = "20200101", "120000"
"""Study, series, acquisition and content date and time of every phantom."""

_SIGMOID_WIDTH = 1800.0
_MANUFACTURERS: dict[Vendor, str] = {"A": "Phantom Vendor A", "B": "Phantom Vendor B"}
_VIEW_CODES = {
    ViewPosition.CC: ("399162004", "cranio-caudal"),
    ViewPosition.MLO: ("399368009", "medio-lateral oblique"),
}
_ORIENTATIONS = {
    (Laterality.LEFT, ViewPosition.CC): ["A", "R"],
    (Laterality.LEFT, ViewPosition.MLO): ["A", "FR"],
    (Laterality.RIGHT, ViewPosition.CC): ["P", "L"],
    (Laterality.RIGHT, ViewPosition.MLO): ["P", "FL"],
}
"""Patient Orientation (0020,0020): direction of the rows, then of the columns."""


def phantom_uid(seed: int, preset: Preset, *parts: str) -> UID:
    """A UID that follows from its arguments alone: 2.25 and a UUID made of their SHA-256.

    Reference: PS3.5 B.2 (UUID derived UID).
    """
    text = "/".join(("simfrcnn-phantom", preset.name, str(seed), *parts))
    value = uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4).int
    return UID(f"2.25.{value}")


def instance_uid(
    exam: PhantomExam, laterality: Laterality, view: ViewPosition, preset: Preset, seed: int
) -> UID:
    """The SOP Instance UID (0008,0018) of one view."""
    return phantom_uid(seed, preset, exam.exam_id, "instance", laterality.value + view.value)


def dicom_bytes(
    picture: FloatImage,
    exam: PhantomExam,
    laterality: Laterality,
    view: ViewPosition,
    preset: Preset,
    seed: int,
) -> bytes:
    """Encode one view as a complete DICOM file.

    Args:
        picture: (H, W) in [0, 1], as it should look on a display; strictly inside for vendor A.
        exam: Whose view.
        laterality: Image Laterality (0020,0062).
        view: View Position (0018,5101).
        preset: Gives the pixel spacing.
        seed: The data set's seed: UIDs follow from it.

    Returns:
        The file's content, identical for identical arguments.
    """
    dataset = _file_dataset(instance_uid(exam, laterality, view, preset, seed))
    _add_patient_and_study(dataset, exam, preset, seed)
    _add_series_and_equipment(dataset, exam, preset, seed)
    _add_mammogram(dataset, exam, laterality, view, preset)
    _add_pixels(dataset, picture, exam, seed)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _file_dataset(sop_instance_uid: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("2.25.113059749145936325402354257176981405696")
    meta.ImplementationVersionName = "SIMFRCNN_PHANTOM"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = sop_instance_uid
    return dataset


def _add_patient_and_study(dataset: Dataset, exam: PhantomExam, preset: Preset, seed: int) -> None:
    dataset.PatientName = f"PHANTOM^{exam.number:06d}"
    dataset.PatientID = exam.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.PatientAge = f"{exam.age_years:03d}Y"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Synthetic image: there is no patient"
    dataset.StudyInstanceUID = phantom_uid(seed, preset, exam.exam_id, "study")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = TIME
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = str(exam.number)
    dataset.AccessionNumber = ""
    dataset.StudyDescription = "Synthetic screening mammography"


def _add_series_and_equipment(
    dataset: Dataset, exam: PhantomExam, preset: Preset, seed: int
) -> None:
    dataset.Modality = "MG"
    dataset.SeriesInstanceUID = phantom_uid(seed, preset, exam.exam_id, "series")
    dataset.SeriesNumber = 1
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Manufacturer = _MANUFACTURERS[exam.vendor]
    dataset.ManufacturerModelName = "simfrcnn phantom"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"


def _add_mammogram(
    dataset: Dataset,
    exam: PhantomExam,
    laterality: Laterality,
    view: ViewPosition,
    preset: Preset,
) -> None:
    side = list(Laterality).index(laterality)
    dataset.InstanceNumber = 1 + 2 * side + (view is ViewPosition.MLO)
    dataset.AcquisitionNumber = dataset.InstanceNumber
    dataset.ImageType = ["DERIVED", "PRIMARY", ""]
    dataset.PatientOrientation = _ORIENTATIONS[laterality, view]
    dataset.ImageLaterality = laterality.value
    dataset.ViewPosition = view.value
    code, meaning = _VIEW_CODES[view]
    view_code = _code(code, meaning)
    view_code.ViewModifierCodeSequence = []
    dataset.ViewCodeSequence = [view_code]
    dataset.AnatomicRegionSequence = [_code("76752008", "Breast")]
    dataset.OrganExposed = "BREAST"
    dataset.BreastImplantPresent = "NO"
    dataset.PositionerType = "MAMMOGRAPHIC"
    dataset.PositionerPrimaryAngle = 0 if view is ViewPosition.CC else 45
    dataset.DetectorType = "DIRECT"
    dataset.DetectorID = exam.vendor
    spacing = f"{preset.pixel_spacing_mm:g}"
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.BurnedInAnnotation = "YES"
    dataset.LossyImageCompression = "00"
    dataset.AcquisitionContextSequence = []


def _add_pixels(dataset: Dataset, picture: FloatImage, exam: PhantomExam, seed: int) -> None:
    rng = exam_random(seed, exam.number, 99)
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = picture.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.PixelIntensityRelationship = "LOG"
    if exam.vendor == "A":
        centre = int(rng.integers(2030, 2066))
        stored = _through_inverse_sigmoid(1.0 - picture, centre)
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PresentationLUTShape = "INVERSE"
        dataset.PixelIntensityRelationshipSign = 1
        dataset.WindowCenter, dataset.WindowWidth = str(centre), f"{_SIGMOID_WIDTH:g}"
        dataset.VOILUTFunction = "SIGMOID"
    else:
        low, high = int(rng.integers(100, 400)), int(rng.integers(3300, 3900))
        stored = low + picture * (high - low)
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PresentationLUTShape = "IDENTITY"
        dataset.PixelIntensityRelationshipSign = -1
        # PS3.3 C.11.2.1.2: LINEAR maps centre - .5 -+ (width - 1) / 2 to black and white.
        dataset.WindowCenter, dataset.WindowWidth = f"{(low + high + 1) / 2:g}", str(high - low + 1)
        dataset.VOILUTFunction = "LINEAR"
    values = np.clip(np.rint(stored), 0, FULL_SCALE).astype("<u2")
    dataset.PixelData = values.tobytes()


def _through_inverse_sigmoid(output: FloatImage, centre: float) -> npt.NDArray[np.floating]:
    """The stored values which SIGMOID (PS3.3 C.11.2.1.3.1) turns into ``output`` in (0, 1)."""
    return centre + 0.25 * _SIGMOID_WIDTH * np.log(output / (1.0 - output))


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "SCT"
    code.CodeMeaning = meaning
    return code
