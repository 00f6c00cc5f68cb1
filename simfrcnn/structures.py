"""What travels between the data, the engines and the evaluation, as tensors.

Shapes: N images, B boxes of an image, D detections of an image, H x W the network's input in
pixels. Boxes are XYXY float32, half open, origin top left. *Input pixels* are pixels of
:attr:`Sample.image`;
*original pixels* are pixels of the stored file. Classes: 0 is background, 1..K the config's classes
in their order; -1 is "ignore".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simfrcnn.outlines import Rle
from simfrcnn.records import ImageRecord, Outline


@dataclass(frozen=True)
class Frame:
    """The map from original to input pixels: crop, resize and flips are one affine map per axis.

    ``x_input = scale_x * x_original + offset_x``, and the same for y. A flip is a negative scale.
    """

    scale_x: float
    offset_x: float
    scale_y: float
    offset_y: float
    original_height: int
    original_width: int

    def to_input(self, boxes: Tensor) -> Tensor:
        """Boxes (B, 4) in original pixels -> input pixels, still XYXY with x1 <= x2, y1 <= y2."""
        scale, offset = self._scale_and_offset(boxes)
        return _ordered(boxes * scale + offset)

    def to_original(self, boxes: Tensor) -> Tensor:
        """Boxes (B, 4) in input pixels -> original pixels, clipped to the stored image."""
        mapped = self.to_original_unclipped(boxes)
        limits = mapped.new_tensor([self.original_width, self.original_height] * 2)
        return torch.minimum(mapped.clamp(min=0), limits)

    def to_original_unclipped(self, boxes: Tensor) -> Tensor:
        """Boxes (B, 4) in input pixels -> original pixels, also where they leave the image."""
        scale, offset = self._scale_and_offset(boxes)
        return _ordered((boxes - offset) / scale)

    def points_to_input(self, points: Tensor) -> Tensor:
        """Points (P, 2), x and y in original pixels -> input pixels."""
        return points * self._scale(points) + self._offset(points)

    def points_to_original(self, points: Tensor) -> Tensor:
        """Points (P, 2), x and y in input pixels -> original pixels, unclipped."""
        return (points - self._offset(points)) / self._scale(points)

    def then(self, after: Frame) -> Frame:
        """This map and, on what it gives, another one."""
        return Frame(
            scale_x=self.scale_x * after.scale_x,
            offset_x=self.offset_x * after.scale_x + after.offset_x,
            scale_y=self.scale_y * after.scale_y,
            offset_y=self.offset_y * after.scale_y + after.offset_y,
            original_height=self.original_height,
            original_width=self.original_width,
        )

    def _scale_and_offset(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return self._scale(boxes).repeat(2), self._offset(boxes).repeat(2)

    def _scale(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.scale_x, self.scale_y])

    def _offset(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.offset_x, self.offset_y])


def _ordered(boxes: Tensor) -> Tensor:
    top_left = torch.minimum(boxes[..., :2], boxes[..., 2:])
    bottom_right = torch.maximum(boxes[..., :2], boxes[..., 2:])
    return torch.cat([top_left, bottom_right], dim=-1)


@dataclass(frozen=True)
class ImageTargets:
    """What one image teaches.

    ``boxes`` (B, 4) in input pixels, ``labels`` (B,) int64 in 1..K. ``is_normal`` says that the
    image is known to hold no target *and* carries no training box: such an image gets the losses of
    a normal image. A normal image with pseudo or oracle boxes is trained as an ordinary boxed one
    (``is_normal`` False). ``image_label`` in 1..K says that the image, or one of its bag, shows a
    finding of that class, nobody knows where; ``label_weight`` is the weight of its loss. Images
    with the same ``bag`` share one label; None is a bag of one. ``outlines`` (B,) are those of the
    boxes in input pixels, empty where an outline is not known; or none at all. ``normal_weight`` is
    the weight of a normal image among others (``MODEL.SIMFRCNN.BENIGN_WEIGHT``). ``present`` (K,)
    float32 is for a whole-image classifier: 1 where a finding of the class is visible, 0 where none
    is, NaN where that is not known. ``is_unknown`` says that nothing is known of the image: it has
    no loss but that of a box that a teacher gives it.
    """

    boxes: Tensor
    labels: Tensor
    is_normal: bool
    image_label: int | None = None
    label_weight: float = 0.0
    bag: int | None = None
    outlines: tuple[Outline, ...] = ()
    normal_weight: float = 1.0
    present: Tensor | None = None
    is_unknown: bool = False

    def __post_init__(self) -> None:
        if self.outlines and len(self.outlines) != len(self.boxes):
            raise ValueError(
                f"{len(self.outlines)} outlines for {len(self.boxes)} boxes; one each, or none, is "
                "legal"
            )
        if self.is_normal and len(self.boxes):
            raise ValueError("a normal image carries no training boxes; is_normal must be False")
        if self.image_label is not None and (self.is_normal or len(self.boxes)):
            raise ValueError(
                "a labelled image carries no training boxes and is not normal; image_label must be "
                "None"
            )
        if self.is_unknown and (self.is_normal or len(self.boxes) or self.image_label is not None):
            raise ValueError(
                "an image of which nothing is known carries no training boxes and no label and is "
                "not normal; is_unknown must be False"
            )
        if self.normal_weight != 1 and not self.is_normal:
            raise ValueError("an image that is not normal has no weight as one; it must be 1.0")

    def bag_key(self, place: int) -> tuple[str, int]:
        """What tells the bag of this image, at a place in its batch, from the other bags of it."""
        return ("image", place) if self.bag is None else ("bag", self.bag)


@dataclass(frozen=True)
class Native:
    """The stored pixels of the part of an image that is the network's input, turned as that is.

    ``pixels`` (h, w) uint8. ``frame`` is the map from these pixels to input pixels: its *original*
    pixels are the ones here.
    """

    pixels: Tensor
    frame: Frame


@dataclass(frozen=True)
class Sample:
    """One image as a model takes it: (3, H, W) float32, grey 0..255 in three equal channels.

    ``targets`` is None at test time; ``native`` unless the second look asks for it.
    """

    image: Tensor
    frame: Frame
    record: ImageRecord
    targets: ImageTargets | None = None
    native: Native | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether it trains, if at all, by a teacher's box."""
        return self.targets is not None and self.targets.is_unknown


@dataclass(frozen=True)
class Detections:
    """What a model found in one image, by falling score, on the CPU.

    ``boxes`` (D, 4) in original pixels; ``scores`` (D,) in [0, 1]; ``labels`` (D,) int64 in 1..K.
    After a second look ``first_scores`` (D,) are the detector's own and ``second_scores`` (D,)
    those of the second look, and ``squares`` (D, 4) what it saw, in original pixels and perhaps
    beyond the image; NaN where it did not look; None without one. Of a model with a mask head
    ``masks`` (D,) are what it takes for the inside of each finding, in original pixels; None for
    those below the score from which it makes them.
    """

    image_id: int
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    first_scores: Tensor | None = None
    second_scores: Tensor | None = None
    squares: Tensor | None = None
    masks: tuple[Rle | None, ...] | None = None


OF_SECOND_LOOK = ("first_scores", "second_scores", "squares")
"""The fields of :class:`Detections` that a second look adds."""
