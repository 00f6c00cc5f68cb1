"""What do the tables and files of CBIS-DDSM say, as records?

3,032 films (CC and MLO views) of 1,566 patients, digitised, all with at least one abnormality: the
set has no normal films. Masses and calcifications are published as two sets, and 71 films lie in
both, as two files with the boxes of one kind each: here a film is one record with all its boxes.

Reference:
    Lee et al. (2017), "A curated mammography data set for use in computer-aided detection and
    diagnosis research", Scientific Data 4, 170177.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path

import numpy as np

from simfrcnn.data.sources.cbis_ddsm.files import Files, Mask, find_files, find_mask
from simfrcnn.data.sources.cbis_ddsm.tables import (
    KINDS,
    SPLITS,
    Abnormality,
    find_tables,
    read_tables,
)
from simfrcnn.data.sources.films import ANY_IMAGE, Film, find_film
from simfrcnn.data.sources.malignancy import (
    DEFAULT_RULE,
    RULES,
    category_by,
    pathology_of,
    require_rule,
)
from simfrcnn.data.sources.source import SourceData, listed, note_on_labels
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.images.finding import is_dicom
from simfrcnn.images.reading import read_image
from simfrcnn.parallel import in_parallel
from simfrcnn.records import Finding, ImageRecord, Supervision
from simfrcnn.wording import agreeing, counted

CATEGORIES = {1: "malignant", 2: "benign"}
REFERENCE = "Lee et al. (2017), Scientific Data 4, 170177; doi:10.7937/K9/TCIA.2016.7O02S9CY"


@dataclass(frozen=True)
class _Copy:
    """One series of a view: its files, and those of its abnormalities."""

    image_id: int
    image_files: tuple[Path, ...]
    abnormalities: tuple[tuple[Abnormality, tuple[Path, ...]], ...]


@dataclass(frozen=True)
class _View:
    """One view of one breast, published once or, with both kinds, twice."""

    name: str
    copies: tuple[_Copy, ...]


@dataclass(frozen=True)
class _Picture:
    """One picture of a view, and the place of every abnormality that is marked in it."""

    image_id: int
    film: Film
    places: tuple[tuple[Abnormality, Mask], ...]


@dataclass(frozen=True)
class _Seen:
    """What the files of a view hold: no picture, one, or several that differ.

    ``n_films`` are the copies whose film is there, ``problems`` what is wrong with the others.
    """

    name: str
    pictures: tuple[_Picture, ...]
    n_films: int
    problems: tuple[str, ...]


def read_cbis_ddsm(
    root: Path,
    *,
    kinds: Collection[str] = KINDS,
    malignant: str = DEFAULT_RULE,
    tables: Path | None = None,
    n_workers: int | None = None,
) -> SourceData:
    """Read the tables and the films, with a box round each abnormality's mask.

    Boxes are complete for the kinds that are asked for: a film is ``boxes``. It is ``image_label``
    if one of its abnormalities has no usable mask (``labels`` then says what is visible in the film
    and not boxed); if its copies differ, so that none has all
    boxes; or if it has no malignant box although its breast holds a cancer, in the other view or
    of a kind that is not asked for: it would be trained on as a normal one. ``split`` is the
    published one, but patients of both parts are in `train`: masses and calcifications were divided
    apart, and 31 patients lie in both.

    Args:
        root: The download, in any layout, tables included.
        kinds: `mass`, `calc` or both.
        malignant: A rule of :data:`~simfrcnn.data.sources.malignancy.RULES`.
        tables: The folder with the tables, if not below the root.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        ConfigError: A kind or rule does not exist.
        AnnotationError: A table is not understood.
        DataError: Tables or all films are missing.
    """
    root = Path(root).absolute()
    _require_options(kinds, malignant)
    rows, missing_tables = read_rows(root if tables is None else tables, kinds)
    asked = [row for row in rows if row.kind in kinds]
    files = find_files(root)
    views = _views(asked, files)
    seen = list(in_parallel(_look_at, views, title="cbis_ddsm", unit="film", n_workers=n_workers))
    if not any(view.pictures for view in seen):
        none = f"[the only view is not|none of the {len(views)} views is] there"
        raise DataError(
            f"{root}: of the tables {agreeing(len(views), none)}: DICOM files in folders named by "
            "series UID or with their header, or jpeg/<series UID>/*.jpg"
        )
    in_both = patients_in_both(asked)
    finding_ids = {row.name: number for number, row in enumerate(asked, start=1)}
    cancers = {row.breast for row in rows if _category(row, malignant) == "malignant"}
    records = tuple(
        _record(view, picture, malignant, finding_ids, cancers, in_both)
        for view in seen
        for picture in view.pictures
    )
    return SourceData(
        records=records,
        categories=CATEGORIES,
        info={
            "description": "CBIS-DDSM",
            "reference": REFERENCE,
            "licence": "CC BY 3.0",
            "kinds": [kind for kind in KINDS if kind in kinds],
            "malignant_rule": RULES[malignant],
            "boxes": "round the mask of each abnormality, scaled where the mask has another size",
        },
        notes=(
            *(f"there is no {kind} {split} table" for kind, split in missing_tables),
            *_notes(seen, records, in_both, malignant),
            *_unused(root, files, rows),
        ),
    )


def read_rows(
    folder: Path, kinds: Collection[str] = KINDS
) -> tuple[list[Abnormality], list[tuple[str, str]]]:
    """All rows of the tables below a folder, and which tables are not there.

    Raises:
        DataError: There is no table of the kinds that are asked for.
    """
    found = find_tables(folder)
    if not any(kind in kinds for kind, _ in found):
        raise DataError(
            f"{folder}: holds none of the tables {', '.join(sorted(kinds))}, such as "
            "mass_case_description_train_set.csv: download them with the images, or name their "
            "folder with --tables"
        )
    missing = [(k, s) for k in KINDS for s in SPLITS if (k, s) not in found]
    return read_tables(found), missing


def patients_in_both(rows: Iterable[Abnormality]) -> frozenset[str]:
    """The patients who are in a published train and in a published test part."""
    patients: dict[str, set[str]] = {split: set() for split in SPLITS}
    for row in rows:
        patients[row.split].add(row.patient)
    return frozenset(patients["train"] & patients["test"])


def _require_options(kinds: Collection[str], malignant: str) -> None:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        found = ", ".join(unknown) or "are empty"
        raise ConfigError(f"kinds {found}: CBIS-DDSM has {', '.join(KINDS)}")
    require_rule(malignant)


def _views(rows: Sequence[Abnormality], files: Files) -> list[_View]:
    """The views of rows in their fixed order; numbers do not depend on which files are there."""
    image_ids = count(1)
    return [
        _View(
            name,
            tuple(
                _Copy(
                    image_id=next(image_ids),
                    image_files=files.of_series.get(series, ()),
                    abnormalities=tuple((row, files_of(row, files)) for row in of_image),
                )
                for series, of_image in groupby(of_view, key=lambda row: row.image_series)
            ),
        )
        for name, of_view in groupby(rows, key=lambda row: row.film)
    ]


def files_of(row: Abnormality, files: Files) -> tuple[Path, ...]:
    """The files of an abnormality's crop and mask, in whichever series; DICOM if there is any."""
    series = dict.fromkeys((row.crop_series, row.mask_series))
    paths = [path for uid in series for path in files.of_series.get(uid, ())]
    dicom = [path for path in paths if is_dicom(path)]
    return tuple(dicom or paths)


