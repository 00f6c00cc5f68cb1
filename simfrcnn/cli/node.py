"""Run a DICOM node: mammograms come in, results go to a PACS, nothing is lost by a kill."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.service.options import NodeOptions, read_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("--config-file", type=Path, metavar="YAML", help="options, one a key")
    parser.add_argument("--health", type=Path, metavar="DIR", help="exit with 0 if a node is well")
    parser.add_argument("--retry-failed", type=Path, metavar="DIR", help="queue failed studies")
    add_options(parser, NodeOptions)


def run(arguments: argparse.Namespace) -> int:
    """Run it, or say how one is."""
    if arguments.health is not None:
        from simfrcnn.service.health import problems_of

        problems = problems_of(arguments.health)
        print("\n".join(problems) or "well")
        return int(bool(problems))
    from simfrcnn.service import node

    if arguments.retry_failed is not None:
        print(f"put back into the queue: {node.retry_failed(arguments.retry_failed)}")
        return 0
    given = given_options(arguments, NodeOptions)
    node.run_node(read_options(NodeOptions, given, arguments.config_file))
    return 0
