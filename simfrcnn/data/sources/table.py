"""How is a table of labels read, so that every value knows the file, line and column it is from?"""

from __future__ import annotations

import codecs
import csv
import decimal as decimals
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.images.names import files_below
from simfrcnn.wording import counted, first_few

Item = TypeVar("Item")
Value = TypeVar("Value")
Decimal = str | None
"""What stands before decimals: a point, a comma, or None where each number shows it."""
_N_SHOWN = 20
_BYTE_ORDER_MARK = "\ufeff"
_MANY_ENCODINGS = ("utf-8-sig", "cp1252")
_DIGITS_OF_A_SHEET = 15
_THOUSANDS = re.compile(r"[-+]?\d{1,3},\d{3}")
_POINTED_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")


@dataclass(frozen=True)
class Row:
    """One row: ``where`` is file and line, ``values`` the stripped text by column name.

    ``names`` are the table's own names of columns, for messages, where they are others.
    """

    where: str
    line: int
    values: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)
    decimal: Decimal = "."
    is_of_sheet: bool = False
    """Numbers of a spreadsheet have a point before the decimals, whatever ``decimal`` is."""

    def error(self, column: str, legal: str) -> AnnotationError:
        """What is found in a column, and what it should be."""
        name = self.names.get(column, column)
        return AnnotationError(f"{self.where}: column '{name}' is {self.get(column)!r}: {legal}")

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
        text = self._with_point(column)
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

    def _with_point(self, column: str) -> str:
        text = self.get(column)
        if self.decimal == "," and not self.is_of_sheet and _POINTED_THOUSANDS.fullmatch(text):
            raise self.error(
                column,
                "decimals stand behind a comma here (`decimal: ','`), so the point seems to stand "
                "after thousands: write numbers without thousands' marks",
            )
        if "," not in text or "." in text or self.decimal == ".":
            return text
        if self.decimal is None and _THOUSANDS.fullmatch(text):
            raise self.error(
                column,
                "the comma can stand before decimals or after thousands: write numbers without "
                "thousands' marks, or say `decimal: ','` in a mapping file (--mapping)",
            )
        return text.replace(",", ".")


@dataclass(frozen=True)
class Table:
    """A table and its rows in file order; names of columns are in lower case.

    ``encoding`` is that of a text file, None of a spreadsheet.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    encoding: str | None = None


def find_table(root: Path, name: str, of: str) -> Path:
    """The one table of a name: in ``root``, else anywhere below it.

    Args:
        root: The download of a data set, or a folder that holds it.
        name: Of the file, such as ``train.csv``.
        of: The data set, for messages.

    Raises:
        DataError: There is no such folder, no such table in it, or more than one.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the {of} download")
    if (root / name).is_file():
        return root / name
    tables = [path for path in files_below(root) if path.name == name]
    if len(tables) != 1:
        found = " and ".join(map(str, tables)) or "none"
        raise DataError(f"{root}: must hold one {name}, found {found}")
    return tables[0]


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
        text = _bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not UTF-8 text: save the table as CSV, UTF-8") from error
    return _table(path, _csv_lines(path, text, delimiters), required, delimiters, "utf-8", ".")


def read_any_table(
    path: Path,
    required: Sequence[str],
    *,
    encoding: str | None = None,
    sheet: str | None = None,
    decimal: Decimal = None,
    otherwise: str = "",
) -> Table:
    """Read a table as hospitals save it: CSV with comma, semicolon or tab, or an Excel sheet.

    Text is UTF-16 where a byte order mark says so, else UTF-8, else what Windows writes (cp1252);
    ``Table.encoding`` says which it was.

    Args:
        path: A text file, or ``.xlsx``.
        required: Columns that must be there, in lower case.
        encoding: Of the text, where it is none of these.
        sheet: Of the workbook; the first by default.
        decimal: Before decimals, where numbers could be read in two ways.
        otherwise: What to do where columns have other names, for messages.

    Raises:
        ConfigError: The encoding or the sheet does not exist, or openpyxl is not installed.
        DataError: The table cannot be opened.
        AnnotationError: See :func:`read_table`.
    """
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return _table(path, _sheet_lines(path, sheet), required, "", None, decimal, otherwise)
    if path.suffix.lower() == ".xls":
        raise DataError(f"{path}: is of old Excel (.xls): save it as .xlsx, or as CSV in UTF-8")
    text, used = _decoded(path, encoding)
    lines = _csv_lines(path, text, ",;\t")
    return _table(path, lines, required, ",;\t", used, decimal, otherwise)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error


