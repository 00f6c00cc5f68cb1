"""How do a second opinion and the patient's facts change a detector's scores?

The boxes of the first model stay. Of each that is of a target class the score s becomes s':

    logit s' = a0 + a1 logit s + sum over further models b of a_b logit p_b + beta . x

p_b is the image's score by model b, x the facts of the patient (:mod:`simfrcnn.combining.facts`).
The weights are those of a logistic regression with an L2 penalty on the images of the validation
set, in which s is the image's highest score. The penalty is chosen by the log loss on patients that
were left out. Source: stacking, Wolpert 1992 (Neural Networks 5, 241-259).

Shapes: N images, M further models, F columns of facts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.combining.facts import FactEncoding, encoding_of
from simfrcnn.errors import ArtifactError, DataError
from simfrcnn.evaluation.truth import Truth, image_truth
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import counted

FloatArray = NDArray[np.float64]

NO_DETECTION = 1e-3
"""What a further model's image score counts as where it found nothing: the lowest score that
detectors here usually keep."""
_EDGE = 1e-6
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""scikit-learn's C, from much shrinkage to little."""
_FOLDS = 5
_FEWEST = 2


@dataclass(frozen=True)
class Combination:
    """A fitted rescoring: what :func:`fit` gives and :func:`rescore` applies.

    Attributes:
        intercept: a0.
        own: a1, the weight of the first model's own logit.
        others: (M,) weights of the further models' image logits.
        facts: How attributes become columns.
        fact_weights: (F,) beta, in the order of the columns.
        target_classes: Whose scores change, and make an image positive.
        inverse_penalty: scikit-learn's C; the larger, the less the weights shrink.
        counts: Of the fit: images, positive ones, patients, and those that are left out.
    """

    intercept: float
    own: float
    others: tuple[float, ...]
    facts: tuple[FactEncoding, ...]
    fact_weights: tuple[float, ...]
    target_classes: tuple[str, ...]
    inverse_penalty: float
    counts: Mapping[str, int]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of facts."""
        return tuple(column for fact in self.facts for column in fact.columns)

    def to_json(self) -> dict[str, Any]:
        """The combination in JSON types."""
        facts = [fact.to_json() for fact in self.facts]
        weights = dict(zip(self.columns, self.fact_weights, strict=True))
        return {**dataclasses.asdict(self), "facts": facts, "fact_weights": weights}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Combination:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is damaged.
        """
        facts = tuple(FactEncoding.from_json(fact) for fact in content["facts"])
        columns = [column for fact in facts for column in fact.columns]
        made = Combination(
            intercept=float(content["intercept"]),
            own=float(content["own"]),
            others=tuple(map(float, content["others"])),
            facts=facts,
            fact_weights=tuple(float(content["fact_weights"][column]) for column in columns),
            target_classes=tuple(map(str, content["target_classes"])),
            inverse_penalty=float(content["inverse_penalty"]),
            counts={str(key): int(value) for key, value in content["counts"].items()},
        )
        numbers = (made.intercept, made.own, *made.others, *made.fact_weights)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a weight is not a finite number")
        return made


def fit(
    records: Sequence[ImageRecord],
    inputs: Sequence[DetectionFile],
    *,
    attributes: Sequence[str] = (),
    target_classes: tuple[str, ...] = ("malignant",),
) -> Combination:
    """Fit the weights on a validation set.

    An image of unknown truth takes no part, and neither does one in which the first model found
    nothing, since it has no score to change; both are counted. The prevalence of the set goes into
    a0: rescored scores are probabilities for a set with as many positives.

    Args:
        records: The images of the validation set.
        inputs: What each model found in them; the boxes of the first one are rescored.
        attributes: Names of facts of the patient.
        target_classes: What makes an image positive.

    Raises:
        DataError: Fewer than two patients with a positive image, or with a normal one; an attribute
            that no image states.
    """
    settings = EvaluationSettings(target_classes=target_classes)
    truths = [image_truth(record, settings) for record in records]
    scores = [_image_scores(records, found, target_classes) for found in inputs]
    is_known = np.array([truth is not Truth.UNKNOWN for truth in truths])
    is_used = is_known & (scores[0] > 0)
    used = [record for record, is_one in zip(records, is_used, strict=True) if is_one]
    positive = np.array([truth is Truth.POSITIVE for truth in truths])[is_used]
    patients = np.array([record.patient_id for record in used])
    _require_both(positive, patients)
    facts = tuple(encoding_of(name, used) for name in attributes)
    rows = _design([each[is_used] for each in scores], facts, used)
    strength = _chosen_strength(rows, positive, patients)
    intercept, weights = _regression(rows, positive, strength)
    n_inputs = len(inputs)
    return Combination(
        intercept=intercept,
        own=float(weights[0]),
        others=tuple(map(float, weights[1:n_inputs])),
        facts=facts,
        fact_weights=tuple(map(float, weights[n_inputs:])),
        target_classes=target_classes,
        inverse_penalty=strength,
        counts={
            "images": len(used),
            "positive_images": int(positive.sum()),
            "patients": len(set(patients)),
            "images_of_unknown_truth": int((~is_known).sum()),
            "images_without_detection": int((is_known & ~is_used).sum()),
        },
    )


