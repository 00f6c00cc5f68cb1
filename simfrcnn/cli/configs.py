"""List the configs that come with simfrcnn, which --config-file takes by name."""

from __future__ import annotations

import argparse
import shutil
import textwrap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has none."""


def run(arguments: argparse.Namespace) -> int:
    """Print each name with what it is, by the verb that takes it."""
    from simfrcnn.config.shipped import FOLDER, shipped_configs
    from simfrcnn.config.starting import verb_of

    configs = shipped_configs()
    indent = max(map(len, configs)) + 4
    columns = min(100, shutil.get_terminal_size((100, 24)).columns)
    for verb, option in (
        ("train-net", "--config-file"),
        ("weak", "--config-file"),
        ("ladder", "--config"),
    ):
        print(f"simfrcnn {verb} {option} ...")
        for name, meaning in configs.items():
            if verb_of(FOLDER / f"{name}.yaml") == verb:
                head = f"  {name}".ljust(indent)
                print(textwrap.fill(head + meaning, columns, subsequent_indent=" " * indent))
    print(f"files: {FOLDER}")
    return 0
