"""How is YAML read, so that a key that stands twice is an error?"""

from __future__ import annotations

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
    loader = (_TEXTS if texts else _PLAIN)(text)
    try:
        node = loader.get_single_node()
        _require_each_key_once(node, "", set(), ())
        return None if node is None else loader.construct_document(node)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    finally:
        loader.dispose()


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


def _require_each_key_once(
    node: yaml.Node | None, prefix: str, leaves: set[str], above: tuple[yaml.Node, ...]
) -> None:
    """``SOLVER.MAX_ITER: 4`` beside ``SOLVER: {MAX_ITER: 8}`` are two values of one key, too."""
    if node is None or node in above:  # nothing, or an anchor within itself
        return
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _require_each_key_once(each, "", set(), above)
    if not isinstance(node, yaml.MappingNode):
        return
    own: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):  # refused when it is constructed
            continue
        place = f"{prefix}{key.value}"
        is_leaf = not isinstance(value, yaml.MappingNode)
        if place in own or (is_leaf and place in leaves):
            line = key.start_mark.line + 1
            raise ConfigError(f"{place!r} is there twice (line {line}); keep one of them")
        own.add(place)
        if is_leaf:
            leaves.add(place)
        _require_each_key_once(value, f"{place}.", leaves, above)
