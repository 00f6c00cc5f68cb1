"""List the models that come with simfrcnn, and what its configs train: data, licence, figures."""

from __future__ import annotations

import argparse

from simfrcnn.workflows.models import model_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has none."""


def run(arguments: argparse.Namespace) -> int:
    """Print them."""
    print("\n".join(model_lines()))
    return 0
