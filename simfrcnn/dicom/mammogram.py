"""How does one DICOM file become a picture that a detector can look at?

The front door. What the header says is in :mod:`simfrcnn.dicom.header`, the decoding in
``dicom_pixels``, the path of a value to the display in ``dicom_display``, laterality, view and
orientation in ``dicom_view``.

Shapes: H x W the pixels of the file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.display import FOR_PROCESSING_CLASSES, Display, is_raw, make_display
from simfrcnn.dicom.header import Header, read_header, shown
from simfrcnn.dicom.pixels import require_one_grey_frame, stored_values
from simfrcnn.dicom.screening import not_screening_of
from simfrcnn.dicom.view import (
    flips_of,
    has_burned_in_text,
    laterality_of,
    pixel_spacing_of,
    view_position_of,
)
from simfrcnn.errors import DicomError
from simfrcnn.records import Laterality, ViewPosition

_MAMMOGRAPHY_CLASSES = FOR_PROCESSING_CLASSES | {
    "1.2.840.10008.5.1.4.1.1.1.2",  # Digital Mammography X-Ray Image Storage - For Presentation
    "1.2.840.10008.5.1.4.1.1.13.1.4",  # Breast Projection X-Ray - For Presentation
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # Breast Tomosynthesis: synthesised views have one frame
}


@dataclass(frozen=True)
class DicomOptions:
    """What is read although it is refused by default; each is a decision of the user.

    ``allow_for_processing`` takes raw (FOR PROCESSING) images and gives them a plain greyscale,
    which no vendor's display would show. ``any_modality`` takes files that are not mammography.
    """

    allow_for_processing: bool = False
    any_modality: bool = False


STRICT = DicomOptions()


@dataclass(frozen=True)
class Mammogram:
    """One presentation-ready view, white = dense, as it lies in the file: never mirrored.

    ``display.flips`` turns it into the standard hanging; boxes are in stored pixels, so whoever
    mirrors pixels must mirror them too. ``pixel_spacing_mm`` is (row, column), at the detector.
    ``exam_id`` is the Study Instance UID. ``not_screening`` says why it is no screening view, None
    where nothing says so. ``notes`` say what was decided where the file leaves a choice. The
    patient's name is never read.
    """

    display: Display
    laterality: Laterality | None
    view_position: ViewPosition | None
    pixel_spacing_mm: tuple[float, float] | None
    patient_id: str | None
    exam_id: str | None
    series_instance_uid: str | None
    sop_instance_uid: str | None
    not_screening: str | None
    manufacturer: str | None
    model_name: str | None
    notes: tuple[str, ...]

    @cached_property
    def pixels(self) -> NDArray[np.float32]:
        """(H, W) in 0..255, not rounded; ``display`` gives 8 and 16 bits at less cost."""
        return self.display.as_float32()


def read_mammogram(path: Path, options: DicomOptions = STRICT) -> Mammogram:
    """Read one mammogram as a radiologist's display would show it.

    How values become greys is stated in :func:`simfrcnn.dicom.display.make_display`, how the
    orientation is judged in :func:`simfrcnn.dicom.view.flips_of`.

    Args:
        path: A DICOM file of one grey frame.
        options: What is accepted beyond For Presentation mammograms.

    Raises:
        DicomError: The file is not a readable single grey mammogram; names the file, tag, remedy.

    Reference:
        DICOM PS3.3 A.26 (Digital Mammography X-Ray Image), A.55 (Breast Projection X-Ray Image).
    """
    path = Path(path)
    # pydicom warns of values that break the standard, decoders of what they meet; what matters here
    # is checked, and a warning could show a value that identifies the patient.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return _read(path, options)
        except DicomError:
            raise
        except Exception as error:  # damaged bytes can break any element in any way
            raise DicomError(
                f"{path}: a value in it is malformed ({type(error).__name__}): the file is "
                "damaged; fetch it again or leave it out"
            ) from error


def _read(path: Path, options: DicomOptions) -> Mammogram:
    header = read_header(path, with_pixels=True)
    require_mammogram(header, options)
    require_one_grey_frame(header)
    notes: list[str] = []
    if has_burned_in_text(header):
        notes.append(
            "Burned In Annotation (0028,0301): the picture itself may tell who the patient is"
        )
    display = make_display(header, stored_values(header), notes)
    laterality = laterality_of(header, notes)
    return Mammogram(
        display=replace(display, flips=flips_of(header, laterality, notes)),
        laterality=laterality,
        view_position=view_position_of(header, notes),
        pixel_spacing_mm=pixel_spacing_of(header, notes),
        patient_id=header.text("PatientID"),
        exam_id=header.text("StudyInstanceUID"),
        series_instance_uid=header.text("SeriesInstanceUID"),
        sop_instance_uid=header.text("SOPInstanceUID"),
        not_screening=not_screening_of(header),
        manufacturer=header.text("Manufacturer"),
        model_name=header.text("ManufacturerModelName"),
        notes=tuple(notes),
    )


def require_mammogram(header: Header, options: DicomOptions) -> None:
    modality = header.code("Modality")
    by_class = modality is None and header.text("SOPClassUID") in _MAMMOGRAPHY_CLASSES
    if modality != "MG" and not by_class and not options.any_modality:
        found = (
            f"is {shown(modality)}"
            if modality
            else "is missing, and the SOP Class is not mammography"
        )
        raise header.error(
            "Modality",
            f"{found}, not 'MG': leave the file out, or ask for any modality (--any-modality)",
        )
    if is_raw(header) and not options.allow_for_processing:
        raise header.error(
            "PresentationIntentType",
            "is FOR PROCESSING, a raw image: use the FOR PRESENTATION image of the exam, or allow "
            "FOR PROCESSING images (--allow-for-processing)",
        )
