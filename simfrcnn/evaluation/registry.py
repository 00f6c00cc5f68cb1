"""How is one of several named ways chosen, so that a wrong name is never another way?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from simfrcnn.errors import ConfigError

T = TypeVar("T")
K = TypeVar("K", bound=str)


def chosen(known: Mapping[K, T], name: K, what: str) -> T:
    """The entry of that name.

    Args:
        known: All entries, by name.
        name: As somebody wrote it.
        what: What is chosen, for the message: its config key if there is one.

    Raises:
        ConfigError: There is none; says which there are, and which one may have been meant.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"{what} {name!r} is not known; {hint}legal are {', '.join(known)}")
