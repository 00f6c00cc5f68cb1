"""How is a table of labels read, so that every value knows the file, line and column it is from?"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.errors import AnnotationError, DataError


@dataclass(frozen=True)
class Row:
    """One row: ``where`` is file and line, ``values`` the stripped text by column name."""

    where: str
    line: int
    values: Mapping[str, str]

    def error(self, column: str, legal: str) -> AnnotationError:
        """What is found in a column, and what it should be."""
        return AnnotationError(f"{self.where}: column '{column}' is {self.get(column)!r}: {legal}")

    def get(self, column: str) -> str:
        """The text of a column; empty also where the table lacks it."""
        return self.values.get(column, "")

    def text(self, column: str) -> str:
        """The text of a column that must not be empty."""
        if not self.get(column):
            raise self.error(column, "it must not be empty")
        return self.get(column)

    def one_of(self, column: str, legal: Iterable[str]) -> str:
        """A text out of a few."""
        legal = tuple(legal)
        if self.get(column) not in legal:
            raise self.error(column, f"legal are {', '.join(legal)}")
        return self.get(column)

    def number(self, column: str) -> float:
        """A finite number."""
        text = self.get(column)
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(column, "it must be a number, with a point before the decimals")
        return value

    def whole(self, column: str) -> int:
        """A whole number of at least 1."""
        text = self.get(column)
        if not (text.isascii() and text.isdecimal()) or int(text) < 1:
            raise self.error(column, "it must be a whole number of at least 1")
        return int(text)


@dataclass(frozen=True)
class Table:
    """A table and its rows in file order; names of columns are in lower case."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, required: Sequence[str], *, delimiters: str = ",") -> Table:
    """Read a CSV table whose first line names the columns; empty lines are left out.

    Args:
        path: UTF-8 text, with or without a byte order mark.
        required: Columns that must be there, in lower case.
        delimiters: What may stand between values; the one that the first line has most of is taken.

    Raises:
        DataError: The table cannot be opened.
        AnnotationError: It is no CSV table, names a column twice or not at all, has a line of
            another length, or has no row.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return _table(path, stream.read(), required, delimiters)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not UTF-8 text: save the table as CSV, UTF-8") from error
    except csv.Error as error:
        raise AnnotationError(f"{path}: is not a CSV table ({error})") from error


def _table(path: Path, text: str, required: Sequence[str], delimiters: str) -> Table:
    delimiter = max(delimiters, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in required if name not in columns]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if missing or twice:
        problem = f"has no column {', '.join(missing)}" if missing else f"names {twice[0]!r} twice"
        raise AnnotationError(
            f"{path}: line 1 {problem}; it must name the columns {', '.join(required)}, each "
            f"once, with {' or '.join(map(repr, delimiters))} between them"
        )
    rows = tuple(_rows(path, reader, columns))
    if not rows:
        raise AnnotationError(f"{path}: has no row below the names of its columns")
    return Table(path, tuple(columns), rows)


def _rows(path: Path, reader: Any, columns: Sequence[str]) -> Iterator[Row]:
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        where = f"{path}: line {reader.line_num}"
        if len(values) != len(columns):
            raise AnnotationError(
                f"{where}: {len(values)} values, but line 1 names {len(columns)} columns"
            )
        stripped = (value.strip() for value in values)
        yield Row(where, reader.line_num, dict(zip(columns, stripped, strict=True)))
