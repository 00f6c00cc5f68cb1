"""What do the files of INbreast say, as records?

410 full-field digital mammograms (CC and MLO) of 115 patients: a table of BI-RADS assessments, one
per image, and an XML file of outlines for every image in which something was drawn.

Reference:
    Moreira et al. (2012), "INbreast: Toward a full-field digital mammographic database", Academic
    Radiology 19(2), 236-248.
"""

from __future__ import annotations

import math
import plistlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from simfrcnn.data.sources.breasts import doubtful_views, without_doubtful
from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.data.sources.table import Row, read_table
from simfrcnn.described import Options, described
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.images.names import files_below
from simfrcnn.outlines import clean
from simfrcnn.records import (
    Box,
    Finding,
    ImageRecord,
    Laterality,
    Outline,
    Pathology,
    Supervision,
    ViewPosition,
)

BIRADS = ("1", "2", "3", "4a", "4b", "4c", "5", "6")
"""The assessments of the table, from negative to proven cancer."""
RULES = BIRADS[2:]
"""The assessments from which on an image can be taken as malignant."""
DEFAULT_RULE = "4a"
KINDS: Mapping[str, tuple[str, ...]] = {
    "mass": ("mass",),
    "cluster": ("cluster",),
    "calcification": ("calcification", "calcifications"),
    "distortion": ("distortion",),
    "asymmetry": ("asymmetry", "assymetry"),
    "spiculated": ("spiculated region", "espiculated region"),
}
"""Kind of finding -> the names of outlines, in lower case and in all published spellings."""
DEFAULT_KINDS = ("mass", "cluster", "distortion", "asymmetry")
CATEGORIES = {1: "malignant", 2: "benign"}
TABLE = "INbreast.csv"
_COLUMNS = ("laterality", "view", "acquisition date", "file name", "acr", "bi-rads")
_FILE = re.compile(r"(\d+)_([0-9a-z]+)_MG_([LR])_([A-Z]+)_ANON\.dcm", re.IGNORECASE)
_KIND_OF_NAME = {name: kind for kind, names in KINDS.items() for name in names}
_SMALLEST_SIDE_PX = 1.0


@dataclass(frozen=True)
class InbreastOptions(Options):
    """What only this set can be asked for."""

    malignant_from: str = described(
        DEFAULT_RULE,
        f"the lowest BI-RADS that is malignant (default: {DEFAULT_RULE})",
        choices=RULES,
    )
    kinds: tuple[str, ...] = described(
        DEFAULT_KINDS,
        f"findings that are boxed, of {', '.join(KINDS)} (default: {','.join(DEFAULT_KINDS)})",
        many="commas",
    )


