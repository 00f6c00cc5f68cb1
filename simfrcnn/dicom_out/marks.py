"""A Grayscale Softcopy Presentation State for each film: a frame and a score for each region.

A film without a region gets one too, whose line of text says so: else nobody could tell a film
without findings from one that was never judged.

Reference: DICOM PS3.3 A.33.1, C.10.5 (graphic annotation), C.11.6 (presentation LUT).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from simfrcnn.dicom.header import tag_name
from simfrcnn.dicom_out.content import ascii_text
from simfrcnn.dicom_out.extra import import_highdicom
from simfrcnn.dicom_out.findings import JudgedFilm, Region
from simfrcnn.dicom_out.objects import GSPS, MANUFACTURER, encoded, series_uid
from simfrcnn.dicom_out.sources import VOI, Source, Study
from simfrcnn.dicom_out.structured import outline, tracking_identifier, tracking_uid
from simfrcnn.errors import DataError
from simfrcnn.wording import counted

UNUSABLE = (AttributeError, LookupError, TypeError, ValueError)
"""What a library raises about an element that it cannot take."""
_LAYER = "SIMFRCNN"
_LINE_HEIGHT = 0.025
"""Of a line of text, as a part of the film's height."""


def presentation_states(study: Study) -> Iterator[bytes]:
    """The files of the presentation states, one for each film that was judged.

    Raises:
        ConfigError: highdicom is not installed.
    """
    highdicom = import_highdicom()
    for number, source in enumerate(study.judged, start=1):
        assert source.film is not None
        state = _state_of_usable(study, source, source.film, highdicom)
        yield encoded(state, study, GSPS, number)


def _state_of_usable(study: Study, source: Source, film: JudgedFilm, highdicom: Any) -> Dataset:
    """Without the film's window or table where it cannot be used: viewers take their default.

    Raises:
        DataError: Something else in its header cannot be used.
    """
    try:
        return _state(study, source, film, highdicom)
    except UNUSABLE:
        elements = Dataset()
        elements.update({e.tag: e for e in source.elements if e.keyword not in VOI})
    try:
        return _state(study, dataclasses.replace(source, elements=elements), film, highdicom)
    except UNUSABLE as error:
        raise DataError(
            f"no DICOM result gsps: {film.path}: an element such as {tag_name('RescaleSlope')} "
            f"cannot be used ({type(error).__name__}: {error}): repair the file or leave it out"
        ) from error


def _state(study: Study, source: Source, film: JudgedFilm, highdicom: Any) -> Dataset:
    pr = highdicom.pr
    layer = pr.GraphicLayer(_LAYER, order=1, description="simfrcnn, research use only")
    annotation = pr.GraphicAnnotation(
        referenced_images=[source.elements],
        graphic_layer=layer,
        graphic_objects=[*_frames(study, source, film, pr)] or None,
        text_objects=[*_texts(study, source, film, pr)],
    )
    inverted = source.elements.PhotometricInterpretation == "MONOCHROME1"
    state: Dataset = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[source.elements],
        series_instance_uid=series_uid(study, GSPS),
        series_number=GSPS.number,
        sop_instance_uid=series_uid(study, GSPS),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="simfrcnn",
        software_versions=study.findings.model.version,
        device_serial_number=study.findings.model.sha256[:16],
        content_label=_LAYER,
        content_description="Research use only",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=highdicom.PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if inverted else "IDENTITY"
        ),
    )
    return state


def _frames(study: Study, source: Source, film: JudgedFilm, pr: Any) -> Iterator[Any]:
    for place, region in enumerate(film.regions):
        yield pr.GraphicObject(
            graphic_type=pr.GraphicTypeValues.POLYLINE,
            graphic_data=np.array(outline(region, source)),
            units=pr.AnnotationUnitsValues.PIXEL,
            tracking_id=ascii_text(tracking_identifier(film, place)),
            tracking_uid=tracking_uid(study, source, region),
        )


def _texts(study: Study, source: Source, film: JudgedFilm, pr: Any) -> Iterator[Any]:
    """A headline at the top, and the score above each box, or below it where there is no room.

    Scores that would stand at one place, as those of a whole-image classifier, share one text.
    """
    rows, columns = float(source.elements.Rows), float(source.elements.Columns)
    height = rows * _LINE_HEIGHT
    found = counted(len(film.regions), "[region|regions]")
    threshold = study.findings.score_threshold
    headline = f"simfrcnn, research use only: {found} from score {threshold:g} on"
    yield _text(headline, (0.0, 0.0, columns, height), pr)
    by_place: dict[tuple[float, float], list[tuple[Region, float]]] = defaultdict(list)
    for region in film.regions:
        (left, top), _, (right, bottom) = [*outline(region, source)][:3]
        first = top - height if top >= height else min(bottom, rows - height)
        by_place[left, first].append((region, right))
    for (left, first), own in by_place.items():
        scores = ", ".join(f"{region.score:.2f}" for region, _ in own)
        right = max(right for _, right in own)
        yield _text(scores, (left, first, right, first + height), pr)


def _text(value: str, box: tuple[float, float, float, float], pr: Any) -> Any:
    return pr.TextObject(
        text_value=value,
        units=pr.AnnotationUnitsValues.PIXEL,
        bounding_box=box,
        text_justification=pr.TextJustificationValues.LEFT,
    )
