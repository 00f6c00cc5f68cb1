"""Write a model card (Markdown) from what travels in a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.workflows.card import card_of, write_card


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "weights", help="a checkpoint of simfrcnn, or the name of a model that comes with it"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="a new file, not the terminal")


def run(arguments: argparse.Namespace) -> int:
    """Write it, or print it."""
    if arguments.output is None:
        print(card_of(arguments.weights), end="")
    else:
        print(f"wrote {write_card(arguments.weights, arguments.output)}")
    return 0
