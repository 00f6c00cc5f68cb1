"""Cut patches at a detector's scale out of a data set, to train a classifier or a backbone on."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli import common
from simfrcnn.cli.options import add_options, given_options
from simfrcnn.data.patches import PatchSettings, PatchSources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb; most come from :class:`PatchSettings` and the sources."""
    parser.add_argument("--dataset", required=True, metavar="NAME[=FILE]", help="set to cut")
    common.add_config_file_argument(parser, required=True, help="of the detector, for its input")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    add_options(parser, PatchSettings)
    add_options(parser, PatchSources)


def run(args: argparse.Namespace) -> int:
    """Write the patches."""
    from simfrcnn.workflows.patches import prepare_patches

    settings = PatchSettings(**given_options(args, PatchSettings))
    sources = PatchSources(**given_options(args, PatchSources))
    prepare_patches(args.dataset, args.config_file, args.output, settings, sources)
    return 0
