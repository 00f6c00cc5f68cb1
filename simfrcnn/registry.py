"""Who does what is asked for by name? An unknown name is an error, never a last branch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from simfrcnn.errors import ConfigError

K = TypeVar("K", bound=str)
T = TypeVar("T")


def look_up(registry: Mapping[K, T], name: K, key: str) -> T:
    """The entry of a registry.

    Args:
        registry: Name -> what has it, in the order in which an error lists the names.
        name: As a config or a caller gives it.
        key: What is named so: the config key.

    Raises:
        ConfigError: There is no such entry; says which there are, and the nearest.
    """
    require_known(key, [name], registry)
    return registry[name]


def require_known(key: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that do not exist; ``key`` is what is named so.

    Raises:
        ConfigError: Says the first of them, which there are, and the nearest.
    """
    for name in names:
        if name not in known:
            raise illegal(key, name, " | ".join(known), known)


def illegal(title: str, value: object, legal: str, near_to: Iterable[str] = ()) -> ConfigError:
    """The error of a value that is not legal, with the nearest of ``near_to``."""
    near = difflib.get_close_matches(str(value), list(near_to), n=1)
    if isinstance(value, float) and math.isinf(value) and "finite" not in legal:
        legal = f"{legal}, and finite"
    hint = f". Did you mean {near[0]}?" if near else ""
    return ConfigError(f"{title} is {value!r}; legal is {legal}{hint}")
