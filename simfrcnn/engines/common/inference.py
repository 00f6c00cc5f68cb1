"""How are all images of a data set run through a model?

Used by the command line for either engine; Detectron2's own evaluation loop uses our evaluator
hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from torch import nn
from torch.utils.data import BatchSampler
from tqdm import tqdm

from simfrcnn import config
from simfrcnn.records import ImageRecord
from simfrcnn.structures import Sample
from simfrcnn.training.loading import RecordDataset
from simfrcnn.training.workers import BatchLoader

_Found = TypeVar("_Found")


def detect_records(
    cfg: Any,
    model: nn.Module,
    detect: Callable[[nn.Module, Sequence[Sample]], list[_Found]],
    records: Sequence[ImageRecord],
    *,
    title: str | None,
    images_per_batch: int = 1,
) -> list[_Found]:
    """Run ``detect`` over all records, in order, with progress and an estimate of what is left.

    Args:
        cfg: For the input settings and the number of loading processes.
        model: The detector.
        detect: The engine's ``detect``, or what else gives one thing for each sample.
        records: The images.
        title: What the progress bar says; None draws none.
        images_per_batch: The result does not depend on it.

    Returns:
        What ``detect`` gave: one for each record, in order.
    """
    found: list[_Found] = []
    with tqdm(
        total=len(records), desc=title, unit="image", mininterval=1.0, disable=title is None
    ) as progress:
        for samples in _batches(cfg, records, images_per_batch):
            found += detect(model, samples)
            progress.update(len(samples))
    return found


def _batches(
    cfg: Any, records: Sequence[ImageRecord], images_per_batch: int
) -> Iterable[list[Sample]]:
    return BatchLoader(
        RecordDataset(
            records,
            config.input_settings(cfg),
            native=config.needs_native_pixels(cfg),
        ),
        BatchSampler(range(len(records)), images_per_batch, drop_last=False),
        n_workers=cfg.DATALOADER.NUM_WORKERS,
    )