@dataclass(frozen=True)
class Roi:
    """One outline: its name as published, and its points (x, y) in pixels, origin top left."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def kind(self) -> str | None:
        """One of :data:`KINDS`; None for names that say nothing, such as `Unnamed`."""
        return _KIND_OF_NAME.get(self.name.strip().lower())


@dataclass(frozen=True)
class _File:
    path: Path
    patient: str
    laterality: Laterality


def read_inbreast(
    root: Path,
    *,
    malignant_from: str = DEFAULT_RULE,
    kinds: Collection[str] = DEFAULT_KINDS,
    skip_unreadable: bool = False,
) -> SourceData:
    """Read the table, the outlines and the headers of the images.

    The assessment is published for the image, so all its findings share it: with one of
    ``malignant_from`` or higher they are `malignant`, else `benign`. What an image teaches:

    - malignant, with a box of the kinds asked for: ``boxes``; without one, or where an outline of
      these kinds has no extent: ``image_label``;
    - not malignant, with outlines: ``boxes``: what was seen was drawn, and none is a target;
    - no outlines, BI-RADS 1 or 2 (negative, or certainly benign): ``normal``;
    - not malignant, but another view of the breast is: ``image_label``;
    - no outlines, BI-RADS 3: ``image_label``. Probably benign is not *known* to be no cancer, and
      nobody can say where the probable thing lies.

    Args:
        root: The release, or a folder that holds it.
        malignant_from: The lowest malignant assessment, one of :data:`RULES`.
        kinds: Kinds of findings that are boxed, of :data:`KINDS`. By default regions: single
            calcifications are a few pixels each, and the spiculated region of a mass lies round a
            mass that is outlined as well.
        skip_unreadable: Leave out images whose header cannot be read, and tell which.

    Raises:
        ConfigError: The rule or a kind does not exist.
        AnnotationError: Table or outlines are not understood, or contradict the images.
        DataError: Table, outlines or all images are missing, or headers are damaged.
    """
    root = Path(root).absolute()
    _require_options(malignant_from, kinds)
    files, outlines, table = _find(root)
    rows = _rows(table)
    names = [name for name in rows if name in files]
    if not names:
        raise DataError(
            f"{root}: none of the images of {TABLE} is there, such as "
            "22678622_61b13c59bcba149e_MG_L_CC_ANON.dcm"
        )
    found = facts_of_all(
        [files[name].path for name in names],
        title="inbreast",
        skip_unreadable=skip_unreadable,
        n_workers=0,
    )
    facts_of = {name: facts for name, facts in zip(names, found, strict=True) if facts is not None}
    unreadable = [name for name in names if name not in facts_of]
    notes: dict[str, list[str]] = {}
    finding_ids = count(1)
    records = tuple(
        _record(
            rows[name],
            files[name],
            facts,
            outlines.get(name),
            malignant_from,
            kinds,
            finding_ids,
            notes,
        )
        for name, facts in facts_of.items()
    )
    doubtful = [str(record.image_id) for record in doubtful_views(records)]
    return SourceData(
        records=without_doubtful(records),
        categories=CATEGORIES,
        info={
            "description": "INbreast",
            "reference": "Moreira et al. (2012), Academic Radiology 19(2), 236-248",
            "licence": "by agreement with the owners, for research; not to be passed on",
            "malignant_rule": f"malignant: the image's BI-RADS {malignant_from} or higher, and all "
            "its findings with it; benign: all others; `pathology` is by this rule, histology is "
            "not published",
            "normal_rule": "without outlines, BI-RADS 1 and 2 are normal, all others image_label",
            "kinds": [kind for kind in KINDS if kind in kinds],
            "boxes": "round the points of each outline, clipped to the image",
        },
        notes=(
            *(note for what, names in notes.items() for note in listed(what, names)),
            *listed(
                "[image|images] that [is|are] not malignant, but another view of [its|their] "
                "breast is: image_label",
                doubtful,
            ),
            *listed(f"[row|rows] of {TABLE} without an image", sorted(rows.keys() - files.keys())),
            *listed("[image|images] that cannot be read, left out", unreadable),
            *listed("[image|images] without a row, not used", sorted(files.keys() - rows.keys())),
            *listed(
                "[XML file|XML files] without a row, not used",
                sorted(outlines.keys() - rows.keys()),
            ),
        ),
    )


def read_rois(path: Path) -> tuple[Roi, ...]:
    """The outlines of one image, in file order.

    Raises:
        AnnotationError: The file is no property list of INbreast's form.
        DataError: It cannot be opened.
    """
    try:
        document = plistlib.loads(path.read_bytes(), fmt=plistlib.FMT_XML)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    except (ExpatError, plistlib.InvalidFileException, ValueError, TypeError) as error:
        raise AnnotationError(
            f"{path}: not a readable property list ({type(error).__name__}): fetch the file again"
        ) from error
    images = _dicts(document.get("Images")) if isinstance(document, dict) else None
    rois = _dicts(images[0].get("ROIs")) if images and len(images) == 1 else None
    if rois is None:
        raise AnnotationError(f"{path}: must hold 'Images', one, with a list of 'ROIs'")
    return tuple(_roi(f"{path}: ROI {number}", roi) for number, roi in enumerate(rois, start=1))


def _dicts(value: Any) -> list[dict[str, Any]] | None:
    is_list = isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    return value if is_list else None


def _roi(where: str, roi: Mapping[str, Any]) -> Roi:
    points = roi.get("Point_px")
    if not isinstance(points, list) or not points:
        raise AnnotationError(f"{where}: 'Point_px' must be a list of points such as '(1.5, 2.5)'")
    return Roi(str(roi.get("Name") or "Unnamed"), tuple(_point(where, text) for text in points))


def _point(where: str, text: object) -> tuple[float, float]:
    parts = (
        text.strip().removeprefix("(").removesuffix(")").split(",") if isinstance(text, str) else []
    )
    try:
        x, y = map(float, parts)
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise AnnotationError(f"{where}: {text!r} is no point; points are such as '(1.5, 2.5)'")
    return x, y


def _require_options(malignant_from: str, kinds: Collection[str]) -> None:
    if malignant_from not in RULES:
        raise ConfigError(
            f"malignant from BI-RADS {malignant_from!r}: legal are {', '.join(RULES)}"
        )
    unknown = sorted(set(kinds) - KINDS.keys())
    if unknown or not kinds:
        found = ", ".join(unknown) or "are empty"
        raise ConfigError(f"kinds {found}: INbreast has {', '.join(KINDS)}")


def _find(root: Path) -> tuple[dict[str, _File], dict[str, Path], Path]:
    """The images and outlines below the root by the image's number, and the table."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the INbreast release")
    files: dict[str, _File] = {}
    outlines: dict[str, Path] = {}
    tables: list[Path] = []
    for path in files_below(root):
        if match := _FILE.fullmatch(path.name):
            name, patient, side, _ = match.groups()
            file = _File(path, patient.lower(), Laterality(side.upper()))
            _require_one(files.setdefault(name, file).path, path)
        elif path.suffix.lower() == ".xml" and path.stem.isdecimal():
            _require_one(outlines.setdefault(path.stem, path), path)
        elif path.name.lower() == TABLE.lower():
            tables.append(path)
    if len(tables) != 1:
        found = " and ".join(map(str, tables)) or "none"
        raise DataError(f"{root}: must hold one {TABLE}, found {found}")
    if not outlines:
        raise DataError(
            f"{root}: holds no outlines (AllXML/22678622.xml ...): without them every drawn image "
            "would look undrawn; fetch AllXML too"
        )
    return files, outlines, tables[0]


