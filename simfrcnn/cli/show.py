"""Show what a model file says of itself: its card, operating points, and what it lacks."""

from __future__ import annotations

import argparse

from simfrcnn.files import as_json
from simfrcnn.workflows.export import describe_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "weights", help="a checkpoint of simfrcnn, or the name of a model that comes with it"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--json", action="store_true", help="everything, as JSON")
    chosen.add_argument("--config", action="store_true", help="the resolved config alone, as YAML")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    facts = describe_model(arguments.weights)
    if arguments.json:
        print(as_json(facts.to_json()), end="")
    elif arguments.config:
        print(facts.config or "# not known", end="")
    else:
        print("\n".join(facts.lines()))
    return 0
