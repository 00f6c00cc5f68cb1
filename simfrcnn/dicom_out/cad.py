"""The Mammography CAD SR of an exam, for mammography workstations: TID 4000 and what it includes.

No library has this object; the tree is made of content items. Each region is a single image
finding. There is no composite feature (4004), for nothing links regions of several films.

Reference: DICOM PS3.16, TID 4000, 4001, 4003, 4006, 4015 to 4021; PS3.3 A.35.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import MammographyCADSRStorage

from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.content import (
    CONTAINS,
    HAS_MODIFIER,
    HAS_PROPERTIES,
    INFERRED_FROM,
    SELECTED_FROM,
    Position,
    by_reference,
    coded,
    container,
    coordinates,
    image,
    number,
    text,
)
from simfrcnn.dicom_out.findings import Model, Region
from simfrcnn.dicom_out.objects import CAD_SR, encoded, new_object
from simfrcnn.dicom_out.sources import Source, Study
from simfrcnn.dicom_out.structured import (
    ALGORITHM,
    add_document,
    facts_of_film,
    language,
    outline,
    percent,
    summary_code,
)

_PLACE_OF_LIBRARY: Position = (1, 2)
"""The second child of the root; its n-th child is the n-th film."""


def cad_report(study: Study) -> bytes:
    """The file of the Mammography CAD SR."""
    dataset = new_object(study, CAD_SR, MammographyCADSRStorage)
    add_document(dataset, _tree(study), study)
    return encoded(dataset, study, CAD_SR, 1)


def _tree(study: Study) -> Dataset:
    places = {
        str(source.elements.SOPInstanceUID): (*_PLACE_OF_LIBRARY, number_of)
        for number_of, source in enumerate(study.films, start=1)
    }
    children = [
        language(),
        container(CONTAINS, codes.IMAGE_LIBRARY, [_film(source) for source in study.films]),
        _summary(study, places),
        _detections(study, places),
        coded(CONTAINS, codes.ANALYSES, codes.NOT_ATTEMPTED),
    ]
    return container(None, codes.CAD_REPORT, children, template="4000")


def _film(source: Source) -> Dataset:
    """TID 4020."""
    return image(CONTAINS, source.reference, [*facts_of_film(source, codes.BREASTS)])


def _summary(study: Study, places: Mapping[str, Position]) -> Dataset:
    """TID 4001, with an impression (4003) of the findings if there are any."""
    findings = [
        _finding(region, source, study, places)
        for source in study.judged
        for region in _regions(source)
    ]
    impressions = []
    if findings:
        children = [_intent(), *findings]
        impressions = [container(INFERRED_FROM, codes.IMPRESSION, children)]
    return coded(CONTAINS, codes.CAD_SUMMARY, summary_code(study), impressions)


def _regions(source: Source) -> Sequence[Region]:
    return () if source.film is None else source.film.regions


def _finding(
    region: Region, source: Source, study: Study, places: Mapping[str, Position]
) -> Dataset:
    """TID 4006 with its geometry (4021)."""
    place = places[str(source.elements.SOPInstanceUID)]
    box = outline(region, source)
    (x1, y1), _, (x2, y2) = box[:3]
    centre = [((x1 + x2) / 2, (y1 + y2) / 2)]
    children = [
        _intent(),
        *_algorithm(study.findings.model, study.findings.parameters),
        number(HAS_PROPERTIES, codes.PROBABILITY, percent(region.score), codes.PERCENT),
        _drawn(codes.CENTRE, "POINT", centre, place),
        _drawn(codes.OUTLINE, "POLYLINE", box, place),
    ]
    value = codes.single_image_finding_of(region.category)
    return coded(CONTAINS, codes.SINGLE_IMAGE_FINDING, value, children)


def _drawn(
    name: codes.Code, graphic: str, points: Sequence[tuple[float, float]], place: Position
) -> Dataset:
    selected = by_reference(SELECTED_FROM, place)
    return coordinates(HAS_PROPERTIES, name, graphic, points, [selected])


def _intent() -> Dataset:
    return coded(HAS_MODIFIER, codes.RENDERING_INTENT, codes.PRESENTATION_REQUIRED)


def _algorithm(model: Model, parameters: str) -> Iterator[Dataset]:
    """TID 4019."""
    yield text(HAS_PROPERTIES, codes.ALGORITHM_NAME, ALGORITHM)
    yield text(HAS_PROPERTIES, codes.ALGORITHM_VERSION, model.version_text)
    yield text(HAS_PROPERTIES, codes.ALGORITHM_PARAMETERS, parameters)


def _detections(study: Study, places: Mapping[str, Position]) -> Dataset:
    """TID 4015: on which films the detector succeeded and on which it failed."""
    children = []
    if study.judged:
        performed = [*_performed(study.judged, study, places)]
        children.append(container(INFERRED_FROM, codes.SUCCESSFUL_DETECTIONS, performed))
    if study.failed:
        performed = [*_performed(study.failed, study, places)]
        children.append(container(INFERRED_FROM, codes.FAILED_DETECTIONS, performed))
    return coded(CONTAINS, codes.DETECTIONS, _status(study), children)


def _status(study: Study) -> codes.Code:
    """Of CID 6042, by the films that are named: the others have no place in a report."""
    if not study.judged:
        return codes.FAILED
    return codes.PARTIALLY_SUCCEEDED if study.failed else codes.SUCCEEDED


def _performed(
    sources: Sequence[Source], study: Study, places: Mapping[str, Position]
) -> Iterator[Dataset]:
    """TID 4017, for each kind of finding that the model looks for, found or not."""
    model = study.findings.model
    for kind in dict.fromkeys(map(codes.single_image_finding_of, model.target_classes)):
        films = [
            by_reference(HAS_PROPERTIES, places[str(source.elements.SOPInstanceUID)])
            for source in sources
        ]
        children = [*_algorithm(model, study.findings.parameters), *films]
        yield coded(CONTAINS, codes.DETECTION_PERFORMED, kind, children)
