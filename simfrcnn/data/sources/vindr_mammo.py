"""What do the files of VinDr-Mammo say, as records?

20,000 full-field digital mammograms: 5,000 exams of four views, 4,000 to train on and 1,000 to test
on, double read. Each breast has a BI-RADS assessment; findings that are not benign have a box and,
but for signs such as skin thickening, an assessment of their own.

Reference:
    Nguyen et al. (2023), "VinDr-Mammo: A large-scale benchmark dataset for computer-aided diagnosis
    in full-field digital mammography", Scientific Data 10, 277; doi:10.13026/br2v-7517.
"""

from __future__ import annotations

import ast
import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.data.sources.table import Row, find_table, read_table
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
from simfrcnn.wording import agreeing, counted

RULES = (3, 4, 5)
"""The BI-RADS assessments from which on a finding can be taken as malignant."""
DEFAULT_RULE = 4
CATEGORIES = {1: "malignant", 2: "benign", 3: "unassessed"}
TABLE = "finding_annotations.csv"
SUFFIXES = (".dicom", ".dcm")
_SPLITS = {"training": "train", "test": "test"}
_BREAST_BIRADS = {f"BI-RADS {number}": number for number in range(1, 6)}
_DENSITIES = tuple(f"DENSITY {letter}" for letter in "ABCD")
_PATHOLOGIES = {"malignant": Pathology.MALIGNANT, "benign": Pathology.BENIGN, "unassessed": None}
_NO_FINDING = "No Finding"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OF_IMAGE = (
    "study_id",
    "series_id",
    "laterality",
    "view_position",
    "height",
    "width",
    "breast_birads",
    "breast_density",
    "split",
)
"""What every row of one image must say alike."""
_COLUMNS = (*_OF_IMAGE, "image_id", "finding_categories", "finding_birads", *_CORNERS)


@dataclass(frozen=True)
class VindrOptions(Options):
    """What only this set can be asked for."""

    malignant_from: int = described(
        DEFAULT_RULE,
        f"the lowest BI-RADS of a finding that is malignant (default: {DEFAULT_RULE})",
        choices=RULES,
        parse=int,
    )


@dataclass(frozen=True)
class _Marked:
    """One box as published, whether it left the image, its categories and own assessment."""

    box: Box
    was_clipped: bool
    categories: tuple[str, ...]
    birads: int | None


@dataclass(frozen=True)
class _View:
    """One image of the table; it and its findings are numbered over the whole table."""

    first: Row
    number: int
    first_finding: int
    breast_birads: int
    marked: tuple[_Marked, ...]
    n_repeated: int


def read_vindr_mammo(
    root: Path,
    *,
    malignant_from: int = DEFAULT_RULE,
    skip_unreadable: bool = False,
    n_workers: int | None = None,
) -> SourceData:
    """Read the table of findings and the headers of the images.

    A finding is `malignant` from its own BI-RADS ``malignant_from`` on, else `benign`; signs that
    have none (skin thickening, lymph nodes ...) are `unassessed`. What an image teaches:

    - a malignant box: ``boxes``;
    - none, but the breast is of ``malignant_from`` or higher, or its other view has such a box:
      ``image_label``: what the readers saw is marked there, or is an unassessed sign;
    - boxes, none malignant, in a breast below the rule: ``boxes``;
    - no finding, breast of BI-RADS 1 or 2: ``normal``, also when the other breast has a cancer:
      each breast was assessed by itself;
    - no finding, breast of BI-RADS 3: ``image_label``. Probably benign is not *known* to be no
      cancer.

    ``split`` is the published one. Patients are not published, so each study counts as one.

    Args:
        root: The download, or a folder that holds it.
        malignant_from: The lowest malignant assessment, one of :data:`RULES`.
        skip_unreadable: Leave out images whose header cannot be read, and tell which.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        ConfigError: The rule does not exist.
        AnnotationError: The table is not understood, contradicts itself, or an image has another
            size than it says.
        DataError: The table or all images are missing, or headers are damaged.
    """
    root = Path(root).absolute()
    if malignant_from not in RULES:
        legal = ", ".join(map(str, RULES))
        raise ConfigError(f"malignant from BI-RADS {malignant_from}: legal are {legal}")
    table = find_table(root, TABLE, "VinDr-Mammo")
    views = _views(table)
    paths = {view.number: _path(table.parent, view.first) for view in views}
    present = [(view, path) for view in views if (path := paths[view.number]) is not None]
    if not present:
        none = f"[the only image|none of the {len(views)} images] of {TABLE} is [not |]there"
        raise DataError(
            f"{table.parent}: {agreeing(len(views), none)}: images/<study_id>/<image_id>.dicom"
        )
    found = facts_of_all(
        [path for _, path in present],
        title="vindr_mammo",
        skip_unreadable=skip_unreadable,
        n_workers=n_workers,
    )
    # By the table, so that a view stays doubtful when the image of the other one is not there.
    with_cancer = {_breast(view) for view in views if _has_cancer(view, malignant_from)}
    records = tuple(
        _record(view, path, facts, malignant_from, _breast(view) in with_cancer)
        for (view, path), facts in zip(present, found, strict=True)
        if facts is not None
    )
    missing = [view for view in views if paths[view.number] is None]
    unreadable = [view for (view, _), facts in zip(present, found, strict=True) if facts is None]
    return SourceData(
        records=records,
        categories=CATEGORIES,
        info={
            "description": "VinDr-Mammo",
            "reference": "Nguyen et al. (2023), Scientific Data 10, 277; doi:10.13026/br2v-7517",
            "licence": "PhysioNet Restricted Health Data License 1.5.0",
            "malignant_rule": f"malignant: a finding of BI-RADS {malignant_from} or higher; "
            "benign: lower; unassessed: without an assessment; `pathology` is by the breast's "
            "BI-RADS and this rule, histology is not published",
            "normal_rule": "without a finding, breasts of BI-RADS 1 and 2 are normal, all others "
            "image_label",
            "patients": "not published: each study counts as one",
            "boxes": "as published, clipped to the image",
        },
        notes=(
            *_notes(views, malignant_from),
            *listed(f"[image|images] of {TABLE} [is|are] not there", _names(missing)),
            *listed("[image|images] that cannot be read, left out", _names(unreadable)),
        ),
    )


