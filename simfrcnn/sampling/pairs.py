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


@lru_cache(maxsize=8)  # two passes of four streams; not of a method, which cannot be sent
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


class ItemStream:
    """Item n = two images (of a pair, or twins) and L labelled bags, as their places in the lists.

    The labelled place j of item n is element L n + j of a stream of its own: the other two are what
    they are without labelled ones.
    """

    def __init__(self, two: PairStream | TwinStream, *, n_bags: int, per_item: int, seed: int):
        """Add labelled bags to the items of a stream.

        Args:
            two: The first two images of each item.
            n_bags: How many bags there are.
            per_item: L; with 0 none are drawn.
            seed: Of the draw.
        """
        self._two = two
        self._per_item = per_item
        self._labelled = ShuffledStream(n_bags, seed, "labelled") if per_item else None

    def __getitem__(self, number: int) -> tuple[int, int, tuple[int, ...]]:
        first, second = self._two[number]
        if self._labelled is None:
            return first, second, ()
        return first, second, tuple(self._labelled[n] for n in self.draws_of(number))

    def draws_of(self, number: int) -> range:
        """Which draws from the bags item ``number`` takes; no two items share one."""
        return range(number * self._per_item, (number + 1) * self._per_item)


class ItemNumbers(Sampler[list[int]]):
    """The item numbers of each step on one rank.

    Step s takes the numbers s * P ... (s + 1) * P - 1, P items a step; every rank takes its own
    consecutive part of them, so that no item is split, lost or repeated.
    """

    def __init__(
        self,
        *,
        start_step: int,
        end_step: int,
        items_per_step: int,
        rank: int,
        world_size: int,
        images_per_item: int = 2,
    ) -> None:
        if items_per_step % world_size:
            what = "pairs" if images_per_item == 2 else f"items of {images_per_item} images"
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH is {images_per_item * items_per_step}, that is "
                f"{items_per_step} {what} a step, which {world_size} processes cannot share "
                f"equally; take a multiple of {images_per_item * world_size}"
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
