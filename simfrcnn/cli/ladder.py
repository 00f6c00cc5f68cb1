"""Train variants of a model with several seeds side by side, and compare them on the same cases.

Each run goes to OUTPUT/<rung>/seed_<n>, with its log beside it. A run that is done with the same
settings is skipped, an unfinished one goes on, one with other settings is refused. The page is
ladder.html (and .md), every number is in ladder.json; all say what is missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from simfrcnn.cli import common
from simfrcnn.cli.options import add_options, options_if_given
from simfrcnn.cluster.settings import LauncherOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    common.add_engine_argument(parser)
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE|NAME",
        help="a ladder file, or the name of one of simfrcnn, such as ladder/study",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a folder")
    common.add_dataset_argument(parser)
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
    add_options(parser, LauncherOptions)


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, write the table; 1 if a run failed."""
    from simfrcnn.workflows.ladder import run_ladder

    outcome = run_ladder(
        arguments.config,
        arguments.output,
        common.start_engine(arguments.engine),
        datasets=arguments.dataset,
        n_workers=arguments.workers,
        rungs=arguments.rungs,
        seeds=arguments.seeds,
        report_only=arguments.report_only,
        launcher=options_if_given(arguments, LauncherOptions),
    )
    from simfrcnn.ladder.report import summary_lines

    print("\n".join(summary_lines(outcome.result)))
    for note in outcome.result.notes:
        print(f"note: {note}")
    print(f"ladder: {outcome.page}")
    for name, reason in outcome.failures.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 1 if outcome.failures else 0