def _views(table: Path) -> list[_View]:
    """The images in the order of their first row; numbered whichever files are there."""
    of_image: dict[str, list[Row]] = {}
    for row in read_table(table, _COLUMNS).rows:
        of_image.setdefault(row.text("image_id"), []).append(row)
    views: list[_View] = []
    n_findings = 0
    for number, rows in enumerate(of_image.values(), start=1):
        views.append(_view(number, n_findings + 1, rows))
        n_findings += len(views[-1].marked)
    return views


def _view(number: int, first_finding: int, rows: Sequence[Row]) -> _View:
    first = rows[0]
    distinct: dict[tuple[str, ...], Row] = {}
    for row in rows:
        for column in _OF_IMAGE:
            if row.get(column) != first.get(column):
                raise row.error(
                    column,
                    f"line {first.line}, of the same image, says {first.get(column)!r}; all rows "
                    "of an image must agree",
                )
        distinct.setdefault(tuple(row.get(column) for column in _COLUMNS), row)
    categories = {row.line: _categories(row) for row in distinct.values()}
    marked = tuple(
        _marked(row, categories[row.line])
        for row in distinct.values()
        if categories[row.line] != (_NO_FINDING,)
    )
    if marked and len(marked) < len(distinct):
        raise first.error("finding_categories", "the image has both findings and 'No Finding'")
    for row in distinct.values():
        if not marked and any(row.get(name) for name in (*_CORNERS, "finding_birads")):
            raise row.error("finding_categories", "but the row has a box or a finding_birads")
    first.one_of("laterality", ("L", "R"))
    first.one_of("view_position", ("CC", "MLO"))
    first.one_of("split", _SPLITS)
    first.one_of("breast_density", _DENSITIES)
    breast_birads = _BREAST_BIRADS[first.one_of("breast_birads", _BREAST_BIRADS)]
    return _View(first, number, first_finding, breast_birads, marked, len(rows) - len(distinct))


