"""Is a picture one of the views that are read in screening, and if not, why?

A screening view shows a whole breast, or as much of it as fits on the detector, in contact with the
breast support. Lateral and exaggerated views (ML, LM, XCCL ...), views with the nipple in profile
and the parts of a breast that is larger than the detector (Partial View) show no less, and count as
screening views; so do synthesised views and the low-energy image of a contrast examination.

What is not: scouts and other pictures of a biopsy, specimens, pages of a screen, phantoms,
projections of tomosynthesis, images of a contrast agent, and views of a region: magnification, spot
compression, rolled, tangential, cleavage, axillary tail and the like. Implant-displaced views are
taken in screening of women with implants, beside the ordinary views; they count as *not* screening
here, because they show a breast without its posterior part and no public training set has them.

Only what the header states decides. A file without these elements counts as a screening view.

Reference:
    DICOM PS3.16 CID 4014 (views) and CID 4015 (view modifiers); PS3.3 C.8.11.7.1.4 (Image Type),
    C.8.6.1 (Conversion Type), C.8.11.5 (magnification factor, paddle). SNOMED codes are given in
    both forms, SCT and the older SRT.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset

from simfrcnn.dicom.header import Header, tag_name
from simfrcnn.errors import DicomError

LARGEST_CONTACT_FACTOR = 1.2
"""Estimated Radiographic Magnification Factor: about 1.1 in contact, 1.5 and more if magnified."""

_SPECIMEN_VIEWS = {"G-8310", "127457009"}
_VIEW_MODIFIERS = {
    "R-102D6": "magnification",
    "399163009": "magnification",
    "R-102D7": "spot compression",
    "399055006": "spot compression",
    "R-102D5": "implant displaced",
    "399209000": "implant displaced",
    "R-102D2": "cleavage",
    "399161006": "cleavage",
    "R-102D1": "axillary tail",
    "399011000": "axillary tail",
    "R-40AB2": "axillary tissue",
    "442580003": "axillary tissue",
    "R-102D3": "rolled",
    "399197002": "rolled",
    "R-102D4": "rolled",
    "399226006": "rolled",
    "R-102CA": "rolled",
    "414493004": "rolled",
    "R-102C9": "rolled",
    "415670009": "rolled",
    "R-102C2": "tangential",
    "399110001": "tangential",
    "P2-00161": "anterior compression",
    "441752004": "anterior compression",
    "R-40ABE": "infra-mammary fold",
    "442593008": "infra-mammary fold",
}
"""CID 4015 without nipple in profile (R-40AB3, 442581004), which is a view of the whole breast."""

_VIEW_POSITION = re.compile(
    "[LR]?(?P<prefix>[MS]{0,2})(?P<view>CC|MLO|ML|LMO|LM|FB|SIO|ISO|XCCL|XCCM|XCC)"
    "(?P<suffix>ID|RL|RM|RI|RS|AC|IMF|AX|TAN)?"
)
_PREFIXES = {"M": "magnification", "S": "spot compression"}
_SUFFIXES = {
    "ID": "implant displaced",
    **dict.fromkeys(("RL", "RM", "RI", "RS"), "rolled"),
    "AC": "anterior compression",
    "IMF": "infra-mammary fold",
    "AX": "axillary tissue",
    "TAN": "tangential",
}
_OTHER_POSITIONS = {
    "CV": "cleavage",
    "AT": "axillary tail",
    "TAN": "tangential",
    "SPECIMEN": "a specimen",
    "SCOUT": "a scout",
}
"""View Position (0018,5101): codes of ACR's manual, which CID 4014 and 4015 list as equivalent."""