def _look_at(view: _View) -> _Seen:
    """Open the files of a view: which pictures there are, and where the abnormalities lie."""
    groups: list[tuple[Film, list[_Copy]]] = []
    without_film: list[_Copy] = []
    problems: list[str] = []
    for copy in view.copies:
        film = find_film(copy.image_files)
        if isinstance(film, str):
            problems.append(film)
            without_film.append(copy)
        elif same := [copies for other, copies in groups if _are_the_same(other, film)]:
            same[0].append(copy)
        else:
            groups.append((film, [copy]))
    if len(groups) == 1:  # masks whose own copy of the film is missing belong to the other copy
        groups[0][1].extend(without_film)
    pictures = tuple(
        _Picture(
            image_id=copies[0].image_id,
            film=film,
            places=tuple(
                (row, find_mask(paths, film.height, film.width))
                for copy in copies
                for row, paths in copy.abnormalities
            ),
        )
        for film, copies in groups
    )
    return _Seen(view.name, pictures, len(view.copies) - len(without_film), tuple(problems))


def _are_the_same(one: Film, other: Film) -> bool:
    """Whether two films have the same pixels."""
    if (one.height, one.width) != (other.height, other.width):
        return False
    try:
        return np.array_equal(read_image(one.path, ANY_IMAGE), read_image(other.path, ANY_IMAGE))
    except DataError:
        return False


