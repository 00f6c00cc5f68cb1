"""How do described options become options of the command line, and back?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from simfrcnn.options import Described, described, flag_of


def add_options(
    parser: argparse.ArgumentParser, cls: type, *, choices: tuple[str, ...] = ()
) -> None:
    """One option for each field of a dataclass of :func:`simfrcnn.options.option`.

    Args:
        parser: Gets them.
        cls: The dataclass.
        choices: The legal values of its only option, where they are not known to the dataclass.
    """
    for name, (default, about) in described(cls).items():
        flag, about = flag_of(name, about), replace(about, choices=choices or about.choices)
        if isinstance(default, bool):
            parser.add_argument(flag, dest=name, action="store_true", help=about.help)
            continue
        parser.add_argument(
            flag, dest=name, default=default, help=about.help, **_reading(about), **_legal(about)
        )


def options_of(args: argparse.Namespace, *classes: type) -> dict[str, Any]:
    """The parsed options of these dataclasses, as keywords."""
    return {name: getattr(args, name) for cls in classes for name in described(cls)}


def _reading(about: Described) -> dict[str, Any]:
    if about.many == "words":
        return {"nargs": "+", "type": about.parse}
    if about.many == "commas":
        return {"type": lambda text: tuple(map(about.parse, names_in(text)))}
    return {"type": about.parse}


def _legal(about: Described) -> dict[str, Any]:
    # Of a list with commas the reader checks each name.
    choices = {"choices": list(about.choices)} if about.choices and about.many is None else {}
    return {**choices, **({"metavar": about.metavar} if about.metavar else {})}


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list with commas, such as ``CIRC,SPIC``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
