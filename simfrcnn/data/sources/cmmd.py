"""What do the files of CMMD, the Chinese Mammography Database, say, as records?

5,202 views of 1,775 patients. Nobody has drawn a box: the clinical table says of each *breast* that
was biopsied whether it is benign or malignant. Of the other breast nothing is said.

Reference:
    Cui et al. (2021), The Chinese Mammography Database (CMMD), The Cancer Imaging Archive,
    doi:10.7937/tcia.eqde-4b16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.data.sources.table import Row, read_any_table
from simfrcnn.described import Options, described
from simfrcnn.dicom.patient import years_stated
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.images.finding import DICOM_SUFFIXES
from simfrcnn.images.names import files_below
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision
from simfrcnn.wording import counted

TABLES = ("CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.csv")
CATEGORIES = {1: "malignant"}
_COLUMNS = ("id1", "leftright", "age", "abnormality", "classification")
_PATHOLOGIES = {"Malignant": Pathology.MALIGNANT, "Benign": Pathology.BENIGN}
_ABNORMALITIES = ("mass", "calcification", "both")
Breast = tuple[str, str]
"""Patient and L or R."""


@dataclass(frozen=True)
class CmmdOptions(Options):
    """What only this set can be asked for."""

    benign_is_normal: bool = described(
        False, "views of breasts that the biopsy found benign are known to hold no cancer"
    )


@dataclass(frozen=True)
class _View:
    path: Path
    facts: Facts
    row: Row | None


def read_cmmd(
    root: Path,
    *,
    benign_is_normal: bool = False,
    skip_unreadable: bool = False,
    n_workers: int | None = None,
) -> SourceData:
    """Read the clinical table and the headers of the images.

    - a breast called malignant: ``pathology`` malignant and ``image_label``. ``labels`` stay empty:
      which of its views show the cancer nobody says (``DATASETS.LABEL_BAGS breast`` trains on such
      breasts).
    - a breast called benign: ``pathology`` benign, and ``image_label``; with ``benign_is_normal``
      ``normal``.
    - a breast without a row: ``unlabelled``.

    Patient and side are those of the DICOM headers.

    Args:
        root: The download: the clinical table, and DICOM files anywhere below.
        benign_is_normal: See above.
        skip_unreadable: Leave out images whose header cannot be read, and tell which.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        AnnotationError: The table is not understood, or says two things of one breast.
        DataError: The table or the images are missing, or headers are damaged or say no side.
    """
    root = Path(root).absolute()
    table, paths = _files_of(root)
    breasts = _breasts(table)
    found = facts_of_all(paths, title="cmmd", skip_unreadable=skip_unreadable, n_workers=n_workers)
    views = [
        _view(path, facts, breasts)
        for path, facts in zip(paths, found, strict=True)
        if facts is not None
    ]
    records = tuple(
        _record(number, view, benign_is_normal) for number, view in enumerate(views, start=1)
    )
    seen = {_breast(view) for view in views}
    without_images = [" ".join(breast) for breast in breasts if breast not in seen]
    without_row = sorted({" ".join(_breast(view)) for view in views if view.row is None})
    unreadable = [path.name for path, facts in zip(paths, found, strict=True) if facts is None]
    return SourceData(
        records=records,
        categories=CATEGORIES,
        info={
            "description": "CMMD, the Chinese Mammography Database",
            "reference": "Cui et al. (2021), TCIA; doi:10.7937/tcia.eqde-4b16",
            "licence": "CC BY 4.0",
            "malignant_rule": "`pathology` is the breast's, by 'classification' of the clinical "
            "table; no label of single images, no boxes",
            "normal_rule": "breasts called benign are normal"
            if benign_is_normal
            else "none: breasts called benign are image_label",
        },
        notes=(
            f"{counted(len(breasts), '[breast|breasts]')} in the table: known of the breast, not "
            "of its views (DATASETS.LABEL_BAGS breast)",
            *listed("[breast|breasts] of the table without images", without_images),
            *listed("[breast|breasts] without a row, unlabelled", without_row),
            *listed("[image|images] that cannot be read, left out", unreadable),
        ),
    )


def _files_of(root: Path) -> tuple[Path, list[Path]]:
    """The clinical table and the images, by path."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the CMMD download")
    files = sorted(files_below(root))
    tables = [path for path in files if path.name in TABLES]
    if len(tables) != 1:
        found = " and ".join(map(str, tables)) or "none"
        raise DataError(f"{root}: must hold one {' or '.join(TABLES)}, found {found}")
    images = [path for path in files if path.suffix.lower() in DICOM_SUFFIXES]
    if not images:
        raise DataError(f"{root}: no DICOM file below it; fetch the images of the collection CMMD")
    return tables[0], images


def _breasts(table: Path) -> dict[Breast, Row]:
    """The rows by breast; two rows of one breast must agree."""
    breasts: dict[Breast, Row] = {}
    for row in read_any_table(table, _COLUMNS).rows:
        row.one_of("leftright", ("L", "R"))
        row.one_of("classification", _PATHOLOGIES)
        row.one_of("abnormality", _ABNORMALITIES)
        first = breasts.setdefault((row.text("id1"), row.get("leftright")), row)
        if row.get("classification") != first.get("classification"):
            raise row.error(
                "classification",
                f"line {first.line}, of the same breast, says {first.get('classification')!r}",
            )
    return breasts


def _view(path: Path, facts: Facts, breasts: Mapping[Breast, Row]) -> _View:
    for what, value in (
        ("Patient ID (0010,0020)", facts.patient_id),
        ("Image Laterality (0020,0062)", facts.laterality),
    ):
        if value is None:
            raise AnnotationError(
                f"{path}: {what} is not stated, so its breast cannot be found in the clinical "
                "table; fetch the file again, or leave it out"
            )
    view = _View(path, facts, None)
    return _View(path, facts, breasts.get(_breast(view)))


def _breast(view: _View) -> Breast:
    side = view.facts.laterality
    assert side is not None  # _view refuses such files
    return str(view.facts.patient_id), side.value


def _record(number: int, view: _View, benign_is_normal: bool) -> ImageRecord:
    facts, row = view.facts, view.row
    patient, side = _breast(view)
    pathology = None if row is None else _PATHOLOGIES[row.get("classification")]
    supervision = Supervision.UNLABELLED if row is None else Supervision.IMAGE_LABEL
    if pathology is Pathology.BENIGN and benign_is_normal:
        supervision = Supervision.NORMAL
    columns = ("age", "abnormality", "subtype")
    cells = {} if row is None else {name: row.get(name) for name in columns}
    cells |= {"age": years_stated(cells.get("age", ""))}
    stated = {name: value for name, value in cells.items() if value}
    return ImageRecord(
        image_id=number,
        file_name=view.path.name,
        path=view.path,
        height=facts.height,
        width=facts.width,
        patient_id=patient,
        exam_id=facts.exam_id or patient,
        supervision=supervision,
        laterality=Laterality(side),
        view_position=facts.view_position,
        pixel_spacing_mm=facts.pixel_spacing_mm,
        pathology=pathology,
        attributes={**facts.person, **stated, **facts.attributes},
    )


SOURCE = Source(
    name="cmmd",
    help="CMMD: 5,202 views of 1,775 patients, benign or malignant by breast, no boxes",
    root_help="the download, with CMMD_clinicaldata_revision.xlsx and the DICOM files",
    options=CmmdOptions,
    read=lambda root, options, how: read_cmmd(
        root,
        benign_is_normal=options.benign_is_normal,
        skip_unreadable=how.skip_unreadable,
        n_workers=how.n_workers,
    ),
)
