"""How does one DICOM file become a picture that a detector can look at?

The path of a stored value is fixed by the standard: modality transform (rescale or table), VOI
transform (table or window), then polarity. A stored value has at most 16 bits, so the whole path is
computed once per possible *value* and looked up per pixel: exact, and fast on a 14 megapixel view.

Shapes: H x W the pixels of the file.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi

from simfrcnn.errors import DicomError
from simfrcnn.records import Laterality, ViewPosition

MAX_PIXELS = 200_000_000
"""Larger images are refused before anything is allocated; digitised films have 40 million."""

_FOR_PROCESSING_CLASS = "1.2.840.10008.5.1.4.1.1.1.2.1"
_MAMMOGRAPHY_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1.2",  # Digital Mammography X-Ray Image Storage - For Presentation
    _FOR_PROCESSING_CLASS,
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # Breast Tomosynthesis Image Storage (refused by frames)
}
_VIEW_CODES = {  # View Code Sequence (0054,0220): SNOMED RT and SNOMED CT
    "R-10242": ViewPosition.CC,
    "399162004": ViewPosition.CC,
    "R-10226": ViewPosition.MLO,
    "399368009": ViewPosition.MLO,
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
    """One presentation-ready view: ``pixels`` (H, W) float32 in 0..255, white = dense.

    ``pixel_spacing_mm`` is (row, column), at the detector. ``notes`` say what was decided where the
    file leaves a choice. The patient's name is never read.
    """

    pixels: NDArray[np.float32]
    laterality: Laterality | None
    view_position: ViewPosition | None
    pixel_spacing_mm: tuple[float, float] | None
    patient_id: str | None
    exam_id: str | None
    manufacturer: str | None
    model_name: str | None
    notes: tuple[str, ...]


def read_dicom(path: Path, options: DicomOptions = STRICT) -> Mammogram:
    """Read one mammogram as a radiologist's display would show it.

    Polarity is one decision: inverted once, after the VOI transform, when Photometric
    Interpretation is MONOCHROME1. Presentation LUT Shape only restates it; if the two disagree,
    Photometric Interpretation is followed and a note says so. A VOI LUT goes before a window; of
    several, the first is taken. With neither, the values from the smallest to the largest that
    occur fill the scale: Bits Stored is often larger than what the detector delivers, and a nearly
    black image would go unnoticed. Pixel Padding becomes black.

    Args:
        path: A DICOM file of one grey frame.
        options: What is accepted beyond For Presentation mammograms.

    Raises:
        DicomError: The file is not a readable single grey mammogram; names the file, tag, remedy.

    Reference:
        DICOM PS3.3 C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.8.11.7 (Mammography Image).
    """
    path = Path(path)
    with warnings.catch_warnings():
        # pydicom warns of values that break the standard; what matters here is checked below, and a
        # warning could show a value that identifies the patient.
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
    file = _File(path, _read_dataset(path))
    _require_mammogram(file, options)
    _require_one_grey_frame(file)
    notes: list[str] = []
    return Mammogram(
        pixels=_present(file, _decode(file), notes),
        laterality=_laterality(file),
        view_position=_view_position(file),
        pixel_spacing_mm=_pixel_spacing(file, notes),
        patient_id=file.text("PatientID"),
        exam_id=file.text("StudyInstanceUID"),
        manufacturer=file.text("Manufacturer"),
        model_name=file.text("ManufacturerModelName"),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _File:
    """A data set and its path; values are asked for here, so that errors name file and tag."""

    path: Path
    dataset: Dataset

    def error(self, keyword: str, problem: str) -> DicomError:
        return DicomError(f"{self.path}: {_tag(keyword)} {problem}")

    def value(self, keyword: str) -> Any:
        """The value of an element, None where it is absent or empty."""
        try:
            value = self.dataset.get(keyword)
        except Exception as error:  # a malformed element fails when it is first looked at
            raise self.error(
                keyword, f"is malformed ({type(error).__name__}): repair the file or leave it out"
            ) from error
        return None if value is None or value == "" else value

    def text(self, keyword: str) -> str | None:
        value = self.value(keyword)
        if isinstance(value, pydicom.multival.MultiValue):
            value = "\\".join(map(str, value))
        return str(value).strip() or None if value is not None else None

    def numbers(self, keyword: str) -> list[float]:
        """The values of a numeric element as a list, empty where it is absent."""
        value = self.value(keyword)
        if value is None:
            return []
        values = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
        try:
            return [float(number) for number in values]
        except (TypeError, ValueError) as error:
            raise self.error(keyword, "is not a number: repair the file or leave it out") from error


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _shown(text: str) -> str:
    """A code as an error shows it; anything longer might be another element, even a name."""
    return repr(text) if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else "no legal value"


def _read_dataset(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except FileNotFoundError as error:
        raise DicomError(f"{path}: no such file") from error
    except OSError as error:
        raise DicomError(f"{path}: cannot be opened ({error.strerror})") from error
    except pydicom.errors.InvalidDicomError as error:
        raise DicomError(
            f"{path}: not a DICOM file (no 'DICM' after the 128-byte preamble): convert it to a "
            "valid DICOM file, or leave it out"
        ) from error
    except Exception as error:  # a damaged file makes pydicom fail in many ways
        raise DicomError(
            f"{path}: the DICOM data set cannot be parsed ({type(error).__name__}): the file is "
            "damaged or truncated; fetch it again or leave it out"
        ) from error


def _require_mammogram(file: _File, options: DicomOptions) -> None:
    modality = file.text("Modality")
    sop_class = file.text("SOPClassUID")
    is_mammogram = modality == "MG" or (modality is None and sop_class in _MAMMOGRAPHY_CLASSES)
    if not is_mammogram and not options.any_modality:
        found = (
            f"is {_shown(modality)}"
            if modality
            else "is missing, and the SOP Class is not mammography"
        )
        raise file.error(
            "Modality",
            f"{found}, not 'MG': leave the file out, or ask for any modality (--any-modality)",
        )
    raw = file.text("PresentationIntentType") == "FOR PROCESSING"
    if (raw or sop_class == _FOR_PROCESSING_CLASS) and not options.allow_for_processing:
        raise file.error(
            "PresentationIntentType",
            "is FOR PROCESSING, a raw image: use the FOR PRESENTATION image of the exam, or allow "
            "FOR PROCESSING images (--allow-for-processing)",
        )


def _require_one_grey_frame(file: _File) -> None:
    # By name, because touching FloatPixelData of a file without a transfer syntax fails.
    if "PixelData" not in file.dataset:
        raise file.error("PixelData", "is missing: the file holds no image; leave it out")
    meta = getattr(file.dataset, "file_meta", None)
    if meta is None or not meta.get("TransferSyntaxUID"):
        raise file.error(
            "TransferSyntaxUID",
            "is missing, so the pixel encoding is unknown: write the file anew with a File "
            "Meta group",
        )
    frames = file.text("NumberOfFrames") or "1"
    if not frames.isdecimal() or int(frames) < 1:
        raise file.error(
            "NumberOfFrames", f"is {_shown(frames)}; it must be a positive whole number"
        )
    if int(frames) > 1:
        raise file.error(
            "NumberOfFrames",
            f"is {frames}: a multi-frame image (tomosynthesis?) is not a mammogram; use the 2-D "
            "view",
        )
    photometric = file.text("PhotometricInterpretation")
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        found = f"is {_shown(photometric)}" if photometric else "is missing"
        raise file.error(
            "PhotometricInterpretation",
            f"{found}; only the grey MONOCHROME1 and MONOCHROME2 are mammograms: leave the file "
            "out",
        )
    if (samples := file.numbers("SamplesPerPixel")) and samples[0] != 1:
        raise file.error(
            "SamplesPerPixel", f"is {samples[0]:g}: a colour image; leave the file out"
        )
    for keyword in ("Rows", "Columns"):
        if not file.numbers(keyword) or file.numbers(keyword)[0] < 1:
            raise file.error(keyword, "is missing or 0: repair the file or leave it out")
    n_pixels = file.numbers("Rows")[0] * file.numbers("Columns")[0]
    if n_pixels > MAX_PIXELS:
        raise file.error(
            "Rows",
            f"x Columns is {n_pixels:,.0f} pixels, more than {MAX_PIXELS:,}: not a mammogram",
        )


def _decode(file: _File) -> NDArray[Any]:
    """The stored values (H, W), integers of at most 16 bits in native byte order."""
    syntax = file.dataset.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise file.error("TransferSyntaxUID", "names no transfer syntax: the file is damaged")
    try:
        stored: NDArray[Any] = file.dataset.pixel_array
    except MemoryError as error:
        raise file.error("PixelData", "does not fit in memory") from error
    except Exception as error:  # each decoder has its own exceptions
        if syntax.is_compressed:
            problem = (
                f"({syntax.name}) cannot be decoded: install the decoders with `pip install "
                "pylibjpeg pylibjpeg-openjpeg` (lossless JPEG, JPEG-LS and 12-bit JPEG also need "
                "pylibjpeg-libjpeg, which has a licence of its own), or the file is damaged"
            )
        else:
            problem = f"cannot be read, the file is truncated or damaged ({type(error).__name__})"
        raise file.error("PixelData", problem) from error
    expected = (int(file.numbers("Rows")[0]), int(file.numbers("Columns")[0]))
    if stored.shape != expected:
        raise file.error("PixelData", f"decodes to {stored.shape}, not Rows x Columns {expected}")
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
        raise file.error(
            "BitsAllocated", f"gives {stored.dtype} values; at most 16-bit integers are read"
        )
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _present(file: _File, stored: NDArray[Any], notes: list[str]) -> NDArray[np.float32]:
    """Stored values (H, W) -> what is displayed, float32 0..255, by a table of all values."""
    first = min(int(stored.min()), 0)
    index = stored if first == 0 else stored.astype(np.int32) - first
    values = np.arange(first, int(stored.max()) + 1)
    occurs = np.zeros(len(values), dtype=bool)
    occurs[index] = True
    padding = _padding(file, values)
    shown = occurs & ~padding
    if not shown.any():
        raise file.error("PixelPaddingValue", "covers every pixel: the image is empty")

    modality = _apply_modality(file, values)
    display = _apply_voi(file, modality, shown, notes)
    if _is_inverted(file, notes):
        display = 1 - display
    table = np.where(padding, 0, 255 * display).astype(np.float32)
    pixels: NDArray[np.float32] = table[index]
    return pixels


def _padding(file: _File, values: NDArray[np.int64]) -> NDArray[np.bool_]:
    limits = file.numbers("PixelPaddingValue") + file.numbers("PixelPaddingRangeLimit")
    if not file.numbers("PixelPaddingValue"):
        return np.zeros(len(values), dtype=bool)
    padding: NDArray[np.bool_] = (values >= min(limits)) & (values <= max(limits))
    return padding


def _apply_modality(file: _File, values: NDArray[np.int64]) -> NDArray[np.float64]:
    keyword = "ModalityLUTSequence" if "ModalityLUTSequence" in file.dataset else "RescaleSlope"
    try:
        modality = np.asarray(apply_modality_lut(values, file.dataset), dtype=np.float64)
    except Exception as error:
        raise file.error(keyword, f"cannot be applied ({type(error).__name__})") from error
    if not np.isfinite(modality).all():
        raise file.error(keyword, "gives values that are not finite")
    return modality


def _apply_voi(
    file: _File, modality: NDArray[np.float64], shown: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.float64]:
    """Modality values -> 0..1 by VOI table, window or the range of the shown values."""
    if file.value("VOILUTSequence"):
        keyword, display = "VOILUTSequence", _apply_voi_table(file, modality, notes)
    elif file.numbers("WindowCenter") or file.numbers("WindowWidth"):
        keyword, display = "WindowCenter", _apply_window(file, modality, notes)
    else:
        return _fill_scale(file, modality, shown, notes)
    if np.ptp(modality[shown]) > 0 and np.ptp(display[shown]) == 0:
        raise file.error(
            keyword, "shows every pixel of this image alike: it belongs to other values"
        )
    return display


def _apply_voi_table(
    file: _File, modality: NDArray[np.float64], notes: list[str]
) -> NDArray[np.float64]:
    tables = file.value("VOILUTSequence")
    if len(tables) > 1:
        notes.append(f"{len(tables)} VOI LUTs: the first was taken")
    try:
        n_bits = int(tables[0].LUTDescriptor[2])
        table = np.asarray(apply_voi(modality, file.dataset, index=0), dtype=np.float64)
    except Exception as error:
        raise file.error("VOILUTSequence", f"cannot be applied ({type(error).__name__})") from error
    display: NDArray[np.float64] = table / (2**n_bits - 1)
    return display


def _apply_window(
    file: _File, modality: NDArray[np.float64], notes: list[str]
) -> NDArray[np.float64]:
    centers, widths = file.numbers("WindowCenter"), file.numbers("WindowWidth")
    if len(centers) != len(widths):
        raise file.error("WindowCenter", "and Window Width (0028,1051) differ in number of values")
    if len(centers) > 1:
        notes.append(f"{len(centers)} windows: the first was taken")
    center, width = centers[0], widths[0]
    function = file.text("VOILUTFunction") or "LINEAR"
    if not (math.isfinite(center) and math.isfinite(width)) or width <= 0:
        raise file.error("WindowWidth", f"is {width:g}; it must be positive")
    if function == "LINEAR":
        if width < 1:
            raise file.error("WindowWidth", f"is {width:g}; a LINEAR window is at least 1 wide")
        if width == 1:
            return (modality > center - 0.5).astype(np.float64)
        return ((modality - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    if function == "LINEAR_EXACT":
        return ((modality - center) / width + 0.5).clip(0, 1)
    if function == "SIGMOID":
        # Beyond +-50 the exponential only overflows: the display is 0 or 1 to double precision.
        exponent = np.clip(-4 * (modality - center) / width, -50, 50)
        return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float64)
    raise file.error(
        "VOILUTFunction", f"is {_shown(function)}; LINEAR, LINEAR_EXACT and SIGMOID are defined"
    )


def _fill_scale(
    file: _File, modality: NDArray[np.float64], shown: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.float64]:
    if file.text("PixelIntensityRelationship") == "LIN" and _is_raw(file):
        # Raw values are proportional to the X-ray intensity; attenuation is their logarithm.
        modality = np.log1p(modality - modality[shown].min().clip(max=0)).clip(min=0)
        notes.append("FOR PROCESSING, linear in X-ray intensity: the logarithm was taken")
    notes.append("no VOI LUT and no window: smallest to largest value fill the scale")
    low, high = modality[shown].min(), modality[shown].max()
    display: NDArray[np.float64] = ((modality - low) / max(high - low, 1e-12)).clip(0, 1)
    return display


def _is_raw(file: _File) -> bool:
    return (
        file.text("PresentationIntentType") == "FOR PROCESSING"
        or file.text("SOPClassUID") == _FOR_PROCESSING_CLASS
    )


def _is_inverted(file: _File, notes: list[str]) -> bool:
    inverted = file.text("PhotometricInterpretation") == "MONOCHROME1"
    shape = file.text("PresentationLUTShape")
    if shape in {"IDENTITY", "INVERSE"} and (shape == "INVERSE") != inverted:
        notes.append(
            f"Presentation LUT Shape {shape} contradicts Photometric Interpretation, which was "
            "followed"
        )
    return inverted


def _laterality(file: _File) -> Laterality | None:
    for keyword in ("ImageLaterality", "Laterality"):
        if (value := file.text(keyword)) in {"L", "R"}:
            return Laterality(value)
    return None


def _view_position(file: _File) -> ViewPosition | None:
    position = file.text("ViewPosition")
    if position is not None:
        return ViewPosition(position) if position in {"CC", "MLO"} else ViewPosition.OTHER
    codes = file.value("ViewCodeSequence")
    if not codes:
        return None
    return _VIEW_CODES.get(str(codes[0].get("CodeValue", "")).strip(), ViewPosition.OTHER)


def _pixel_spacing(file: _File, notes: list[str]) -> tuple[float, float] | None:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        spacing = file.numbers(keyword)
        if not spacing:
            continue
        if len(spacing) != 2 or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
            notes.append(f"{_tag(keyword)} is not two positive numbers: ignored")
            continue
        if keyword == "PixelSpacing":
            notes.append("pixel spacing is Pixel Spacing (0028,0030), which may be calibrated")
        return spacing[0], spacing[1]
    return None
