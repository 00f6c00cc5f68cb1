"""Take the boxes of all but a few patients out of a data set; labels stay in their place."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data set, whose boxes stay, and where the copy goes."""
    parser.add_argument("--dataset", required=True, metavar="NAME[=FILE]", help="set to copy")
    parser.add_argument("--patients", required=True, type=int, metavar="N", help="keep their boxes")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which (default: 0)")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="new COCO file")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    common.add_config_file_argument(parser, help="its VAL and TEST are refused, its targets count")


def run(arguments: argparse.Namespace) -> int:
    """Write the copy."""
    from simfrcnn.workflows.weaken import weaken_data_set

    names = ("dataset", "output", "seed", "config_file", "overwrite")
    weaken_data_set(n_patients=arguments.patients, **{n: getattr(arguments, n) for n in names})
    return 0
