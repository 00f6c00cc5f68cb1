"""Judge the mammograms of a DICOMweb archive and send the results, each study once."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.service.options import PullOptions, read_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("--config-file", type=Path, metavar="YAML", help="options, one a key")
    add_options(parser, PullOptions)


def run(arguments: argparse.Namespace) -> int:
    """Run it and say what came of it; 3 where a study failed or could not be read."""
    from simfrcnn.service.pull import run_pull

    given = given_options(arguments, PullOptions)
    pulled = run_pull(read_options(PullOptions, given, arguments.config_file))
    print("\n".join(pulled.lines()))
    return 3 if pulled.n_failed or pulled.n_not_read else 0
