"""How do a hospital's own columns and words become ours?

A mapping file is YAML. Every key is optional; columns are named without regard to capitals:

    table: findings.xlsx           # relative to the mapping file
    sheet: Findings                # of a workbook; the first by default
    encoding: cp1250               # of a text file that is neither UTF-8 nor cp1252
    decimal: ","                   # before decimals, where numbers can be read in two ways
    columns:                       # ours: theirs
      sop_instance_uid: SOPInstanceUID      # or file
      patient: PatID
      label: Histology
      birads: BI-RADS
      x: Left                      # x, y, w, h or x1, y1, x2, y2
      y: Top
      w: Width
      h: Height
    values:                        # column: their word: ours; "" is the empty cell
      label: {"B3 lesion": benign, "": unlabelled, "duplicate": leave_out}
    visible: {malignant: Seen}     # category: column that says 1 or 0 of the image, or is empty
    malignant_from: 4              # the lowest malignant BI-RADS, where a label is empty
    attributes: {age: Age, implant: Implant}      # or a list of columns, or all
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from simfrcnn.data.sources.folder.columns import (
    CATEGORIES,
    COLUMNS,
    CORNERS,
    KEYS,
    MAPPED,
    SIDES,
    WORDS,
)
from simfrcnn.errors import ConfigError
from simfrcnn.registry import require_known
from simfrcnn.yaml_text import parsed

LEAVE_OUT = "leave_out"
"""The word of `values: label` for rows that are not to be used."""
BIRADS = ("0", "1", "2", "3", "4", "4a", "4b", "4c", "5", "6")
THRESHOLDS = BIRADS[3:-1]
_KEYS = (
    *("table", "sheet", "encoding", "decimal", "columns"),
    *("values", "visible", "malignant_from", "attributes"),
)


@dataclass(frozen=True)
class FolderMapping:
    """What a mapping file says; ``columns`` is ours -> theirs, in small letters.

    ``values`` is column -> word in small letters -> ours. ``visible`` is category -> column that
    says whether such a finding is visible in the image. ``attributes`` is name -> column;
    ``takes_all`` carries every further column. ``path`` is None where there is no file: columns
    then have our names.
    """

    path: Path | None = None
    table: Path | None = None
    sheet: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: {name: name for name in COLUMNS})
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    visible: Mapping[str, str] = field(default_factory=dict)
    malignant_from: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    takes_all: bool = False


def read_mapping(path: Path) -> FolderMapping:
    """Read a mapping file.

    Raises:
        ConfigError: It cannot be opened, is no YAML, or has a key, column or word that is not
            known; names the nearest.
    """
    tree = _tree(path)
    require_known(f"{path}: the key", tree, _KEYS)
    columns = {ours: name.lower() for ours, name in _texts(path, tree, "columns").items()}
    require_known(f"{path}: columns: the column", columns, MAPPED)
    visible = {name: column.lower() for name, column in _texts(path, tree, "visible").items()}
    require_known(f"{path}: visible: the category", visible, tuple(CATEGORIES.values()))
    _require_whole(path, columns, tree)
    further = tree.get("attributes") or {}
    if isinstance(further, list):
        further = {str(name).strip().lower(): name for name in further}
    takes_all = further == "all"
    names = {} if takes_all else _texts(path, {"attributes": further}, "attributes")
    table = _text(path, tree, "table")
    return FolderMapping(
        path=path,
        table=None if table is None else path.parent / table,
        sheet=_text(path, tree, "sheet"),
        encoding=_text(path, tree, "encoding"),
        decimal=_word(path, tree, "decimal", (".", ",")),
        columns=columns,
        values=_values(path, tree),
        visible=visible,
        malignant_from=_word(path, tree, "malignant_from", THRESHOLDS),
        attributes={name: column.lower() for name, column in names.items()},
        takes_all=takes_all,
    )


def _tree(path: Path) -> dict[str, Any]:
    try:
        # Texts stay texts: `no`, `4` and `1:30` are words of a hospital.
        tree = parsed(path.read_text(encoding="utf-8"), path, texts=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML in UTF-8 ({error})") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: is no mapping file, which is YAML with some of the keys {', '.join(_KEYS)}: "
            "see docs/datasets.md"
        )
    return tree


def _text(path: Path, tree: Mapping[str, Any], key: str) -> str | None:
    value = tree.get(key)
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} must be one text")
    return value


def _word(path: Path, tree: Mapping[str, Any], key: str, legal: tuple[str, ...]) -> str | None:
    value = _text(path, tree, key)
    if value is not None and value.lower() not in legal:
        raise ConfigError(f"{path}: {key} is {value!r}; legal are {', '.join(legal)}")
    return value and value.lower()


def _texts(path: Path, tree: Mapping[str, Any], key: str) -> dict[str, str]:
    entries = tree.get(key) or {}
    if not isinstance(entries, dict) or not all(isinstance(v, str) for v in entries.values()):
        raise ConfigError(f"{path}: {key} must be lines `name: column of the table`")
    return {str(name): value.strip() for name, value in entries.items()}


def _values(path: Path, tree: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = {}
    known = (*WORDS, "split")
    entries = tree.get("values") or {}
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: values must be lines `column: {{their word: ours}}`")
    require_known(f"{path}: values: the column", entries, known)
    for column in entries:
        words = _texts(path, entries, column)
        legal = (*WORDS.get(column, ("train", "val", "test")),)
        legal = (*legal, LEAVE_OUT) if column == "label" else legal
        require_known(f"{path}: values: {column}: the word", words.values(), legal)
        values[column] = {theirs.strip().casefold(): ours for theirs, ours in words.items()}
    return values


def _require_whole(path: Path, columns: Mapping[str, str], tree: Mapping[str, Any]) -> None:
    """Refuse a mapping that names no image, no label, or a part of a box; all at once."""
    problems = []
    if "labels" in columns and tree.get("visible"):
        problems.append("give labels of columns, or visible, not both: they say the same")
    if not set(KEYS) & columns.keys():
        problems.append(f"columns needs {' or '.join(KEYS)}: which image a row is about")
    if not {"label", "birads"} & columns.keys():
        problems.append("columns needs label or birads: what the row says")
    if ("birads" in columns) != ("malignant_from" in tree):
        problems.append(
            "birads of columns and malignant_from go together: the lowest BI-RADS that is "
            f"malignant, one of {', '.join(THRESHOLDS)}"
        )
    for names in (CORNERS, SIDES):
        given = [name for name in names if name in columns]
        if given and len(given) < len(names):
            problems.append(f"a box needs all of {', '.join(names)}; columns has {given}")
    if set(CORNERS) & columns.keys() and set(SIDES) & columns.keys():
        problems.append(f"give boxes as {', '.join(CORNERS)} or as {', '.join(SIDES)}, not both")
    if problems:
        raise ConfigError(f"{path}: " + "".join(f"\n  {problem}" for problem in problems))
