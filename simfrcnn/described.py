"""How is a setting or an option described in one place, for config, command line and Python?

A field of a frozen dataclass says what it means, what is legal, its config key and its option.
:mod:`simfrcnn.settings` holds the settings; the sources of data sets have :class:`Options`, each
field of which is an option as well as a keyword in Python.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from simfrcnn.registry import illegal

JobStep = Literal["training", "pseudo", "test"]
Many = Literal["words", "commas", "times"]
"""Several values of an option: ``A B``, ``A,B``, or the option once for each."""
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


_LISTS = {str: "a list of texts", int: "a list of whole numbers", float: "a list of finite numbers"}


def is_list_of(kind: type, value: object) -> bool:
    """Whether a value is a list or tuple of texts (str), whole (int) or finite numbers (float).

    >>> is_list_of(float, (40, 200.5)), is_list_of(float, [math.nan]), is_list_of(int, [True])
    (True, False, False)
    """
    return isinstance(value, (list, tuple)) and all(_is_of(kind, each) for each in value)


def _is_of(kind: type, value: object) -> bool:
    if kind is str or isinstance(value, bool):
        return kind is str and isinstance(value, str)
    if kind is int:
        return isinstance(value, Integral)
    return isinstance(value, Real) and -math.inf < cast("float", value) < math.inf


@dataclass(frozen=True)
class Description:
    """What is known of a setting beside its name, type and default.

    Attributes:
        name: Of the field.
        default: Of the field.
        choices: Legal values; empty if it is not a choice.
        help: What it means, as one phrase.
        key: Of the config; None if it has none.
        option: Of the command line; None if it has none.
        each: Of a tuple, the type of its entries, if that is str, int or float; else None.
        is_whole: Whether it is a whole number.
        legal: For numbers.
        unset: What stands for None in the config, whose keys keep their type.
        metavar: What the value is called in the help of the option.
        parse: A word of the command line -> the value.
        many: How several values are given; None if there is one.
        steps: Which steps of a job (see :mod:`simfrcnn.workflows.weak`) a change outdates.
    """

    name: str
    default: Any
    choices: tuple[Any, ...]
    each: type | None
    is_whole: bool
    help: str
    key: str | None
    option: str | None
    legal: Range | None
    unset: Any
    metavar: str | None
    parse: Callable[[str], Any]
    many: Many | None
    steps: tuple[JobStep, ...]

    @property
    def title(self) -> str:
        """How an error names it."""
        return self.key or self.option or self.name

    def check(self, value: Any) -> None:
        """Refuse a value that is not legal.

        Raises:
            ConfigError: Names the key, what is legal and, for words, the nearest one.
        """
        if value is None and self.default is None:
            return
        if self.choices and value not in self.choices:
            words = [str(choice) for choice in self.choices]
            raise illegal(self.title, value, " | ".join(words), words)
        if self.legal is not None and value not in self.legal:
            none = f", or {self.unset} for none in a config" if self.unset is not None else ""
            raise illegal(self.title, value, f"{self.legal}{none}")
        if self.is_whole and not _is_of(int, value):
            raise illegal(self.title, value, "a whole number")
        if isinstance(self.default, bool) and value not in (True, False):
            raise illegal(self.title, value, "True or False")
        if isinstance(self.default, tuple) and isinstance(value, str):
            raise illegal(self.title, value, f"a tuple, such as ({value!r},)")
        if self.each is not None and not is_list_of(self.each, value):
            raise illegal(self.title, value, f"{_LISTS[self.each]}, such as {self._example!r}")

    @property
    def _example(self) -> Any:
        return self.default or ("a", "b")

    def taken(self, value: Any) -> Any:
        """A keyword of Python as the value: several as a tuple, one path from its text."""
        if value is None or isinstance(value, Mapping):
            return value
        if self.many is not None:
            is_one = isinstance(value, str) or not isinstance(value, Iterable)
            return (value,) if is_one else tuple(value)
        is_other = self.parse not in (str, int, float)
        return self.parse(value) if is_other and isinstance(value, str) else value


def described(
    default: T,
    help: str,
    *,
    key: str | None = None,
    option: str | None = None,
    legal: str | None = None,
    unset: Any = None,
    metavar: str | None = None,
    choices: Iterable[Any] = (),
    parse: Callable[[str], Any] | None = None,
    many: Many | None = None,
    steps: tuple[JobStep, ...] = ALL_STEPS,
) -> T:
    """A field of a class of settings or options; the arguments are those of :class:`Description`.

    ``choices`` may be left out where the field's type is a Literal, ``parse`` where it is that of
    the default, and ``option`` in :class:`Options`, where it follows from the name.
    """
    facts = {
        "help": help,
        "key": key,
        "option": option,
        "legal": None if legal is None else Range(legal),
        "unset": unset,
        "metavar": metavar,
        "choices": tuple(choices),
        "parse": parse or (type(default) if type(default) in (int, float) else str),
        "many": many,
        "steps": steps,
    }
    field: T = dataclasses.field(default=default, metadata=facts)
    return field


def descriptions(kind: type) -> tuple[Description, ...]:
    """What is known of every field of such a class, in their order; not of nested settings."""
    return _descriptions(kind)


@cache
def _descriptions(kind: type[Any]) -> tuple[Description, ...]:
    hints = get_type_hints(kind)
    return tuple(
        _description(kind, field, hints[field.name])
        for field in dataclasses.fields(kind)
        if not dataclasses.is_dataclass(field.default)
    )


def _description(kind: type, field: dataclasses.Field[Any], hint: Any) -> Description:
    facts = dict(field.metadata)
    facts["choices"] = get_args(hint) if get_origin(hint) is Literal else facts["choices"]
    first = get_args(hint)[0] if get_origin(hint) is tuple else None
    facts["each"] = first if first in _LISTS else None
    facts["is_whole"] = hint in (int, int | None)
    if issubclass(kind, Options):
        facts["option"] = facts["option"] or f"--{field.name.replace('_', '-')}"
    return Description(name=field.name, default=field.default, **facts)


class Described:
    """Settings that refuse what their fields do not allow, whoever makes them."""

    def __post_init__(self) -> None:
        for each in descriptions(type(self)):
            value = getattr(self, each.name)
            if isinstance(each.default, tuple) and isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, each.name, value)
            each.check(value)


class Options(Described):
    """Options of the command line that are keywords in Python too; their option is their name."""

    def __post_init__(self) -> None:
        for each in descriptions(type(self)):
            object.__setattr__(self, each.name, each.taken(getattr(self, each.name)))
        super().__post_init__()

    def chosen(self) -> dict[str, Any]:
        """Those that differ from their defaults, by their option."""
        return {
            str(each.option): getattr(self, each.name)
            for each in descriptions(type(self))
            if getattr(self, each.name) != each.default
        }

    def words(self) -> tuple[str, ...]:
        """The same as words of a command line."""
        words: list[str] = []
        for each in descriptions(type(self)):
            value = getattr(self, each.name)
            if value == each.default:
                continue
            option = str(each.option)
            if isinstance(value, bool):
                words.append(option)
            elif each.many == "commas":
                words += [option, ",".join(map(str, value))]
            elif each.many == "words":
                words += [option, *map(str, value)]
            else:
                values = value if each.many == "times" else [value]
                words += [word for one in values for word in (option, str(one))]
        return tuple(words)


def made(kind: type[T], given: Mapping[str, Any]) -> T:
    """Options of a class from those of the keywords that are its own.

    Raises:
        ConfigError: A value is not legal.
    """
    return kind(**{d.name: given[d.name] for d in descriptions(kind) if d.name in given})
