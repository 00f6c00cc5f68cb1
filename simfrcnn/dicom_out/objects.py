"""What do all our DICOM objects have in common: patient, study, series, equipment, identity, dates?

Nothing depends on the clock or on chance: the same exam, model and version give the same bytes.
Series Instance UIDs follow from (model, study, patient, kind), SOP Instance UIDs from the series
and the content, so that a result that changed is another instance, never another content under the
same UID.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from simfrcnn.dicom_out.sources import IF_THERE, PATIENT, STUDY, Study

MANUFACTURER = "simfrcnn"
_IMPLEMENTATION = UID("2.25.274316912478053163158240387136912347701")
_NO_UID = "2.25.0"
"""In place of the SOP Instance UID while the content is hashed."""


@dataclass(frozen=True)
class Series:
    """One kind of result: what its series is called and where it stands in the study."""

    kind: str
    modality: str
    number: int
    description: str


SR = Series("sr", "SR", 9301, "simfrcnn findings - RESEARCH USE ONLY")
GSPS = Series("gsps", "PR", 9302, "simfrcnn marks - RESEARCH USE ONLY")
CAD_SR = Series("cad-sr", "SR", 9303, "simfrcnn Mammography CAD SR - RESEARCH USE ONLY")
CAPTURE = Series("sc", "OT", 9304, "simfrcnn pictures - RESEARCH USE ONLY")


def uid_of(*parts: str) -> UID:
    """A UID that follows from its arguments alone.

    Reference: PS3.5 B.2 (UUID derived UID).
    """
    digest = hashlib.sha256("\0".join(("simfrcnn-result", *parts)).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}")


def series_uid(study: Study, series: Series) -> UID:
    """The Series Instance UID of one kind of result of a model for a study."""
    common = study.common
    model = study.findings.model
    return uid_of(
        *(model.version, model.sha256, str(common.StudyInstanceUID), str(common.PatientID)),
        series.kind,
    )


def device_uid(study: Study) -> UID:
    """The UID of the model as a device."""
    return uid_of("device", study.findings.model.version, study.findings.model.sha256)


def new_object(study: Study, series: Series, sop_class: str) -> Dataset:
    """An object with all that is common, for its own content to be added."""
    dataset = Dataset()
    dataset.SOPClassUID = UID(sop_class)
    _add_common(dataset, study, series)
    return dataset


def encoded(dataset: Dataset, study: Study, series: Series, number: int) -> bytes:
    """The file of an object, with the common elements and its own identity.

    Args:
        dataset: From :func:`new_object` or another library, which may have stamped the time on it.
        study: What it belongs to.
        series: Its kind.
        number: Instance Number (0020,0013).

    Returns:
        A DICOM file, Explicit VR Little Endian.
    """
    own = Dataset()
    own.update(dataset)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "TimezoneOffsetFromUTC"):
        if keyword in own:
            delattr(own, keyword)
    for equipment in own.get("ContributingEquipmentSequence") or ():
        equipment.pop("ContributionDateTime", None)
    _add_common(own, study, series)
    own.InstanceNumber = number
    own.SOPInstanceUID = _NO_UID
    content = hashlib.sha256(_file(own)).hexdigest()
    own.SOPInstanceUID = uid_of(str(own.SeriesInstanceUID), content)
    return _file(own)


def _add_common(dataset: Dataset, study: Study, series: Series) -> None:
    common, model = study.common, study.findings.model
    for keyword in PATIENT + STUDY:
        setattr(dataset, keyword, common.get(keyword, ""))
    for keyword in IF_THERE:
        if keyword in common:
            setattr(dataset, keyword, common.get(keyword))
        elif keyword in dataset:  # another library took it from another film
            delattr(dataset, keyword)
    if "SpecificCharacterSet" in common:
        dataset.SpecificCharacterSet = common.SpecificCharacterSet
    elif "SpecificCharacterSet" in dataset:
        del dataset.SpecificCharacterSet
    dataset.Modality = series.modality
    if series.modality != "SR":
        dataset.Laterality = ""  # type 2C of a paired body part; the series has both
    dataset.SeriesInstanceUID = series_uid(study, series)
    dataset.SeriesNumber = series.number
    dataset.SeriesDescription = series.description
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "simfrcnn"
    dataset.DeviceSerialNumber = model.sha256[:16]
    dataset.SoftwareVersions = model.version
    date, time = study.date_and_time
    for keyword in ("Content", "PresentationCreation"):
        if keyword == "Content" or f"{keyword}Date" in dataset:
            setattr(dataset, f"{keyword}Date", date)
            setattr(dataset, f"{keyword}Time", time)


def _file(dataset: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = "SIMFRCNN"
    stream = io.BytesIO()
    whole = FileDataset("", dataset, file_meta=meta, preamble=b"\0" * 128)
    whole.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
