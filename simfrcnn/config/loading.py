"""How does a YAML file with overrides become a config?

An error names the key or the file, what is legal, and the nearest known key.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simfrcnn.config.checks import LISTS_OF_NAMES, check_config
from simfrcnn.config.shipped import find_config, named_in
from simfrcnn.errors import ConfigError
from simfrcnn.trees import leaves_of, value_of
from simfrcnn.yaml_text import read_mapping

BASE_KEY = "_BASE_"

Overrides = Mapping[str, Any] | Sequence[str]
"""Key -> value, or keys and values in turn as on the command line."""

MEANT_BEFORE = {"MODEL.SECOND_LOOK.FIRST_EXPONENT": 1.0}
"""Keys that the config of an earlier version's model lacks, where it meant another value than
today's default."""


def load_config(
    cfg: Any,
    config_file: str | Path | None,
    overrides: Overrides = (),
    *,
    overlay: Sequence[FileKey] = (),
) -> Any:
    """Merge a YAML file and overrides into ``cfg`` and check it.

    Args:
        cfg: A tree with every key that the engine honours; it is changed and returned frozen.
        config_file: YAML, with ``_BASE_`` relative to itself, or the name of a config of simfrcnn;
            None takes the defaults.
        overrides: Key -> value; or keys and values in turn, as on the command line: a word for a
            text stays as it is, for numbers, truths and lists it is read as YAML.
        overlay: Keys of another file that override those of ``config_file``, and that the
            overrides override (see :func:`read_keys`).

    Raises:
        ConfigError: A missing or malformed file, an unknown key (with the nearest known one), a
            value of another type, or a combination that :func:`check_config` refuses.
    """
    if config_file is not None:
        for path, tree in _read_with_bases(find_config(config_file), ()):
            _merge(cfg, tree, str(path))
    for entry in overlay:
        set_value(cfg, entry.key, entry.value, str(entry.path))
    pairs = overrides.items() if isinstance(overrides, Mapping) else override_pairs(overrides)
    for key, given in pairs:
        is_word = isinstance(given, str) and not isinstance(overrides, Mapping)
        value = _of_word(cfg, key, given) if is_word else given
        _merge(cfg, _nested(key, value), "the overrides")
    check_config(cfg)
    cfg.freeze()
    return cfg


def override_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """KEY VALUE words as pairs.

    Raises:
        ConfigError: No keys and values in turn, or an option that stands where a key should.
    """
    if isinstance(words, str) or not all(isinstance(key, str) for key in words[::2]):
        raise ConfigError(
            f"overrides is {words!r}; legal are a mapping, such as {{'TEST.FLIPS': 'all'}}, and a "
            "list of keys and values in turn, such as ['TEST.FLIPS', 'all']"
        )
    late = next((word for word in words[::2] if word.startswith("-")), None)
    if late is not None:
        raise ConfigError(
            f"{late} stands behind KEY VALUE words, where it would be a key: options come first, "
            "KEY VALUE words at the end of the line"
        )
    if len(words) % 2:
        raise ConfigError(
            f"overrides come as KEY VALUE pairs; found {len(words)} words, the last is "
            f"{words[-1]!r}"
        )
    return list(zip(words[::2], words[1::2], strict=True))


def overridden_keys(overrides: Overrides) -> list[str]:
    """The keys that overrides change.

    Raises:
        ConfigError: As :func:`override_pairs` says.
    """
    if isinstance(overrides, Mapping):
        return list(overrides)
    return [key for key, _ in override_pairs(overrides)]


def with_further(overrides: Overrides, further: Mapping[str, Any]) -> Overrides:
    """Overrides, and others that go over them."""
    if isinstance(overrides, Mapping):
        return {**overrides, **further}
    return [*overrides, *itertools.chain.from_iterable(further.items())]


@dataclass(frozen=True)
class FileKey:
    """One key as a YAML file sets it: the file, the dotted key, the value."""

    path: Path
    key: str
    value: Any


def read_keys(config_file: Path) -> list[FileKey]:
    """Every key that a file and its ``_BASE_`` files set, bases first, whatever the keys are.

    For files that are no config of a model, such as a job's.

    Raises:
        ConfigError: A missing or malformed file.
    """
    return [
        FileKey(path, key, value)
        for path, tree in _read_with_bases(find_config(config_file), ())
        for key, value in leaves_of(tree)
    ]


def stored_keys(path: Path, text: str) -> list[FileKey]:
    """Every key of a whole config that a run stored, perhaps of an earlier version.

    A key that it lacks and that meant another value then has that value (:data:`MEANT_BEFORE`).

    Args:
        path: Of the file that holds it.
        text: The config, as YAML.
    """
    keys = {**MEANT_BEFORE, **dict(leaves_of(yaml.safe_load(text)))}
    return [FileKey(path, key, value) for key, value in keys.items()]


def set_keys(cfg: Any, defaults: Any) -> dict[str, Any]:
    """The keys in which a config differs from a tree of defaults, dotted, in plain types."""
    before = dict(leaves_of(yaml.safe_load(defaults.dump())))
    after = leaves_of(yaml.safe_load(cfg.dump()))
    return {key: value for key, value in after if key not in before or before[key] != value}


