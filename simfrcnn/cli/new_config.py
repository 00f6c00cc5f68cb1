"""Write a config of your own that begins with one of simfrcnn, ready to be changed."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "name", metavar="NAME", help="a config of simfrcnn (see `simfrcnn configs`)"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="a new YAML file"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")


def run(arguments: argparse.Namespace) -> int:
    """Write it and print what it says."""
    from simfrcnn.config.starting import starting_config
    from simfrcnn.errors import OutputError
    from simfrcnn.files import write_text

    output = arguments.output
    if output.suffix not in (".yaml", ".yml"):
        raise OutputError(f"--output is {output}; the name of a config ends in .yaml")
    if output.exists() and not arguments.overwrite:
        raise OutputError(f"{output} exists; --overwrite replaces it, or give another --output")
    text = starting_config(arguments.name, output)
    write_text(output, text)
    print(text)
    print(f"config: {output}")
    return 0
