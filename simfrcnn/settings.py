"""Typed, frozen settings that the core takes; `simfrcnn.config.loading` makes them from a config.

The core never sees a config node: each function names what it needs by one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RpnNormals = Literal["top_likelihood", "ordinary", "none"]
SimilarityKind = Literal["cosine", "contrastive", "none"]
Partners = Literal["suspected", "hardest", "random", "all"]
RoiNormalSampling = Literal["top", "random"]
BatchKind = Literal["pairs", "positives"]
UnboxedViews = Literal["exclude", "normal"]
UnknownImages = Literal["exclude", "normal"]
Pooling = Literal["max", "mean", "noisy_or"]
CaseBy = Literal["exam", "patient"]
BoxesOutside = Literal["refuse", "clip"]


@dataclass(frozen=True)
class InputSettings:
    """How a stored image becomes the network's input.

    ``size_px`` is (height, width). ``crop_to_breast`` cuts the largest connected bright region;
    ``keep_aspect`` resizes by one factor and pads right and below with 0, else the image is
    stretched.
    """

    size_px: tuple[int, int] = (512, 512)
    crop_to_breast: bool = True
    keep_aspect: bool = True


@dataclass(frozen=True)
class AugmentationSettings:
    """Probabilities of the two flips of the thesis."""

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5


@dataclass(frozen=True)
class DataSettings:
    """Which boxes are trained, which classes are the target, and what enters training.

    ``classes`` are the K foreground classes in order (label i + 1 is ``classes[i]``);
    ``target_classes`` decide which images are positive and what is evaluated.
    """

    classes: tuple[str, ...] = ("malignant",)
    target_classes: tuple[str, ...] = ("malignant",)
    batch_kind: BatchKind = "pairs"
    unboxed_views: UnboxedViews = "exclude"


@dataclass(frozen=True)
class ReplaySettings:
    """Hard-normal replay: normal images on which the model fires are drawn more often.

    ``fraction`` of the pairs take their normal image from the ``hard_share`` of those seen on
    which the model fired most; the ranking is renewed every ``period`` steps.
    """

    fraction: float = 0.0
    hard_share: float = 0.25
    period: int = 50


@dataclass(frozen=True)
class TopLikelihoodSettings:
    """Top likelihood loss of normal images in the RPN (thesis eq. 5.1-5.2)."""

    weight: float = 1.0
    top_k: int = 256


@dataclass(frozen=True)
class SimilaritySettings:
    """Similarity loss between positive and normal regions in the ROI head (thesis eq. 5.3-5.6).

    ``margin`` is a cosine, for ``cosine``; the last three are for ``contrastive``.
    """

    kind: SimilarityKind = "cosine"
    weight: float = 1.0
    margin: float = 0.0
    partners: Partners = "suspected"
    distance_margin: float = 1.0
    normalise_vectors: bool = True
    same_kind_pairs: bool = False


@dataclass(frozen=True)
class MethodSettings:
    """Everything in which simFaster R-CNN differs from Faster R-CNN."""

    rpn_normals: RpnNormals = "top_likelihood"
    top_likelihood: TopLikelihoodSettings = TopLikelihoodSettings()
    similarity: SimilaritySettings = SimilaritySettings()
    roi_normal_sampling: RoiNormalSampling = "top"


@dataclass(frozen=True)
class PseudoSettings:
    """Which detections of normal images become pseudo-boxes (weakFaster R-CNN).

    ``keep_unlabelled`` keeps the images that have no box in the new file; ``include_unknown`` also
    labels unboxed views of patients who have a cancer, as the thesis does.
    """

    score_threshold: float = 0.8
    nms_threshold: float = 0.3
    keep_unlabelled: bool = False
    include_unknown: bool = False


@dataclass(frozen=True)
class EvaluationSettings:
    """The rules that change a number of the report; each is written into it."""

    target_classes: tuple[str, ...] = ("malignant",)
    score_threshold: float = 0.5
    iou_threshold: float = 0.5
    pooling: Pooling = "max"
    case_by: CaseBy = "exam"
    unknown_images: UnknownImages = "exclude"
    count_repeats_as_false_positives: bool = False
    ignored_classes: tuple[str, ...] = ()
    """Boxes of these classes are neither to be found nor wrong to find."""
    boxes_outside: BoxesOutside = "refuse"
    prevalence: float | None = None
    """Of cancer among cases where the model is to be used; None gives no predictive values."""
    operating_sensitivity: float = 0.9
    """Wanted of the operating point that is chosen on the validation set by sensitivity."""
    operating_specificity: float = 0.9
    subgroups: tuple[str, ...] = ()
    """Keys of records, with edges where they are numbers: ``density``, ``age:50,70``."""
    bootstrap_replicates: int = 2000
    bootstrap_seed: int = 0
