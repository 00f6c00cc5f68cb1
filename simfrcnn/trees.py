"""How are mappings within mappings read, such as configs, options and facts?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def value_of(tree: Any, key: str) -> Any:
    """What a tree, such as a config, holds for a dotted key."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def leaves_of(
    tree: Mapping[str, Any], prefix: str = "", separator: str = "."
) -> Iterator[tuple[str, Any]]:
    """Each key down to a value that is not a mapping, with that value.

    Example:
        >>> list(leaves_of({"MODEL": {"DEVICE": "cpu"}, "SEED": 0}))
        [('MODEL.DEVICE', 'cpu'), ('SEED', 0)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves_of(value, f"{prefix}{key}{separator}", separator)
        else:
            yield f"{prefix}{key}", value


def without_tuples(value: Any) -> Any:
    """The value with lists for tuples, which YAML and JSON do not have."""
    return [without_tuples(each) for each in value] if isinstance(value, (list, tuple)) else value
