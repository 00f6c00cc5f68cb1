"""Settings of how normal images are graded, described as those of :mod:`simfrcnn.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from simfrcnn.described import Described, described


@dataclass(frozen=True)
class GradingSettings(Described):
    """Whether a normal image that is known to show something benign teaches more than a clear one.

    That is the case a detector errs on: what is not malignant, and looks like it.
    """

    benign_weight: float = described(
        1.0,
        "weight of a normal image with a benign finding, or of a benign breast, in the top "
        "likelihood loss and the second look; a clear one has 1",
        key="MODEL.SIMFRCNN.BENIGN_WEIGHT",
        legal="(0, inf)",
    )
