"""Which rules change a number of the report?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simfrcnn.described import Described, described
from simfrcnn.registry import illegal

UnknownImages = Literal["exclude", "normal"]
Pooling = Literal["max", "mean", "noisy_or"]
CaseBy = Literal["exam", "patient"]
BoxesOutside = Literal["refuse", "clip"]
EXAMS_PER_GROUP = 12
"""So many exams are shown in a report for each reason, unless another number is asked for."""


@dataclass(frozen=True)
class EvaluationSettings(Described):
    """The rules that change a number of the report; each is written into it.

    >>> EvaluationSettings(pooling="mean", prevalence=0.006).pooling
    'mean'
    >>> EvaluationSettings(pooling="noisy-or")
    Traceback (most recent call last):
    simfrcnn.errors.ConfigError: EVAL.POOLING is 'noisy-or'; legal is max | mean | noisy_or. \
Did you mean noisy_or?
    """

    target_classes: tuple[str, ...] = described(
        ("malignant",),
        "classes that make an image positive",
        key="DATASETS.TARGET_CLASSES",
        option="--target-classes",
        metavar="NAME",
        many="words",
    )
    score_threshold: float = described(
        0.5,
        "positive from this score on, for accuracy, sensitivity and specificity",
        key="EVAL.SCORE_THRESHOLD",
        option="--score-threshold",
        legal="a score in [0, 1]",
        metavar="S",
        steps=("test",),
    )
    iou_threshold: float = described(
        0.5,
        "IoU of the average precision",
        key="EVAL.IOU_THRESHOLD",
        option="--iou-threshold",
        legal="an IoU in (0, 1]",
        metavar="IOU",
        steps=("test",),
    )
    pooling: Pooling = described(
        "max",
        "how the score of a breast or case comes from its images",
        key="EVAL.POOLING",
        option="--pooling",
        steps=("training", "test"),
    )
    case_by: CaseBy = described(
        "exam",
        "what one case is",
        key="EVAL.CASE_BY",
        option="--case-by",
        steps=("training", "test"),
    )
    unknown_images: UnknownImages = described(
        "exclude",
        "images of unknown truth: left out, or normal as in the thesis",
        key="EVAL.UNKNOWN_IMAGES",
        option="--unknown-images",
        steps=("training", "test"),
    )
    count_repeats_as_false_positives: bool = described(
        False,
        "FROC: a second detection of a finding is a false positive",
        key="EVAL.COUNT_REPEATS",
        option="--count-repeats",
        steps=("training", "test"),
    )
    ignored_classes: tuple[str, ...] = described(
        (),
        "classes whose boxes are neither to be found nor wrong to find",
        key="EVAL.IGNORED_CLASSES",
        option="--ignored-classes",
        metavar="NAME",
        many="words",
        steps=("training", "test"),
    )
    boxes_outside: BoxesOutside = described(
        "refuse",
        "what becomes of detections beyond the image",
        key="EVAL.BOXES_OUTSIDE",
        option="--boxes-outside",
        steps=("training", "test"),
    )
    prevalence: float | None = described(
        None,
        "of cancer among cases where the model is to be used, for predictive values; none are "
        "given without it",
        key="EVAL.PREVALENCE",
        option="--prevalence",
        legal="(0, 1)",
        unset=0.0,
        metavar="P",
        parse=float,
        steps=("test",),
    )
    operating_sensitivity: float = described(
        0.9,
        "what is asked of the operating point by sensitivity, chosen on the validation set",
        key="EVAL.OPERATING_SENSITIVITY",
        option="--operating-sensitivity",
        legal="(0, 1]",
        metavar="SENS",
        steps=("test",),
    )
    operating_specificity: float = described(
        0.9,
        "what is asked of the operating point by specificity, chosen on the validation set",
        key="EVAL.OPERATING_SPECIFICITY",
        option="--operating-specificity",
        legal="(0, 1]",
        metavar="SPEC",
        steps=("test",),
    )
    subgroups: tuple[str, ...] = described(
        (),
        "also judge the parts of the test set by a key of the records, such as density or, for "
        "numbers, age:50,70",
        key="EVAL.SUBGROUPS",
        option="--subgroup",
        metavar="KEY[:EDGES]",
        many="times",
        steps=("test",),
    )
    bootstrap_replicates: int = described(
        2000,
        "bootstrap resamplings; 0 gives no intervals",
        key="EVAL.BOOTSTRAP_REPLICATES",
        option="--replicates",
        legal="[0, inf)",
        metavar="N",
        steps=("test",),
    )
    bootstrap_seed: int = described(
        0,
        "seed of the resampling",
        key="EVAL.BOOTSTRAP_SEED",
        option="--seed",
        legal="[0, inf)",
        metavar="N",
        steps=("test",),
    )
    partial_auc_specificity: float = described(
        0.9,
        "the partial AUC is that of the part of the ROC curve with at least this specificity",
        key="EVAL.PARTIAL_AUC_SPECIFICITY",
        option="--partial-auc-specificity",
        legal="[0, 1)",
        metavar="SPEC",
        steps=("test",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target_classes:
            raise illegal("DATASETS.TARGET_CLASSES", self.target_classes, "at least one class name")
        both = [name for name in self.ignored_classes if name in self.target_classes]
        if both:
            raise illegal(
                "EVAL.IGNORED_CLASSES",
                self.ignored_classes,
                f"other classes than DATASETS.TARGET_CLASSES {self.target_classes}: {both[0]!r} "
                "cannot be both a target and ignored",
            )
