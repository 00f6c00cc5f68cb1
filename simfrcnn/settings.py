"""Typed, frozen settings that the core takes, each described in one place.

The core never sees a config node: each function names what it needs by one of these. A field says
what it means, what is legal, its config key, its command-line option and which steps of a job a
change of it outdates. The defaults of the config tree, the mapping from it, the options of the
verbs and the checks are derived from that (:mod:`simfrcnn.config.mapping`,
:mod:`simfrcnn.cli.options`), so that a new setting is one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simfrcnn.classifier_settings import ClassifierSettings as ClassifierSettings
from simfrcnn.described import Described, described
from simfrcnn.evaluation_settings import EXAMS_PER_GROUP as EXAMS_PER_GROUP
from simfrcnn.evaluation_settings import CaseBy as CaseBy
from simfrcnn.evaluation_settings import EvaluationSettings as EvaluationSettings
from simfrcnn.evaluation_settings import Pooling as Pooling
from simfrcnn.grading_settings import GradingSettings as GradingSettings
from simfrcnn.input_settings import InputSettings as InputSettings
from simfrcnn.input_settings import WindowedInputSettings as WindowedInputSettings
from simfrcnn.label_settings import LabelBags
from simfrcnn.label_settings import LabelSettings as LabelSettings
from simfrcnn.label_settings import TeacherSettings as TeacherSettings
from simfrcnn.registry import illegal
from simfrcnn.second_look_settings import SecondLookSettings as SecondLookSettings

RpnNormals = Literal["top_likelihood", "ordinary", "none"]
SimilarityKind = Literal["cosine", "contrastive", "none"]
Partners = Literal["suspected", "hardest", "random", "all"]
RoiNormalSampling = Literal["top", "random"]
BatchKind = Literal["pairs", "positives"]
UnboxedViews = Literal["exclude", "normal"]
PseudoOf = Literal["suspected", "labels"]


@dataclass(frozen=True)
class AugmentationSettings(Described):
    """Probabilities of the two flips of the thesis."""

    horizontal_flip: float = described(
        0.5,
        "probability, in training only, that an image is mirrored",
        key="INPUT.MAMMO.HORIZONTAL_FLIP",
        legal="a probability in [0, 1]",
    )
    vertical_flip: float = described(
        0.5,
        "probability, in training only, that an image is turned upside down",
        key="INPUT.MAMMO.VERTICAL_FLIP",
        legal="a probability in [0, 1]",
    )


@dataclass(frozen=True)
class DataSettings(Described):
    """Which boxes are trained, which classes are the target, and what enters training."""

    classes: tuple[str, ...] = described(
        ("malignant",),
        "the foreground classes in the order of their labels: label i + 1 is class i",
        key="DATASETS.CLASSES",
    )
    target_classes: tuple[str, ...] = described(
        ("malignant",),
        "classes that make an image positive, and that are evaluated",
        key="DATASETS.TARGET_CLASSES",
    )
    batch_kind: BatchKind = described(
        "pairs",
        "one item of a batch: a positive and a normal image, or two positive ones",
        key="DATASETS.BATCHES",
    )
    unboxed_views: UnboxedViews = described(
        "exclude",
        "views without boxes of patients who have cancer: left out, or normal as in the thesis",
        key="DATASETS.UNBOXED_VIEWS",
    )
    labels_per_item: int = described(
        0,
        "labelled images, or bags, that are added to each item of a batch; 0 leaves images with a "
        "label and no box out",
        key="DATASETS.LABELS_PER_ITEM",
        legal="[0, inf)",
    )
    label_bags: LabelBags = described(
        "image",
        "what a label is known of: one image, or a breast, whose views are then one bag",
        key="DATASETS.LABEL_BAGS",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        classes, targets = self.classes, self.target_classes
        if not classes or len(set(classes)) < len(classes):
            raise illegal("DATASETS.CLASSES", classes, "at least one class name, each once")
        if not targets or not set(targets) <= set(classes):
            raise illegal(
                "DATASETS.TARGET_CLASSES", targets, f"one or more of DATASETS.CLASSES {classes}"
            )


@dataclass(frozen=True)
class ReplaySettings(Described):
    """Hard-normal replay: normal images on which the model fires are drawn more often."""

    fraction: float = described(
        0.0,
        "share of the pairs whose normal image is one of the hard ones; 0 for none, and with 1 no "
        "other normal image would be seen again",
        key="DATASETS.REPLAY.FRACTION",
        legal="[0, 1)",
    )
    hard_share: float = described(
        0.25,
        "which share of the normal images seen is hard, by the model's highest score there",
        key="DATASETS.REPLAY.HARD_SHARE",
        legal="(0, 1]",
    )
    period: int = described(
        50,
        "steps after which the normal images are ranked again",
        key="DATASETS.REPLAY.PERIOD",
        legal="[1, inf)",
    )


@dataclass(frozen=True)
class TopLikelihoodSettings(Described):
    """Top likelihood loss of normal images in the RPN (thesis eq. 5.1-5.2)."""

    weight: float = described(
        1.0,
        "lambda2, the weight of the loss",
        key="MODEL.SIMFRCNN.TOP_LIKELIHOOD.WEIGHT",
        legal="[0, inf)",
    )
    top_k: int = described(
        256,
        "the anchors of a normal image that are trained, by falling objectness",
        key="MODEL.SIMFRCNN.TOP_LIKELIHOOD.TOP_K",
        legal="[1, inf)",
    )


@dataclass(frozen=True)
class SimilaritySettings(Described):
    """Similarity loss between positive and normal regions in the ROI head (thesis eq. 5.3-5.6)."""

    kind: SimilarityKind = described("cosine", "which loss", key="MODEL.SIMFRCNN.SIMILARITY.LOSS")
    weight: float = described(
        1.0,
        "lambda4, the weight of the loss",
        key="MODEL.SIMFRCNN.SIMILARITY.WEIGHT",
        legal="[0, inf)",
    )
    margin: float = described(
        0.0,
        "for cosine: the similarity that costs nothing",
        key="MODEL.SIMFRCNN.SIMILARITY.MARGIN",
        legal="a cosine in [-1, 1)",
    )
    partners: Partners = described(
        "suspected",
        "proposals of the normal partner: those of highest objectness, of highest malignant score, "
        "random ones, or every foreground region with every proposal",
        key="MODEL.SIMFRCNN.SIMILARITY.PARTNERS",
    )
    distance_margin: float = described(
        1.0,
        "for contrastive: the distance that regions of two kinds should keep",
        key="MODEL.SIMFRCNN.SIMILARITY.DISTANCE_MARGIN",
        legal="(0, inf)",
    )
    normalise_vectors: bool = described(
        True,
        "for contrastive: vectors are divided by their length",
        key="MODEL.SIMFRCNN.SIMILARITY.NORMALISE_VECTORS",
    )
    same_kind_pairs: bool = described(
        False,
        "for contrastive: regions of one kind of two pairs are drawn together",
        key="MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS",
    )


@dataclass(frozen=True)
class MethodSettings(Described):
    """Everything in which simFaster R-CNN differs from Faster R-CNN."""

    rpn_normals: RpnNormals = described(
        "top_likelihood",
        "loss of normal images in the RPN; ordinary is the baseline",
        key="MODEL.SIMFRCNN.RPN_NORMALS",
    )
    top_likelihood: TopLikelihoodSettings = TopLikelihoodSettings()
    similarity: SimilaritySettings = SimilaritySettings()
    roi_normal_sampling: RoiNormalSampling = described(
        "top",
        "ROI batch of a normal image: its most likely proposals, or random ones as libraries do",
        key="MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING",
    )


@dataclass(frozen=True)
class PseudoSettings(Described):
    """Which detections become pseudo-boxes (weakFaster R-CNN, or self-training)."""

    score_threshold: float = described(
        0.8,
        "smallest score of a pseudo-box",
        key="PSEUDO.SCORE_THRESHOLD",
        option="--score-threshold",
        legal="a score in (0, 1]",
        metavar="S",
        steps=("pseudo",),
    )
    nms_threshold: float = described(
        0.3,
        "detections whose IoU is higher are one",
        key="PSEUDO.NMS_THRESHOLD",
        option="--nms-threshold",
        legal="an IoU in [0, 1]",
        metavar="IOU",
        steps=("pseudo",),
    )
    keep_unlabelled: bool = described(
        False,
        "keep the images that have neither a target box nor a pseudo-box in the new file",
        key="PSEUDO.KEEP_UNLABELLED",
        option="--keep-unlabelled",
        steps=("pseudo",),
    )
    of: PseudoOf = described(
        "suspected",
        "what becomes a pseudo-box: what is wrongly found on normal images, or the best detection "
        "of images with a label and no box (self-training)",
        key="PSEUDO.OF",
        option="--of",
        steps=("pseudo",),
    )
    fraction: float = described(
        0.5,
        "of labels: which share of the images of each class whose best detection is of that class "
        "get it as a box, by falling score",
        key="PSEUDO.FRACTION",
        option="--fraction",
        legal="[0, 1]",
        metavar="F",
        steps=("pseudo",),
    )
    include_unknown: bool = described(
        False,
        "also label views without boxes of patients who have a cancer, as the source did; stage 2 "
        "takes them with DATASETS.UNBOXED_VIEWS normal",
        option="--include-unknown",
        steps=("pseudo",),
    )


CONFIGURED: tuple[type, ...] = (
    MethodSettings,
    TopLikelihoodSettings,
    SimilaritySettings,
    GradingSettings,
    SecondLookSettings,
    LabelSettings,
    TeacherSettings,
    ClassifierSettings,
    InputSettings,
    WindowedInputSettings,
    AugmentationSettings,
    DataSettings,
    ReplaySettings,
    PseudoSettings,
    EvaluationSettings,
)
"""The settings that come from a config."""
