"""A Grayscale Softcopy Presentation State for each film: a frame and a score for each region.

A film without a region gets one too, whose line of text says so: else nobody could tell a film
without findings from one that was never judged.

Reference: DICOM PS3.3 A.33.1, C.10.5 (graphic annotation), C.11.6 (presentation LUT).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from simfrcnn.dicom_out.content import ascii_text
from simfrcnn.dicom_out.extra import import_highdicom
from simfrcnn.dicom_out.findings import JudgedFilm, Region
from simfrcnn.dicom_out.objects import GSPS, MANUFACTURER, encoded, series_uid
from simfrcnn.dicom_out.sources import PATIENT, STUDY, Source, Study
from simfrcnn.dicom_out.structured import outline, tracking_identifier, tracking_uid
from simfrcnn.wording import counted

_IMAGE = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "Rows", "Columns"),
)
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
        state = _state(study, source, source.film, highdicom)
        yield encoded(state, study, GSPS, number)


def _state(study: Study, source: Source, film: JudgedFilm, highdicom: Any) -> Dataset:
    pr = highdicom.pr
    greyscale = source.greyscale
    assert greyscale is not None
    image = _as_highdicom_takes_it(source.elements)
    layer = pr.GraphicLayer(_LAYER, order=1, description="simfrcnn, research use only")
    annotation = pr.GraphicAnnotation(
        referenced_images=[image],
        graphic_layer=layer,
        graphic_objects=[*_frames(study, source, film, pr)] or None,
        text_objects=[*_texts(study, source, film, pr)],
    )
    state: Dataset = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
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
            presentation_lut_shape="INVERSE" if greyscale.is_inverted else "IDENTITY"
        ),
    )
    greyscale.add_to(state)
    return state


def _as_highdicom_takes_it(elements: Dataset) -> Dataset:
    """A film without greys, patient and study: they are added as the film has them.

    highdicom refuses some character sets and values that films have, and looks for the greys of an
    enhanced class in its functional groups.
    """
    image = Dataset()
    for keyword in PATIENT + STUDY:
        setattr(image, keyword, "")
    for keyword in _IMAGE:
        image[keyword] = elements[keyword]
    image.SamplesPerPixel = 1
    image.SharedFunctionalGroupsSequence = [Dataset()]
    image.PerFrameFunctionalGroupsSequence = []
    return image


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
