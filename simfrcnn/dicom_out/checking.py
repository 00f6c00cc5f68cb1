"""Is a structured report whole, by the templates that we claim? What `dciodvfy` does not ask.

A check of our own writing, fast enough for every test; PixelMed's DicomSRValidator knows the
templates in full, and takes half a minute a file.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.codes import Code
from simfrcnn.dicom_out.content import concept_of, value_of, walk

_INTENDED = (codes.IMPRESSION, codes.SINGLE_IMAGE_FINDING, codes.COMPOSITE_FEATURE)
_BY_ALGORITHM = (codes.SINGLE_IMAGE_FINDING, codes.DETECTION_PERFORMED)
_OF_ROOT = {
    "111036": (codes.LANGUAGE, codes.IMAGE_LIBRARY, codes.CAD_SUMMARY, codes.DETECTIONS,
               codes.ANALYSES),
    "126000": (codes.LANGUAGE, codes.OBSERVER_TYPE, codes.DEVICE_UID, codes.IMAGE_LIBRARY,
               codes.QUALITATIVE_EVALUATIONS),
}  # fmt: skip
_OF_GROUP = (
    *(codes.TRACKING_IDENTIFIER, codes.TRACKING_UID, codes.FINDING, codes.IMAGE_REGION),
    *(codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.PROBABILITY, codes.GEOMETRIC_PURPOSE),
)
_CHILDREN = {
    **dict.fromkeys(_INTENDED, (codes.RENDERING_INTENT,)),
    codes.SINGLE_IMAGE_FINDING: (codes.RENDERING_INTENT, codes.CENTRE, codes.PROBABILITY),
    codes.MEASUREMENT_GROUP: _OF_GROUP,
}
_UNITS = {
    codes.PROBABILITY: codes.PERCENT,
    codes.PIXEL_DATA_ROWS: codes.PIXELS,
    codes.PIXEL_DATA_COLUMNS: codes.PIXELS,
}


def check_report(dataset: Dataset) -> list[str]:
    """What is wrong with a Comprehensive SR or Mammography CAD SR of ours; empty if nothing.

    Args:
        dataset: The object, or the root of its content tree.
    """
    return [*_roots(dataset), *_items(dataset), *_references(dataset)]


def _roots(dataset: Dataset) -> Iterator[str]:
    root = concept_of(dataset)[0]
    if root not in _OF_ROOT:
        yield f"the root is {root or 'without a concept name'}, none of {', '.join(_OF_ROOT)}"
    for code in _OF_ROOT.get(root, ()):
        if not _has(dataset, code):
            yield f"the root lacks {code.meaning}"


def _items(dataset: Dataset) -> Iterator[str]:
    for position, item in walk(dataset):
        where = ".".join(map(str, position))
        for code, wanted in _CHILDREN.items():
            if _is(item, code):
                for child in wanted:
                    if not _has(item, child):
                        yield f"{where}, {code.meaning}, lacks {child.meaning}"
        if any(_is(item, code) for code in _BY_ALGORITHM):
            for child in (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION):
                if not _has(item, child):
                    yield f"{where} lacks {child.meaning}"
        if _is(item, codes.SINGLE_IMAGE_FINDING) and any(
            value_of(item) == (code.value, code.scheme) for code in codes.COMPOSITE_CODES
        ):
            yield f"{where}: a composite feature is called a single image finding"
        yield from _wrong_unit(item, where)


def _wrong_unit(item: Dataset, where: str) -> Iterator[str]:
    for code, unit in _UNITS.items():
        if _is(item, code):
            for measured in item.get("MeasuredValueSequence") or ():
                given = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
                if given != unit.value:
                    yield f"{where}, {code.meaning}, is in {given} and must be in {unit.value}"


def _references(dataset: Dataset) -> Iterator[str]:
    """By-reference items must lead to an image of the tree, images to the evidence."""
    items = dict(walk(dataset))
    evidence = {
        str(reference.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    for position, item in items.items():
        where = ".".join(map(str, position))
        target = item.get("ReferencedContentItemIdentifier")
        if target is not None:
            meant = items.get(tuple(int(place) for place in target))
            if meant is None or meant.get("ValueType") != "IMAGE":
                yield f"{where} refers to {list(target)}, which is no image of this report"
        for reference in item.get("ReferencedSOPSequence") or ():
            if str(reference.ReferencedSOPInstanceUID) not in evidence:
                yield f"{where} names an image that is not among the evidence"


def _is(item: Dataset, code: Code) -> bool:
    return concept_of(item) == (code.value, code.scheme)


def _has(item: Dataset, code: Code) -> bool:
    return any(_is(child, code) for child in item.get("ContentSequence") or ())
