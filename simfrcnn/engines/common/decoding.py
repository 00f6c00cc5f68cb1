"""What does a decoding process do with an exam: its files, each decoded once, as inputs?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.data.exams import (
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
    left_out: list[FileFacts] = []
    for number, file in enumerate(group):
        path = plan.path_of(file)
        try:
            record, greys = record_and_greys(path, 0, decoding.options)
            image = decode_pixels(record, greys, decoding, file.place)
        except SimFrcnnError as error:
            reason = reason_of(error, path)
            left_out.append(dataclasses.replace(file, what=UNREADABLE, why=reason))
            continue
        except (OSError, MemoryError) as error:
            reason = f"cannot be read ({type(error).__name__})"
            left_out.append(dataclasses.replace(file, what=UNREADABLE, why=reason))
            continue
        except Exception as error:  # a fault of this program, which must not end a run
            reason = reason_of_fault(error, path)
            left_out.append(dataclasses.replace(file, what=FAILED, why=reason))
            continue
        why = "it has the SOP Instance UID of another file of the exam, which was judged"
        copies = [dataclasses.replace(f, what=DUPLICATE, why=why) for f in group[number + 1 :]]
        return image, left_out + copies
    return None, left_out
