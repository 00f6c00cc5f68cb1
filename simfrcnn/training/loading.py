"""How does a record become a sample that a model takes?

Shapes: H x W the network's input, B boxes of an image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from simfrcnn.errors import ConfigError
from simfrcnn.image_labels import presence_of
from simfrcnn.images.preprocess import flip, native_of, pad, to_content, windowed
from simfrcnn.images.reading import Greys, load_greys
from simfrcnn.labels import is_benign, trained_findings
from simfrcnn.records import Box, Finding, ImageRecord, Outline, Ring
from simfrcnn.settings import AugmentationSettings, InputSettings
from simfrcnn.structures import Frame, ImageTargets, Native, Sample
from simfrcnn.training.augment import draw_flips


@dataclass(frozen=True)
class KnownLabel:
    """By which label an image without boxes trains: see :class:`~simfrcnn.structures.ImageTargets`.

    ``label`` is in 1..K; images of one batch with the same ``bag`` share it.
    """

    label: int
    weight: float
    bag: int


def load_sample(
    record: ImageRecord,
    *,
    input_settings: InputSettings,
    classes: tuple[str, ...],
    training: bool,
    rng: np.random.Generator | None = None,
    augmentation: AugmentationSettings | None = None,
    native: bool = False,
    known: KnownLabel | None = None,
    benign_weight: float = 1.0,
    target_classes: tuple[str, ...] | None = None,
    is_unknown: bool = False,
) -> Sample:
    """Decode, crop, resize and, in training, flip one image; map its boxes along.

    At test time the result depends on the pixels alone: no box steers the crop. In training the
    crop holds every finding, and the record must come from one of the training lists: an image
    without a finding of ``classes`` is taken as normal here. Crowd boxes are not trained, but keep
    an image from being normal.

    Args:
        record: What to load.
        input_settings: Size, crop, aspect.
        classes: The K foreground classes; label i + 1 is ``classes[i]``.
        training: Whether to make targets and to flip.
        rng: Draws the flips; needed with ``augmentation``. Seed one per sample.
        augmentation: Probabilities of the flips; None for none.
        native: Keep the stored pixels too, for the second look.
        known: In training, the label by which the image trains in a bag: it is not normal then, and
            its boxes, which can be a model's guesses alone, do not train.
        benign_weight: In training, the weight of a normal image that shows something benign.
        target_classes: In training, for a whole-image classifier: the sample then says of every
            class whether the image shows it, and need not have boxes.
        is_unknown: In training, that nothing is known of the image, and it is not normal.

    Raises:
        DataError: The file cannot be read, or has another size than the record says.
        ConfigError: The picture was prepared for other input settings, or has no stored pixels of
            its source.
    """
    keep = [finding.box for finding in record.findings] if training else []
    greys = load_greys(record)
    image, frame = as_input(record, greys, input_settings, keep)
    if training and augmentation is not None:
        if rng is None:
            raise ValueError("augmentation needs an rng, seeded for this sample")
        horizontal, vertical = draw_flips(augmentation, rng)
        image, frame = flip(image, frame, horizontal=horizontal, vertical=vertical)
    size_px = input_settings.size_px
    targets = None
    if training and is_unknown:
        nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        targets = ImageTargets(*nothing, is_normal=False, is_unknown=True)
    elif training:
        targets = _targets(record, classes, frame, size_px, known, benign_weight)
        if target_classes is not None:
            targets = _of_whole_image(targets, record, classes, target_classes)
    shown = as_native(record, greys, frame, input_settings) if native else None
    return Sample(three_channels(image), frame, record, targets, shown)


def as_input(
    record: ImageRecord,
    greys: Greys,
    settings: InputSettings,
    keep: Sequence[Box] = (),
) -> tuple[NDArray[np.uint8], Frame]:
    """What :func:`~simfrcnn.images.preprocess.to_input` makes.

    Of a picture that was prepared as input, only the padding is made.
    """
    content, frame = as_content(record, greys, settings, keep)
    return pad(content, settings), frame


def as_content(
    record: ImageRecord,
    greys: Greys,
    settings: InputSettings,
    keep: Sequence[Box] = (),
) -> tuple[NDArray[np.uint8], Frame]:
    """:func:`as_input` without its padding."""
    made_for = None if record.prepared is None else record.prepared.as_input
    if made_for is None:
        return to_content(greys.as_uint8(), settings, keep=keep, flips=greys.flips)
    # Pictures are prepared with all their grey levels.
    if made_for != settings.unwindowed():
        raise ConfigError(
            f"{record.path}: was prepared as input of {made_for}, and the config asks for "
            f"{settings}: set INPUT.MAMMO.SIZE, CROP_TO_BREAST and KEEP_ASPECT to what was "
            "prepared, or prepare the data set again (prepare-data --size, --whole-image, "
            "--stretch; --size full keeps pictures for any size)"
        )
    height, width = greys.shape
    return windowed(greys.as_uint8(), settings), Frame(1, 0, 1, 0, height, width)


def as_native(record: ImageRecord, greys: Greys, frame: Frame, settings: InputSettings) -> Native:
    """The stored pixels of what the input shows, see :func:`native_of`.

    Raises:
        ConfigError: The picture was prepared as input, and holds no more than that.
    """
    require_native_pixels([record])
    return native_of(greys.as_uint8(), frame, settings.size_px)


def require_native_pixels(records: Iterable[ImageRecord]) -> None:
    """Refuse pictures that were prepared as a detector's input: there is nothing to magnify.

    Raises:
        ConfigError: Names the first of them, and the remedy.
    """
    for record in records:
        if record.prepared is not None and record.prepared.as_input is not None:
            height, width = record.prepared.as_input.size_px
            raise ConfigError(
                f"{record.path}: was prepared as input of {height} x {width} pixels, and the "
                "second look cuts from the stored image (MODEL.SECOND_LOOK.SOURCE native): prepare "
                "the data set again with prepare-data --size full, which keeps whole pictures, or "
                "set MODEL.SECOND_LOOK.SOURCE to input"
            )


def three_channels(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """(H, W) uint8 -> (3, H, W) float32, three equal channels."""
    return torch.from_numpy(image).float().expand(3, -1, -1).contiguous()


class RecordDataset(Dataset[Sample]):
    """Test-time samples of records, by index; for a `DataLoader` with ``collate_fn=list``."""

    def __init__(
        self,
        records: Sequence[ImageRecord],
        input_settings: InputSettings,
        *,
        native: bool = False,
    ) -> None:
        self.records = tuple(records)
        self.native = native
        self.input_settings = input_settings

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        return load_sample(
            self.records[index],
            input_settings=self.input_settings,
            classes=(),
            training=False,
            native=self.native,
        )


def _targets(
    record: ImageRecord,
    classes: tuple[str, ...],
    frame: Frame,
    size_px: tuple[int, int],
    known: KnownLabel | None,
    benign_weight: float,
) -> ImageTargets:
    """Boxes (B, 4) in input pixels, clipped, and labels (B,) in 1..K."""
    trained = trained_findings(record, classes) if known is None else ()
    boxes = torch.tensor([finding.box for finding in trained], dtype=torch.float64).reshape(-1, 4)
    labels = torch.tensor([classes.index(f.category) + 1 for f in trained], dtype=torch.int64)
    height, width = size_px
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes = torch.minimum(frame.to_input(boxes).clamp(min=0), limits)
    if known is not None:
        return ImageTargets(boxes.float(), labels, False, known.label, known.weight, known.bag)
    is_normal = not record.findings_of(classes)
    weight = benign_weight if is_normal and is_benign(record) else 1.0
    return ImageTargets(
        boxes.float(),
        labels,
        is_normal,
        outlines=_outlines(trained, frame),
        normal_weight=weight,
    )


def _outlines(findings: Sequence[Finding], frame: Frame) -> tuple[Outline, ...]:
    """What is drawn of findings, in input pixels; none at all where nothing is."""
    if not any(finding.outline for finding in findings):
        return ()
    return tuple(moved_outline(finding.outline, frame) for finding in findings)


def moved_outline(outline: Outline, frame: Frame) -> Outline:
    """An outline in original pixels -> input pixels."""

    def moved(ring: Ring) -> Ring:
        points = frame.points_to_input(torch.tensor(ring, dtype=torch.float64))
        return tuple((x, y) for x, y in points.tolist())

    return tuple(map(moved, outline))


def _of_whole_image(
    targets: ImageTargets,
    record: ImageRecord,
    classes: tuple[str, ...],
    target_classes: tuple[str, ...],
) -> ImageTargets:
    """The same with what is known of each class."""
    is_normal = record.is_known_normal(target_classes) and not record.findings_of(classes)
    present = torch.tensor(presence_of(record, classes, target_classes))
    return dataclasses.replace(targets, is_normal=is_normal, present=present)
