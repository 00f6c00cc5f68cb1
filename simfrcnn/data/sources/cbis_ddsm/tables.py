"""What do the four case-description tables of CBIS-DDSM say?

One row per abnormality of one film, for masses and calcifications, train and test. The tables are
not of one mind: `breast_density` is `breast density` in the calcification tables, a line feed
stands inside the quoted last path, and what is missing is `NA`, `N/A` or empty.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.images.names import files_below
from simfrcnn.records import Laterality, ViewPosition

KINDS = ("mass", "calc")
SPLITS = ("train", "test")
PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
ATTRIBUTES = {
    "mass_shape": "mass_shape",
    "mass_margins": "mass_margins",
    "calc_type": "calc_type",
    "calc_distribution": "calc_distribution",
    "subtlety": "subtlety",
    "pathology": "pathology",
    "assessment": "assessment",
    "breast_density": "density",
}
"""Column (with underscores) -> the name of the attribute."""
TABLE_NAME = re.compile(r"(mass|calc)[-_ ].*(train|test).*\.csv", re.IGNORECASE)
"""Such as mass_case_description_train_set.csv or Calc-Test-Description.csv."""

_COLUMNS = (
    "patient_id",
    "left_or_right_breast",
    "image_view",
    "abnormality_id",
    "assessment",
    "pathology",
    "image_file_path",
    "cropped_image_file_path",
    "roi_mask_file_path",
)
_MISSING = {"", "NA", "N/A"}


@dataclass(frozen=True)
class Abnormality:
    """One row. ``number`` counts the abnormalities of one film; the series are UIDs.

    ``assessment`` is the BI-RADS category, 0 where it is incomplete; ``attributes`` holds what is
    not missing of :data:`ATTRIBUTES`.
    """

    kind: str
    split: str
    patient: str
    laterality: Laterality
    view: ViewPosition
    number: int
    pathology: str
    assessment: int
    image_series: str
    crop_series: str
    mask_series: str
    attributes: Mapping[str, str]

    @property
    def breast(self) -> str:
        """The breast, such as P_00001_LEFT."""
        return f"{self.patient}_{self.laterality.name}"

    @property
    def film(self) -> str:
        """The view of a breast, such as P_00001_LEFT_CC."""
        return f"{self.breast}_{self.view.value}"

    @property
    def name(self) -> str:
        """The abnormality, such as P_00001_LEFT_CC_mass_1."""
        return f"{self.film}_{self.kind}_{self.number}"

    @property
    def folder(self) -> tuple[str, str]:
        """Kind and split as file names have them, such as ("Mass", "Train")."""
        return self.kind.title(), self.split.title()


def find_tables(folder: Path) -> dict[tuple[str, str], Path]:
    """The tables below a folder, by kind and split.

    Raises:
        DataError: The folder is missing, or holds two tables of one kind and split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give that of the CBIS-DDSM download")
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(files_below(folder)):
        match = TABLE_NAME.fullmatch(path.name)
        if match is None:
            continue
        key = (match[1].lower(), match[2].lower())
        if key in found and path.read_bytes() != found[key].read_bytes():
            raise DataError(
                f"{found[key]} and {path} are both the {key[0]} {key[1]} table, and differ; "
                "remove one, or name the folder with --tables"
            )
        found.setdefault(key, path)
    return found


def read_tables(tables: Mapping[tuple[str, str], Path]) -> list[Abnormality]:
    """All rows of all tables, in a fixed order: by patient, side, view, kind and number.

    Raises:
        AnnotationError: A table lacks a column, a row is not understood, or two rows are of the
            same abnormality.
        DataError: A table cannot be opened.
    """
    rows: dict[str, Abnormality] = {}
    for (kind, split), path in tables.items():
        for row in read_table(path, kind, split):
            if row.name in rows:
                raise AnnotationError(f"{path}: two rows are abnormality {row.name}; keep one")
            rows[row.name] = row
    return sorted(rows.values(), key=_order)


def read_table(path: Path, kind: str, split: str) -> list[Abnormality]:
    """The rows of one table, in its order."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return list(_rows(path, stream, kind, split))
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: is not UTF-8 text: download the table again") from error
    except csv.Error as error:
        raise AnnotationError(f"{path}: is not a CSV table ({error})") from error


def _order(row: Abnormality) -> tuple[str, int, int, str, int]:
    kind, split = KINDS.index(row.kind), SPLITS.index(row.split)
    return row.film, kind, split, row.image_series, row.number


def _rows(path: Path, lines: Iterable[str], kind: str, split: str) -> Iterator[Abnormality]:
    reader = csv.reader(lines, strict=True)
    names = [name.strip().lower().replace(" ", "_") for name in next(reader, [])]
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        raise AnnotationError(
            f"{path}: has no column {', '.join(missing)}: not a case-description table of CBIS-DDSM"
        )
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        where = f"{path}: line {reader.line_num}"
        if len(values) != len(names):
            raise AnnotationError(
                f"{where}: {len(values)} values, the first line names {len(names)} columns"
            )
        yield _row(
            where,
            {n: v.strip() for n, v in zip(names, values, strict=True)},
            kind,
            split,
        )


def _row(where: str, values: Mapping[str, str], kind: str, split: str) -> Abnormality:
    side = _one_of(where, values, "left_or_right_breast", ("LEFT", "RIGHT"))
    patient = values["patient_id"]
    if not re.fullmatch(r"P_\d{5}", patient):
        raise AnnotationError(f"{where}: patient_id is {patient!r}, not such as P_00001")
    return Abnormality(
        kind=kind,
        split=split,
        patient=patient,
        laterality=Laterality[side],
        view=ViewPosition(_one_of(where, values, "image_view", ("CC", "MLO"))),
        number=_whole(where, values, "abnormality_id"),
        pathology=_one_of(where, values, "pathology", PATHOLOGIES),
        assessment=_whole(where, values, "assessment"),
        image_series=_series(where, values, "image_file_path"),
        crop_series=_series(where, values, "cropped_image_file_path"),
        mask_series=_series(where, values, "roi_mask_file_path"),
        attributes={
            name: values[column]
            for column, name in ATTRIBUTES.items()
            if values.get(column, "") not in _MISSING
        },
    )


def _one_of(where: str, values: Mapping[str, str], column: str, legal: tuple[str, ...]) -> str:
    if values[column] not in legal:
        raise AnnotationError(
            f"{where}: {column} is {values[column]!r}; legal are {', '.join(legal)}"
        )
    return values[column]


def _whole(where: str, values: Mapping[str, str], column: str) -> int:
    if not values[column].isdecimal():
        raise AnnotationError(f"{where}: {column} is {values[column]!r}, not a whole number")
    return int(values[column])


def _series(where: str, values: Mapping[str, str], column: str) -> str:
    parts = values[column].split("/")
    if len(parts) < 2 or not re.fullmatch(r"[0-9.]+", parts[-2]):
        raise AnnotationError(
            f"{where}: {column} is {values[column]!r}; its second last part must be the series UID"
        )
    return parts[-2]