_IMAGE_TYPES = {
    "LOCALIZER": "a scout",
    "SCOUT": "a scout",
    "STEREO_SCOUT": "a scout",
    "TOMO_SCOUT": "a scout",
    **dict.fromkeys(
        (
            *("STEREO_MINUS", "STEREO_PLUS", "PREFIRE", "PREFIRE_MINUS", "PREFIRE_PLUS"),
            *("POSTFIRE", "POSTFIRE_MINUS", "POSTFIRE_PLUS", "POSTBIOPSY", "POSTBIOPSY_MINUS"),
            *("POSTBIOPSY_PLUS", "POSTMARKER", "POSTMARKER_MINUS", "POSTMARKER_PLUS"),
        ),
        "a picture of a biopsy",
    ),
    "TOMO_PROJ": "a projection of tomosynthesis",
    "ADDITION": "an image of a contrast agent",
    "SUBTRACTION": "an image of a contrast agent",
    "HIGH_ENERGY": "an image of a contrast agent",
    "SPECIMEN": "a specimen",
    **dict.fromkeys(("SCREEN SAVE", "SCREENSAVE", "SCREENSHOT"), "a page of a screen"),
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""And its multi-frame forms, .1 to .4."""
_DIGITISED_FILM = "DF"
_CONVERSIONS = {
    "DV": "a frame of a video",
    "DI": "a secondary capture",
    "DRW": "a drawing",
    "SD": "a scanned document",
    "SI": "a scanned picture",
    "SYN": "a synthetic picture",
    "WSD": "a page of a screen",
}
_PADDLES = (
    (re.compile(r"\bMAG"), "magnification"),
    (re.compile(r"\bSPOT\b"), "spot compression"),
)


def not_screening_of(header: Header) -> str | None:
    """Why the picture is no screening view, and which element says so; None where none does.

    An element that is malformed says nothing.
    """
    for look in _LOOKS:
        with contextlib.suppress(DicomError):
            for reason, keyword in look(header):
                return f"{reason} ({tag_name(keyword)})"
    return None


Reasons = Iterator[tuple[str, str]]
"""A reason, and the keyword of the element that gives it."""


def _from_image_type(header: Header) -> Reasons:
    for keyword in ("ImageType", "FrameType"):
        for value in (header.code(keyword) or "").split("\\"):
            if (reason := _IMAGE_TYPES.get(value.strip())) is not None:
                yield reason, keyword


def _from_capture(header: Header) -> Reasons:
    """Secondary captures are pages of a screen, unless they are digitised films.

    CBIS-DDSM holds films as secondary captures of a workstation, and writes their view into Patient
    Orientation, where nobody else does.
    """
    if (header.code("PatientOrientation") or "") in {"CC", "MLO"}:
        return
    conversion = header.code("ConversionType")
    if conversion in _CONVERSIONS:
        yield _CONVERSIONS[conversion], "ConversionType"
    is_capture = (header.text("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE)
    if is_capture and conversion != _DIGITISED_FILM:
        yield "a secondary capture", "SOPClassUID"


def _from_specimen(header: Header) -> Reasons:
    if any(_code_of(view) in _SPECIMEN_VIEWS for view in header.items("ViewCodeSequence")):
        yield "a specimen", "ViewCodeSequence"
    if header.items("SpecimenDescriptionSequence"):
        yield "a specimen", "SpecimenDescriptionSequence"


def _from_quality_control(header: Header) -> Reasons:
    if header.code("QualityControlImage") == "YES":
        yield "a picture for quality control", "QualityControlImage"


def _from_view_modifiers(header: Header) -> Reasons:
    modifiers = header.items("ViewModifierCodeSequence")
    for view in header.items("ViewCodeSequence"):
        modifiers += list(view.get("ViewModifierCodeSequence") or ())
    for modifier in modifiers:
        if (reason := _VIEW_MODIFIERS.get(_code_of(modifier))) is not None:
            yield reason, "ViewModifierCodeSequence"


def _from_view_position(header: Header) -> Reasons:
    position = re.sub(r"[\s_-]", "", header.code("ViewPosition") or "")
    if (reason := _OTHER_POSITIONS.get(position)) is not None:
        yield reason, "ViewPosition"
    match = _VIEW_POSITION.fullmatch(position)
    if match is not None:
        for letter in match["prefix"]:
            yield _PREFIXES[letter], "ViewPosition"
        if match["suffix"]:
            yield _SUFFIXES[match["suffix"]], "ViewPosition"


def _from_magnification(header: Header) -> Reasons:
    keyword = "EstimatedRadiographicMagnificationFactor"
    if any(factor > LARGEST_CONTACT_FACTOR for factor in header.numbers(keyword)):
        yield "magnification", keyword


def _from_paddle(header: Header) -> Reasons:
    paddle = header.code("PaddleDescription") or ""
    for pattern, reason in _PADDLES:
        if pattern.search(paddle):
            yield reason, "PaddleDescription"


_LOOKS: tuple[Callable[[Header], Reasons], ...] = (
    _from_image_type,
    _from_capture,
    _from_specimen,
    _from_quality_control,
    _from_view_modifiers,
    _from_view_position,
    _from_magnification,
    _from_paddle,
)


def _code_of(item: Dataset) -> str:
    return str(item.get("CodeValue", "")).strip()
