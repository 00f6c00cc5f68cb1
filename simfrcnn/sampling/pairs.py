"""Which images make up batch item n?

An item is a pure function of (seed, item number): a run can be resumed, or spread over processes,
and still sees exactly the items of an uninterrupted single process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

from torch.utils.data import Sampler

from simfrcnn.errors import ConfigError


class ShuffledStream:
    """An endless stream of indices 0..n-1: shuffled, and reshuffled when it runs out.

    Element i is a pure function of (seed, name, i), whatever was asked before.
    """

    def __init__(self, n_items: int, seed: int, name: str) -> None:
        if n_items < 1:
            raise ValueError(f"the stream {name!r} needs at least one item")
        self.n_items = n_items
        self._seed = seed
        self._name = name

    def __getitem__(self, number: int) -> int:
        epoch, place = divmod(number, self.n_items)
        return _permutation(self.n_items, f"{self._seed}/{self._name}/{epoch}")[place]


@lru_cache(maxsize=4)  # two passes of two streams; not of a method, which no process could be sent
def _permutation(n_items: int, seed: str) -> list[int]:
    order = list(range(n_items))
    # Text seeds are hashed with SHA-512: the same order on every platform and Python version.
    random.Random(seed).shuffle(order)
    return order


class PairStream:
    """Item n = (index of a positive image, index of a normal image).

    Both lists are shuffled, and reshuffled when they run out, independently of each other: a normal
    image meets other positives in every pass.

    Reference:
        Zhu 2019, section 5.3.
    """

    def __init__(self, n_positives: int, n_normals: int, seed: int) -> None:
        self._positives = ShuffledStream(n_positives, seed, "positives")
        self._normals = ShuffledStream(n_normals, seed, "normals")

    def __getitem__(self, number: int) -> tuple[int, int]:
        return self._positives[number], self._normals[number]


class TwinStream:
    """Item n = two positive images: the same batch size for a detector that sees positives only."""

    def __init__(self, n_positives: int, seed: int) -> None:
        self._positives = ShuffledStream(n_positives, seed, "positives")

    def __getitem__(self, number: int) -> tuple[int, int]:
        return self._positives[2 * number], self._positives[2 * number + 1]


class ItemNumbers(Sampler[list[int]]):
    """The item numbers of each step on one rank.

    Step s takes the numbers s * P ... (s + 1) * P - 1, P items a step; every rank takes its own
    consecutive part of them, so that no item is split, lost or repeated.
    """

    def __init__(
        self, *, start_step: int, end_step: int, items_per_step: int, rank: int, world_size: int
    ) -> None:
        if items_per_step % world_size:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH is {2 * items_per_step}, that is {items_per_step} pairs a "
                f"step, which {world_size} processes cannot share equally; take a multiple of "
                f"{2 * world_size}"
            )
        self._steps = range(start_step, end_step)
        self._items_per_step = items_per_step
        self._items_per_rank = items_per_step // world_size
        self._rank = rank

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            first = step * self._items_per_step + self._rank * self._items_per_rank
            yield list(range(first, first + self._items_per_rank))

    def __len__(self) -> int:
        return len(self._steps)
