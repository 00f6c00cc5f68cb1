"""What did readers say of which cases: a CSV file, read and checked.

Shapes: I modalities, J readers, K cases that all of them read.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.errors import DataError
from simfrcnn.evaluation.results import UnitScore
from simfrcnn.labels import near
from simfrcnn.wording import counted

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

READER, CASE, RATING, RECALL, MODALITY = COLUMNS = (
    "reader",
    "case",
    "rating",
    "recall",
    "modality",
)
ONLY_MODALITY = "readers"
"""What the only modality is called where the file does not name any."""
MODEL, TRUTH = "model", "truth"
"""What these two are called as a reader or a modality in the files for other programs."""
_TAKEN = (MODEL, TRUTH, "-1")  # the last is iMRMC's older word for the truth
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Reading:
    """One row: what a reader said of a case. ``line`` is its place in the file, from 1."""

    line: int
    modality: str
    reader: str
    case: str
    rating: float | None
    is_recalled: bool | None


@dataclass(frozen=True)
class Readings:
    """Readers who all read the same cases of known truth, with every modality.

    ``ratings`` (I, J, K) or None, higher for more suspicious; ``recalls`` (I, J, K) or None.
    ``is_positive`` and ``scores`` (K,) are the truth and the model's scores of the cases.
    ``n_unknown`` cases that were read are left out, as their truth is not known; ``n_unread`` cases
    of the test set were read by nobody.
    """

    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    is_positive: BoolArray
    scores: FloatArray
    ratings: FloatArray | None
    recalls: BoolArray | None
    n_unknown: int
    n_unread: int


def read_readings(path: Path, recall_from: float | None = None) -> list[Reading]:
    """The rows of a CSV file with the columns ``reader``, ``case``, one of ``rating`` and
    ``recall`` or both, and perhaps ``modality``.

    Args:
        path: Of the file.
        recall_from: A rating of at least this is a recall, where the file has no recalls.

    Raises:
        DataError: Names file, row and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            _require_columns(path, table.fieldnames or (), recall_from)
            readings = [_reading(path, table.line_num, row, recall_from) for row in table]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    if not readings:
        raise DataError(f"{path}: there are no rows below the heads of the columns")
    return readings


def joined(path: Path, readings: Sequence[Reading], units: Sequence[UnitScore]) -> Readings:
    """Readings with the truth and the model's scores of the cases.

    Args:
        path: Of the readings, for errors.
        readings: From :func:`read_readings`.
        units: The cases of the test set.

    Raises:
        DataError: A case that the test set lacks, or has twice; a case read twice by one reader; a
            case that one reader read and another did not; patients with several cases; no case of
            one kind.
    """
    by_id: dict[str, UnitScore] = {}
    for unit in units:
        if by_id.setdefault(unit.unit_id, unit) is not unit:
            raise DataError(
                f"case {unit.unit_id!r} is of two patients in the annotation file: readings cannot "
                "be told apart; give each exam an id of its own"
            )
    by_cell: dict[tuple[str, str], dict[str, Reading]] = {}
    for one in readings:
        if one.case not in by_id:
            raise DataError(
                f"{_where(path, one.line, CASE)}: the test set has no case {one.case!r}"
                f"{near(one.case, by_id)}; a case is what --case-by says, by its id in the "
                "annotation file"
            )
        own = by_cell.setdefault((one.modality, one.reader), {})
        other = own.setdefault(one.case, one)
        if other is not one:
            raise DataError(
                f"{path}: rows {other.line} and {one.line} are of the same case, {one.case!r}, and "
                f"reader, {one.reader!r}; one reading each is legal"
            )
    modalities, readers = (tuple(dict.fromkeys(each)) for each in zip(*by_cell, strict=True))
    read = list(dict.fromkeys(one.case for one in readings))
    _require_crossed(path, by_cell, modalities, readers, read)
    cases = sorted(case for case in read if by_id[case].truth != "unknown")
    _require_independent(path, [by_id[case] for case in cases])
    is_positive = np.array([by_id[case].truth == "positive" for case in cases], dtype=np.bool_)
    if min(int(is_positive.sum()), int((~is_positive).sum())) < 2:
        raise DataError(
            f"{path}: {int(is_positive.sum())} positive and {int((~is_positive).sum())} normal "
            "cases of known truth were read; two of each are needed"
        )
    cells = [[[by_cell[m, r][case] for case in cases] for r in readers] for m in modalities]
    return Readings(
        modalities=modalities,
        readers=readers,
        cases=tuple(cases),
        is_positive=is_positive,
        scores=np.array([by_id[case].score for case in cases]),
        ratings=_array(cells, lambda one: one.rating, float),
        recalls=_array(cells, lambda one: one.is_recalled, bool),
        n_unknown=len(read) - len(cases),
        n_unread=len(by_id) - len(read),
    )


