"""Which normal images come again, because the model fires on them?

A training is divided into windows of so many steps. In every window a share of the items take
their normal image from the *hard* ones: those of a ranking by how hard the model fired when it
last saw each normal image. The ranking of a window is published one whole window before, so that
loading processes, which work ahead, find it whenever they look; what an item holds stays a
function of (seed, item number, published rankings), however many processes load or train.

Shapes: N images of a batch, R sampled regions of a batch, C = 1 + K classes with background first,
M normal images of the training set.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from simfrcnn.errors import CheckpointError, ConfigError
from simfrcnn.records import ImageRecord
from simfrcnn.sampling.proposals import target_scores
from simfrcnn.settings import ReplaySettings
from simfrcnn.structures import Sample

FEWEST_SEEN = 100
"""Normal images that must have been seen before some are called hard; of fewer, all."""

Sighting = tuple[int, float, int]
"""Step, firing score, place of the image among the normal ones."""
Gather = Callable[[list[Sighting]], list[Sighting]]
"""Joins the sightings of all processes, in every process."""

logger = logging.getLogger(__name__)


@torch.no_grad()
def firing_scores(
    class_logits: Tensor, image_index: Tensor, *, n_images: int, target_labels: Sequence[int]
) -> Tensor:
    """How hard the model fires on each image: the highest target score of its sampled regions.

    Args:
        class_logits: (R, C) classification logits.
        image_index: (R,) int64, the image of each region, 0-based in the batch.
        n_images: N.
        target_labels: Labels in 1..K of the target classes.

    Returns:
        (N,) float32 in [0, 1] without gradient, 0 for an image without a region.
    """
    scores = target_scores(class_logits, target_labels)
    highest: Tensor = scores.new_zeros(n_images).scatter_reduce(0, image_index, scores, "amax")
    return highest


def rank_hard(scores: Tensor, *, hard_share: float, fewest_seen: int) -> Tensor:
    """The normal images that are hard, hardest first.

    Args:
        scores: (M,) firing score of each image, NaN where it has not been seen.
        hard_share: Which part of those seen are hard, rounded up.
        fewest_seen: With fewer seen none is hard.

    Returns:
        Their places, int64; of equal scores the earlier place comes first.
    """
    seen = torch.nonzero(~scores.isnan()).flatten()
    n_hard = 0
    if len(seen) >= fewest_seen:
        n_hard = max(1, math.ceil(hard_share * len(seen) - 1e-9))  # .55 of 100 is 55
    order = torch.argsort(scores[seen], descending=True, stable=True)
    return seen[order[:n_hard]]


class NormalReplay:
    """What is remembered of the normal images, and which items take a hard one.

    Window w is the steps w * period ... (w + 1) * period - 1. When it ends, the ranking for window
    w + 2 is published: windows 0 and 1 are drawn ordinarily. The published rankings lie in memory
    that loading processes share.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        *,
        normals: Sequence[ImageRecord],
        classes: tuple[str, ...],
        seed: int,
        items_per_step: int,
    ) -> None:
        """Nothing is remembered yet.

        Args:
            settings: Fraction, share of hard ones, period.
            normals: The M normal images, in the order of the draw.
            classes: Trained classes; an image with boxes of these is trained as an ordinary boxed
                one, and is neither remembered nor replayed.
            seed: Of the draw.
            items_per_step: Items of a step, all processes together.

        Raises:
            ConfigError: Every normal image carries boxes.
        """
        self._places = {
            record.path: place
            for place, record in enumerate(normals)
            if not record.findings_of(classes)
        }
        if not self._places:
            raise ConfigError(
                f"DATASETS.REPLAY.FRACTION is {settings.fraction}, but each of the {len(normals)} "
                f"normal images carries boxes of DATASETS.CLASSES {classes}, and only images "
                "without boxes are replayed; legal here is 0"
            )
        self._settings = settings
        self._seed = seed
        self._items_per_window = items_per_step * settings.period
        self._pending: list[tuple[int, list[tuple[int, int]], Tensor]] = []
        self._scores = torch.full((len(normals),), math.nan)
        # By the parity of the window: how many are hard, and their places.
        self._published = torch.zeros(2, 1 + len(normals), dtype=torch.int64)
        self._published.share_memory_()  # type: ignore[no-untyped-call]

    def replacement(self, number: int) -> int | None:
        """The hard normal image that an item takes, as its place; None leaves the ordinary one."""
        hard = self.hard_in(number // self._items_per_window)
        # Text seeds are hashed with SHA-512: the same draw on every platform and Python version.
        draw = random.Random(f"{self._seed}/replay/{number}")
        if draw.random() >= self._settings.fraction or not len(hard):
            return None
        return int(hard[int(draw.random() * len(hard))])

    def hard_in(self, window: int) -> Tensor:
        """The places that are hard in a window, hardest first, as far as it is published."""
        slot = self._published[window % 2]
        return slot[1 : 1 + int(slot[0])]

    def after_step(
        self, step: int, samples: Sequence[Sample], scores: Tensor, gather: Gather
    ) -> dict[str, float]:
        """Remember how hard the model fired; at the end of a window, publish a ranking.

        Every process must call it after every step.

        Args:
            step: The step that is done, counted from 0.
            samples: The images of this process, N of which something is known.
            scores: (N,) of :func:`firing_scores`.
            gather: Joins what all processes saw.

        Returns:
            At the end of a window figures for the log, by name; else nothing.
        """
        places = [
            (index, self._places[sample.record.path])
            for index, sample in enumerate(s for s in samples if not s.is_unknown)
            if sample.targets is not None and sample.targets.is_normal
        ]
        self._pending.append((step, places, scores.detach()))
        ended, rest = divmod(step + 1, self._settings.period)
        if rest:
            return {}
        self.merge(gather)
        replayed = self._share_replayed(ended - 1)
        hard = self._publish(ended + 1)
        seen = self._scores[~self._scores.isnan()]
        figures = {"replay/replayed": replayed}
        if len(hard):
            figures["replay/hard_score"] = float(self._scores[hard].mean())
            figures["replay/mean_score"] = float(seen.mean())
        return figures

    def merge(self, gather: Gather) -> None:
        """Take what all processes have seen into the memory; the latest sighting of each wins.

        Of two in one step it is the higher score. Every process must call it, and before a
        checkpoint is written to go on from.
        """
        own: list[Sighting] = []
        for step, places, scores in self._pending:
            values = scores.tolist()
            own += [(step, values[index], place) for index, place in places]
        self._pending.clear()
        for _, score, place in sorted(gather(own)):
            self._scores[place] = score

    def state_dict(self) -> dict[str, Any]:
        """The memory and the published rankings, as of the last :meth:`merge`."""
        return {
            "period": self._settings.period,
            "scores": self._scores.clone(),
            "published": self._published.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, source: str) -> None:
        """Go on with the memory of a checkpoint.

        One without a memory, from before replay was switched on, leaves this one empty: draws are
        ordinary until enough has been seen. With another period the scores are kept and the
        rankings, which belong to other windows, dropped.

        Args:
            state: Of :meth:`state_dict`, or empty.
            source: The checkpoint, for messages.

        Raises:
            CheckpointError: It remembers another number of normal images.
        """
        if not state:
            logger.warning(
                "%s remembers no normal images: draws are ordinary for the next windows", source
            )
            return
        if state["scores"].shape != self._scores.shape:
            raise CheckpointError(
                f"{source} remembers {len(state['scores'])} normal images, the training sets now "
                f"have {len(self._scores)}; was DATASETS changed? A training on other data starts "
                "over, with MODEL.WEIGHTS set to that file"
            )
        self._scores.copy_(state["scores"])
        if state["period"] == self._settings.period:
            self._published.copy_(state["published"])

    def _publish(self, window: int) -> Tensor:
        hard = rank_hard(
            self._scores,
            hard_share=self._settings.hard_share,
            fewest_seen=min(FEWEST_SEEN, len(self._places)),
        )
        slot = self._published[window % 2]
        slot[1 : 1 + len(hard)] = hard
        slot[0] = len(hard)
        return hard

    def _share_replayed(self, window: int) -> float:
        first = window * self._items_per_window
        numbers = range(first, first + self._items_per_window)
        return sum(self.replacement(number) is not None for number in numbers) / len(numbers)