def _record(
    view: _Seen,
    picture: _Picture,
    malignant: str,
    finding_ids: Mapping[str, int],
    cancers: Collection[str],
    in_both: Collection[str],
) -> ImageRecord:
    rows = [row for row, _ in picture.places]
    first = rows[0]
    findings = tuple(
        Finding(
            box=mask.box,
            category=category,
            finding_id=finding_ids[row.name],
            pathology=pathology_of(malignant, [row.pathology]),
            lesion_id=row.name,
            outline=mask.outline,
        )
        for row, mask in picture.places
        if mask.box is not None and (category := _category(row, malignant)) is not None
    )
    is_complete = len(view.pictures) == 1 and len(findings) == len(picture.places)
    has_cancer = any(finding.category == "malignant" for finding in findings)
    has_unseen_cancer = first.breast in cancers and not has_cancer
    known = {row.pathology for row in rows} | ({"MALIGNANT"} if first.breast in cancers else set())
    return ImageRecord(
        image_id=picture.image_id,
        file_name=picture.film.path.name,
        path=picture.film.path,
        height=picture.film.height,
        width=picture.film.width,
        patient_id=first.patient,
        exam_id=first.patient,
        supervision=Supervision.BOXES
        if is_complete and not has_unseen_cancer
        else Supervision.IMAGE_LABEL,
        laterality=first.laterality,
        view_position=first.view,
        pathology=pathology_of(malignant, known),
        split="train" if first.patient in in_both else first.split,
        findings=findings,
        labels={
            category: True
            for row, mask in picture.places
            if mask.box is None and (category := _category(row, malignant)) is not None
        },
        attributes=_attributes(rows),
    )


def _category(row: Abnormality, malignant: str) -> str | None:
    return category_by(malignant, row.pathology, row.assessment)


def _attributes(rows: Sequence[Abnormality]) -> dict[str, str]:
    """The published words, those of several abnormalities joined by commas."""
    facts: dict[str, dict[str, None]] = {"abnormality": dict.fromkeys(row.kind for row in rows)}
    for row in rows:
        for name, value in row.attributes.items():
            facts.setdefault(name, {})[value] = None
    return {name: ",".join(values) for name, values in facts.items()}


def _notes(
    seen: Sequence[_Seen],
    records: Sequence[ImageRecord],
    in_both: Collection[str],
    malignant: str,
) -> list[str]:
    moved = sum(record.patient_id in in_both for record in records)
    pictures = [picture for view in seen for picture in view.pictures]
    places = [place for picture in pictures for place in picture.places]
    problems = Counter(problem for view in seen for problem in view.problems)
    merged = [v.name for v in seen if len(v.pictures) == 1 and v.n_films > 1]
    apart = [v.name for v in seen if len(v.pictures) > 1]
    nowhere = [f"{row.name} ({mask.problem})" for row, mask in places if mask.box is None]
    scaled = [row.name for row, mask in places if mask.scaled]
    filled = [row.name for row, mask in places if mask.n_holes]
    unjudged = [row.name for row, _ in places if _category(row, malignant) is None]
    notes = ["CBIS-DDSM has no normal films: each has at least one abnormality (--normals-from)"]
    if moved:
        notes.append(
            f"{counted(len(in_both), '[patient is|patients are]')} in the published train and test "
            "parts (masses and calcifications were divided apart): they are in train, with "
            f"{counted(moved, '[image|images]')}"
        )
    return [
        *notes,
        *listed(
            "[film|films] without an image, left out", [v.name for v in seen if not v.pictures]
        ),
        *(f"{count} image series {problem}" for problem, count in sorted(problems.items())),
        *listed("[film|films] stored twice, for masses and for calcifications, joined", merged),
        *listed(
            "[film|films] stored as pictures that differ, each without boxes of the other", apart
        ),
        *listed(
            "[abnormality|abnormalities] without a box, [its film is|their films are] image_label",
            nowhere,
        ),
        *note_on_labels(records),
        *listed("[mask|masks] of another size than [its|their] film, boxes scaled", scaled),
        *listed("[mask|masks] with holes, filled in [its outline|their outlines]", filled),
        *listed("[abnormality|abnormalities] of assessment 0, left without a box", unjudged),
    ]


def _unused(root: Path, files: Files, rows: Sequence[Abnormality]) -> tuple[str, ...]:
    named = {uid for row in rows for uid in (row.image_series, row.crop_series, row.mask_series)}
    series = [paths for uid, paths in files.of_series.items() if uid not in named]
    unused = sorted([path for paths in series for path in paths] + list(files.unplaced))
    return (
        *listed(
            "[DICOM file|DICOM files] without a readable header", _below(root, files.unreadable)
        ),
        *listed("[image|images] that no table names, not used", _below(root, unused)),
    )


def _below(root: Path, paths: Iterable[Path]) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]
