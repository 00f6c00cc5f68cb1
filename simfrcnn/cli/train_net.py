"""Train a detector and test it once, or test a trained one (--eval-only).

Everything goes into OUTPUT_DIR: the resolved config, a manifest, checkpoints, metrics, TensorBoard
events, the operating points that were chosen on the validation set, and under inference/ the
detections and the report of every test set.
"""

from __future__ import annotations

import argparse

from simfrcnn.cli import common
from simfrcnn.cli.options import add_options, given_settings, options_if_given
from simfrcnn.cluster.settings import LauncherOptions
from simfrcnn.errors import ConfigError
from simfrcnn.workflows import launched, training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    common.add_engine_argument(parser)
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="no training: test MODEL.WEIGHTS if it is given on this line, else the best "
        "checkpoint of OUTPUT_DIR, else its last",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint of OUTPUT_DIR, if any"
    )
    add_options(parser, training.Processes)
    add_options(parser, LauncherOptions)
    common.add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and test, or test."""
    options = {
        "datasets": arguments.dataset,
        "overrides": arguments.opts,
        "engine": arguments.engine,
    }
    launcher = options_if_given(arguments, LauncherOptions)
    if arguments.eval_only:
        if launcher is not None:
            raise ConfigError(
                "--eval-only is done here and now: leave out --launcher and --cluster"
            )
        words = dict(zip(arguments.opts[::2], arguments.opts[1::2], strict=False))
        training.judge(arguments.config_file, weights=words.get("MODEL.WEIGHTS"), **options)
        return 0
    options |= {
        "resume": arguments.resume,
        "processes": given_settings(arguments, training.Processes()),
    }
    if launcher is None:
        training.train(arguments.config_file, command=arguments.words, **options)
    else:
        print(f"trained: {launched.train_as_job(arguments.config_file, launcher, **options)}")
    return 0
