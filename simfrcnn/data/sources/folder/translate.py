"""How does a table in a hospital's words become one in ours, line by line?"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from simfrcnn.data.sources.folder.columns import (
    COLUMNS,
    CORNERS,
    FURTHER,
    NAMES,
    SIDES,
    VISIBLE,
    WORDS,
    in_our_spelling,
)
from simfrcnn.data.sources.folder.mapping import BIRADS, LEAVE_OUT, FolderMapping
from simfrcnn.data.sources.folder.words import USUAL
from simfrcnn.data.sources.source import listed
from simfrcnn.data.sources.split_words import part_of
from simfrcnn.data.sources.table import Row, Table, each_good
from simfrcnn.errors import AnnotationError
from simfrcnn.wording import counted

_BIRADS = re.compile(r"(?:bi-?rads|acr)?[\s:]*([0-6][abc]?)", re.IGNORECASE)


@dataclass
class _Seen:
    """How words were read: (column, word, ours) -> rows, and those that were not understood."""

    read: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    n_left_out: int = 0
    n_by_birads: int = 0


def translated(table: Table, mapping: FolderMapping) -> tuple[Table, tuple[str, ...]]:
    """The table in our columns and words, and notes of how it was read.

    Without a mapping file, only capitals are evened out. With one, a word that neither the file nor
    :data:`~simfrcnn.data.sources.folder.words.USUAL` knows is an error, which lists all of them.

    Raises:
        AnnotationError: Columns of the mapping are missing, words are not known, or the size of a
            box is no number above 0.
    """
    _require_columns(table, mapping)
    seen = _Seen()
    columns = dict(mapping.columns)
    columns |= {f"{FURTHER}{name}": column for name, column in _further(table, mapping).items()}
    rows = each_good(table.path, table.rows, lambda row: _translated(row, mapping, columns, seen))
    if seen.unknown:
        raise AnnotationError(_unknown_words(table, mapping, seen))
    used = {*columns.values(), *mapping.visible.values()}
    left = [name for name in table.columns if name and name not in used]
    ours = tuple(name for name in columns if columns[name] in table.columns)
    return dataclasses.replace(table, columns=ours, rows=tuple(row for row in rows if row)), (
        *listed("[column|columns] of the table left aside", sorted(left)),
        *_notes(mapping, seen, table),
    )


def _require_columns(table: Table, mapping: FolderMapping) -> None:
    if mapping.path is None:
        return
    wanted = (mapping.columns, mapping.visible, mapping.attributes)
    named = [column for columns in wanted for column in columns.values()]
    missing = [column for column in named if column not in table.columns]
    if missing:
        raise AnnotationError(
            f"{table.path}: has no column {', '.join(missing)}, which {mapping.path} names; its "
            f"columns are {', '.join(name for name in table.columns if name)}"
        )


def _further(table: Table, mapping: FolderMapping) -> dict[str, str]:
    if not mapping.takes_all:
        return dict(mapping.attributes)
    used = {*mapping.columns.values(), *mapping.visible.values()}
    return {name: name for name in table.columns if name and name not in used}


def _translated(
    row: Row, mapping: FolderMapping, columns: dict[str, str], seen: _Seen
) -> Row | None:
    values = {
        ours: _word(ours, row.get(theirs), mapping, seen)
        for ours, theirs in columns.items()
        if theirs in row.values
    }
    if values.get("label") == LEAVE_OUT:
        seen.n_left_out += 1
        return None
    values |= _by_birads(row, values, mapping, seen)
    values |= _visible(row, mapping)
    given = dataclasses.replace(row, values=values, names=columns)
    if any(values.get(side) for side in SIDES):
        return dataclasses.replace(given, values={**values, **_corners(given)})
    return given


def _word(column: str, text: str, mapping: FolderMapping, seen: _Seen) -> str:
    """A word in ours; what is no word of a known column stays as it is."""
    if column == "split":
        part = mapping.values.get(column, {}).get(text.casefold()) or part_of(text)
        if part not in (None, text):
            seen.read[column, text, str(part)] += 1
        return part or text
    if column not in WORDS:
        return unicodedata.normalize("NFC", text) if column in NAMES else text
    spelt = in_our_spelling(column, text)
    own = mapping.values.get(column, {}).get(text.casefold())
    if own is not None:
        seen.read[column, text, own] += 1
        return own
    if spelt in WORDS[column] or not text or mapping.path is None:
        return spelt
    usual = USUAL[column].get(" ".join(text.casefold().split()))
    if usual is None:
        seen.unknown[column, text] += 1
        return text
    seen.read[column, text, usual] += 1
    return usual


def _visible(row: Row, mapping: FolderMapping) -> dict[str, str]:
    """The columns of `visible` as column `labels`: ``malignant=1;benign=0``."""
    if not mapping.visible:
        return {}
    for name, column in mapping.visible.items():
        if (text := row.get(column)) and text.casefold() not in VISIBLE:
            raise AnnotationError(
                f"{row.where}: column '{column}' is {text!r}, and says whether something {name} is "
                f"visible in the image: legal are {', '.join(VISIBLE)}, and nothing where that is "
                "not known"
            )
    stated = ((name, row.get(column)) for name, column in mapping.visible.items())
    return {"labels": ";".join(f"{name}={text}" for name, text in stated if text)}


def _by_birads(
    row: Row, values: dict[str, str], mapping: FolderMapping, seen: _Seen
) -> dict[str, str]:
    """The label that a BI-RADS category gives where no label stands.

    From the threshold on malignant; 0 and none unlabelled; below it benign where something is
    boxed, else 1 and 2 normal and 3 benign: probably benign is not *known* to be no cancer.
    """
    if "birads" not in mapping.columns or values.get("label"):
        return {}
    stated = values["birads"]
    match = _BIRADS.fullmatch(stated)
    category = match[1].lower() if match else ""
    threshold = str(mapping.malignant_from)
    name = mapping.columns["birads"]
    if stated and category not in BIRADS:
        raise AnnotationError(
            f"{row.where}: column '{name}' is {stated!r}: legal are {', '.join(BIRADS)}"
        )
    if category == "4" and threshold in ("4b", "4c"):
        raise AnnotationError(
            f"{row.where}: column '{name}' is '4', which may be below {threshold} or not: state "
            "`malignant_from: 4`, or 4a, 4b or 4c in the table"
        )
    seen.n_by_birads += 1
    if category in ("", "0"):
        return {"label": "unlabelled"}
    if category >= ("4" if threshold == "4a" else threshold):
        return {"label": "malignant"}
    is_boxed = any(values.get(name) for name in (*CORNERS, *SIDES, "outline"))
    return {"label": "normal" if category in ("1", "2") and not is_boxed else "benign"}


def _corners(row: Row) -> dict[str, str]:
    """x, y, w, h as x1, y1, x2, y2, written as the row's other numbers are."""
    missing = [side for side in SIDES if not row.get(side)]
    if missing:
        raise row.error(missing[0], f"a box needs {', '.join(SIDES)}; a row without one, none")
    x, y, width, height = (row.number(side) for side in SIDES)
    for side, value in (("w", width), ("h", height)):
        if value <= 0:
            raise row.error(side, "it must be above 0")
    mark = "," if row.decimal == "," and not row.is_of_sheet else "."
    corners = [repr(side).replace(".", mark) for side in (x, y, x + width, y + height)]
    return dict(zip(CORNERS, corners, strict=True))


