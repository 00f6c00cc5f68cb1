"""Train weakFaster R-CNN as one job: stage 1, pseudo-labels, stage 2, test.

The config names one config per stage (STAGE1, STAGE2), OUTPUT_DIR, and any key to set in both.
Started again, the job goes on where it was ended; what is done and up to date is not done again.
OUTPUT_DIR holds stage1/ and stage2/ (run folders, the report under stage2/inference/), pseudo/ (the
annotation files with pseudo-boxes), summary.md and manifest.json with the time of every step.
"""

from __future__ import annotations

import argparse

from simfrcnn.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    common.add_engine_argument(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make steps again whose settings, data or results have changed, and those after them",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="label although there are boxes on normal images already (see pseudo-label)",
    )
    common.add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the job, or what is left of it."""
    from simfrcnn.workflows.weak import run_job

    engine = common.start_engine(arguments.engine)
    folder = run_job(
        arguments.config_file,
        engine,
        overrides=arguments.opts,
        datasets=arguments.dataset,
        overwrite=arguments.overwrite,
        force=arguments.force,
        command=arguments.words,
    )
    print((folder / "summary.md").read_text(encoding="utf-8"))
    return 0
