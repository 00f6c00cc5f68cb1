"""Measure what simFaster R-CNN costs over Faster R-CNN, and whether loading keeps up.

Both detectors take the same batches in one process, step by step in turn; figures are medians. The
loader is measured alone and compared with what a training step consumes. With --preparation, how
much faster several processes prepare images than one; with --decoding, what preparing a DICOM file
costs over decoding it; with --evaluation, what the figures of a large set cost; with --report, what
its report costs; with --speed, what a CPU's bfloat16 saves of a step, and what detection gains;
with --against, what a step of the config costs in processor time over one of another config.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import decoding as decode_cost
from benchmarks import evaluation as evaluation_speed
from benchmarks import preparation as preparation_speed
from benchmarks import speed as cpu_speed
from simfrcnn.cli import common
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.layout import lay_out_for_training
from simfrcnn.engines.contract import ENGINES, Engine, is_installed
from simfrcnn.errors import ConfigError
from simfrcnn.files import write_text
from simfrcnn.structures import Sample
from simfrcnn.training import recipe
from simfrcnn.workflows.phantoms import make_missing_phantoms
from simfrcnn.workflows.training import resolved_config

MINIMUM_REPEATS = 20
MINIMUM_IMAGES = 100
WARM_UP = 3
"""Steps before the first that counts."""
BASELINE = (
    ("MODEL.SIMFRCNN.RPN_NORMALS", "ordinary"),
    ("MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING", "random"),
    ("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"),
)

_INTRODUCTION = """\
# Benchmarks

Written by `python tools/benchmark.py`. Faster R-CNN is the same config with ordinary losses and
random ROI sampling of normal images; both detectors take the same batches, step by step in turn, in
one process. The loader is measured alone, on the images of the config as they lie on the disk.

