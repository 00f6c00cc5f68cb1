"""Which command-line options do the settings have?

They follow from what :mod:`simfrcnn.settings` says of each field. An option that is not given is
None in the namespace, so that a config or an operating point may decide in its place.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

from simfrcnn.described import Described, Description, descriptions

S = TypeVar("S", bound=Described)


def add_settings(
    parser: argparse.ArgumentParser, kind: type[Described], *, defaults_from: str | None = None
) -> None:
    """Add the option of every setting that has one.

    Args:
        parser: Gets them; their names in the namespace are those of the fields.
        kind: The class of the settings.
        defaults_from: What decides where an option is not given, if it is not the field's default:
            the config.
    """
    for each in descriptions(kind):
        if each.option is not None:
            parser.add_argument(each.option, dest=each.name, **_words(each, defaults_from))


def given_settings(arguments: argparse.Namespace, base: S) -> S:
    """Settings with those options changed that were given.

    Raises:
        ConfigError: A value that is not legal.
    """
    given = {
        each.name: getattr(arguments, each.name)
        for each in descriptions(type(base))
        if each.option is not None and getattr(arguments, each.name) is not None
    }
    return dataclasses.replace(base, **given)  # type: ignore[type-var]


def _words(each: Description, defaults_from: str | None) -> dict[str, Any]:
    """What argparse is to know of an option."""
    meaning = each.help.replace("%", "%%")
    if isinstance(each.default, bool):
        return {"action": "store_true", "default": None, "help": meaning}
    words: dict[str, Any] = {"default": None, "metavar": each.metavar}
    default = f"{each.default}"
    if isinstance(each.default, tuple):
        words |= {"action": "append"} if each.is_repeated else {"nargs": "+"}
        meaning += "; may be given several times" if each.is_repeated else ""
        default = ", ".join(each.default) or "none"
    elif each.choices:
        words["choices"] = each.choices
    else:
        words["type"] = float if each.default is None else type(each.default)
        default = "none" if each.default is None else default
    if defaults_from and each.key:
        default = f"{each.key} of {defaults_from}, which is {default} unless it is changed"
    return {**words, "help": f"{meaning} (default: {default})"}