def changed_keys(
    path: Path, cfg: Any, *, defaults: Any = None, ignored: Collection[str] = ()
) -> list[str]:
    """What ``cfg`` sets otherwise than the resolved config in a file: key, value there, value here.

    Args:
        path: The file.
        cfg: The config of now.
        defaults: A tree of defaults: a key that the file lacks, being older, counts as left at its
            default.
        ignored: Keys that may differ.

    Raises:
        ConfigError: The file is missing or not a config.
    """
    recorded, after = dict(leaves_of(read_mapping(path, "config file"))), _leaves(cfg)
    before = {**(_leaves(defaults) if defaults is not None else {}), **recorded}
    return [
        f"{key} was {before.get(key)}, is {after.get(key)}"
        for key in sorted({*recorded, *after} - set(ignored))
        if before.get(key) != after.get(key)
    ]


def _read_with_bases(path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases as (path, tree), bases first: an error can name the right file."""
    resolved = path.expanduser()
    if resolved in seen:
        raise ConfigError(f"{path}: {BASE_KEY} leads back to this file")
    tree = read_mapping(resolved, "config file")
    bases = tree.pop(BASE_KEY, [])
    trees: list[tuple[Path, dict[str, Any]]] = []
    for base in [bases] if isinstance(bases, str) else bases:
        trees.extend(_read_with_bases(named_in(base, resolved), (*seen, resolved)))
    return [*trees, (resolved, tree)]


def _merge(cfg: Any, tree: dict[str, Any], where: str) -> None:
    for key, value in leaves_of(tree):
        set_value(cfg, key, value, where)


def _leaves(cfg: Any) -> dict[str, Any]:
    """All keys of a config with their values, as a file would give them back."""
    return dict(leaves_of(yaml.safe_load(cfg.dump())))


def _nested(key: str, value: Any) -> dict[str, Any]:
    tree: Any = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return dict(tree)


def _of_word(cfg: Any, key: str, word: str) -> Any:
    """What a word of the command line says, given what the key holds now.

    A word for a text is that text: to YAML 0123 would be the number 83, 1:30 the number 90, and
    a # would end it. YAML's quotes around the whole of it are taken off. Names in a list are texts
    too. Everything else is read as YAML; Python's tuples, such as (512,512), are lists.
    """
    try:
        old = value_of(cfg, key)
    except (KeyError, TypeError):
        return word  # an unknown key, which set_value refuses
    if isinstance(old, str):
        return _unquoted(word)
    listed = f"[{word[1:-1].rstrip(',')}]" if word.startswith("(") and word.endswith(")") else word
    holds_names = isinstance(old, (tuple, list)) and (
        key in LISTS_OF_NAMES or any(isinstance(each, str) for each in old)
    )
    try:
        if not holds_names:
            return yaml.safe_load(listed)
        names = yaml.load(listed, Loader=yaml.BaseLoader) if listed else []
    except yaml.YAMLError:
        return word
    return names if isinstance(names, list) else (_unquoted(word),)


def _unquoted(word: str) -> str:
    if len(word) < 2 or word[0] != word[-1] or word[0] not in "'\"":
        return word
    try:
        inner = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    return inner if isinstance(inner, str) else word


def set_value(cfg: Any, dotted: str, value: Any, where: str) -> None:
    """Set a dotted key of a config tree, in place; ``where`` says who wants it.

    Raises:
        ConfigError: An unknown key, with the nearest known one, or a value of another type.
    """
    node, parts = cfg, dotted.split(".")
    for depth, part in enumerate(parts[:-1]):
        if part not in node or not isinstance(node[part], dict):
            raise _unknown(cfg, ".".join(parts[: depth + 1]), dotted, where)
        node = node[part]
    if parts[-1] not in node:
        raise _unknown(cfg, dotted, dotted, where)
    old = node[parts[-1]]
    if isinstance(old, dict):
        raise ConfigError(f"{dotted} in {where} is a group of keys; set one of {sorted(old)}")
    node[parts[-1]] = _converted(value, old, dotted, where)


def _converted(value: Any, old: Any, key: str, where: str) -> Any:
    """Take the value if it is of the default's kind: int for float, list for tuple, and back."""
    if value is None and isinstance(old, str):
        return ""
    if isinstance(old, str) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(old, bool) or isinstance(value, bool):
        legal = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, float):
        value, legal = _as_float(value)
    elif isinstance(old, (tuple, list)):
        if isinstance(value, str):
            value = (value,)
        legal = isinstance(value, (tuple, list))
        value = type(old)(value) if legal else value
    else:
        legal = isinstance(value, type(old))
    if not legal:
        raise ConfigError(
            f"{key} in {where} is {value!r} ({type(value).__name__}); legal is a "
            f"{type(old).__name__}, such as {old!r}"
        )
    return value


def _as_float(value: Any) -> tuple[Any, bool]:
    """YAML reads 1e-4 as text; a number is meant."""
    try:
        return float(value), not isinstance(value, (list, tuple, dict)) and value is not None
    except (TypeError, ValueError):
        return value, False


def _unknown(cfg: Any, found: str, dotted: str, where: str) -> ConfigError:
    known = [key for key, _ in leaves_of(cfg)]
    near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
    leaf = dotted.rsplit(".", 1)[-1]
    near = near or [key for key in known if key.rsplit(".", 1)[-1] == leaf][:1]
    hint = f" Did you mean {near[0]}?" if near else ""
    return ConfigError(f"unknown config key {found} in {where}.{hint}")
