"""Who does what is asked for by name? An unknown name is an error, never a last branch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
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
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(str(name), list(registry), n=1)
    hint = f". Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{key} is {name!r}; legal is {' | '.join(registry)}{hint}")
