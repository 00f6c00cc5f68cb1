"""What does a CPU's bfloat16 save of a training step, and what does detection gain on Detectron2's?

A machine that others load gives other seconds every minute. So what is compared runs in turn, in
one process, on the same images, and the figures are medians of the ratios of neighbours, by
processor time and by the clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from simfrcnn.engines.common.checkpoints import save_checkpoint
from simfrcnn.engines.common.flips import in_flips
from simfrcnn.engines.common.layout import lay_out_for_detection, lay_out_for_training
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ConfigError
from simfrcnn.structures import Sample
from simfrcnn.training import recipe
from simfrcnn.training.precision import Precision, bf16_units

WARM_UP = 2
IMAGES_AT_ONCE = 4
ROUNDED = Precision("mixed", "bfloat16", "to be measured")
EXACT = Precision("float32", "float32", "to be measured")


@dataclass(frozen=True)
class Spent:
    """Seconds of one call."""

    processor: float
    clock: float


@dataclass(frozen=True)
class Compared:
    """Medians over the repeats: seconds of processor time of each, and first : second."""

    first: float
    second: float
    by_processor: float
    by_clock: float


def compare(first: Callable[[], object], second: Callable[[], object], n_repeats: int) -> Compared:
    """Run two things in turn, each going first every other time; the first calls warm up."""
    pairs: list[tuple[Spent, Spent]] = []
    for repeat in range(n_repeats + WARM_UP):
        if repeat % 2:
            two, one = _spent(second), _spent(first)
        else:
            one, two = _spent(first), _spent(second)
        pairs.append((one, two))
    pairs = pairs[WARM_UP:]
    return Compared(
        first=statistics.median(one.processor for one, _ in pairs),
        second=statistics.median(two.processor for _, two in pairs),
        by_processor=statistics.median(one.processor / two.processor for one, two in pairs),
        by_clock=statistics.median(one.clock / two.clock for one, two in pairs),
    )


def rows(engine: Engine, cfg: Any, n_repeats: int) -> list[str]:
    """The lines of one engine's section of the page.

    Raises:
        ConfigError: The config is not for a CPU.
    """
    if cfg.MODEL.DEVICE != "cpu":
        raise ConfigError(f"--speed measures CPUs; MODEL.DEVICE is {cfg.MODEL.DEVICE}, set cpu")
    batch = next(iter(recipe.training_loader(cfg)))
    step = _precisions(engine, cfg, batch, n_repeats)
    units = " and ".join(bf16_units())
    lines = [
        f"Units for bfloat16: {units or 'none, so that it is computed slowly and is not used'}.",
        "",
        "| first : second | first | second | ratio by processor time | ratio by the clock |",
        "|---|---|---|---|---|",
        _row("step in bfloat16 : in float32", step),
    ]
    several = (list(batch) * IMAGES_AT_ONCE)[:IMAGES_AT_ONCE]
    ours = _detector(engine, cfg, several, EXACT)
    alone = _detector(engine, cfg, several, EXACT, at_once=1)
    what = f"an image alone : of {IMAGES_AT_ONCE} detected together"
    lines.append(_row(what, _per_image(compare(alone, ours, n_repeats))))
    if engine.NAME == "detectron2":
        predictor = _default_predictor(engine, cfg, several)
        looks = ", which looks a second time" if cfg.MODEL.SECOND_LOOK.ENABLED else ""
        looks += "" if cfg.TEST.FLIPS == "none" else f", in flips ({cfg.TEST.FLIPS})"
        for precision in (EXACT, ROUNDED):
            ours = _detector(engine, cfg, several, precision)
            what = f"an image by `DefaultPredictor` : by ours in {precision.used}{looks}"
            lines.append(_row(what, _per_image(compare(predictor, ours, n_repeats))))
    return lines


def _row(what: str, found: Compared) -> str:
    return (
        f"| {what} | {found.first:.3f} s | {found.second:.3f} s | {found.by_processor:.2f} "
        f"| {found.by_clock:.2f} |"
    )


def _precisions(engine: Engine, cfg: Any, batch: Sequence[Sample], n_repeats: int) -> Compared:
    """A step in bfloat16 against one in float32, whatever the CPU has: models of equal weights."""
    return compare(
        _stepper(engine, cfg, batch, ROUNDED), _stepper(engine, cfg, batch, EXACT), n_repeats
    )


def _stepper(
    engine: Engine, cfg: Any, batch: Sequence[Sample], precision: Precision
) -> Callable[[], None]:
    model = lay_out_for_training(cfg, _model(engine, cfg), precision)
    optimizer = recipe.build_optimizer(cfg, model)

    def step() -> None:
        recipe.seed_step(cfg.SEED, 0)
        with precision.autocast("cpu"):
            losses = engine.training_losses(model, batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _detector(
    engine: Engine,
    cfg: Any,
    several: Sequence[Sample],
    precision: Precision,
    *,
    at_once: int = IMAGES_AT_ONCE,
) -> Callable[[], None]:
    """What detects on some images as ``simfrcnn predict`` does, ``at_once`` of them together."""
    model, detect = lay_out_for_detection(cfg, _model(engine, cfg)), in_flips(cfg, engine.detect)

    def detect_all() -> None:
        for first in range(0, len(several), at_once):
            with precision.autocast("cpu"):
                detect(model, several[first : first + at_once])

    return detect_all


def _default_predictor(engine: Engine, cfg: Any, several: Sequence[Sample]) -> Callable[[], None]:
    """Detectron2's predictor with the weights of ours and the same network input.

    The predictor does not know a second look: it runs the detector without, ours runs both.
    """
    from detectron2.engine import DefaultPredictor

    model = _model(engine, cfg)
    with TemporaryDirectory() as folder:
        theirs = cfg.clone()
        theirs.defrost()
        theirs.MODEL.WEIGHTS = str(Path(folder) / "model.pth")
        theirs.INPUT.MIN_SIZE_TEST, theirs.INPUT.MAX_SIZE_TEST = 0, 0  # no resizing
        theirs.MODEL.SECOND_LOOK.ENABLED = False
        save_checkpoint(Path(theirs.MODEL.WEIGHTS), model, model.identity)  # type: ignore[arg-type]
        predictor = DefaultPredictor(theirs)
    pictures = [_picture(sample) for sample in several]

    def predict() -> None:
        for picture in pictures:
            predictor(picture)

    return predict


def _picture(sample: Sample) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3): the network's input as an image, as the predictor takes it."""
    pixels: np.ndarray[Any, np.dtype[np.uint8]] = sample.image.byte().permute(1, 2, 0).numpy()
    return pixels


def _model(engine: Engine, cfg: Any) -> nn.Module:
    torch.manual_seed(cfg.SEED)
    model: nn.Module = engine.build_model(cfg)
    return model


def _per_image(found: Compared) -> Compared:
    return Compared(
        found.first / IMAGES_AT_ONCE,
        found.second / IMAGES_AT_ONCE,
        found.by_processor,
        found.by_clock,
    )


def _spent(call: Callable[[], object]) -> Spent:
    processor, clock = time.process_time(), time.perf_counter()
    call()
    return Spent(time.process_time() - processor, time.perf_counter() - clock)
