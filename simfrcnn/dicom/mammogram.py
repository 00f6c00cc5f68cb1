"""How does one DICOM file become a picture that a detector can look at?

The front door. What the header says is in :mod:`simfrcnn.dicom.header`, the decoding in
:mod:`~simfrcnn.dicom.pixels`, the path of a value to the display in :mod:`~simfrcnn.dicom.display`,
laterality, view and orientation in :mod:`~simfrcnn.dicom.view`, and whether it is a screening view
in :mod:`~simfrcnn.dicom.screening`.

Shapes: H x W the pixels of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.display import FOR_PROCESSING_CLASSES, Display, is_raw, make_display
from simfrcnn.dicom.header import Header, naming_damage, read_header, require_known_syntax, shown
from simfrcnn.dicom.pixels import require_one_grey_frame, stored_values
from simfrcnn.dicom.screening import not_screening_of
from simfrcnn.dicom.view import (
    flips_of,
    has_burned_in_text,
    laterality_of,
    pixel_spacing_of,
    view_position_of,
)
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


def read_mammogram(path: Path | str, options: DicomOptions = STRICT) -> Mammogram:
    """Read one mammogram as a radiologist's display would show it.

    ``pixels`` of the result are 0..255, ``display.as_uint8()`` gives them rounded; both as they lie
    in the file, like every box. How values become greys is stated in
    :func:`simfrcnn.dicom.display.make_display`, how the orientation is judged in
    :func:`simfrcnn.dicom.view.flips_of`, what counts as a screening view in
    :mod:`simfrcnn.dicom.screening`. What the file leaves open is decided, and said in ``notes``.

    >>> import pathlib, tempfile
    >>> from simfrcnn.phantom.dicom_writer import dicom_bytes
    >>> from simfrcnn.phantom.exams import draw_exams
    >>> from simfrcnn.phantom.presets import PRESETS
    >>> folder, preset = tempfile.TemporaryDirectory(), PRESETS["tiny"]
    >>> path = pathlib.Path(folder.name, "view.dcm")
    >>> grey = np.full((preset.rows, preset.columns), 0.5)
    >>> view = Laterality.LEFT, ViewPosition.MLO
    >>> _ = path.write_bytes(dicom_bytes(grey, draw_exams(preset, 0)[0], *view, preset, 0))
    >>> mammogram = read_mammogram(path)
    >>> mammogram.laterality.value, mammogram.view_position.value
    ('L', 'MLO')
    >>> mammogram.pixels.shape == grey.shape, round(float(mammogram.pixels.mean()))
    (True, 128)
    >>> folder.cleanup()

    Args:
        path: A DICOM file of one grey frame, of any name.
        options: What is accepted beyond For Presentation mammograms.

    Raises:
        DicomError: The file is not a readable single grey mammogram; names the file, tag, remedy.
            Pictures of other formats are for :meth:`simfrcnn.detector.Detector.detect`.

    Reference:
        DICOM PS3.3 A.26 (Digital Mammography X-Ray Image), A.55 (Breast Projection X-Ray Image).

    Example:
        Of a phantom, one exam of four small views:

        >>> import tempfile
        >>> from pathlib import Path
        >>> from simfrcnn import read_mammogram
        >>> from simfrcnn.phantom.generate import generate
        >>> from simfrcnn.phantom.presets import Preset, SplitSize
        >>> folder, none = tempfile.TemporaryDirectory(), SplitSize(0, 0)
        >>> _ = generate(Preset("one", 2.0, SplitSize(1, 0), none, none), Path(folder.name), seed=0)
        >>> view = read_mammogram(sorted(Path(folder.name).rglob("*.dcm"))[0])
        >>> view.pixels.shape, view.laterality.value, view.view_position.value
        ((120, 75), 'L', 'CC')
        >>> view.display.as_uint8().dtype, view.pixel_spacing_mm, view.not_screening
        (dtype('uint8'), (2.0, 2.0), None)
        >>> folder.cleanup()
    """
    path = Path(path)
    with naming_damage(path), np.errstate(all="ignore"):
        return _read(path, options)


def _read(path: Path, options: DicomOptions) -> Mammogram:
    header = read_header(path, with_pixels=True)
    require_mammogram(header, options)
    require_one_grey_frame(header)
    notes: list[str] = []
    if has_burned_in_text(header):
        notes.append(
            "Burned In Annotation (0028,0301): the picture itself may tell who the patient is"
        )
    display = make_display(header, stored_values(header, notes), notes)
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
    """Refuse, from the header alone, what is no mammogram or must not be read as one.

    Raises:
        DicomError: An unknown transfer syntax, another modality, or a raw image.
    """
    require_known_syntax(header)
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
            f"{found}, not 'MG': leave the file out, or ask for any modality (--any-modality; in "
            "Python, DicomOptions(any_modality=True))",
        )
    if is_raw(header) and not options.allow_for_processing:
        raise header.error(
            "PresentationIntentType",
            "is FOR PROCESSING, a raw image: use the FOR PRESENTATION image of the exam, or allow "
            "FOR PROCESSING images (--allow-for-processing; in Python, "
            "DicomOptions(allow_for_processing=True))",
        )