def _require_columns(path: Path, names: Sequence[str], recall_from: float | None) -> None:
    for name in names:
        if name not in COLUMNS:
            hint = "; separate them by commas" if ";" in name else near(name, COLUMNS)
            raise DataError(
                f"{path}: column {name!r} is unknown; legal are {', '.join(COLUMNS)}{hint}"
            )
        if list(names).count(name) > 1:
            raise DataError(f"{path}: column {name!r} is there twice")
    for name in (READER, CASE):
        if name not in names:
            raise DataError(f"{path}: column {name!r} is missing")
    if RATING not in names and RECALL not in names:
        raise DataError(f"{path}: a column {RATING!r} or {RECALL!r} is missing")
    if recall_from is not None and (RATING not in names or RECALL in names):
        has = f"no column {RATING!r}" if RATING not in names else f"a column {RECALL!r} of its own"
        raise DataError(
            f"{path}: it has {has}; --recall-from makes recalls of ratings: leave it out"
        )


def _reading(
    path: Path, line: int, row: Mapping[str | None, str | None], recall_from: float | None
) -> Reading:
    if None in row or None in row.values():
        raise DataError(f"{path}, row {line}: it has another number of columns than the first row")
    texts = {str(name): str(value).strip() for name, value in row.items()}
    for name, value in texts.items():
        if not value:
            raise DataError(f"{_where(path, line, name)}: it is empty")
        if _CONTROL.search(value):
            raise DataError(f"{_where(path, line, name)}: {value!r} holds a control character")
        if name in (READER, MODALITY) and value in _TAKEN:
            raise DataError(
                f"{_where(path, line, name)}: {value!r} stands for the "
                f"{MODEL if value == MODEL else TRUTH} in the files for iMRMC and RJafroc; give it "
                "another name"
            )
    rating = None if RATING not in texts else _number(path, line, texts[RATING])
    recall = texts.get(RECALL)
    if recall not in (None, "0", "1"):
        raise DataError(
            f"{_where(path, line, RECALL)}: {recall!r} is neither 1 (recalled) nor 0 (not)"
        )
    is_recalled = None if recall is None else recall == "1"
    if recall_from is not None and rating is not None:
        is_recalled = rating >= recall_from
    return Reading(
        line=line,
        modality=texts.get(MODALITY, ONLY_MODALITY),
        reader=texts[READER],
        case=texts[CASE],
        rating=rating,
        is_recalled=is_recalled,
    )


def _number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{_where(path, line, RATING)}: {text!r} is not a number")
    return value


def _require_crossed(
    path: Path,
    by_cell: Mapping[tuple[str, str], Mapping[str, Reading]],
    modalities: Sequence[str],
    readers: Sequence[str],
    cases: Sequence[str],
) -> None:
    """Every reader read every case with every modality."""
    for modality in modalities:
        for reader in readers:
            own = by_cell.get((modality, reader), {})
            missing = [case for case in cases if case not in own]
            if missing:
                with_ = f" with {modality!r}" if len(modalities) > 1 else ""
                raise DataError(
                    f"{path}: reader {reader!r} did not read case {missing[0]!r}{with_}, which "
                    f"others did ({counted(len(missing), '[such case|such cases]')}); all readers "
                    "must have read the same cases"
                )


def _require_independent(path: Path, units: Sequence[UnitScore]) -> None:
    patients: dict[str, str] = {}
    for unit in units:
        other = patients.setdefault(unit.patient_id, unit.unit_id)
        if other != unit.unit_id:
            raise DataError(
                f"{path}: cases {other!r} and {unit.unit_id!r} are of one patient, so that they "
                "are not independent; read and judge by patient (--case-by patient), or keep one"
            )


def _array(
    cells: Sequence[Sequence[Sequence[Reading]]],
    value: Callable[[Reading], float | bool | None],
    kind: type,
) -> NDArray[Any] | None:
    values = [[[value(one) for one in row] for row in table] for table in cells]
    return None if values[0][0][0] is None else np.array(values, dtype=kind)


def _where(path: Path, line: int, column: str) -> str:
    return f"{path}, row {line}, column {column!r}"
