"""How is a ladder run? What ``ladder`` and Python call.

A run that is done with the same settings is skipped, an unfinished one goes on, one with other
settings is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simfrcnn.cluster.jobs import Job
from simfrcnn.cluster.settings import LauncherOptions
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.ladder.folders import State, facts_of, state_of
from simfrcnn.ladder.plan import Run, choose, make_sets, plan_runs, read_ladder
from simfrcnn.ladder.processes import Command, run_commands
from simfrcnn.parallel import available_cores
from simfrcnn.workflows.launched import SIMFRCNN, launch
from simfrcnn.workflows.phantoms import make_missing_phantoms

if TYPE_CHECKING:
    from simfrcnn.ladder.results import LadderResult

logger = logging.getLogger("simfrcnn")

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class LadderOutcome:
    """What a ladder has come to.

    Attributes:
        result: Every number, and what is missing.
        page: The table.
        failures: Run -> why it failed.
    """

    result: LadderResult
    page: Path
    failures: Mapping[str, str]


def run_ladder(
    config: str | Path,
    output: Path,
    engine: Engine,
    *,
    datasets: Sequence[str] = (),
    n_workers: int | None = None,
    rungs: str | None = None,
    seeds: str | None = None,
    report_only: bool = False,
    launcher: LauncherOptions | None = None,
) -> LadderOutcome:
    """Train what is missing side by side, in processes of their own, and write the table.

    Args:
        config: A ladder file, or the name of one of simfrcnn.
        output: Runs go to ``<output>/<rung>/seed_<n>``.
        engine: Of all runs.
        datasets: ``NAME=PATH`` entries.
        n_workers: Runs at a time; None: one per CPU core, or one per GPU if they train on GPUs.
        rungs: Run these only, separated by commas; the table holds all.
        seeds: Likewise.
        report_only: Run nothing.
        launcher: Run as jobs of a cluster, or of this machine, instead of as processes; then
            ``n_workers`` None is as many as the cluster gives.

    Raises:
        SimFrcnnError: A ladder or config that cannot be honoured, or a folder that holds a run with
            other settings.
    """
    ladder = read_ladder(config)
    chosen_rungs = choose(rungs, [rung.name for rung in ladder.rungs], "--rungs")
    chosen_seeds = choose(seeds, [str(seed) for seed in ladder.seeds], "--seeds")
    runs = plan_runs(ladder, engine, output, datasets=datasets)
    failures: dict[str, str] = {}
    if not report_only:
        _prepare(runs, output, trains_here=launcher is None or launcher.launcher == "local")
        wanted = [
            run for run in runs if run.rung.name in chosen_rungs and str(run.seed) in chosen_seeds
        ]
        folders = {run.folder for run in wanted}  # a rung can be the detector of another one
        chosen = [run for run in runs if run.folder in folders and run.rung.detector_of is None]
        states = _states(runs, engine.NAME, engine.default_cfg())
        missing, known_seconds = _missing(chosen, states)
        if launcher is None:
            slots = slots_for(chosen, n_workers)
            jobs = [Command(run.name, _words(run), run.log) for run in missing]
            failures = run_commands(jobs, slots, say=logger.info, known_seconds=known_seconds)
        else:
            failures = launch(
                [Job(run.name, _words(run)) for run in missing],
                output,
                launcher,
                at_a_time=n_workers,
                skips_done=False,
            )
    # Late: matplotlib is of no use while the runs take the memory.
    from simfrcnn.ladder.report import write_ladder
    from simfrcnn.ladder.results import judge_ladder

    states = _states(runs, engine.NAME, engine.default_cfg())
    result = judge_ladder(ladder, runs, states, engine.NAME)
    return LadderOutcome(result, write_ladder(output, result), failures)


def _prepare(runs: Sequence[Run], output: Path, *, trains_here: bool) -> None:
    """What the runs share and must not make at the same time."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; --output takes a folder for the runs")
    for run in runs:
        if run.rung.kind == "weak" or run.rung.permute_labels:
            continue  # they use data sets of the other rungs
        if trains_here:
            check_device(run.cfg)
        make_missing_phantoms(run.cfg)
    make_sets(runs)


def _states(runs: Sequence[Run], engine: str, defaults: object) -> dict[str, State]:
    return {run.name: state_of(run, engine, defaults) for run in runs}


def _missing(runs: Sequence[Run], states: Mapping[str, State]) -> tuple[list[Run], list[float]]:
    """The runs that are not done, and how long each of the others took, in seconds."""
    # Of a weak run only its own tool can say whether every step of it is up to date.
    skipped = [r for r in runs if states[r.name] is State.DONE and r.rung.kind == "train"]
    for run in skipped:
        logger.info(f"{run.name}: done before, skipped")
    known_seconds = [facts_of(run).wall_seconds for run in skipped]
    return [run for run in runs if run not in skipped], known_seconds


def _words(run: Run) -> tuple[str, ...]:
    return (*SIMFRCNN, *run.words)


def slots_for(runs: Sequence[Run], n_workers: int | None) -> list[dict[str, str]]:
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
