"""How is a ladder file read, so that a key that stands twice is an error?"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from simfrcnn.errors import ConfigError


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain YAML in which a key that stands twice is an error: the second would win silently."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):  # refused by construct_mapping
            continue
        if key.value in seen:
            raise ConfigError(f"{key.value!r} is there twice (line {key.start_mark.line + 1})")
        seen.add(key.value)
    mapping: dict[Hashable, Any] = loader.construct_mapping(node, deep=True)
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> Any:
    """The content of a ladder file.

    Raises:
        ConfigError: It does not exist, is not plain YAML, or holds a key twice.
    """
    if not path.is_file():
        raise ConfigError(f"ladder file {path} does not exist")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"ladder file {path} is not plain YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"ladder file {path}: {error}") from error
