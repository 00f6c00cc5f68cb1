"""How is one value of a JSON entry read, and what does the error say if it is wrong?

``where`` begins every message: the file, and which entry of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeGuard, TypeVar

from simfrcnn.errors import AnnotationError
from simfrcnn.records import Prepared
from simfrcnn.settings import InputSettings

E = TypeVar("E", bound=Enum)
V = TypeVar("V")


def present(where: str, entry: Mapping[str, Any], key: str) -> Any:
    value = entry.get(key)
    if value is None:
        raise AnnotationError(f"{where}: '{key}' is missing")
    return value


def whole(where: str, entry: Mapping[str, Any], key: str) -> int:
    value = present(where, entry, key)
    if not is_whole(value):
        raise AnnotationError(f"{where}: '{key}' must be a whole number, not {shown(value)}")
    return int(value)


def is_whole(value: Any) -> TypeGuard[int | float]:
    """Whether a JSON value is a whole number; some tools write 1 as 1.0."""
    return type(value) is int or (type(value) is float and value.is_integer())


def is_finite(value: Any) -> TypeGuard[int | float]:
    """Whether a JSON value is a number; whole ones may be longer than a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def positive(where: str, entry: Mapping[str, Any], key: str) -> int:
    value = whole(where, entry, key)
    if value < 1:
        raise AnnotationError(f"{where}: '{key}' must be at least 1, not {value}")
    return value


def number(where: str, entry: Mapping[str, Any], key: str) -> float:
    value = present(where, entry, key)
    if not is_finite(value):
        raise AnnotationError(f"{where}: '{key}' must be a finite number, not {shown(value)}")
    return float(value)


def above_zero(where: str, entry: Mapping[str, Any], key: str) -> float:
    value = number(where, entry, key)
    if value <= 0:
        raise AnnotationError(f"{where}: '{key}' must be above 0, not {shown(value)}")
    return value


def text(where: str, entry: Mapping[str, Any], key: str) -> str:
    value = present(where, entry, key)
    if not isinstance(value, str) or not value.strip():
        raise AnnotationError(
            f"{where}: '{key}' must be a text that is not empty, not {shown(value)}"
        )
    return value


def optional(
    where: str,
    entry: Mapping[str, Any],
    key: str,
    read: Callable[[str, Mapping[str, Any], str], V],
) -> V | None:
    return None if entry.get(key) is None else read(where, entry, key)


def enum_member(where: str, entry: Mapping[str, Any], key: str, kind: type[E]) -> E | None:
    value = entry.get(key)
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise AnnotationError(
            f"{where}: '{key}' is {shown(value)}; legal are {legal(kind)}"
        ) from None


def legal(kind: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in kind)


def shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."


def read_prepared(where: str, entry: Mapping[str, Any], key: str) -> Prepared:
    """How a stored picture was made, from an object with that key.

    Raises:
        AnnotationError: It is not what ``dataclasses.asdict`` writes of a :class:`Prepared`.
    """
    facts = entry[key]
    where = f"{where}: '{key}'"
    if not isinstance(facts, dict):
        raise AnnotationError(f"{where} must be an object, not {shown(facts)}")
    prepared = Prepared(
        source_height=positive(where, facts, "source_height"),
        source_width=positive(where, facts, "source_width"),
        scale_x=number(where, facts, "scale_x"),
        offset_x=number(where, facts, "offset_x"),
        scale_y=number(where, facts, "scale_y"),
        offset_y=number(where, facts, "offset_y"),
        as_input=optional(where, facts, "as_input", _input_settings),
    )
    if prepared.scale_x == 0 or prepared.scale_y == 0:
        raise AnnotationError(
            f"{where}: 'scale_x' and 'scale_y' must be above 0, or below it in a mirrored picture"
        )
    return prepared


def _input_settings(where: str, entry: Mapping[str, Any], key: str) -> InputSettings:
    facts = entry[key] if isinstance(entry[key], dict) else {}
    size, crops, keeps = (facts.get(k) for k in ("size_px", "crop_to_breast", "keep_aspect"))
    are_flags = isinstance(crops, bool) and isinstance(keeps, bool)
    if not isinstance(size, list) or list(map(type, size)) != [int, int] or not are_flags:
        raise AnnotationError(
            f"{where}: '{key}' must have size_px [height, width], crop_to_breast and keep_aspect, "
            f"not {shown(entry[key])}"
        )
    return InputSettings((size[0], size[1]), bool(crops), bool(keeps))