def _require_one(first: Path, path: Path) -> None:
    if first != path:
        raise DataError(f"{first} and {path} are of the same image: remove one")


def _rows(table: Path) -> dict[str, Row]:
    """The rows by the image's number."""
    rows: dict[str, Row] = {}
    for row in read_table(table, _COLUMNS, delimiters=";,").rows:
        name = str(row.whole("file name"))
        first = rows.setdefault(name, row)
        if first is not row:
            raise row.error("file name", f"line {first.line} is of the same image; keep one")
    return rows


def _record(
    row: Row,
    file: _File,
    facts: Facts,
    outlines: Path | None,
    malignant_from: str,
    kinds: Collection[str],
    finding_ids: Iterator[int],
    notes: dict[str, list[str]],
) -> ImageRecord:
    """The record of one image; adds its number to the notes that concern it."""
    name = row.get("file name")
    birads = _birads(row)
    is_malignant = BIRADS.index(birads) >= BIRADS.index(malignant_from)
    pathology = _pathology(birads, is_malignant)
    rois = () if outlines is None else read_rois(outlines)
    asked = [roi for roi in rois if roi.kind in kinds]
    drawn, without_extent, n_clipped = _drawn(asked, outlines, facts.height, facts.width)
    laterality = Laterality(row.one_of("laterality", ("L", "R")))
    problems = {
        "[image|images] whose outlines were clipped to the image": n_clipped,
        "[image|images] with outlines of one point or line, which have no box": without_extent,
        "[image|images] with outlines of unknown names (Unnamed, Point 1 ...), not boxed": any(
            roi.kind is None for roi in rois
        ),
        "malignant [image|images] without a box of the kinds asked for": is_malignant and not drawn,
        "[image|images] of BI-RADS 1 with outlines": birads == "1" and rois,
        "[image|images] whose file names the other breast than the table, which was followed": (
            laterality is not file.laterality
        ),
    }
    for what, applies in problems.items():
        if applies:
            notes.setdefault(what, []).append(name)
    return ImageRecord(
        image_id=int(name),
        file_name=file.path.name,
        path=file.path,
        height=facts.height,
        width=facts.width,
        patient_id=file.patient,
        exam_id="-".join(filter(None, (file.patient, row.get("acquisition date")))),
        supervision=_supervision(
            birads,
            is_malignant=is_malignant,
            is_drawn=bool(rois),
            is_complete=bool(drawn) and not without_extent,
        ),
        laterality=laterality,
        view_position=_view(row),
        pixel_spacing_mm=facts.pixel_spacing_mm,
        pathology=pathology,
        findings=tuple(
            Finding(
                box=box,
                category="malignant" if is_malignant else "benign",
                finding_id=next(finding_ids),
                pathology=pathology,
                outline=outline,
            )
            for box, outline in drawn
        ),
        attributes=_attributes(row, birads, rois),
    )


