"""How much does the loss of a labelled image weigh, at which step?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simfrcnn import config
from simfrcnn.data.selection import Bag
from simfrcnn.errors import ConfigError
from simfrcnn.label_settings import LabelSettings
from simfrcnn.training.schedules import rising


@dataclass(frozen=True)
class LabelWeights:
    """The weight of a label (1..K) in an item: a pure function of the item's number.

    So a resumed run, a second process and somebody's own training loop see the same weights.
    """

    settings: LabelSettings
    of_class: Mapping[int, float]
    items_per_step: int

    @classmethod
    def of(cls, cfg: Any, bags: Sequence[Bag]) -> LabelWeights:
        """Those of a config and of the bags that it trains.

        Raises:
            ConfigError: A rule or a weighting that would change nothing with these bags.
        """
        settings = config.label_settings(cfg)
        counts = Counter(bag.label for bag in bags)
        _require_effect(settings, counts, config.data_settings(cfg))
        weights = dict.fromkeys(counts, 1.0)
        if settings.class_weights == "balanced":
            weights = {label: len(bags) / (len(counts) * count) for label, count in counts.items()}
        return cls(settings, weights, config.items_per_step(cfg))

    def weight(self, number: int, label: int) -> float:
        """Of a bag with that label in item ``number``."""
        alpha = rising(
            number // self.items_per_step,
            start=self.settings.start,
            decay=self.settings.decay,
            period=self.settings.period,
        )
        return self.settings.weight * alpha * self.of_class[label]


def _require_effect(settings: LabelSettings, counts: Mapping[int, int], data: Any) -> None:
    names = [data.classes[label - 1] for label in sorted(counts)]
    if settings.class_weights == "balanced" and len(counts) == 1:
        raise ConfigError(
            f"MODEL.SIMFRCNN.LABELS.CLASS_WEIGHTS is balanced, but all labelled images are "
            f"{names[0]}: it changes nothing; legal here is none"
        )
    if settings.region != "target" and set(names) <= set(data.target_classes):
        raise ConfigError(
            f"MODEL.SIMFRCNN.LABELS.REGION is {settings.region}, but all labelled images are of "
            f"target classes ({', '.join(names)}), of which the region of the highest target score "
            "is always taken: it changes nothing; legal here is target"
        )
