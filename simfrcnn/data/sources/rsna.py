"""What do the files of the RSNA screening mammography set say, as records?

54,706 views of 11,913 women, one exam each, from two sites. Nobody has drawn a box: the table says
of each *breast* whether a cancer was confirmed. Which of its views show it is not known.

Reference:
    RSNA Screening Mammography Breast Cancer Detection (Kaggle, 2022), whose data page describes
    the columns of ``train.csv``.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.data.sources.table import Row, find_table, read_table
from simfrcnn.described import Options, described
from simfrcnn.dicom.patient import years_stated
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from simfrcnn.wording import agreeing, counted

TABLE, FOLDER = "train.csv", "train_images"
CATEGORIES = {1: "malignant"}
_COLUMNS = (
    *("site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy"),
    *("invasive", "birads", "implant", "density", "machine_id", "difficult_negative_case"),
)
_VIEWS = {"CC": ViewPosition.CC, "MLO": ViewPosition.MLO}
_OTHER_VIEWS = ("ML", "LM", "AT", "LMO")
_TRUTHS = ("0", "1")
_OF_BREAST = ("cancer", "biopsy")
"""What every view of one breast must say alike."""


@dataclass(frozen=True)
class RsnaOptions(Options):
    """What only this set can be asked for."""

    leave_out_implants: bool = described(False, "leave out breasts with an implant")


def read_rsna(
    root: Path,
    *,
    leave_out_implants: bool = False,
    skip_unreadable: bool = False,
    n_workers: int | None = None,
) -> SourceData:
    """Read the table and the headers of the images.

    - ``cancer`` 1: ``pathology`` malignant, of the breast, and ``image_label``. ``labels`` stay
      empty: that a cancer is visible in this very view, nobody says (``DATASETS.LABEL_BAGS
      breast`` trains on such breasts).
    - ``cancer`` 0: ``normal``, also where it was recalled or biopsied; ``pathology`` is benign
      after a biopsy, else normal.

    Args:
        root: The download, or a folder that holds it.
        leave_out_implants: Leave out breasts with an implant, and say how many views.
        skip_unreadable: Leave out images whose header cannot be read, and tell which.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        AnnotationError: The table is not understood, or contradicts itself.
        DataError: The table or all images are missing, or headers are damaged.
    """
    root = Path(root).absolute()
    table = find_table(root, TABLE, "RSNA")
    rows = read_table(table, _COLUMNS).rows
    _check(rows)
    left_out = "1" if leave_out_implants else None
    with_implant = [row for row in rows if row.get("implant") == left_out]
    wanted = [row for row in rows if row.get("implant") != left_out]
    paths = [(row, _path(table.parent, row)) for row in wanted]
    present = [(row, path) for row, path in paths if os.path.isfile(path)]
    if not present:
        none = f"[the only image|none of the {len(paths)} images] of {TABLE} is [not |]there"
        raise DataError(
            f"{table.parent}: {agreeing(len(paths), none)}: {FOLDER}/<patient_id>/<image_id>.dcm"
        )
    found = facts_of_all(
        [path for _, path in present],
        title="rsna",
        skip_unreadable=skip_unreadable,
        n_workers=n_workers,
    )
    records = tuple(
        _record(row, path, facts)
        for (row, path), facts in zip(present, found, strict=True)
        if facts is not None
    )
    unreadable = [row for (row, _), facts in zip(present, found, strict=True) if facts is None]
    breasts = {record.breast_id for record in records if record.pathology is Pathology.MALIGNANT}
    return SourceData(
        records=records,
        categories=CATEGORIES,
        info={
            "description": "RSNA Screening Mammography Breast Cancer Detection, training images",
            "reference": "RSNA (2022), kaggle.com/competitions/rsna-breast-cancer-detection",
            "licence": "of the competition: non-commercial, no redistribution",
            "malignant_rule": "`pathology` is the breast's, by 'cancer' of the table; no label of "
            "single images, no boxes",
            "normal_rule": "breasts with cancer 0 are normal, whatever their BI-RADS",
        },
        notes=(
            f"{counted(len(breasts), '[breast|breasts]')} with a cancer: known of the breast, not "
            "of its views (DATASETS.LABEL_BAGS breast)",
            *listed(f"[image|images] of {TABLE} [is|are] not there", _missing(paths)),
            *listed("[image|images] of breasts with an implant, left out", _names(with_implant)),
            *listed("[image|images] that cannot be read, left out", _names(unreadable)),
        ),
    )


def _check(rows: Sequence[Row]) -> None:
    """Refuse a table that says two things of one breast, or lists an image twice."""
    of_breast: dict[tuple[str, str], Row] = {}
    of_image: dict[str, Row] = {}
    for row in rows:
        for column in (*_OF_BREAST, "implant"):
            row.one_of(column, _TRUTHS)
        row.one_of("laterality", ("L", "R"))
        row.one_of("view", (*_VIEWS, *_OTHER_VIEWS))
        row.whole("image_id")
        first = of_breast.setdefault((row.text("patient_id"), row.get("laterality")), row)
        for column in _OF_BREAST:
            if row.get(column) != first.get(column):
                raise row.error(
                    column, f"line {first.line}, of the same breast, says {first.get(column)!r}"
                )
        other = of_image.setdefault(row.get("image_id"), row)
        if other is not row:
            raise AnnotationError(f"{row.where}: the image of line {other.line} is listed twice")


def _path(folder: Path, row: Row) -> Path:
    return folder / FOLDER / str(row.whole("patient_id")) / f"{row.whole('image_id')}.dcm"


def _record(row: Row, path: Path, facts: Facts) -> ImageRecord:
    has_cancer = row.get("cancer") == "1"
    patient = row.get("patient_id")
    benign = Pathology.BENIGN if row.get("biopsy") == "1" else Pathology.NORMAL
    attributes = {
        **facts.person,
        "age": years_stated(row.get("age")) or facts.age or "",
        "birads": _whole_text(row.get("birads")),
        "density": row.get("density"),
        "implant": "yes" if row.get("implant") == "1" else "no",
        "invasive": ("yes" if row.get("invasive") == "1" else "no") if has_cancer else "",
        "machine": row.get("machine_id"),
        "site": row.get("site_id"),
        "difficult_negative": row.get("difficult_negative_case").lower(),
        **facts.attributes,
    }
    return ImageRecord(
        image_id=row.whole("image_id"),
        file_name=path.name,
        path=path,
        height=facts.height,
        width=facts.width,
        patient_id=patient,
        exam_id=patient,
        supervision=Supervision.IMAGE_LABEL if has_cancer else Supervision.NORMAL,
        laterality=Laterality(row.get("laterality")),
        view_position=_VIEWS.get(row.get("view"), ViewPosition.OTHER),
        pixel_spacing_mm=facts.pixel_spacing_mm,
        pathology=Pathology.MALIGNANT if has_cancer else benign,
        attributes={key: value for key, value in attributes.items() if value},
    )


def _whole_text(text: str) -> str:
    """``61`` for ``61.0``, as the published table writes whole numbers."""
    return text.removesuffix(".0")


def _missing(paths: Sequence[tuple[Row, Path]]) -> list[str]:
    return [row.get("image_id") for row, path in paths if not os.path.isfile(path)]


def _names(rows: Sequence[Row]) -> list[str]:
    return [row.get("image_id") for row in rows]


SOURCE = Source(
    name="rsna",
    help="RSNA 2022: 54,706 screening views, a cancer known by breast, no boxes",
    root_help="the download, with train.csv and train_images",
    options=RsnaOptions,
    read=lambda root, options, how: read_rsna(
        root,
        leave_out_implants=options.leave_out_implants,
        skip_unreadable=how.skip_unreadable,
        n_workers=how.n_workers,
    ),
)
