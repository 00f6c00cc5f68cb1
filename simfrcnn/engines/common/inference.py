"""How is a model loaded for detection, and how are all images of a data set run through it?

Used by the command line for either engine; Detectron2's own evaluation loop uses our evaluator
hook.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import BatchSampler
from tqdm import tqdm

from simfrcnn import config
from simfrcnn.engines.common.layout import lay_out_for_detection
from simfrcnn.engines.contract import Engine
from simfrcnn.records import ImageRecord
from simfrcnn.structures import Sample
from simfrcnn.training.loading import RecordDataset
from simfrcnn.training.precision import detection_precision
from simfrcnn.training.workers import BatchLoader

_Found = TypeVar("_Found")

IMAGES_PER_BATCH = 4
"""Images that are run through a model at once."""

logger = logging.getLogger("simfrcnn")


def load_detector(engine: Engine, cfg: Any, weights: Path) -> nn.Module:
    """The model of a config, filled from a checkpoint, for detection alone; not to be trained on.

    Raises:
        CheckpointError: The weights do not fit the config.
        ConfigError: The engine cannot build the model.
    """
    model = engine.build_model(cfg)
    engine.load_weights(model, weights)
    detection_precision(cfg).log(logger, "detection")
    return lay_out_for_detection(cfg, model)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode, without gradients; its mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def detecting(cfg: Any) -> torch.autocast:
    """The context in which a model of a config detects: the precision of ``TEST.AMP``."""
    return detection_precision(cfg).autocast(torch.device(cfg.MODEL.DEVICE).type)


def precision_of(cfg: Any) -> dict[str, str]:
    """For the provenance of detections: a precision other than float32; nothing of float32."""
    precision = detection_precision(cfg)
    return {"precision": precision.used} if precision.is_mixed else {}


def detect_records(
    cfg: Any,
    model: nn.Module,
    detect: Callable[[nn.Module, Sequence[Sample]], list[_Found]],
    records: Sequence[ImageRecord],
    *,
    title: str | None,
    images_per_batch: int = IMAGES_PER_BATCH,
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
    with (
        detecting(cfg),
        tqdm(
            total=len(records), desc=title, unit="image", mininterval=1.0, disable=title is None
        ) as progress,
    ):
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
