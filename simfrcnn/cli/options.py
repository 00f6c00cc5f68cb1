"""How do described settings and options become options of the command line, and back?

They follow from what :mod:`simfrcnn.described` knows of each field. An option that is not given is
None in the namespace, so that a config, an operating point or the default may decide in its place.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

from simfrcnn.described import Described, Description, Options, descriptions, made

S = TypeVar("S", bound=Described)
T = TypeVar("T", bound=Options)
_SEVERAL = {"times": "; may be given several times", "commas": "; several are joined by commas"}


def add_options(
    parser: argparse.ArgumentParser,
    kind: type[Described],
    *,
    defaults_from: str | None = None,
    choices: tuple[str, ...] = (),
) -> None:
    """Add the option of every field that has one.

    Args:
        parser: Gets them; their names in the namespace are those of the fields.
        kind: The class of the settings or options.
        defaults_from: What decides where an option is not given, if it is not the field's default:
            the config.
        choices: The legal values of its only option, where the class does not know them.
    """
    for each in descriptions(kind):
        if each.option is not None:
            known = dataclasses.replace(each, choices=choices or each.choices)
            words = _words(known, defaults_from)
            parser.add_argument(each.option, dest=each.name, default=None, **words)


def given_options(arguments: argparse.Namespace, *kinds: type[Described]) -> dict[str, Any]:
    """The options of these classes that were given, as keywords."""
    return {
        each.name: value
        for kind in kinds
        for each in descriptions(kind)
        if each.option is not None and (value := getattr(arguments, each.name)) is not None
    }


def given_settings(arguments: argparse.Namespace, base: S) -> S:
    """Settings with those options changed that were given.

    Raises:
        ConfigError: A value that is not legal.
    """
    given = given_options(arguments, type(base))
    return dataclasses.replace(base, **given)  # type: ignore[type-var]


def options_if_given(arguments: argparse.Namespace, kind: type[T]) -> T | None:
    """Options of a class, or None where none of them is given.

    Raises:
        ConfigError: A value is not legal.
    """
    given = given_options(arguments, kind)
    return made(kind, given) if given else None


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list with commas, such as ``CIRC,SPIC``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _words(each: Description, defaults_from: str | None) -> dict[str, Any]:
    """What argparse is to know of an option."""
    words: dict[str, Any] = {"help": _help(each, defaults_from)}
    if isinstance(each.default, bool):
        return {**words, "action": "store_true"}
    words |= {"metavar": each.metavar, "type": each.parse}
    if each.choices and each.many is None:
        words["choices"] = each.choices
    if each.many == "commas":
        words["type"] = lambda text: tuple(map(each.parse, names_in(text)))
    elif each.many is not None:
        words |= {"nargs": "+"} if each.many == "words" else {"action": "append"}
    return words


def _help(each: Description, defaults_from: str | None) -> str:
    """What it means, how several are given, what is legal, and the default."""
    before, mark, default_said = each.help.replace("%", "%%").partition(" (default")
    legal = "" if each.legal is None else f"; legal: {each.legal}"
    meaning = f"{before}{_SEVERAL.get(each.many or '', '')}{legal}{mark}{default_said}"
    is_said = "(default" in meaning or (each.key is None and each.default in (None, ()))
    if isinstance(each.default, bool) or is_said:
        return meaning
    default = ", ".join(each.default) if isinstance(each.default, tuple) else each.default
    default = "none" if default in (None, "") else default
    if defaults_from and each.key:
        default = f"{each.key} of {defaults_from}, which is {default} unless it is changed"
    return f"{meaning} (default: {default})"
