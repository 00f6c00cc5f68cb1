"""Which flips does a training sample get?"""

from __future__ import annotations

import numpy as np

from simfrcnn.settings import AugmentationSettings


def draw_flips(settings: AugmentationSettings, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether to flip horizontally and vertically: always two draws, so streams stay aligned."""
    horizontal, vertical = rng.random(2)
    return bool(horizontal < settings.horizontal_flip), bool(vertical < settings.vertical_flip)
