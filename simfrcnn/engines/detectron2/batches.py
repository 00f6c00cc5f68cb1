"""Which batch has a step, and where between two steps may a training stop?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectron2.utils import comm

from simfrcnn.engines.common.stopping import Interruption, attempt
from simfrcnn.engines.detectron2.data import to_dicts
from simfrcnn.training import recipe


class SeededBatches:
    """The batches of a training from a given step on.

    All generators are seeded between the loading of a batch and its use, so that what a step draws
    depends on (seed, step, rank) alone. Here, between two steps, the processes also agree to stop.
    """

    def __init__(self, cfg: Any) -> None:
        """Read the training sets; no image is loaded yet."""
        self._cfg = cfg
        self._items = recipe.training_items(cfg)
        self.replay = self._items.replay
        self.batch: list[dict[str, Any]] = []
        """The batch of the current step."""
        self.interruption = Interruption()
        self.is_step_judged = True
        """Whether the other processes know if this one has losses for its batch."""
        self.start_at(0)

    def start_at(self, step: int) -> None:
        """Go on with the batch of ``step``, for resuming; call it before the first batch."""
        self._start_step = step
        self._loader = recipe.training_loader(
            self._cfg,
            start_step=step,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            convert=to_dicts,
            items=self._items,
        )

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        batches = iter(self._loader)
        for step in range(self._start_step, self._cfg.SOLVER.MAX_ITER):
            self.batch = attempt(lambda: next(batches), step=step, interruption=self.interruption)
            recipe.seed_step(self._cfg.SEED, step, comm.get_rank())
            self.is_step_judged = False
            yield self.batch
