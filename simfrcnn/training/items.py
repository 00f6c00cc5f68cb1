"""What are the samples of an item of a batch?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from simfrcnn.data.selection import TrainingLists
from simfrcnn.records import ImageRecord
from simfrcnn.sampling.pairs import ItemStream, PairStream, ShuffledStream, TwinStream
from simfrcnn.sampling.replay import NormalReplay
from simfrcnn.settings import AugmentationSettings, DataSettings, InputSettings
from simfrcnn.structures import Sample
from simfrcnn.training.labelled import LabelWeights
from simfrcnn.training.loading import KnownLabel, load_sample


@dataclass(frozen=True)
class Place:
    """One image of an item, and by which label it trains, if by any; or that nothing is known."""

    record: ImageRecord
    known: KnownLabel | None = None
    is_unknown: bool = False


class TrainingItems(Dataset[list[Sample]]):
    """Item n: the samples of one pair (or of two positives), of its labelled bags, and of images of
    which nothing is known, augmented.

    A pure function of (seed, n) and, with a replay, of its published rankings. Items are what a
    loader fetches: a pair is never split, nor is a bag.
    """

    def __init__(
        self,
        lists: TrainingLists,
        *,
        seed: int,
        data: DataSettings,
        input_settings: InputSettings,
        augmentation: AugmentationSettings,
        replay: NormalReplay | None = None,
        native: bool = False,
        weights: LabelWeights | None = None,
        benign_weight: float = 1.0,
        whole_images: bool = False,
        unlabelled_per_item: int = 0,
    ) -> None:
        self._lists = lists
        self._seed = seed
        self._pairs = data.batch_kind == "pairs"
        self._classes = data.classes
        self._input_settings = input_settings
        self._augmentation = augmentation
        self._native = native
        self._weights = weights
        self._benign_weight = benign_weight
        self._target_classes = data.target_classes if whole_images else None
        self.tally = lists.tally
        """What the labels of the training sets come to."""
        self.replay = replay
        """Which items take a hard normal image; the trainer tells it how hard the model fired."""
        n_positives, n_normals = len(lists.positives), len(lists.normals)
        self._stream = ItemStream(
            PairStream(n_positives, n_normals, seed)
            if self._pairs
            else TwinStream(n_positives, seed),
            n_bags=len(lists.labelled),
            per_item=data.labels_per_item if weights else 0,
            seed=seed,
        )
        self._unlabelled_per_item = unlabelled_per_item
        # A stream of its own: the others are what they are without it.
        self._unknown = (
            ShuffledStream(len(lists.unknown), seed, "unlabelled") if unlabelled_per_item else None
        )

    def records_of(self, number: int) -> tuple[ImageRecord, ...]:
        """The images of item ``number``, without loading them: two, then the labelled ones, then
        those of which nothing is known.
        """
        return tuple(place.record for place in self._places_of(number))

    def __getitem__(self, number: int) -> list[Sample]:
        return [
            load_sample(
                place.record,
                input_settings=self._input_settings,
                classes=self._classes,
                training=True,
                augmentation=self._augmentation,
                rng=np.random.default_rng([self._seed, number, index]),
                native=self._native,
                known=place.known,
                benign_weight=self._benign_weight,
                target_classes=self._target_classes,
                is_unknown=place.is_unknown,
            )
            for index, place in enumerate(self._places_of(number))
        ]

    def _places_of(self, number: int) -> list[Place]:
        first, second, bags = self._stream[number]
        hard = self.replay.replacement(number) if self.replay else None
        second = second if hard is None else hard
        seconds = self._lists.normals if self._pairs else self._lists.positives
        places = [Place(self._lists.positives[first]), Place(seconds[second])]
        for draw, index in zip(self._stream.draws_of(number), bags, strict=True):
            bag = self._lists.labelled[index]
            assert self._weights is not None  # there are bags
            known = KnownLabel(bag.label, self._weights.weight(number, bag.label), draw)
            places += [Place(record, known) for record in bag.records]
        if self._unknown is not None:
            first_draw = number * self._unlabelled_per_item
            for draw in range(first_draw, first_draw + self._unlabelled_per_item):
                places.append(Place(self._lists.unknown[self._unknown[draw]], is_unknown=True))
        return places


def by_place(items: list[list[Sample]]) -> list[Sample]:
    """Flatten items to one batch: the first image of every item, then the second of every item ...

    In a batch of pairs the i-th positive is then the partner of the i-th normal image; labelled
    images, and those of which nothing is known, come last. Items may differ in length, where bags
    do.
    """
    longest = max(map(len, items), default=0)
    return [item[place] for place in range(longest) for item in items if place < len(item)]
