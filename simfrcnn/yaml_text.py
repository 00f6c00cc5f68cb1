"""How is YAML read, so that a key that stands twice is an error?"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from simfrcnn.errors import ConfigError

# libyaml's loaders read the same language ten times as fast, where PyYAML was built with it.
_PLAIN: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXTS: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def parsed(text: str, where: object, *, texts: bool = False) -> Any:
    """What a YAML text holds. A key that stands twice is an error: the second would win silently.

    Args:
        text: Plain YAML.
        where: What holds it, for the error, such as a path.
        texts: Numbers and truths stay the text that is written: ``0123``, ``no`` and ``1:30``.

    Raises:
        ConfigError: A mapping holds a key twice.
        yaml.YAMLError: The text is not plain YAML.

    Example:
        >>> parsed("size: [512, 320]", "sizes.yaml")
        {'size': [512, 320]}
        >>> parsed("aet: 0123", "node.yaml", texts=True)
        {'aet': '0123'}
    """
    try:
        return yaml.load(text, Loader=_Texts if texts else _Plain)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The keys of a YAML file; an empty file has none.

    Args:
        path: Of the file.
        what: The kind of file, for an error, such as ``config file``.

    Raises:
        ConfigError: It does not exist, is not plain YAML, holds no mapping, or a key twice.
    """
    where = f"{what} {path}"
    if not path.is_file():
        raise ConfigError(f"{where} does not exist")
    try:
        tree = parsed(path.read_text(encoding="utf-8"), where)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is not plain YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} must hold a mapping of keys, not {type(tree).__name__}")
    return tree


class _Plain(_PLAIN):  # type: ignore[misc]
    pass


class _Texts(_TEXTS):  # type: ignore[misc]
    pass


def _unique_mapping(loader: Any, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):  # refused by construct_mapping
            continue
        if key.value in seen:
            line = key.start_mark.line + 1
            raise ConfigError(f"{key.value!r} is there twice (line {line}); keep one of them")
        seen.add(key.value)
    mapping: dict[Hashable, Any] = loader.construct_mapping(node, deep=True)
    return mapping


for _loader in (_Plain, _Texts):
    _loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