def rescore(
    combination: Combination, records: Sequence[ImageRecord], inputs: Sequence[DetectionFile]
) -> list[ImageDetections]:
    """The first model's detections with the scores of a combination, in the order of ``records``.

    Detections of other classes keep their scores. The two scores of a second look are left out,
    since they no longer make the score.

    Raises:
        ArtifactError: Another number of models than the combination was fitted with.
        DataError: A fact that is no number where it was one.
    """
    n_fitted = 1 + len(combination.others)
    if len(inputs) != n_fitted:
        raise ArtifactError(
            f"the combination was fitted with {n_fitted} lists of detections, and {len(inputs)} "
            "are given; give those of the same models in the same order"
        )
    targets = combination.target_classes
    others = [_image_scores(records, found, targets) for found in inputs[1:]]
    shift = combination.intercept + _design(others, combination.facts, records) @ np.array(
        [*combination.others, *combination.fact_weights]
    )
    return [
        _rescored(inputs[0].images[record.image_id], combination.own, float(own_shift), targets)
        for record, own_shift in zip(records, shift, strict=True)
    ]


def without_detection(
    records: Sequence[ImageRecord], inputs: Sequence[DetectionFile], targets: tuple[str, ...]
) -> list[int]:
    """(1 + M,) in how many images each model found nothing of a target class."""
    return [int((_image_scores(records, found, targets) == 0).sum()) for found in inputs]


def _rescored(
    found: ImageDetections, own: float, shift: float, targets: tuple[str, ...]
) -> ImageDetections:
    from scipy.special import expit

    is_target = np.array([name in targets for name in found.categories], dtype=bool)
    scores = np.where(is_target, expit(shift + own * _logit(found.scores)), found.scores)
    return dataclasses.replace(found, scores=scores, looks=None, squares=None)


def _image_scores(
    records: Sequence[ImageRecord], found: DetectionFile, targets: tuple[str, ...]
) -> FloatArray:
    """(N,) highest score of a target; 0 where there is none."""
    images = [found.images[record.image_id] for record in records]
    return np.array(
        [
            max((s for s, n in zip(i.scores, i.categories, strict=True) if n in targets), default=0)
            for i in images
        ],
        dtype=np.float64,
    )


def _design(
    scores: Sequence[FloatArray], facts: Sequence[FactEncoding], records: Sequence[ImageRecord]
) -> FloatArray:
    """(N, M + F): logits of image scores, then the facts."""
    logits = [_logit(np.where(each > 0, each, NO_DETECTION))[:, None] for each in scores]
    columns = [*logits, *(fact.encode(records) for fact in facts)]
    return np.concatenate([np.zeros((len(records), 0)), *columns], axis=1)


def _logit(scores: FloatArray) -> FloatArray:
    inside = scores.clip(_EDGE, 1 - _EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _require_both(positive: NDArray[np.bool_], patients: NDArray[Any]) -> None:
    for kind, is_one in (("positive", positive), ("normal", ~positive)):
        n = len(set(patients[is_one]))
        if n < _FEWEST:
            raise DataError(
                f"the validation set has {counted(n, '[patient|patients]')} with a {kind} image in "
                f"which the first model found anything; {_FEWEST} or more are needed to fit a "
                "combination"
            )


def _chosen_strength(
    rows: FloatArray, positive: NDArray[np.bool_], patients: NDArray[Any]
) -> float:
    """The C with the lowest log loss on patients that were left out; of equals the smallest."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(set(patients[is_one])) for is_one in (positive, ~positive))
    folds = StratifiedGroupKFold(n_splits=min(_FOLDS, fewest))
    # In an order of its own, so that no weight depends on the order of a file.
    order = np.lexsort((*rows.T, positive, patients))
    rows, positive, patients = rows[order], positive[order], patients[order]
    parts = [
        (train, test)
        for train, test in folds.split(rows, positive, patients)
        if len(set(positive[train])) == 2
    ]

    def loss(strength: float) -> float:
        losses = []
        for train, test in parts:
            intercept, weights = _regression(rows[train], positive[train], strength)
            chances = 1 / (1 + np.exp(-(intercept + rows[test] @ weights)))
            losses.append(log_loss(positive[test], chances, labels=[False, True], normalize=False))
        return float(np.sum(losses))

    return min(_STRENGTHS, key=loss)


def _regression(
    rows: FloatArray, positive: NDArray[np.bool_], strength: float
) -> tuple[float, FloatArray]:
    """Intercept and weights; the intercept is not shrunk."""
    from sklearn.linear_model import LogisticRegression

    order = np.lexsort((*rows.T, positive))
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10, max_iter=100)
    model.fit(rows[order], positive[order])
    return float(model.intercept_[0]), np.asarray(model.coef_[0])
