"""What do the files of the mini-MIAS database say, as records?

322 digitised films (one MLO view of each breast of 161 women), 1024 x 1024 pixels of 0.2 mm, and
`Info.txt`: a hundred lines of prose, then one row per abnormality or normal film.

Reference:
    Suckling et al. (1994), "The Mammographic Image Analysis Society digital mammogram database",
    Excerpta Medica, International Congress Series 1069, 375-378.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.described import Options, described
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import (
    Box,
    Finding,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)
from simfrcnn.wording import counted

ABNORMALITIES = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM")
"""The classes of Info.txt; CIRC, SPIC and MISC are masses."""
PIXEL_SPACING_MM = (0.2, 0.2)
SIDE_PX = 1024
"""Of the published films, in whose pixels the circles of Info.txt are."""
CATEGORIES = {1: "malignant", 2: "benign", 3: "malignant_other"}
IMAGE_SUFFIXES = (".pgm", ".png")
_ROW = re.compile(r"mdb(\d{3})\s")
_FILM = re.compile(r"mdb(\d{3})", re.ASCII)


@dataclass(frozen=True)
class MiasOptions(Options):
    """What only this set can be asked for."""

    target_classes: tuple[str, ...] = described(
        ABNORMALITIES,
        "abnormalities whose malignant findings are the target (default: all; masses only: "
        "CIRC,SPIC,MISC)",
        many="commas",
    )


@dataclass(frozen=True)
class MiasRow:
    """One row of Info.txt. ``circle`` is x, y (from the bottom), radius in pixels, or None."""

    film: int
    tissue: str
    abnormality: str
    severity: str | None
    circle: tuple[int, int, int] | None


def read_mias(
    root: Path,
    target_classes: Collection[str] = ABNORMALITIES,
    *,
    skip_unreadable: bool = False,
) -> SourceData:
    """Read Info.txt and the films beside it (PGM as distributed, or PNG).

    Patients are consecutive pairs of films, odd = right breast, even = left. A film is judged by
    itself: a NORM film is `normal` even when the other breast has a cancer, because that is what
    the radiologists stated of it; the case is positive by the other breast. Benign findings are
    boxed as `benign`. A film with an abnormality whose place is not given is `image_label`.

    Malignant findings of classes that are not targets are boxed as `malignant_other`, and a film
    with only such ones is `image_label`: it is no positive, and certainly no normal.

    Args:
        root: The folder with Info.txt and mdbNNN.pgm or mdbNNN.png.
        target_classes: The abnormalities whose malignant findings are the target `malignant`.
        skip_unreadable: Leave out films that cannot be read, and tell which.

    Raises:
        ConfigError: A class of ``target_classes`` does not exist.
        AnnotationError: A row of Info.txt is not understood, a circle lies outside its film, or a
            film is not of the published size.
        DataError: The folder, Info.txt or all films are missing, or films cannot be read.
    """
    root = Path(root).absolute()
    unknown = set(target_classes) - set(ABNORMALITIES)
    if unknown or not target_classes:
        raise ConfigError(
            f"target classes {', '.join(sorted(unknown)) or 'are empty'}: MIAS has "
            f"{', '.join(ABNORMALITIES)}"
        )
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder with Info.txt and the films")
    rows_of_film = _by_film(read_info(root / "Info.txt"))
    films = _films(root)
    numbers = sorted(rows_of_film.keys() & films.keys())
    if not numbers:
        raise DataError(f"{root}: none of the films of Info.txt is there (mdb001.pgm or .png ...)")
    found = facts_of_all(
        [films[number] for number in numbers],
        title="mias",
        skip_unreadable=skip_unreadable,
        n_workers=0,
    )
    _require_published_size([(films[n], facts) for n, facts in zip(numbers, found, strict=True)])
    records: list[ImageRecord] = []
    n_clipped = 0
    finding_ids = count(1)
    for number, facts in zip(numbers, found, strict=True):
        if facts is not None:
            rows = rows_of_film[number]
            record, clipped = _record(films[number], facts, rows, target_classes, finding_ids)
            records.append(record)
            n_clipped += clipped
    unreadable = [films[n].name for n, facts in zip(numbers, found, strict=True) if facts is None]
    without_image = [f"mdb{n:03d}" for n in sorted(rows_of_film.keys() - films.keys())]
    without_row = [films[n].name for n in sorted(films.keys() - rows_of_film.keys())]
    return SourceData(
        records=tuple(records),
        categories=CATEGORIES,
        info={
            "description": "mini-MIAS",
            "reference": "Suckling et al. (1994), Excerpta Medica 1069, 375-378; for research only",
            "target_classes": list(target_classes),
            "boxes": "round the stated circle; y turned to count from the top; clipped to the film",
        },
        notes=(
            *(
                (counted(n_clipped, "[box|boxes] clipped to [its|their] film"),)
                if n_clipped
                else ()
            ),
            *listed("[row|rows] of Info.txt without a film", without_image),
            *listed("[film|films] that cannot be read, left out", unreadable),
            *listed("[film|films] without a row of Info.txt, not used", without_row),
        ),
    )


def read_info(path: Path) -> list[MiasRow]:
    """The rows of Info.txt in file order; lines that do not begin with a film's number are prose.

    Raises:
        DataError: There is no such file.
        AnnotationError: A row has none of the four known forms, or the file holds no row.
    """
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({error.strerror}): it lists the films"
        ) from error
    rows = [
        _row(f"{path}: line {number}", line)
        for number, line in enumerate(lines, start=1)
        if _ROW.match(line)
    ]
    if not rows:
        raise AnnotationError(f"{path}: no row such as 'mdb001 G CIRC B 535 425 197'")
    return rows


def _row(where: str, line: str) -> MiasRow:
    """The four forms: normal film; place given; no place; no place with a reference to note 3."""
    name, *fields = line.split()
    film = int(name[3:])
    match fields:
        case [tissue, "NORM"]:
            return MiasRow(film, tissue, "NORM", None, None)
        case [tissue, abnormality, "B" | "M" as severity, *place] if abnormality in ABNORMALITIES:
            if place in ([], ["*NOTE", "3*"]):
                return MiasRow(film, tissue, abnormality, severity, None)
            if len(place) == 3 and all(number.isdecimal() for number in place):
                x, y, radius = map(int, place)
                return MiasRow(film, tissue, abnormality, severity, (x, y, radius))
    raise AnnotationError(
        f"{where}: {line.strip()!r} is not a row of MIAS, which reads 'mdb003 D NORM', "
        "'mdb001 G CIRC B 535 425 197', 'mdb059 F CIRC B' or 'mdb216 D CALC M *NOTE 3*'"
    )


def _by_film(rows: Sequence[MiasRow]) -> dict[int, list[MiasRow]]:
    films: dict[int, list[MiasRow]] = {}
    for row in rows:
        films.setdefault(row.film, []).append(row)
    for number, of_film in films.items():
        if len(of_film) > 1 and any(row.abnormality == "NORM" for row in of_film):
            raise AnnotationError(f"Info.txt: film mdb{number:03d} is both NORM and abnormal")
    return films


def _films(root: Path) -> dict[int, Path]:
    """Film number -> image; where both formats are there, the PGM as distributed."""
    films: dict[int, Path] = {}
    for suffix in reversed(IMAGE_SUFFIXES):
        for path in sorted(root.iterdir()):
            if path.suffix.lower() == suffix and (match := _FILM.fullmatch(path.stem.lower())):
                films[int(match[1])] = path
    return films


def _require_published_size(films: Sequence[tuple[Path, Facts | None]]) -> None:
    """Refuse films that were resized or cropped: the circles would lie elsewhere on them."""
    others = [
        f"{path.name} ({facts.height} x {facts.width})"
        for path, facts in films
        if facts is not None and (facts.height, facts.width) != (SIDE_PX, SIDE_PX)
    ]
    if others:
        (named,) = listed(f"[film is|films are] not of {SIDE_PX} x {SIDE_PX} pixels", others)
        raise AnnotationError(
            f"{films[0][0].parent}: {named}: the circles of Info.txt would lie elsewhere on them; "
            "give the films as they are distributed"
        )


def _record(
    path: Path,
    facts: Facts,
    rows: Sequence[MiasRow],
    target_classes: Collection[str],
    finding_ids: Iterator[int],
) -> tuple[ImageRecord, int]:
    height, width = facts.height, facts.width
    findings: list[Finding] = []
    n_clipped = 0
    for number, row in enumerate(rows, start=1):
        if row.circle is None:
            continue
        box, clipped = _box(path, row.circle, height, width)
        n_clipped += clipped
        findings.append(
            Finding(
                box=box,
                category=_category(row, target_classes),
                finding_id=next(finding_ids),
                pathology=Pathology.MALIGNANT if row.severity == "M" else Pathology.BENIGN,
                lesion_id=f"{path.stem}-{number}",
            )
        )
    film = rows[0].film
    patient_id = f"mias-{(film + 1) // 2:03d}"
    record = ImageRecord(
        image_id=film,
        file_name=path.name,
        path=path,
        height=height,
        width=width,
        patient_id=patient_id,
        exam_id=patient_id,
        supervision=_supervision(rows, target_classes),
        laterality=Laterality.RIGHT if film % 2 else Laterality.LEFT,
        view_position=ViewPosition.MLO,
        pixel_spacing_mm=PIXEL_SPACING_MM,
        pathology=_pathology(rows),
        findings=tuple(findings),
        attributes={
            "tissue": rows[0].tissue,
            "abnormality": ",".join(dict.fromkeys(row.abnormality for row in rows)),
        },
    )
    return record, n_clipped


def _box(path: Path, circle: tuple[int, int, int], height: int, width: int) -> tuple[Box, bool]:
    """The box of a circle whose y counts from the bottom, and whether it had to be clipped."""
    x, y, radius = circle
    y = height - y
    box = (float(x - radius), float(y - radius), float(x + radius), float(y + radius))
    clipped = (max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3]))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise AnnotationError(
            f"Info.txt: the circle {circle} (x, y from the bottom, radius) lies outside {path}, "
            f"which is {width} wide and {height} high"
        )
    return clipped, clipped != box


def _category(row: MiasRow, target_classes: Collection[str]) -> str:
    if row.severity == "B":
        return "benign"
    return "malignant" if row.abnormality in target_classes else "malignant_other"


def _pathology(rows: Sequence[MiasRow]) -> Pathology:
    if any(row.severity == "M" for row in rows):
        return Pathology.MALIGNANT
    return Pathology.NORMAL if rows[0].abnormality == "NORM" else Pathology.BENIGN


def _supervision(rows: Sequence[MiasRow], target_classes: Collection[str]) -> Supervision:
    if rows[0].abnormality == "NORM":
        return Supervision.NORMAL
    if any(row.circle is None for row in rows):
        return Supervision.IMAGE_LABEL
    malignant = {_category(row, target_classes) for row in rows} - {"benign"}
    return Supervision.IMAGE_LABEL if malignant == {"malignant_other"} else Supervision.BOXES


SOURCE = Source(
    name="mias",
    help="the mini-MIAS database: 322 digitised MLO films",
    root_help="folder with Info.txt and mdbNNN.pgm or .png",
    options=MiasOptions,
    read=lambda root, options, how: read_mias(
        root, options.target_classes, skip_unreadable=how.skip_unreadable
    ),
)
