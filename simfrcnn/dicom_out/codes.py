"""Every code that our DICOM objects use, in one place: docs/dicom_conformance.md lists the same.

Reference: DICOM PS3.16 (templates and context groups), SNOMED CT, UCUM, UMLS, RFC 5646.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from simfrcnn.records import Laterality, ViewPosition


@dataclass(frozen=True)
class Code:
    """Code Value (0008,0100), Coding Scheme Designator (0008,0102), Code Meaning (0008,0104)."""

    value: str
    scheme: str
    meaning: str

    def item(self) -> Dataset:
        """As the item of a code sequence."""
        item = Dataset()
        item.CodeValue = self.value
        item.CodingSchemeDesignator = self.scheme
        item.CodeMeaning = self.meaning
        return item


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


LANGUAGE = _dcm("121049", "Language of Content Item and Descendants")
ENGLISH = Code("en", "RFC5646", "English")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
IMAGING = _sct("363679005", "Imaging procedure")

OBSERVER_TYPE = _dcm("121005", "Observer Type")
DEVICE = _dcm("121007", "Device")
DEVICE_UID = _dcm("121012", "Device Observer UID")
DEVICE_NAME = _dcm("121013", "Device Observer Name")
DEVICE_MANUFACTURER = _dcm("121014", "Device Observer Manufacturer")

ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_VERSION = _dcm("111003", "Algorithm Version")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")

IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
MODALITY = _dcm("121139", "Modality")
MODALITIES = {
    "MG": _dcm("MG", "Mammography"),
    "CR": _dcm("CR", "Computed Radiography"),
    "DX": _dcm("DX", "Digital Radiography"),
}
IMAGE_LATERALITY = _dcm("111027", "Image Laterality")
IMAGE_VIEW = _dcm("111031", "Image View")
PIXEL_DATA_ROWS = _dcm("110910", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = _dcm("110911", "Pixel Data Columns")
PIXELS = Code("{pixels}", "UCUM", "Pixels")

SOURCE = _sct("260753009", "Source")
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")
"""These two are written by highdicom: for the film of a region, and for itself."""

IMAGING_REPORT = _dcm("126000", "Imaging Measurement Report")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
FINDING = _dcm("121071", "Finding")
FINDING_SITE = _sct("363698007", "Finding Site")
LATERALITY = _sct("272741003", "Laterality")
GEOMETRIC_PURPOSE = _dcm("130400", "Geometric purpose of region")
BOUNDED_BY = _sct("75958009", "Bounded by")
IMAGE_REGION = _dcm("111030", "Image Region")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = _dcm("121106", "Comment")
PROBABILITY = _dcm("111047", "Probability of cancer")
PERCENT = Code("%", "UCUM", "Percent")

CAD_REPORT = _dcm("111036", "Mammography CAD Report")
CAD_SUMMARY = _dcm("111017", "CAD Processing and Findings Summary")
ALL_WITHOUT = _dcm("111241", "All algorithms succeeded; without findings")
ALL_WITH = _dcm("111242", "All algorithms succeeded; with findings")
SOME_WITHOUT = _dcm("111243", "Not all algorithms succeeded; without findings")
SOME_WITH = _dcm("111244", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED = _dcm("111245", "No algorithms succeeded; without findings")
IMPRESSION = _dcm("111034", "Individual Impression/Recommendation")
RENDERING_INTENT = _dcm("111056", "Rendering Intent")
PRESENTATION_REQUIRED = _dcm(
    "111150", "Presentation Required: Rendering device is expected to present"
)
SINGLE_IMAGE_FINDING = _dcm("111059", "Single Image Finding")
COMPOSITE_FEATURE = _dcm("111015", "Composite Feature")
CENTRE = _dcm("111010", "Center")
OUTLINE = _dcm("111041", "Outline")
DETECTIONS = _dcm("111064", "Summary of Detections")
SUCCESSFUL_DETECTIONS = _dcm("111063", "Successful Detections")
FAILED_DETECTIONS = _dcm("111025", "Failed Detections")
DETECTION_PERFORMED = _dcm("111022", "Detection Performed")
ANALYSES = _dcm("111065", "Summary of Analyses")
SUCCEEDED = _dcm("111222", "Succeeded")
PARTIALLY_SUCCEEDED = _dcm("111223", "Partially Succeeded")
FAILED = _dcm("111224", "Failed")
NOT_ATTEMPTED = _dcm("111225", "Not Attempted")

MASS = _sct("129788004", "Mammographic breast mass")
DENSITY = _sct("129793001", "Mammography breast density")
CALCIFICATIONS = _sct("129769006", "Calcification Cluster")
DISTORTION = _sct("129792006", "Architectural distortion of breast")
BREAST = _sct("76752008", "Breast")
SIDES = {
    Laterality.LEFT: _sct("7771000", "Left"),
    Laterality.RIGHT: _sct("24028007", "Right"),
}
BREASTS = {
    Laterality.LEFT: _sct("80248007", "Left breast"),
    Laterality.RIGHT: _sct("73056007", "Right breast"),
}
VIEWS = {
    ViewPosition.CC: _sct("399162004", "cranio-caudal"),
    ViewPosition.MLO: _sct("399368009", "medio-lateral oblique"),
}

COMPOSITE_CODES = (MASS,)
"""Codes of CID 6016 that are no single image finding (CID 6014)."""


def finding_of(category: str) -> Code:
    """What a region is called in the Comprehensive SR, by the model's word for it."""
    return _special(category) or MASS


def single_image_finding_of(category: str) -> Code:
    """What it is called in the CAD SR, one film at a time.

    A mass is a composite feature there, of several films; what one film shows is a density.
    """
    return _special(category) or DENSITY


def _special(category: str) -> Code | None:
    word = category.lower()
    if "calc" in word:
        return CALCIFICATIONS
    return DISTORTION if "distortion" in word else None