That the two detectors are the same where they must be is a test, not a benchmark: on positive
images only, with the new terms off, all losses equal those of the library's own detector on the
same weights and random state to 1e-6 (`tests/engines`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--engine", default="all", choices=("all", *ENGINES), help="default: all that are installed"
    )
    parser.add_argument("--repeats", type=int, default=40, help="steps of each, at least 20")
    parser.add_argument("--output", type=Path, help="write the table to this Markdown file too")
    parser.add_argument(
        "--preparation",
        type=int,
        metavar="N",
        help="measure preparing images by N processes and by one instead; needs no config",
    )
    parser.add_argument(
        "--decoding",
        type=int,
        metavar="REPEATS",
        help="measure what preparing a DICOM file costs over decoding it instead; needs no config",
    )
    parser.add_argument(
        "--evaluation",
        type=int,
        metavar="IMAGES",
        help="measure the evaluation of a random set of this size instead; needs no config",
    )
    parser.add_argument(
        "--report",
        type=int,
        metavar="IMAGES",
        help="measure the report of a random set of this size instead; needs no config",
    )
    parser.add_argument(
        "--speed",
        action="store_true",
        help="measure, for the config, a step in bfloat16 against float32 on this CPU, and "
        "detection against Detectron2's DefaultPredictor instead",
    )
    parser.add_argument(
        "--against",
        metavar="CONFIG",
        help="measure the processor time of a step of the config over one of this config instead, "
        "on a CPU; KEY VALUE are of both",
    )
    common.add_config_arguments(parser, required=False)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a table."""
    if arguments.preparation is not None:
        return _run_preparation(arguments)
    if arguments.decoding is not None:
        return _run_decoding(arguments)
    if arguments.evaluation is not None:
        return _run_evaluation(arguments)
    if arguments.report is not None:
        return _run_report(arguments)
    if arguments.config_file is None:
        raise ConfigError(
            "--config-file: give a config, --preparation N, --decoding REPEATS, "
            "--evaluation IMAGES or --report IMAGES"
        )
    if arguments.repeats < MINIMUM_REPEATS:
        raise ConfigError(f"--repeats is {arguments.repeats}; at least {MINIMUM_REPEATS}")
    if arguments.speed and arguments.against:
        raise ConfigError("--speed and --against are two measurements; give one of them")
    names = [name for name in ENGINES if is_installed(name)]
    lines = [] if arguments.speed or arguments.against else _INTRODUCTION.splitlines()
    for name in names if arguments.engine == "all" else [arguments.engine]:
        engine = common.start_engine(name)
        cfg = _ready(engine, arguments.config_file, arguments)
        lines += _heading(engine, cfg, arguments)
        if arguments.speed:
            lines += cpu_speed.rows(engine, cfg, arguments.repeats)
        elif arguments.against:
            other = _ready(engine, arguments.against, arguments)
            require_comparable(cfg, other)
            lines += _cost_over(engine, cfg, other, arguments)
        else:
            lines += _rows(_measure(engine, cfg, arguments.repeats))
        lines.append("")
    page = "\n".join(lines)
    print(page)
    if arguments.output:
        write_text(arguments.output, page)
    return 0


def _ready(engine: Engine, config_file: str, arguments: argparse.Namespace) -> Any:
    """The config, on a device that is there, with its data, and with batches for all steps."""
    cfg = resolved_config(engine, config_file, datasets=arguments.dataset, overrides=arguments.opts)
    check_device(cfg)
    n_steps = arguments.repeats + WARM_UP
    if n_steps > cfg.SOLVER.MAX_ITER:
        raise ConfigError(
            f"{config_file}: SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, and {n_steps} steps are "
            f"measured; append SOLVER.MAX_ITER {n_steps}"
        )
    make_missing_phantoms(cfg)
    return cfg


def require_comparable(cfg: Any, other: Any) -> None:
    """Refuse what the processor time of a step does not compare.

    Raises:
        ConfigError: One is on a GPU, whose work it does not count, or they take batches of two
            sizes.
    """
    for each in (cfg, other):
        if str(each.MODEL.DEVICE) != "cpu":
            raise ConfigError(
                f"MODEL.DEVICE is {each.MODEL.DEVICE}: --against measures processor time, which "
                "says nothing of a GPU; append MODEL.DEVICE cpu"
            )
    sizes = cfg.SOLVER.IMS_PER_BATCH, other.SOLVER.IMS_PER_BATCH
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {sizes[0]} and {sizes[1]} in the config of --against: a "
            f"step would be of other sizes; append SOLVER.IMS_PER_BATCH {sizes[0]}"
        )


def _run_preparation(arguments: argparse.Namespace) -> int:
    if arguments.preparation < 2:
        raise ConfigError(f"--preparation is {arguments.preparation}; at least 2 processes")
    return _show(preparation_speed.table(arguments.preparation, n_repeats=3), arguments)


def _run_decoding(arguments: argparse.Namespace) -> int:
    if arguments.decoding < MINIMUM_REPEATS:
        raise ConfigError(f"--decoding is {arguments.decoding}; at least {MINIMUM_REPEATS}")
    return _show(decode_cost.table(arguments.decoding), arguments)


def _run_evaluation(arguments: argparse.Namespace) -> int:
    _require_images("--evaluation", arguments.evaluation)
    return _show(evaluation_speed.table(arguments.evaluation, n_replicates=2000), arguments)


def _run_report(arguments: argparse.Namespace) -> int:
    # Imported here: drawing is of no use to the other measurements.
    from benchmarks import report as report_speed

    _require_images("--report", arguments.report)
    return _show(report_speed.table(arguments.report), arguments)


def _require_images(option: str, n_images: int) -> None:
    if n_images < MINIMUM_IMAGES:
        raise ConfigError(f"{option} is {n_images}; at least {MINIMUM_IMAGES}")


def _show(lines: Sequence[str], arguments: argparse.Namespace) -> int:
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.output:
        write_text(arguments.output, page)
    return 0


@dataclass(frozen=True)
class Measured:
    """Medians, in seconds per step or images per second."""

    baseline_step: float
    simfrcnn_step: float
    step_ratio: float
    images_per_step: int
    loader_images_per_second: float

    @property
    def loader_ratio(self) -> float:
        """Images that the loader gives for one that the model consumes."""
        return self.loader_images_per_second * self.simfrcnn_step / self.images_per_step


def _measure(engine: Engine, cfg: Any, n_repeats: int) -> Measured:
    batches = _batches(cfg)
    baseline, ours = _stepper(engine, _baseline_of(cfg)), _stepper(engine, cfg)
    pairs = []
    for repeat in range(n_repeats + WARM_UP):
        batch = next(batches)
        # Whoever goes second finds warm caches: take turns.
        first, second = (baseline, ours) if repeat % 2 else (ours, baseline)
        times = {first: first(batch), second: second(batch)}
        pairs.append((times[baseline], times[ours]))
    pairs = pairs[WARM_UP:]
    return Measured(
        baseline_step=statistics.median(pair[0] for pair in pairs),
        simfrcnn_step=statistics.median(pair[1] for pair in pairs),
        step_ratio=statistics.median(pair[1] / pair[0] for pair in pairs),
        images_per_step=cfg.SOLVER.IMS_PER_BATCH,
        loader_images_per_second=_loader_rate(cfg, n_repeats),
    )


def _cost_over(engine: Engine, cfg: Any, other: Any, arguments: argparse.Namespace) -> list[str]:
    """The rows of --against: each config takes its own batches, step by step in turn."""
    steppers = [
        (_stepper(engine, each, time.process_time), _batches(each)) for each in (other, cfg)
    ]
    times = []
    for repeat in range(arguments.repeats + WARM_UP):
        order = steppers if repeat % 2 else steppers[::-1]
        taken = {step: step(next(batches)) for step, batches in order}
        times.append([taken[step] for step, _ in steppers])
    before, after = (statistics.median(column) for column in zip(*times[WARM_UP:], strict=True))
    ratios = [after / before for before, after in times[WARM_UP:]]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return [
        "| processor time of a step | measured |",
        "|---|---|",
        f"| {arguments.against} | {before:.3f} s |",
        f"| {arguments.config_file} | {after:.3f} s |",
        f"| ratio of the two | {ratio:.3f} |",
        f"| its quartiles over {len(ratios)} pairs of steps | {low:.3f} to {high:.3f} |",
        f"| ratio of the two medians | {after / before:.3f} |",
    ]


def _stepper(
    engine: Engine, cfg: Any, clock: Callable[[], float] = time.perf_counter
) -> Callable[[Sequence[Sample]], float]:
    torch.manual_seed(cfg.SEED)
    model = lay_out_for_training(cfg, engine.build_model(cfg), cpu_speed.EXACT)
    optimizer = recipe.build_optimizer(cfg, model)

    def step(batch: Sequence[Sample]) -> float:
        recipe.seed_step(cfg.SEED, 0)
        _wait(model)
        start = clock()
        loss = torch.stack(list(engine.training_losses(model, batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _wait(model)
        return clock() - start

    return step


def _wait(model: nn.Module) -> None:
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()


def _baseline_of(cfg: Any) -> Any:
    baseline = cfg.clone()
    baseline.defrost()
    baseline.merge_from_list([word for pair in BASELINE for word in pair])
    baseline.freeze()
    return baseline


def _batches(cfg: Any) -> Iterator[list[Sample]]:
    return iter(recipe.training_loader(cfg))


def _loader_rate(cfg: Any, n_repeats: int) -> float:
    batches = _batches(cfg)
    next(batches)  # starting the workers is not counted
    times = []
    for _ in range(n_repeats):
        start = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - start)
    # The mean: with workers ahead, single fetches are either instant or waits.
    return float(cfg.SOLVER.IMS_PER_BATCH / statistics.mean(times))


def _heading(engine: Engine, cfg: Any, arguments: argparse.Namespace) -> list[str]:
    device = (
        torch.cuda.get_device_name()
        if str(cfg.MODEL.DEVICE).startswith("cuda")
        else f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    size = " x ".join(str(side) for side in cfg.INPUT.MAMMO.SIZE)
    return [
        "",
        f"## {engine.NAME}, {arguments.config_file}",
        "",
        f"{device}; torch {torch.__version__}; input {size} px, {cfg.SOLVER.IMS_PER_BATCH} images "
        f"a step, {cfg.DATALOADER.NUM_WORKERS} loading process(es); medians of "
        f"{arguments.repeats} steps, in turn in one process.",
        "",
    ]


def _rows(measured: Measured) -> list[str]:
    consumed = measured.images_per_step / measured.simfrcnn_step
    return [
        "| what | measured |",
        "|---|---|",
        f"| Faster R-CNN, one step | {measured.baseline_step:.3f} s |",
        f"| simFaster R-CNN, one step | {measured.simfrcnn_step:.3f} s |",
        f"| ratio of the two | {measured.step_ratio:.3f} |",
        f"| images the model consumes | {consumed:.1f} / s |",
        f"| images the loader gives | {measured.loader_images_per_second:.1f} / s |",
        f"| loader : model | {measured.loader_ratio:.1f} |",
    ]