def _unknown_words(table: Table, mapping: FolderMapping, seen: _Seen) -> str:
    lines = [
        f"\n  values: {column}: {word!r} in {counted(count, '[row|rows]')} of column "
        f"'{mapping.columns[column]}'; legal are {', '.join(WORDS[column])}"
        + (f", {LEAVE_OUT}" if column == "label" else "")
        for (column, word), count in seen.unknown.most_common()
    ]
    return (
        f"{table.path}: {counted(len(lines), '[word is|words are]')} not known; say in "
        f"{mapping.path} what each means:" + "".join(lines)
    )


def _notes(mapping: FolderMapping, seen: _Seen, table: Table) -> tuple[str, ...]:
    words = [
        f"{mapping.columns[column]} {word!r} is {ours} ({counted(count, '[row|rows]')})"
        for (column, word, ours), count in sorted(seen.read.items())
    ]
    encoding = table.encoding
    return (
        *((f"words of the table: {'; '.join(words)}",) if words else ()),
        *(
            (
                f"{counted(seen.n_by_birads, '[row has|rows have]')} no label of [its|their] own: "
                f"malignant from BI-RADS {mapping.malignant_from} on",
            )
            if seen.n_by_birads
            else ()
        ),
        *(
            (f"{counted(seen.n_left_out, '[row|rows]')} left out, as the mapping says",)
            if seen.n_left_out
            else ()
        ),
        *(
            (f"the table is not UTF-8 and was read as {encoding}: look at letters such as \u00e4",)
            if encoding not in (None, "utf-8")
            else ()
        ),
    )


def unmapped_columns(table: Table, ignored: Sequence[str]) -> list[str]:
    """Columns that a table without a mapping file must not have."""
    return [name for name in table.columns if name not in {*COLUMNS, *ignored}]
