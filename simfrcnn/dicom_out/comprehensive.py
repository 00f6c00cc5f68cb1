"""The Comprehensive SR of an exam, for OHIF, Stone and Weasis: TID 1500 with TID 1410 groups.

Not Comprehensive 3D SR: some viewers refuse it, and projections have no third dimension. The
regions are highdicom's; its TID 1500 cannot be without a region, so the root is made of content
items.

Reference: DICOM PS3.16, TID 1500, 1600, 1410, 1204, 1002; PS3.3 A.35.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.content import (
    CONTAINS,
    HAS_ACQUISITION,
    HAS_MODIFIER,
    HAS_OBSERVATION,
    ascii_text,
    coded,
    container,
    image,
    text,
    uid,
)
from simfrcnn.dicom_out.extra import import_highdicom
from simfrcnn.dicom_out.findings import Region
from simfrcnn.dicom_out.objects import MANUFACTURER, SR, device_uid, encoded, new_object
from simfrcnn.dicom_out.sources import Source, Study
from simfrcnn.dicom_out.structured import (
    ALGORITHM,
    add_document,
    facts_of_film,
    language,
    outline,
    percent,
    remarks,
    summary_code,
    tracking_identifier,
    tracking_uid,
)


def comprehensive_report(study: Study) -> bytes:
    """The file of the Comprehensive SR.

    Raises:
        ConfigError: highdicom is not installed.
    """
    highdicom = import_highdicom()
    dataset = new_object(study, SR, ComprehensiveSRStorage)
    add_document(dataset, _tree(study, highdicom), study)
    return encoded(dataset, study, SR, 1)


def _tree(study: Study, highdicom: Any) -> Dataset:
    children = [
        language(),
        *_observer(study),
        coded(HAS_MODIFIER, codes.PROCEDURE_REPORTED, codes.IMAGING),
        _library(study.films),
    ]
    groups = [*_groups(study, highdicom)]
    if groups:
        children.append(container(CONTAINS, codes.IMAGING_MEASUREMENTS, groups))
    said = [
        coded(CONTAINS, codes.CAD_SUMMARY, summary_code(study)),
        text(CONTAINS, codes.COMMENT, remarks(study)),
    ]
    children.append(container(CONTAINS, codes.QUALITATIVE_EVALUATIONS, said))
    return container(None, codes.IMAGING_REPORT, children, template="1500")


def _observer(study: Study) -> Iterator[Dataset]:
    """TID 1002 and 1004: a device made the observations."""
    yield coded(HAS_OBSERVATION, codes.OBSERVER_TYPE, codes.DEVICE)
    yield uid(HAS_OBSERVATION, codes.DEVICE_UID, device_uid(study))
    yield text(HAS_OBSERVATION, codes.DEVICE_NAME, ALGORITHM)
    yield text(HAS_OBSERVATION, codes.DEVICE_MANUFACTURER, MANUFACTURER)


def _library(sources: Sequence[Source]) -> Dataset:
    """TID 1600: every film, those that failed too."""
    films = [
        image(
            CONTAINS,
            source.reference,
            [*_modality(source), *facts_of_film(source, codes.SIDES)],
        )
        for source in sources
    ]
    group = container(CONTAINS, codes.IMAGE_LIBRARY_GROUP, films)
    return container(CONTAINS, codes.IMAGE_LIBRARY, [group])


def _modality(source: Source) -> Iterator[Dataset]:
    """That of the film; one without is taken for a mammogram by its class, others have no code."""
    modality = source.elements.get("Modality", "MG")
    if modality in codes.MODALITIES:
        yield coded(HAS_ACQUISITION, codes.MODALITY, codes.MODALITIES[modality])


def _groups(study: Study, highdicom: Any) -> Iterator[Dataset]:
    for source in study.judged:
        assert source.film is not None
        for place, region in enumerate(source.film.regions):
            name = ascii_text(tracking_identifier(source.film, place))
            yield _group(study, source, region, name, highdicom)


def _group(study: Study, source: Source, region: Region, name: str, highdicom: Any) -> Dataset:
    """TID 1410."""
    sr = highdicom.sr

    def concept(code: codes.Code) -> Any:
        return sr.CodedConcept(code.value, code.scheme, code.meaning)

    side = source.laterality
    model = study.findings.model
    (item,) = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(tracking_uid(study, source, region), name),
        referenced_region=sr.ImageRegion(
            graphic_type=sr.GraphicTypeValues.POLYLINE,
            graphic_data=np.array(outline(region, source)),
            source_image=sr.SourceImageForRegion(
                str(source.elements.SOPClassUID), str(source.elements.SOPInstanceUID)
            ),
        ),
        finding_type=concept(codes.finding_of(region.category)),
        geometric_purpose=concept(codes.BOUNDED_BY),
        algorithm_id=sr.AlgorithmIdentification(
            ALGORITHM, model.version_text, [study.findings.parameters]
        ),
        finding_sites=[
            sr.FindingSite(
                concept(codes.BREAST), None if side is None else concept(codes.SIDES[side])
            )
        ],
        measurements=[
            sr.Measurement(
                concept(codes.PROBABILITY), float(percent(region.score)), concept(codes.PERCENT)
            )
        ],
    )
    plain: Dataset = item
    return plain
