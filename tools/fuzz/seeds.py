"""Which whole DICOM files are damaged?

Made here, so that the corpus exists everywhere: one small view by the phantoms' writer, in every
encoding that can be written, and with every kind of table, window and group that the reader knows.
A folder of other people's files (pydicom's test set) can be added.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from simfrcnn.errors import DataError
from simfrcnn.phantom.dicom_writer import dicom_bytes
from simfrcnn.phantom.exams import draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.phantom.texture import FloatImage
from simfrcnn.records import Laterality, ViewPosition

_SHAPE = (96, 80)


def own_seeds() -> dict[str, bytes]:
    """Name -> content of whole files that the reader takes; the same at every call."""
    plain = _phantom()
    seeds = {
        "plain": plain,
        "tables": _changed(plain, _add_tables),
        "groups": _changed(plain, _move_to_groups),
        "signed": _changed(plain, _make_signed),
        "implicit": _encoded(plain, ImplicitVRLittleEndian),
        "deflated": _encoded(plain, DeflatedExplicitVRLittleEndian),
        "big_endian": _changed(plain, _swap_pixel_bytes, ExplicitVRBigEndian),
        "jpeg": _changed(plain, _compress_as_jpeg, JPEGBaseline8Bit),
    }
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        if get_encoder(syntax).is_available:
            seeds[syntax.keyword] = _changed(plain, partial(_compress, syntax=syntax))
    return seeds


def seeds_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of the files ``*.dcm`` of a folder.

    Raises:
        DataError: There is none.
    """
    seeds = {path.name: path.read_bytes() for path in sorted(folder.glob("*.dcm"))}
    if not seeds:
        raise DataError(f"{folder} holds no file named *.dcm: give a folder of DICOM files")
    return seeds


def _phantom() -> bytes:
    """One small view: a half ellipse with texture, 12 bits in 16, explicit VR little endian."""
    preset = PRESETS["tiny"]
    exam = draw_exams(preset, seed=0)[0]
    return dicom_bytes(_picture(), exam, Laterality.LEFT, ViewPosition.MLO, preset, 0)


def _picture() -> FloatImage:
    y, x = np.ogrid[: _SHAPE[0], : _SHAPE[1]]
    depth = np.clip(1 - (x / 60) ** 2 - ((y - 48) / 45) ** 2, 0, 1)
    noise = np.random.default_rng(0).uniform(0, 0.1, _SHAPE)
    return np.asarray(0.05 + 0.8 * np.sqrt(depth) + noise, dtype=np.float64)


def _changed(
    content: bytes, change: Callable[[Dataset], object], syntax: UID | None = None
) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(content))
        change(dataset)
        written = syntax or dataset.file_meta.TransferSyntaxUID
        dataset.file_meta.TransferSyntaxUID = written
        stream = io.BytesIO()
        pydicom.dcmwrite(
            stream,
            dataset,
            implicit_vr=written.is_implicit_VR,
            little_endian=written.is_little_endian,
            enforce_file_format=True,
        )
    return stream.getvalue()


def _encoded(content: bytes, syntax: UID) -> bytes:
    return _changed(content, lambda _: None, syntax)


def _add_tables(dataset: Dataset) -> None:
    """A modality table, and two VOI tables in place of the window."""
    modality, voi = Dataset(), Dataset()
    modality.LUTDescriptor, modality.ModalityLUTType = [4096, 0, 16], "US"
    modality.LUTData = np.arange(4096, dtype="<u2").tobytes()
    voi.LUTDescriptor = [1024, 1000, 12]
    voi.LUTData = np.linspace(0, 4095, 1024).astype("<u2").tobytes()
    dataset.ModalityLUTSequence, dataset.VOILUTSequence = [modality], [voi, voi]
    for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter"):
        delattr(dataset, keyword)
    del dataset.WindowWidth


def _move_to_groups(dataset: Dataset) -> None:
    """Window, rescale and side into functional groups, as enhanced objects have them."""
    window, values, anatomy, group = Dataset(), Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = dataset.WindowCenter, dataset.WindowWidth
    values.RescaleIntercept, values.RescaleSlope = "0", "1"
    anatomy.FrameLaterality = "L"
    group.FrameVOILUTSequence = [window]
    group.PixelValueTransformationSequence = [values]
    group.FrameAnatomySequence = [anatomy]
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "ImageLaterality"):
        delattr(dataset, keyword)
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.NumberOfFrames = 1


def _make_signed(dataset: Dataset) -> None:
    values = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32) - 2048
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, "2048"
    dataset.PixelData = values.astype("<i2").tobytes()
    dataset.add_new("PixelPaddingValue", "SS", -2000)


def _swap_pixel_bytes(dataset: Dataset) -> None:
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()


def _compress(dataset: Dataset, syntax: UID) -> None:
    dataset.compress(syntax, generate_instance_uid=False)


def _compress_as_jpeg(dataset: Dataset) -> None:
    values = np.frombuffer(dataset.PixelData, "<u2").reshape(_SHAPE) >> 4
    _, stream = cv2.imencode(".jpg", values.astype(np.uint8))
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = encapsulate([stream.tobytes()])
    dataset["PixelData"].is_undefined_length = True
    del dataset.WindowCenter, dataset.WindowWidth
