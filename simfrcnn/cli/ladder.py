"""Train variants of a model with several seeds side by side, and compare them on the same cases.

Each run goes to OUTPUT/<rung>/seed_<n>, with its log beside it. A run that is done with the same
settings is skipped, an unfinished one goes on, one with other settings is refused. The table is
ladder.md, every number is in ladder.json; both say what is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from simfrcnn.cli import common
from simfrcnn.engines.common.device import check_device
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.ladder.folders import State, facts_of, state_of
from simfrcnn.ladder.plan import Run, choose, permute_labels, plan_runs, read_ladder
from simfrcnn.ladder.processes import Command, run_commands
from simfrcnn.parallel import available_cores

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    common.add_engine_argument(parser)
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="ladder file (configs/ladder)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a COCO file for a data set name of the configs; may be given several times",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="runs at a time (default: one per CPU core, or one per GPU if they train on GPUs)",
    )
    parser.add_argument("--rungs", metavar="A,B", help="run these only; the table holds all")
    parser.add_argument("--seeds", metavar="0,1", help="run these only; the table holds all")
    parser.add_argument(
        "--report-only", action="store_true", help="run nothing: the table of what there is"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, write the table; 1 if a run failed."""
    ladder = read_ladder(arguments.config)
    rungs = choose(arguments.rungs, [rung.name for rung in ladder.rungs], "--rungs")
    seeds = choose(arguments.seeds, [str(seed) for seed in ladder.seeds], "--seeds")
    engine = common.start_engine(arguments.engine)
    runs = plan_runs(ladder, engine, arguments.output, datasets=arguments.dataset)
    failures: dict[str, str] = {}
    if not arguments.report_only:
        _prepare(runs, arguments.output)
        chosen = [run for run in runs if run.rung.name in rungs and str(run.seed) in seeds]
        slots = _slots(chosen, arguments.workers)
        states = _states(runs, engine.NAME, engine.default_cfg())
        failures = _run_missing(chosen, states, slots)
    # Imported late: matplotlib is of no use while the runs take the memory.
    from simfrcnn.ladder.report import summary_lines, write_ladder
    from simfrcnn.ladder.results import judge_ladder

    states = _states(runs, engine.NAME, engine.default_cfg())
    result = judge_ladder(ladder, runs, states, engine.NAME)
    page = write_ladder(arguments.output, result)
    print("\n".join(summary_lines(result)))
    for note in result.notes:
        print(f"note: {note}")
    print(f"ladder: {page}")
    for name, reason in failures.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _prepare(runs: Sequence[Run], output: Path) -> None:
    """What the runs share and must not make at the same time."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; --output takes a folder for the runs")
    for run in runs:
        if run.rung.kind == "weak" or run.rung.permute_labels:
            continue  # they use data sets of the other rungs
        check_device(run.cfg)
        common.make_missing_phantoms(run.cfg)
    permute_labels(runs)


def _states(runs: Sequence[Run], engine: str, defaults: object) -> dict[str, State]:
    return {run.name: state_of(run, engine, defaults) for run in runs}


def _run_missing(
    runs: Sequence[Run], states: Mapping[str, State], slots: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    # Of a weak run only its own tool can say whether every step of it is up to date.
    skipped = [r for r in runs if states[r.name] is State.DONE and r.rung.kind == "train"]
    for run in skipped:
        print(f"{run.name}: done before, skipped", flush=True)
    missing = [run for run in runs if run not in skipped]
    jobs = [
        Command(run.name, (sys.executable, "-m", "simfrcnn.cli.main", *run.words), run.log)
        for run in missing
    ]
    known = [facts_of(run).wall_seconds for run in skipped]
    return run_commands(jobs, slots, say=lambda line: print(line, flush=True), known_seconds=known)


def _slots(runs: Sequence[Run], n_workers: int | None) -> list[dict[str, str]]:
    """The environment of each process that runs at a time: on GPUs, one of them each."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(f"--workers is {n_workers}; at least 1")
    path = os.pathsep.join([str(_PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    shared = {"PYTHONPATH": path}
    on_gpu = {str(run.cfg.MODEL.DEVICE).startswith("cuda") for run in runs}
    if on_gpu != {True}:
        return [shared] * (n_workers or available_cores())
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    n_slots = n_workers or len(gpus)
    return [{**shared, "CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(n_slots)]