def _birads(row: Row) -> str:
    birads = row.get("bi-rads").lower()
    if birads not in BIRADS:
        raise row.error("bi-rads", f"legal are {', '.join(BIRADS)}")
    return birads


def _view(row: Row) -> ViewPosition:
    view = row.text("view").upper()
    return ViewPosition(view) if view in ("CC", "MLO") else ViewPosition.OTHER


def _attributes(row: Row, birads: str, rois: Sequence[Roi]) -> dict[str, str]:
    kinds = dict.fromkeys(roi.kind or "other" for roi in rois)
    facts = {"birads": birads, "density": row.get("acr"), "findings": ",".join(kinds)}
    return {key: value for key, value in facts.items() if value}


def _pathology(birads: str, is_malignant: bool) -> Pathology:
    if is_malignant:
        return Pathology.MALIGNANT
    return Pathology.NORMAL if birads == "1" else Pathology.BENIGN


def _supervision(
    birads: str, *, is_malignant: bool, is_drawn: bool, is_complete: bool
) -> Supervision:
    """What the labels mean, see :func:`read_inbreast`."""
    if is_malignant:
        return Supervision.BOXES if is_complete else Supervision.IMAGE_LABEL
    if is_drawn:
        return Supervision.BOXES
    return Supervision.NORMAL if birads in ("1", "2") else Supervision.IMAGE_LABEL


def _drawn(
    rois: Sequence[Roi], path: Path | None, height: int, width: int
) -> tuple[list[tuple[Box, Outline]], int, int]:
    """The boxes with their outlines, how many outlines have none (a point or a line), and how many
    were clipped.

    Raises:
        AnnotationError: An outline lies outside its image.
    """
    drawn: list[tuple[Box, Outline]] = []
    n_without_extent, n_clipped = 0, 0
    for roi in rois:
        (x1, y1), (x2, y2) = (
            tuple(map(side, zip(*roi.points, strict=True))) for side in (min, max)
        )
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            raise AnnotationError(
                f"{path}: the outline {roi.name!r} from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}) lies "
                f"outside its image, which is {width} wide and {height} high"
            )
        box = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
        if min(box[2] - box[0], box[3] - box[1]) < _SMALLEST_SIDE_PX:
            n_without_extent += 1
            continue
        n_clipped += box != (x1, y1, x2, y2)
        drawn.append((box, clean((roi.points,), height, width)))
    return drawn, n_without_extent, n_clipped


SOURCE = Source(
    name="inbreast",
    help="INbreast: 410 digital mammograms of 115 patients, with outlines",
    root_help="the release, with INbreast.csv, AllDICOMs and AllXML",
    options=InbreastOptions,
    read=lambda root, options, how: read_inbreast(
        root,
        malignant_from=options.malignant_from,
        kinds=options.kinds,
        skip_unreadable=how.skip_unreadable,
    ),
)