def _categories(row: Row) -> tuple[str, ...]:
    """The Python list that stands in the table as text; nothing in it is ever run."""
    legal = "it must be a list of names, such as ['Mass', 'Skin Retraction'] or ['No Finding']"
    try:
        names = ast.literal_eval(row.text("finding_categories"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise row.error("finding_categories", legal) from error
    is_list = isinstance(names, list) and all(isinstance(n, str) and n.strip() for n in names)
    if not is_list or not names or (_NO_FINDING in names and len(names) > 1):
        raise row.error("finding_categories", legal)
    return tuple(name.strip() for name in names)


def _marked(row: Row, categories: tuple[str, ...]) -> _Marked:
    x1, y1, x2, y2 = (row.number(name) for name in _CORNERS)
    height, width = row.whole("height"), row.whole("width")
    box = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise AnnotationError(
            f"{row.where}: the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is empty or lies outside its "
            f"image, which is {width} wide and {height} high"
        )
    own = row.get("finding_birads")
    birads = _BREAST_BIRADS[row.one_of("finding_birads", _BREAST_BIRADS)] if own else None
    return _Marked(box, box != (x1, y1, x2, y2), categories, birads)


def _path(folder: Path, row: Row) -> Path | None:
    """The file of an image, None if it is not there."""
    names = (row.text("study_id"), row.text("image_id"))
    for column, name in zip(("study_id", "image_id"), names, strict=True):
        if Path(name).name != name or name == "..":
            raise row.error(column, "it must be a plain name, without folders")
    stem = folder / "images" / names[0] / names[1]
    paths = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    return next((path for path in paths if os.path.isfile(path)), None)


def _breast(view: _View) -> tuple[str, str]:
    return view.first.get("study_id"), view.first.get("laterality")


def _has_cancer(view: _View, malignant_from: int) -> bool:
    return any(_category(marked, malignant_from) == "malignant" for marked in view.marked)


def _record(
    view: _View, path: Path, facts: Facts, malignant_from: int, breast_has_cancer: bool
) -> ImageRecord:
    """The record of one image."""
    row = view.first
    stated = (row.whole("height"), row.whole("width"))
    if (facts.height, facts.width) != stated:
        raise AnnotationError(
            f"{row.where}: the table says {stated[0]} x {stated[1]} pixels (height x width), "
            f"{path} has {facts.height} x {facts.width}: its boxes belong to another version"
        )
    findings = tuple(
        Finding(
            box=marked.box,
            category=_category(marked, malignant_from),
            finding_id=number,
            pathology=_PATHOLOGIES[_category(marked, malignant_from)],
        )
        for number, marked in enumerate(view.marked, start=view.first_finding)
    )
    names = dict.fromkeys(name for marked in view.marked for name in marked.categories)
    attributes = {
        **facts.person,
        "birads": str(view.breast_birads),
        "density": row.get("breast_density").removeprefix("DENSITY "),
        "findings": ",".join(names),
        **facts.attributes,
    }
    has_cancer = _has_cancer(view, malignant_from)
    is_doubtful = breast_has_cancer and not has_cancer
    return ImageRecord(
        image_id=view.number,
        file_name=path.name,
        path=path,
        height=facts.height,
        width=facts.width,
        patient_id=row.get("study_id"),
        exam_id=row.get("study_id"),
        supervision=Supervision.IMAGE_LABEL
        if is_doubtful
        else _supervision(view, has_cancer, malignant_from),
        laterality=Laterality(row.get("laterality")),
        view_position=ViewPosition(row.get("view_position")),
        pixel_spacing_mm=facts.pixel_spacing_mm,
        pathology=_pathology(view, has_cancer, malignant_from),
        split=_SPLITS[row.get("split")],
        findings=findings,
        attributes={key: value for key, value in attributes.items() if value},
    )


def _category(marked: _Marked, malignant_from: int) -> str:
    if marked.birads is None:
        return "unassessed"
    return "malignant" if marked.birads >= malignant_from else "benign"


def _pathology(view: _View, has_cancer: bool, malignant_from: int) -> Pathology:
    if has_cancer or view.breast_birads >= malignant_from:
        return Pathology.MALIGNANT
    return Pathology.NORMAL if view.breast_birads == 1 and not view.marked else Pathology.BENIGN


def _supervision(view: _View, has_cancer: bool, malignant_from: int) -> Supervision:
    """What the labels mean, see :func:`read_vindr_mammo`."""
    if has_cancer:
        return Supervision.BOXES
    if view.breast_birads >= malignant_from:
        return Supervision.IMAGE_LABEL
    if view.marked:
        return Supervision.BOXES
    return Supervision.NORMAL if view.breast_birads <= 2 else Supervision.IMAGE_LABEL


def _names(views: Sequence[_View]) -> list[str]:
    return [view.first.get("image_id") for view in views]


def _notes(views: Sequence[_View], malignant_from: int) -> tuple[str, ...]:
    counts = {
        "[box|boxes] clipped to [its|their] image": sum(
            m.was_clipped for v in views for m in v.marked
        ),
        "[row|rows] given twice, taken once": sum(view.n_repeated for view in views),
        "[finding|findings] without an assessment of [its|their] own, boxed as unassessed": sum(
            marked.birads is None for view in views for marked in view.marked
        ),
        "[finding|findings] assessed higher than the breast, which counts as malignant": sum(
            (marked.birads or 0) >= malignant_from > view.breast_birads
            for view in views
            for marked in view.marked
        ),
    }
    return (
        "patients are not published: each study counts as one",
        *(counted(number, what) for what, number in counts.items() if number),
    )


SOURCE = Source(
    name="vindr_mammo",
    help="VinDr-Mammo: 5,000 exams of four digital mammograms, with boxes",
    root_help="the download, with finding_annotations.csv and images",
    options=VindrOptions,
    read=lambda root, options, how: read_vindr_mammo(
        root,
        malignant_from=options.malignant_from,
        skip_unreadable=how.skip_unreadable,
        n_workers=how.n_workers,
    ),
    publishes_split=True,
)
