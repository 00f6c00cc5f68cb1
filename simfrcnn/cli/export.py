"""Write a model as one file for inference, without what only a training needs.

The file holds weights, config, classes, operating points and model card, and is read wherever a
checkpoint is. Places on this disk are left out of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.common import add_set
from simfrcnn.engines.common.stored_weights import PRECISIONS
from simfrcnn.workflows.export import export_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("weights", help="a checkpoint of simfrcnn")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="a new file, .pth or .safetensors",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="how weights are stored: half is half the size, int8 a quarter, both slightly "
        "rounded (default: float32)",
    )
    parser.add_argument("--name", help="name of the model, for its card")
    parser.add_argument("--licence", help="licence of the model, for its card")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="TEXT",
        help="a further limit of use, for its card; may be given several times",
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="config of weights of an earlier version without config.yaml beside them",
    )
    change = "a key of detection to change, such as TEST.FLIPS all; points and figures are left out"
    add_set(parser, f"{change}; may be given several times")


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    path = export_model(
        arguments.weights,
        arguments.output,
        precision=arguments.precision,
        name=arguments.name,
        licence=arguments.licence,
        limits=arguments.limit,
        config=arguments.config_file,
        overrides=arguments.set,
    )
    print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
    return 0
