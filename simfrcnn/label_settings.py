"""Settings of images with a label and no box, described as those of :mod:`simfrcnn.settings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simfrcnn.described import Described, described

LabelBags = Literal["image", "breast"]
RegionRule = Literal["target", "own", "discriminative", "abnormal"]
ClassWeights = Literal["none", "balanced"]
Chooser = Literal["detector", "second_look"]
Tested = Literal["student", "teacher"]


@dataclass(frozen=True)
class LabelSettings(Described):
    """How a labelled image teaches: by its most suspicious region (``MODEL.SIMFRCNN.LABELS``)."""

    weight: float = described(
        1.0,
        "weight of the loss of labelled images, before it rises",
        key="MODEL.SIMFRCNN.LABELS.WEIGHT",
        legal="(0, inf)",
    )
    start: float = described(
        0.01,
        "factor on the weight at the first step; 1 keeps the weight constant",
        key="MODEL.SIMFRCNN.LABELS.START",
        legal="(0, 1]",
    )
    decay: float = described(
        0.9,
        "what is left of the distance of that factor to 1 after each period",
        key="MODEL.SIMFRCNN.LABELS.DECAY",
        legal="(0, 1]",
    )
    period: int = described(
        2000,
        "steps after which the factor rises",
        key="MODEL.SIMFRCNN.LABELS.PERIOD",
        legal="[1, inf)",
    )
    region: RegionRule = described(
        "target",
        "which region of a labelled image is chosen: by the highest probability of a target class, "
        "of its own class, of any class, or by the lowest one of background; a label that is a "
        "target always takes the first",
        key="MODEL.SIMFRCNN.LABELS.REGION",
    )
    proposals: int = described(
        256,
        "proposals of a labelled image among which the region is chosen, by falling objectness; 0 "
        "for all",
        key="MODEL.SIMFRCNN.LABELS.PROPOSALS",
        legal="[0, inf)",
    )
    class_weights: ClassWeights = described(
        "none",
        "whether rare classes of the labelled images weigh more",
        key="MODEL.SIMFRCNN.LABELS.CLASS_WEIGHTS",
    )
    chooser: Chooser = described(
        "detector",
        "by whose score the region is chosen: the detector's, or that with the second look at its "
        "best regions",
        key="MODEL.SIMFRCNN.LABELS.CHOOSER",
    )


@dataclass(frozen=True)
class TeacherSettings(Described):
    """An averaged copy of the model that boxes labelled images in the course of a training."""

    enabled: bool = described(
        False,
        "let an averaged copy of the model, the teacher, box labelled images while it trains",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED",
    )
    start: int = described(
        1000,
        "steps after which the teacher becomes a copy of the model and begins to teach; 0 begins "
        "with the initial weights",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.START",
        legal="[0, inf)",
    )
    fixed: int = described(
        500,
        "steps for which the teacher then stays as it is, before it is averaged",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.FIXED",
        legal="[0, inf)",
    )
    momentum: float = described(
        0.999,
        "what a step leaves of the teacher's weights; the rest is the model's",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.MOMENTUM",
        legal="[0, 1)",
    )
    weight: float = described(
        0.1,
        "weight of the losses of an image that the teacher has boxed",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.WEIGHT",
        legal="(0, inf)",
    )
    score: float = described(
        0.7,
        "lowest score of a box, in the image and in its mirror image",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.SCORE",
        legal="(0, 1]",
    )
    agreement: float = described(
        0.5,
        "lowest IoU of the box in the image with that in its mirror image",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.AGREEMENT",
        legal="(0, 1]",
    )
    unlabelled_per_item: int = described(
        0,
        "images of which nothing is known that are added to each item of a batch, for the teacher "
        "alone: where it finds a target they train by its box, else not at all",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.UNLABELLED_PER_ITEM",
        legal="[0, inf)",
    )
    tested: Tested = described(
        "student",
        "whose weights are validated, tested and given away: those that are trained, or their "
        "average",
        key="MODEL.SIMFRCNN.LABELS.TEACHER.TESTED",
    )
