"""How is an option described once, for the command line, for Python and for its error?

An option is a field of a frozen dataclass, made by :func:`option`. Its name is the keyword in
Python and, with hyphens, the option of the command line; help, legal values and default stand with
it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from simfrcnn.errors import ConfigError

Options = TypeVar("Options")
Many = Literal["commas", "words"]
"""Several values: ``A,B`` in one word, or words of their own."""
_KEY = "option"


@dataclass(frozen=True)
class Described:
    """What is said of an option besides its default.

    Attributes:
        help: One line.
        choices: The legal values; empty where any value of the type is.
        metavar: What stands for the value in the usage.
        parse: A word of the command line -> the value.
        many: Whether there are several values, a tuple.
        flag: The option's name on the command line where it is not the field's.
    """

    help: str
    choices: tuple[Any, ...] = ()
    metavar: str | None = None
    parse: Callable[[str], Any] = str
    many: Many | None = None
    flag: str | None = None


def option(default: Any, help: str, **described: Any) -> Any:
    """A field of a dataclass of options; see :class:`Described`."""
    choices = tuple(described.pop("choices", ()))
    return dataclasses.field(
        default=default, metadata={_KEY: Described(help, choices=choices, **described)}
    )


def described(cls: type) -> dict[str, tuple[Any, Described]]:
    """Name -> default and description, of every option of a dataclass."""
    fields: Iterable[dataclasses.Field[Any]] = dataclasses.fields(cls)
    return {field.name: (field.default, field.metadata[_KEY]) for field in fields}


def flag_of(name: str, about: Described | None = None) -> str:
    """The option on the command line, such as ``--keep-identifiers``."""
    return (about and about.flag) or f"--{name.replace('_', '-')}"


def chosen(values: Any) -> dict[str, Any]:
    """The options of a dataclass that differ from their defaults, by their flag."""
    return {
        flag_of(name, about): getattr(values, name)
        for name, (default, about) in described(type(values)).items()
        if getattr(values, name) != default
    }


def made(cls: type[Options], values: Mapping[str, Any]) -> Options:
    """A dataclass of options from keywords; lists become tuples, one value a tuple of one.

    Raises:
        ConfigError: A value is not one of the legal ones.
    """
    kept: dict[str, Any] = {}
    for name, (default, about) in described(cls).items():
        value = values.get(name, default)
        if about.many and value is not None and not isinstance(value, Mapping):
            is_one = isinstance(value, str) or not isinstance(value, Iterable)
            value = (value,) if is_one else tuple(value)
        elif value is not None and about.parse not in (str, int) and isinstance(value, str):
            value = about.parse(value)
        if about.choices and not about.many and value is not None and value not in about.choices:
            raise ConfigError(
                f"{flag_of(name, about)} {value!r}: legal are {', '.join(map(str, about.choices))}"
            )
        kept[name] = value
    return cls(**kept)


def require_known(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse a name that does not exist, with the nearest that does.

    Raises:
        ConfigError: Names it, and the names that there are.
    """
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(f"{what} {name!r} does not exist{hint} There are {', '.join(known)}")
