"""How is a setting described in one place: meaning, legal values, config key, option, steps?

:mod:`simfrcnn.settings` uses it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from simfrcnn.errors import ConfigError

JobStep = Literal["training", "pseudo", "test"]
T = TypeVar("T")

ALL_STEPS: tuple[JobStep, ...] = get_args(JobStep)


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, written as in mathematics, with or without a word before.

    >>> 0 in Range("a score in (0, 1]"), 1 in Range("a score in (0, 1]")
    (False, True)
    >>> str(Range("(0, 1]")), str(Range("[1, inf)"))
    ('a number in (0, 1]', 'at least 1')
    """

    text: str

    def __contains__(self, value: object) -> bool:
        if type(value) is bool or not isinstance(value, Real):
            return False
        opening, low, high, closing = self._parts()
        number = float(value)
        above = number > float(low) if opening == "(" else number >= float(low)
        return above and (number < float(high) if closing == ")" else number <= float(high))

    def __str__(self) -> str:
        opening, low, high, _ = self._parts()
        if self.text[0] not in "[(":
            return self.text
        if high == "inf":
            return f"above {low}" if opening == "(" else f"at least {low}"
        return f"a number in {self.text}"

    def _parts(self) -> tuple[str, str, str, str]:
        parts = re.search(r"([\[(])(\S+), (\S+)([\])])$", self.text)
        assert parts is not None, self.text
        return parts[1], parts[2], parts[3], parts[4]


@dataclass(frozen=True)
class Description:
    """What is known of a setting beside its name, type and default.

    Attributes:
        name: Of the field.
        default: Of the field.
        choices: Legal words, from the field's type; empty if it is not a choice.
        help: What it means, as one phrase.
        key: Of the config; None if it has none.
        option: Of the command line; None if it has none.
        legal: For numbers.
        unset: What stands for None in the config, whose keys keep their type.
        metavar: What the value is called in the help of the option.
        is_repeated: The option of a tuple is given once for each element, not with all at once.
        steps: Which steps of a job (see :mod:`simfrcnn.workflows.weak`) a change outdates.
    """

    name: str
    default: Any
    choices: tuple[str, ...]
    help: str
    key: str | None
    option: str | None
    legal: Range | None
    unset: Any
    metavar: str | None
    is_repeated: bool
    steps: tuple[JobStep, ...]

    @property
    def title(self) -> str:
        """How an error names it."""
        return self.key or self.name

    def check(self, value: Any) -> None:
        """Refuse a value that is not legal.

        Raises:
            ConfigError: Names the key, what is legal and, for words, the nearest one.
        """
        if value is None and self.default is None:
            return
        if self.choices and value not in self.choices:
            raise illegal(self.title, value, " | ".join(self.choices), self.choices)
        if self.legal is not None and value not in self.legal:
            none = f", or {self.unset} for none" if self.unset is not None else ""
            raise illegal(self.title, value, f"{self.legal}{none}")
        if type(self.default) is int and not isinstance(value, Integral):
            raise illegal(self.title, value, "a whole number")
        if isinstance(self.default, bool) and value not in (True, False):
            raise illegal(self.title, value, "True or False")
        if isinstance(self.default, tuple) and isinstance(value, str):
            raise illegal(self.title, value, f"a tuple, such as ({value!r},)")


def described(
    default: T,
    help: str,
    *,
    key: str | None = None,
    option: str | None = None,
    legal: str | None = None,
    unset: Any = None,
    metavar: str | None = None,
    is_repeated: bool = False,
    steps: tuple[JobStep, ...] = ALL_STEPS,
) -> T:
    """A field of a settings class; the arguments are those of :class:`Description`."""
    facts = {
        "help": help,
        "key": key,
        "option": option,
        "legal": None if legal is None else Range(legal),
        "unset": unset,
        "metavar": metavar,
        "is_repeated": is_repeated,
        "steps": steps,
    }
    field: T = dataclasses.field(default=default, metadata=facts)
    return field


def descriptions(kind: type) -> tuple[Description, ...]:
    """What is known of every field of a settings class, in their order; not of nested settings."""
    return _descriptions(kind)


@cache
def _descriptions(kind: type[Any]) -> tuple[Description, ...]:
    hints = get_type_hints(kind)
    return tuple(
        Description(
            name=field.name,
            default=field.default,
            choices=get_args(hint) if get_origin(hint := hints[field.name]) is Literal else (),
            **field.metadata,
        )
        for field in dataclasses.fields(kind)
        if not dataclasses.is_dataclass(field.default)
    )


def illegal(title: str, value: Any, legal: str, near_to: Iterable[str] = ()) -> ConfigError:
    """The error of a value that is not legal, with the nearest of ``near_to``."""
    near = difflib.get_close_matches(str(value), list(near_to), n=1)
    hint = f". Did you mean {near[0]}?" if near else ""
    return ConfigError(f"{title} is {value!r}; legal is {legal}{hint}")


class Described:
    """Settings that refuse what their fields do not allow, whoever makes them."""

    def __post_init__(self) -> None:
        for each in descriptions(type(self)):
            value = getattr(self, each.name)
            if isinstance(each.default, tuple) and isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, each.name, value)
            each.check(value)
