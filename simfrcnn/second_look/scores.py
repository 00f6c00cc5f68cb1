"""How do the detector's score and that of the second look become one, and who gets a second look?

Shapes: D detections of an image by falling score, M of them looked at again (the first M),
C = 1 + K classes, background first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Found:
    """What the detector found in one image, by falling score.

    ``boxes`` (D, 4) in input pixels, ``scores`` (D,) in [0, 1], ``labels`` (D,) in 1..K.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Rescored:
    """The same detections after the second look, by falling score.

    ``order`` (D,) is where each stood before. ``squares`` (D, 4) are what was looked at, in input
    pixels and perhaps beyond the image. ``second_scores`` and ``squares`` are NaN where nobody
    looked.
    """

    order: Tensor
    scores: Tensor
    first_scores: Tensor
    second_scores: Tensor
    squares: Tensor


def combined(
    first_scores: Tensor,
    labels: Tensor,
    probabilities: Tensor,
    squares: Tensor,
    *,
    first_exponent: float,
) -> Rescored:
    """Both scores in one for the M detections that were looked at, a bound for the others.

    With p the first score of a detection, q the second look's probability of its class and a the
    exponent: p^a q where it looked, and p^a min(q) elsewhere, the minimum being over the M of this
    image. Since those have the highest p, no other can come before one of them; among the others
    the order stays.

    Args:
        first_scores: (D,) by falling score.
        labels: (D,) in 1..K.
        probabilities: (M, C) of the first M detections.
        squares: (M, 4) in input pixels, what was looked at.
        first_exponent: a, in (0, 1]: the less, the more the second look decides.
    """
    n_looked = len(probabilities)
    second = torch.full_like(first_scores, math.nan)
    probabilities = probabilities.to(
        first_scores.device
    )  # a classifier's detections are on the CPU
    looked = probabilities.gather(1, labels[:n_looked, None])[:, 0].to(first_scores)
    second[:n_looked] = looked
    lowest = looked.min() if n_looked else first_scores.new_ones(())
    scores = first_scores**first_exponent * torch.where(second.isnan(), lowest, second)
    order = torch.argsort(scores, descending=True, stable=True)
    seen = first_scores.new_full((len(first_scores), 4), math.nan)
    seen[:n_looked] = squares.to(first_scores)
    return Rescored(order, scores[order], first_scores[order], second[order], seen[order])
