"""Settings of the whole-image classifier, described as those of :mod:`simfrcnn.settings` are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simfrcnn.described import Described, described

Pool = Literal["avg", "max", "lse", "top"]
Head = Literal["plain", "fpn", "psp", "multi_scale"]

SHARPNESS = 5.0
"""r of the pooling ``lse``, (1/r) log mean exp(r m): 0 is the mean, infinity the maximum."""


@dataclass(frozen=True)
class ClassifierSettings(Described):
    """How the class maps of an image are made, and become one logit a class.

    >>> ClassifierSettings(pool="max", smoothing=0.1).top_share
    0.05
    >>> ClassifierSettings(top_share=0)
    Traceback (most recent call last):
    simfrcnn.errors.ConfigError: MODEL.CLASSIFIER.TOP_SHARE is 0; legal is a number in (0, 1]
    """

    head: Head = described(
        "plain",
        "what makes class maps of the backbone's features: a 1x1 convolution alone, or after a "
        "feature pyramid, after pyramid pooling, or at two scales of the input",
        key="MODEL.CLASSIFIER.HEAD",
    )
    channels: int = described(
        256,
        "features of a cell in the heads fpn and psp",
        key="MODEL.CLASSIFIER.HEAD_CHANNELS",
        legal="[4, inf)",
    )
    pool: Pool = described(
        "top",
        "how a class map becomes one logit: its mean, its maximum, a soft maximum, or the mean of "
        "its highest cells",
        key="MODEL.CLASSIFIER.POOL",
    )
    top_share: float = described(
        0.05,
        "for top: the share of cells that count, at least one; a mass fills under 2% of a film",
        key="MODEL.CLASSIFIER.TOP_SHARE",
        legal="(0, 1]",
    )
    smoothing: float = described(
        0.0,
        "label smoothing e: a class that is there counts 1 - e/2, one that is not e/2",
        key="MODEL.CLASSIFIER.SMOOTHING",
        legal="[0, 0.5)",
    )
