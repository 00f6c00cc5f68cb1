"""How well is each of several labels told, and all of them on average?

For test sets whose images state by ``labels`` what they show, judged on two or more target classes.
Every image has a score for each class: that of its highest detection of it, 0 without one. An image
of which it is not known whether it shows a class takes no part in that class.

A mean over fewer classes, or over others, is another quantity: classes that cannot be judged are
named, and models that know other classes are not compared by it. Fifteen labels, the last being
"none of the fourteen", are not fourteen.

Shapes: N images, K classes, P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.bootstrap import Statistic
from simfrcnn.evaluation.delong import auc_interval
from simfrcnn.evaluation.results import NAN
from simfrcnn.evaluation.roc import auc_function
from simfrcnn.image_labels import presence_of
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import counted

MEAN = "labels/auc"
"""The key of the mean."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class LabelScores:
    """What is known and what was said of each image and class.

    ``patients`` (N,) number them from 0; ``scores`` (N, K); ``present`` (N, K) is 1 where an image
    shows the class, 0 where it does not, NaN where that is not known.
    """

    classes: tuple[str, ...]
    patients: IntArray
    scores: FloatArray
    present: FloatArray

    @property
    def judged(self) -> tuple[str, ...]:
        """The classes of which there are images that show them and others that do not."""
        return tuple(name for name in self.classes if not self.why_not(name))

    def n_of(self, name: str) -> dict[str, int]:
        """How many images show a class, and how many do not."""
        column = self.present[:, self.classes.index(name)]
        return {"positive": int((column == 1).sum()), "normal": int((column == 0).sum())}

    def why_not(self, name: str) -> str:
        """Why a class cannot be judged; nothing where it can."""
        n = self.n_of(name)
        if n["positive"] and n["normal"]:
            return ""
        return (
            f"needs an image that shows {name} and one that does not; there are {n['positive']} "
            f"and {n['normal']}"
        )

    def known(self, name: str) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
        """Patients, scores and truth of the images of which the truth is known."""
        place = self.classes.index(name)
        is_known = ~np.isnan(self.present[:, place])
        truth = self.present[is_known, place] == 1
        return self.patients[is_known], self.scores[is_known, place], truth


def is_multilabel(records: Sequence[ImageRecord], settings: EvaluationSettings) -> bool:
    """Whether there are several targets, and images that state what they show."""
    return len(settings.target_classes) > 1 and any(record.labels for record in records)


def label_scores(
    records: Sequence[ImageRecord],
    detections: Mapping[int, ImageDetections],
    settings: EvaluationSettings,
) -> LabelScores:
    """Join records and detections, by image id."""
    ordered = sorted(records, key=lambda record: record.image_id)
    patient_ids = sorted({record.patient_id for record in records})
    numbers = {patient_id: number for number, patient_id in enumerate(patient_ids)}
    targets = settings.target_classes
    return LabelScores(
        classes=targets,
        patients=np.array([numbers[record.patient_id] for record in ordered], dtype=np.intp),
        scores=np.array([_highest(detections[r.image_id], targets) for r in ordered]),
        present=np.array([presence_of(record, targets, targets) for record in ordered]),
    )


def label_statistics(labels: LabelScores) -> Iterator[Statistic]:
    """The AUC of each class, then their mean over the classes that can be judged.

    Intervals of one class are those of an AUC by image (DeLong, or Obuchowski where patients have
    several images); that of the mean comes from resampling patients, by which classes that occur in
    the same patients stay together.
    """
    for name in labels.classes:
        key = f"label/{name}/auc"
        known = labels.known(name)
        compute = auc_function(*known)
        yield Statistic(
            keys=(key,),
            compute=partial(_column, compute),
            n={key: labels.n_of(name)},
            why_undefined={key: labels.why_not(name)},
            intervals={key: partial(auc_interval, *known)},
        )
    judged = [auc_function(*labels.known(name)) for name in labels.judged]
    yield Statistic(
        keys=(MEAN,),
        compute=lambda weights: (
            np.stack([compute(weights) for compute in judged], axis=1).mean(axis=1, keepdims=True)
            if judged
            else np.full((len(weights), 1), NAN)
        ),
        n={MEAN: {"classes": len(judged)}},
        why_undefined={MEAN: "needs a class that some images show and others do not"},
    )


def notes_on_labels(labels: LabelScores) -> Iterator[str]:
    """Which classes the mean leaves out."""
    left_out = [name for name in labels.classes if name not in labels.judged]
    if left_out:
        yield (
            f"The mean AUC is over {counted(len(labels.judged), '[class|classes]')} of "
            f"{len(labels.classes)}; left out, as no image shows them or all do: "
            f"{', '.join(left_out)}. It is not to be compared with a mean over all of them."
        )


def require_same_labels(files: Mapping[str, DetectionFile]) -> None:
    """Refuse models that know other classes: means over other labels are other quantities.

    Args:
        files: Detections by the name of their model.

    Raises:
        ArtifactError: Names the models, and the classes that one of them lacks.
    """
    known = {name: set(found.categories.values()) for name, found in files.items()}
    first = next(iter(known))
    for name, classes in known.items():
        if classes == known[first]:
            continue
        more, less = sorted(classes - known[first]), sorted(known[first] - classes)
        parts = [f"{name} alone knows {', '.join(more)}"] if more else []
        parts += [f"{first} alone knows {', '.join(less)}"] if less else []
        raise ArtifactError(
            f"{first} says of {counted(len(known[first]), '[label|labels]')}, {name} of "
            f"{counted(len(classes), '[label|labels]')} ({'; '.join(parts)}): models that were "
            "trained on other labels are not compared by them (a complement such as 'No Finding' "
            "is no label of its own). Judge each by itself with --target-classes, or train both on "
            "the same"
        )


def _highest(found: ImageDetections, classes: Sequence[str]) -> list[float]:
    best = dict.fromkeys(classes, 0.0)
    for name, score in zip(found.categories, found.scores, strict=True):
        if name in best:
            best[name] = max(best[name], float(score))
    return [best[name] for name in classes]


def _column(compute: Callable[[FloatArray], FloatArray], weights: FloatArray) -> FloatArray:
    return compute(weights)[:, None]