def _decoded(path: Path, encoding: str | None) -> tuple[str, str]:
    content = _bytes_of(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        for name in (encoding,) if encoding else _MANY_ENCODINGS:
            try:
                text = content.decode(name).removeprefix(_BYTE_ORDER_MARK)
                return text, codecs.lookup(name).name.removesuffix("-sig")
            except UnicodeDecodeError:
                continue
    except LookupError as error:
        raise ConfigError(f"encoding {encoding!r} does not exist; for instance cp1250") from error
    tried = encoding or "UTF-8 or Windows' cp1252"
    raise AnnotationError(
        f"{path}: is not text in {tried}: save the table as CSV, UTF-8, or state its `encoding` in "
        "a mapping file (--mapping)"
    )


def _csv_lines(path: Path, text: str, delimiters: str) -> Iterator[tuple[int, list[str]]]:
    first = text.partition("\n")[0].strip()
    stated = first[4:] if first.lower().startswith("sep=") and len(first) == 5 else ""  # Excel's
    delimiter = stated or max(delimiters, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for values in reader:
            if not stated or reader.line_num > 1:
                yield reader.line_num, values
    except csv.Error as error:
        raise AnnotationError(f"{path}: is not a CSV table ({error})") from error


def _sheet_lines(path: Path, sheet: str | None) -> Iterator[tuple[int, list[str]]]:
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigError(
            f"{path}: Excel files need openpyxl: pip install 'simfrcnn[xlsx]', or save as CSV"
        ) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(_bytes_of(path)), read_only=True, data_only=True)
    except DataError:
        raise
    except Exception as error:  # a damaged archive can break any of its parts
        raise AnnotationError(f"{path}: is no Excel file ({type(error).__name__})") from error
    if sheet is not None and sheet not in book.sheetnames:
        raise ConfigError(f"{path}: has no sheet {sheet!r}; it has {', '.join(book.sheetnames)}")
    rows = book[sheet or book.sheetnames[0]].iter_rows(values_only=True)
    width = 0
    for number, cells in enumerate(rows, start=1):
        values = [_cell_text(cell) for cell in cells]
        while values and not values[-1]:
            values.pop()
        width = width or len(values)
        yield number, values + [""] * (width - len(values))


def _cell_text(cell: Any) -> str:
    """A whole number without decimals, a date as ISO writes it, nothing for an empty cell.

    A longer number than a spreadsheet keeps is written with an exponent: its last digits are lost.
    """
    if cell is None:
        return ""
    if type(cell) is int or (isinstance(cell, float) and cell.is_integer()):
        is_whole = abs(cell) < 10**_DIGITS_OF_A_SHEET
        exact = decimals.Decimal(cell)
        return str(int(cell)) if is_whole else f"{exact:.{_DIGITS_OF_A_SHEET - 1}e}"
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _table(
    path: Path,
    lines: Iterator[tuple[int, list[str]]],
    required: Sequence[str],
    delimiters: str,
    encoding: str | None,
    decimal: Decimal,
    otherwise: str = "",
) -> Table:
    columns = [name.strip().lower() for name in next(lines, (1, []))[1]]
    missing = [name for name in required if name not in columns]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if missing or twice:
        problem = f"has no column {', '.join(missing)}" if missing else f"names {twice[0]!r} twice"
        between = f", with {' or '.join(map(repr, delimiters))} between them" if delimiters else ""
        found = f"; its columns are {', '.join(columns)}" if any(columns) else ""
        raise AnnotationError(
            f"{path}: line 1 {problem}; it must name the columns {', '.join(required)}, each "
            f"once{between}{found}{otherwise if missing and found else ''}"
        )
    rows = tuple(_rows(path, lines, columns, decimal, is_of_sheet=encoding is None))
    if not rows:
        raise AnnotationError(f"{path}: has no row below the names of its columns")
    return Table(path, tuple(columns), rows, encoding)


def _rows(
    path: Path,
    lines: Iterable[tuple[int, list[str]]],
    columns: Sequence[str],
    decimal: Decimal,
    is_of_sheet: bool,
) -> Iterator[Row]:
    wrong: list[str] = []
    for number, values in lines:
        if not any(value.strip() for value in values):
            continue
        where = f"{path}: line {number}"
        if len(values) != len(columns):
            n_values = counted(len(values), "[value|values]")
            wrong.append(f"{where}: {n_values}, but line 1 names {len(columns)} columns")
            continue
        stripped = (value.strip() for value in values)
        named = dict(zip(columns, stripped, strict=True))
        yield Row(where, number, named, decimal=decimal, is_of_sheet=is_of_sheet)
    remedy = "part the values of each line as in line 1; one that holds that mark stands in quotes"
    require_none(path, wrong, f" ({remedy})")


def each_good(path: Path, items: Iterable[Item], function: Callable[[Item], Value]) -> list[Value]:
    """``function`` of every item; all that it refuses is said at once.

    Raises:
        AnnotationError: Names the first of the bad rows, and how many there are.
    """
    values: list[Value] = []
    errors: list[str] = []
    for item in items:
        try:
            values.append(function(item))
        except AnnotationError as error:
            errors.append(str(error))
    require_none(path, errors)
    return values


def require_none(path: Path, errors: Sequence[str], remedy: str = "") -> None:
    """Raise what is wrong with a file as one error, if anything is."""
    if not errors:
        return
    found = counted(len(errors), "[error|errors]")
    shown = first_few(errors, _N_SHOWN, "\n  ")
    raise AnnotationError(f"{path}: {found}{remedy}:\n  {shown}")
