"""What does a decoding process do with an exam: its files, each decoded once, as inputs?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.data.exams import (
    CONTRADICTING,
    DUPLICATE,
    FAILED,
    UNREADABLE,
    ExamPlan,
    FileFacts,
    reason_of,
    reason_of_fault,
)
from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.dicom.view import AS_STORED, Flips
from simfrcnn.errors import SimFrcnnError
from simfrcnn.images.copies import Decoded, contradiction
from simfrcnn.images.raster import RasterGreys
from simfrcnn.images.reading import record_and_greys
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings
from simfrcnn.structures import Frame, Native, Sample
from simfrcnn.training.loading import as_input, as_native, three_channels


@dataclass(frozen=True)
class Decoding:
    """How files become inputs, and whether their stored pixels are kept.

    ``keeps_pixels`` for pictures, ``native`` for the second look.
    """

    input_settings: InputSettings
    options: DicomOptions
    keeps_pixels: bool
    native: bool = False

    def __call__(self, plan: ExamPlan) -> DecodedExam:
        """Decode the files of an exam, each once."""
        return decode_exam(plan, self)


@dataclass(frozen=True)
class DecodedImage:
    """One view: what its file says, the network's input (h, w), and its stored pixels (H, W)."""

    place: str
    record: ImageRecord
    content: NDArray[np.uint8]
    frame: Frame
    flips: Flips = AS_STORED
    pixels: NDArray[np.uint8] | None = None
    native: Native | None = None

    def sample(self) -> Sample:
        """As a model takes it."""
        image = three_channels(self.content)
        return Sample(image, self.frame, self.record, native=self.native)


@dataclass(frozen=True)
class DecodedExam:
    """An exam whose files have been read; ``left_out`` are all that were not."""

    plan: ExamPlan
    images: tuple[DecodedImage, ...]
    left_out: tuple[FileFacts, ...]


def decode_exam(plan: ExamPlan, decoding: Decoding) -> DecodedExam:
    """Read every file of an exam once; of copies of one SOP instance the first that can be read."""
    images: list[DecodedImage] = []
    left_out = list(plan.left_out)
    for group in plan.groups:
        image, others = _first_readable(plan, group, decoding)
        left_out += others
        if image is not None:
            images.append(image)
    return DecodedExam(
        plan,
        tuple(sorted(images, key=lambda image: image.place)),
        tuple(sorted(left_out, key=lambda file: file.place)),
    )


def killed_exam(plan: ExamPlan) -> DecodedExam:
    """An exam whose files killed the process that read them."""
    why = "the process that decoded the exam was killed: a decoder crashed, or memory ran out"
    files = [dataclasses.replace(f, what=FAILED, why=why) for group in plan.groups for f in group]
    return DecodedExam(plan, (), tuple(sorted([*plan.left_out, *files], key=lambda f: f.place)))


def decode_pixels(record: ImageRecord, greys: Any, decoding: Decoding, place: str) -> DecodedImage:
    """The input of an image, and its stored pixels, from greys that are there already."""
    pixels = greys.as_uint8()
    at_8_bits = RasterGreys(pixels, 255, greys.flips)
    content, frame = as_input(record, at_8_bits, decoding.input_settings)
    native = None
    if decoding.native:
        native = as_native(record, at_8_bits, frame, decoding.input_settings)
    kept = pixels if decoding.keeps_pixels else None
    return DecodedImage(place, record, content, frame, greys.flips, kept, native)


def _first_readable(
    plan: ExamPlan, group: Sequence[FileFacts], decoding: Decoding
) -> tuple[DecodedImage | None, list[FileFacts]]:
    """The image of a group, and its other files with the reason why they are left out."""
    left_out: list[FileFacts] = []
    for number, file in enumerate(group):
        path = plan.path_of(file)
        try:
            read = Decoded(path, *record_and_greys(path, 0, decoding.options))
            image = decode_pixels(read.record, read.greys, decoding, file.place)
        except Exception as error:
            left_out.append(_left_out(file, path, error))
            continue
        others = [(other, plan.path_of(other)) for other in group[number + 1 :]]
        return image, left_out + [_beside(read, *other, decoding.options) for other in others]
    return None, left_out


def _beside(read: Decoded, file: FileFacts, path: Path, options: DicomOptions) -> FileFacts:
    """A file with the SOP Instance UID of one that is judged: a copy, or one that claims to be."""
    try:
        differs_in = contradiction(read, path, options)
    except Exception as error:
        return _left_out(file, path, error)
    if differs_in is None:
        why = "it has the SOP Instance UID of another file of the exam, which was judged"
        return dataclasses.replace(file, what=DUPLICATE, why=why)
    why = f"same SOP Instance UID as another file of the exam, which was judged, but {differs_in}"
    return dataclasses.replace(file, what=CONTRADICTING, why=why)


def _left_out(file: FileFacts, path: Path, error: Exception) -> FileFacts:
    """A file that could not be read; any other error is this program's, and must not end a run."""
    if isinstance(error, SimFrcnnError):
        return dataclasses.replace(file, what=UNREADABLE, why=reason_of(error, path))
    if isinstance(error, (OSError, MemoryError)):
        reason = f"cannot be read ({type(error).__name__})"
        return dataclasses.replace(file, what=UNREADABLE, why=reason)
    return dataclasses.replace(file, what=FAILED, why=reason_of_fault(error, path))
