"""Settings of the second look, described as those of :mod:`simfrcnn.settings` are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simfrcnn.described import Described, described

Source = Literal["native", "input"]
LookNormals = Literal["suspected", "random"]
LookSimilarity = Literal["none", "cosine", "contrastive"]


@dataclass(frozen=True)
class SecondLookSettings(Described):
    """A network of its own looks again at what the detector suspects (:mod:`second_look`)."""

    enabled: bool = described(
        False,
        "look a second time at the most suspicious regions",
        key="MODEL.SECOND_LOOK.ENABLED",
    )
    context: float = described(
        1.5,
        "side of the square that is cut out, as a multiple of the longer side of the box",
        key="MODEL.SECOND_LOOK.CONTEXT",
        legal="[1, inf)",
    )
    min_mm: float = described(
        24.0,
        "least side of the square in mm; without a known pixel spacing it is SIZE pixels",
        key="MODEL.SECOND_LOOK.MIN_MM",
        legal="[0, 200]",
    )
    size: int = described(
        64,
        "side in pixels to which a square is brought for the network",
        key="MODEL.SECOND_LOOK.SIZE",
        legal="[16, inf)",
    )
    regions_per_image: int = described(
        2,
        "squares that an image gives in a training step",
        key="MODEL.SECOND_LOOK.REGIONS_PER_IMAGE",
        legal="[1, inf)",
    )
    normals: LookNormals = described(
        "suspected",
        "regions of images without a target box: those that the detector suspects, or as a control "
        "boxes of the same sides at random places in the breast",
        key="MODEL.SECOND_LOOK.NORMALS",
    )
    batch_size: int = described(
        32,
        "squares of a training step, half of positive images: the new ones, filled up with "
        "remembered ones",
        key="MODEL.SECOND_LOOK.BATCH_SIZE",
        legal="[2, inf)",
    )
    memory: int = described(
        256,
        "squares of the last steps that are remembered, of positive and of other images each",
        key="MODEL.SECOND_LOOK.MEMORY",
        legal="[0, inf)",
    )
    detections_per_image: int = described(
        5,
        "detections of an image that are looked at again, by falling score",
        key="MODEL.SECOND_LOOK.DETECTIONS_PER_IMAGE",
        legal="[1, inf)",
    )
    first_exponent: float = described(
        0.5,
        "exponent of the detector's score, by which the second look's probability is multiplied: "
        "0.5 is the square root, 1 the plain product",
        key="MODEL.SECOND_LOOK.FIRST_EXPONENT",
        legal="(0, 1]",
    )
    backbone: str = described(
        "",
        "name of a timm model; '' is a small network with GroupNorm",
        key="MODEL.SECOND_LOOK.BACKBONE",
    )
    backbone_weights: str = described(
        "",
        "file with weights of the timm model, whose batch statistics are then frozen",
        key="MODEL.SECOND_LOOK.BACKBONE_WEIGHTS",
    )
    weight: float = described(
        1.0,
        "weight of the loss",
        key="MODEL.SECOND_LOOK.WEIGHT",
        legal="[0, inf)",
    )
    lr_factor: float = described(
        3.0,
        "factor on SOLVER.BASE_LR for this network",
        key="MODEL.SECOND_LOOK.LR_FACTOR",
        legal="(0, inf)",
    )
    similarity: LookSimilarity = described(
        "none",
        "similarity loss on this network's vectors; its weight and margins are those of "
        "MODEL.SIMFRCNN.SIMILARITY",
        key="MODEL.SECOND_LOOK.SIMILARITY",
    )
    source: Source = described(
        "native",
        "pixels that are cut from: those of the stored image, or of the detector's input",
        key="MODEL.SECOND_LOOK.SOURCE",
    )
