"""Combine several models' detections of the same images, or one model's with patients' facts."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.workflows.combine import CombineOptions, combine_data_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb; those of the method come from :class:`CombineOptions`."""
    parser.add_argument("detections", nargs="+", type=Path, metavar="FILE", help="COCO results")
    parser.add_argument("--dataset", required=True, metavar="NAME[=FILE]", help="of these images")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a folder")
    add_options(parser, CombineOptions)


def run(arguments: argparse.Namespace) -> int:
    """Write the combined detections."""
    given = given_options(arguments, CombineOptions)
    combine_data_set(arguments.dataset, arguments.detections, arguments.output, **given)
    return 0
