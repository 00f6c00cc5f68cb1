"""What does a folder of one's own say, with a table of labels beside the images, as records?

Images are DICOM, PNG, PGM, JPEG or TIFF, in any folders below the root. The table is CSV with a row
per finding, or one per image where there are no boxes:

    file      image, relative to the root; required
    label     malignant, benign, normal or unlabelled; required
    x1 y1 x2 y2  the finding's box in pixels of the file, origin top left; x2, y2 one past the last
    patient   who it is; may be left out where DICOM headers have a Patient ID
    exam      which of the patient's studies; else the header's Study Instance UID, else one
    laterality  L or R; else the header's
    view      CC, MLO or other; else the header's
    lesion    joins the findings of one lesion over views
    density   A, B, C or D
    split     train, val, test or another name; for all images or for none

What is empty counts as left out.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TypeVar

from simfrcnn.data.parallel import in_parallel
from simfrcnn.data.sources.breasts import doubtful_views
from simfrcnn.data.sources.facts import Facts, facts_or_problem
from simfrcnn.data.sources.source import SourceData, listed
from simfrcnn.data.sources.table import Row, Table, read_table
from simfrcnn.data.splits import is_malignant
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.images.finding import find_images
from simfrcnn.records import (
    Box,
    Finding,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)

TABLE = "labels.csv"
REQUIRED = ("file", "label")
CORNERS = ("x1", "y1", "x2", "y2")
OF_IMAGE = ("patient", "exam", "laterality", "view", "density", "split")
"""What the rows of one image must say alike, where they say it."""
IDENTIFYING = ("patient", "exam")
"""Columns whose values no message shows."""
COLUMNS = (*REQUIRED, *CORNERS, *OF_IMAGE, "lesion")
LABELS = ("malignant", "benign", "normal", "unlabelled")
CATEGORIES = {1: "malignant", 2: "benign"}
UNBOXED_BENIGN = {
    "image_label": "benign images without boxes are image_label: they do not train",
    "normal": "benign images without boxes are normal: known to hold no cancer",
}
"""What becomes of images that are benign as a whole: the choice -> what it says."""
DEFAULT_UNBOXED_BENIGN = "image_label"
LEGAL = {
    "laterality": tuple(side.value for side in Laterality),
    "view": tuple(view.value for view in ViewPosition),
    "density": ("A", "B", "C", "D"),
}
"""Column -> its values, where it is not empty."""
_N_SHOWN = 20

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Label:
    """One row that makes sense by itself."""

    row: Row
    file: str
    label: str
    box: Box | None

    @property
    def has_finding(self) -> bool:
        """Whether it speaks of something malignant or benign."""
        return self.label in CATEGORIES.values()


@dataclass(frozen=True)
class _Image:
    """An image of the table: its rows in file order, and what its file says."""

    labels: tuple[_Label, ...]
    path: Path
    facts: Facts

    def get(self, column: str) -> str:
        """What the rows say in a column; empty where none says anything."""
        return next((text for one in self.labels if (text := one.row.get(column))), "")

    @property
    def patient(self) -> str | None:
        """By the table, else by the header; composed and decomposed letters are one spelling."""
        patient = self.get("patient") or self.facts.patient_id
        return patient and unicodedata.normalize("NFC", patient)

    def exam(self, patient: str) -> str:
        """By the table, where equal words of two patients are two exams, else by the header."""
        stated, of_header = self.get("exam"), self.facts.exam_id
        return f"{patient}/{stated}" if stated not in ("", of_header) else of_header or patient


def read_folder(
    root: Path,
    *,
    table: Path | None = None,
    unboxed_benign: str = DEFAULT_UNBOXED_BENIGN,
    ignored_columns: Collection[str] = (),
    skip_unreadable: bool = False,
    n_workers: int | None = None,
) -> SourceData:
    """Read a folder of images by its table.

    The labels are taken at their word. An image with boxes is ``boxes``, so every malignant finding
    in it must have one; where a row of a malignant finding has none it is ``image_label``, as is an
    image that is malignant as a whole. `normal` is ``normal``; of benign images without boxes the
    user decides, but where another view has a cancer, and not certainly in the other breast, they
    are ``image_label``. `unlabelled` is for images of which nothing is known, such as the other
    breast of a patient with a cancer.

    Args:
        root: The folder of the images.
        table: The CSV file; `labels.csv` in the root by default.
        unboxed_benign: One of :data:`UNBOXED_BENIGN`.
        ignored_columns: Columns of the table that are known to be others. Any other unknown one is
            an error: it may be a known one misspelt.
        skip_unreadable: Leave out images that cannot be read, and tell which.
        n_workers: Processes, see :func:`~simfrcnn.data.parallel.in_parallel`.

    Raises:
        ConfigError: The choice for benign images does not exist, or a known column is to be left
            aside.
        AnnotationError: Rows are bad; names them, with line, column and what is legal.
        DataError: The folder or the table cannot be read.
    """
    root = Path(root).absolute()
    if unboxed_benign not in UNBOXED_BENIGN:
        raise ConfigError(f"unboxed benign {unboxed_benign!r}: legal: {', '.join(UNBOXED_BENIGN)}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds the mammograms")
    if table is None and not (root / TABLE).exists():
        raise DataError(
            f"{root}: holds no {TABLE}: put the table of labels there, or name it with --table; "
            f"its columns are {', '.join(COLUMNS)}"
        )
    content = read_table(table or root / TABLE, REQUIRED, delimiters=",;\t")
    _require_known_columns(content, ignored_columns)
    of_file: dict[str, list[_Label]] = {}
    for label in _each_good(content, content.rows, _label):
        of_file.setdefault(label.file, []).append(label)
    _each_good(content, of_file.values(), _require_agreement)
    _require_split(of_file.values())
    images, unreadable = _opened(
        content, root, list(of_file.values()), n_workers, skip_unreadable=skip_unreadable
    )
    records = _each_good(
        content, list(enumerate(images, start=1)), partial(_record, unboxed_benign=unboxed_benign)
    )
    other_patients = _other_patients(content, images, records)
    records = _without_guesses(records)
    doubtful = [images[record.image_id - 1].labels[0].file for record in doubtful_views(records)]
    return SourceData(
        records=_numbered(records),
        categories=CATEGORIES,
        info={
            "description": "a folder of images",
            "reference": "the table of labels that came with the images",
            "malignant_rule": "as the table says",
            "benign_rule": UNBOXED_BENIGN[unboxed_benign],
            "boxes": "as the table says",
        },
        notes=(
            *_notes(root, content, images, unreadable),
            *listed(
                "images of other patients of the table than others with the same Patient ID in the "
                "header: the table was followed",
                other_patients,
            ),
            *listed("images taken as normal, as stated, in a breast with a cancer", doubtful),
        ),
    )


def _each_good(
    table: Table, items: Iterable[Item], function: Callable[[Item], Value]
) -> list[Value]:
    """``function`` of every item; all that it refuses is told at once.

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
    _require_none(table, errors)
    return values


def _require_none(table: Table, errors: Sequence[str], remedy: str = "") -> None:
    if not errors:
        return
    shown = "".join(f"\n  {error}" for error in errors[:_N_SHOWN])
    more = f"\n  and {len(errors) - _N_SHOWN} more" if len(errors) > _N_SHOWN else ""
    raise AnnotationError(f"{table.path}: {len(errors)} errors{remedy}:{shown}{more}")


def _require_known_columns(table: Table, ignored: Collection[str]) -> None:
    known = sorted(set(COLUMNS) & set(ignored))
    if known:
        raise ConfigError(
            f"--ignore-columns {','.join(known)}: a known column is read: rename it in the table "
            "to have it left aside"
        )
    unknown = [name for name in table.columns if name not in {*COLUMNS, *ignored}]
    if unknown:
        raise AnnotationError(
            f"{table.path}: line 1 has the unknown column {unknown[0]!r}; known are "
            f"{', '.join(COLUMNS)}: correct it, or name columns that are to be left aside with "
            f"--ignore-columns {','.join(unknown)}"
        )


def _label(row: Row) -> _Label:
    label = row.one_of("label", LABELS)
    for column, legal in LEGAL.items():
        if row.get(column):
            row.one_of(column, legal)
    split = row.get("split")
    if split and not split.isidentifier():
        raise row.error("split", "it must be a name of letters, digits and _, such as train")
    return _Label(row, _file(row), label, _box(row, label))


def _file(row: Row) -> str:
    """The image's path below the root, in one spelling."""
    place = PurePosixPath(row.text("file").replace("\\", "/"))
    if not place.name or place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
        raise row.error("file", "it must be a path below the root, without '..'")
    return str(place)


def _box(row: Row, label: str) -> Box | None:
    given = [name for name in CORNERS if row.get(name)]
    if not given:
        return None
    if len(given) < len(CORNERS):
        missing = next(name for name in CORNERS if name not in given)
        raise row.error(
            missing, "a box needs x1, y1, x2 and y2; an image without one, none of them"
        )
    if label not in CATEGORIES.values():
        raise row.error("label", f"only {' and '.join(CATEGORIES.values())} findings have a box")
    x1, y1, x2, y2 = (row.number(name) for name in CORNERS)
    if x2 <= x1:
        raise row.error("x2", f"it must be above x1, which is {x1:g}")
    if y2 <= y1:
        raise row.error("y2", f"it must be above y1, which is {y1:g}")
    return x1, y1, x2, y2


def _require_agreement(labels: Sequence[_Label]) -> None:
    """Refuse rows of one image that contradict or repeat each other."""
    first_with: dict[str, Row] = {}
    seen: dict[tuple[str, Box | None], Row] = {}
    for one in labels:
        for column in OF_IMAGE:
            if not (text := one.row.get(column)):
                continue
            first = first_with.setdefault(column, one.row)
            if first.get(column) != text:
                if column in IDENTIFYING:
                    raise AnnotationError(
                        f"{one.row.where}: column '{column}' contradicts line {first.line}, of the "
                        "same image: they must agree"
                    )
                raise one.row.error(
                    column, f"line {first.line}, of the same image, says {first.get(column)!r}"
                )
        if not one.has_finding and len(labels) > 1:
            raise one.row.error("label", f"an image that is {one.label} has one row, not more")
        again = seen.setdefault((one.label, one.box), one.row)
        if again is not one.row:
            raise one.row.error("file", f"line {again.line} says the same; keep one")


def _require_split(images: Iterable[Sequence[_Label]]) -> None:
    """Refuse a split that only some images have."""
    with_split = [any(one.row.get("split") for one in labels) for labels in images]
    if any(with_split) and not all(with_split):
        without = next(g for g, has_one in zip(images, with_split, strict=True) if not has_one)
        row = without[0].row
        raise row.error("split", "some images have one: give it for all images, or for none")


def _opened(
    table: Table,
    root: Path,
    groups: Sequence[Sequence[_Label]],
    n_workers: int | None,
    *,
    skip_unreadable: bool,
) -> tuple[list[_Image], list[_Label]]:
    """The images with what their files say, and a row of each that was left out as unreadable.

    All that cannot be opened are told at once.
    """
    paths = [root / labels[0].file for labels in groups]
    missing = [
        str(labels[0].row.error("file", "there is no such file below the root"))
        for labels, path in zip(groups, paths, strict=True)
        if not os.path.isfile(path)  # unlike Path.is_file, it takes any name
    ]
    _require_none(table, missing)
    found = in_parallel(facts_or_problem, paths, title="folder", unit="image", n_workers=n_workers)
    images: list[_Image] = []
    unreadable: list[_Label] = []
    errors: list[str] = []
    for labels, path, facts in zip(groups, paths, found, strict=True):
        if isinstance(facts, Facts):
            images.append(_Image(tuple(labels), path, facts))
        else:
            unreadable.append(labels[0])
            errors.append(str(labels[0].row.error("file", facts.removeprefix(f"{path}: "))))
    if not images:
        errors.append("no image can be read")
    if not skip_unreadable or not images:
        _require_none(table, errors, "; to leave unreadable images out, give --skip-unreadable")
    return images, unreadable


def _record(item: tuple[int, _Image], unboxed_benign: str) -> ImageRecord:
    """The record of one image; its findings are numbered later."""
    number, image = item
    facts, rows = image.facts, [one.row for one in image.labels]
    patient = image.patient
    if patient is None:
        raise rows[0].error(
            "patient", "who it is must stand here, because the file does not say it either"
        )
    laterality, view = image.get("laterality"), image.get("view")
    density = {"density": image.get("density")} if image.get("density") else {}
    return ImageRecord(
        image_id=number,
        file_name=image.path.name,
        path=image.path,
        height=facts.height,
        width=facts.width,
        patient_id=patient,
        exam_id=image.exam(patient),
        supervision=_supervision(image.labels, unboxed_benign),
        laterality=Laterality(laterality) if laterality else facts.laterality,
        view_position=ViewPosition(view) if view else facts.view_position,
        pixel_spacing_mm=facts.pixel_spacing_mm,
        pathology=_pathology(image.labels),
        split=image.get("split") or None,
        findings=tuple(
            _finding(one, one.box, patient, facts) for one in image.labels if one.box is not None
        ),
        attributes={**density, **facts.attributes},
    )


def _finding(one: _Label, box: Box, patient: str, facts: Facts) -> Finding:
    limits = (("x1", box[0] >= 0, 0), ("y1", box[1] >= 0, 0))
    ends = (
        ("x2", box[2] <= facts.width, facts.width),
        ("y2", box[3] <= facts.height, facts.height),
    )
    for column, is_inside, limit in (*limits, *ends):
        if not is_inside:
            raise one.row.error(
                column,
                f"the box leaves its image, which is {facts.width} wide and {facts.height} high; "
                f"legal is {'at most' if limit else 'at least'} {limit}",
            )
    lesion = one.row.get("lesion")
    return Finding(
        box=box,
        category=one.label,
        finding_id=0,
        pathology=Pathology(one.label),
        lesion_id=f"{patient}/{lesion}" if lesion else None,
    )


def _pathology(labels: Sequence[_Label]) -> Pathology | None:
    said = {one.label for one in labels}
    return next((p for p in Pathology if p.value in said), None)


def _supervision(labels: Sequence[_Label], unboxed_benign: str) -> Supervision:
    """What the labels mean, see :func:`read_folder`."""
    if labels[0].label == "normal":
        return Supervision.NORMAL
    if labels[0].label == "unlabelled":
        return Supervision.UNLABELLED
    if any(one.label == "malignant" and one.box is None for one in labels):
        return Supervision.IMAGE_LABEL
    if any(one.box is not None for one in labels):
        return Supervision.BOXES
    return Supervision(unboxed_benign)


def _numbered(records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    ids = count(1)
    return tuple(
        replace(r, findings=tuple(replace(f, finding_id=next(ids)) for f in r.findings))
        for r in records
    )


def _other_patients(
    table: Table, images: Sequence[_Image], records: Sequence[ImageRecord]
) -> list[str]:
    """The images whose header names a patient of whom the table made several.

    Raises:
        AnnotationError: One patient is spelt in two ways, or is named by the table for some images
            and by the header for others: two splits could share them.
    """
    spelt: dict[str, _Image] = {}
    of_header: dict[str, _Image] = {}
    errors: list[str] = []
    others: list[str] = []
    for image, record in zip(images, records, strict=True):
        row, file = image.labels[0].row, image.labels[0].file
        first = spelt.setdefault("".join(record.patient_id.casefold().split()), image)
        if first.patient != record.patient_id:
            errors.append(
                f"{row.where}: the patient of {file} differs from that of line "
                f"{first.labels[0].row.line} only in capitals or blanks: spell both alike"
            )
        if image.facts.patient_id is None:
            continue
        first = of_header.setdefault(image.facts.patient_id, image)
        if first.patient == record.patient_id:
            continue
        others.append(file)
        if not (image.get("patient") and first.get("patient")):
            errors.append(
                f"{row.where}: the header of {file} has the Patient ID of line "
                f"{first.labels[0].row.line}, and the table names the patient of one of them only: "
                "name both in column 'patient', or none"
            )
    _require_none(table, errors)
    return others


def _without_guesses(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Benign images that count as normal by option, not by word, are no such beside a cancer."""
    cancers = {
        (record.exam_id, side)
        for record in records
        if is_malignant(record)
        for side in ((record.laterality, None) if record.laterality else (*Laterality, None))
    }
    return [
        replace(record, supervision=Supervision.IMAGE_LABEL)
        if record.supervision is Supervision.NORMAL
        and record.pathology is Pathology.BENIGN
        and (record.exam_id, record.laterality) in cancers
        else record
        for record in records
    ]


def _notes(
    root: Path, table: Table, images: Sequence[_Image], unreadable: Sequence[_Label]
) -> tuple[str, ...]:
    named = {image.path for image in images} | {root / one.file for one in unreadable}
    unnamed = [str(p.relative_to(root)) for p in find_images(root) if p not in named]
    other_side = [
        image.labels[0].file
        for image in images
        if image.facts.laterality and image.get("laterality") not in ("", image.facts.laterality)
    ]
    other_view = [
        image.labels[0].file
        for image in images
        if image.facts.view_position and image.get("view") not in ("", image.facts.view_position)
    ]
    burned_in = [image.labels[0].file for image in images if image.facts.has_burned_in_text]
    what = "in the header than in the table, which was followed"
    return (
        *listed("columns of the table left aside", sorted(set(table.columns) - set(COLUMNS))),
        *listed("images that cannot be read, left out", [one.file for one in unreadable]),
        *listed("images without a row of the table, not used", unnamed),
        *listed(f"images of another laterality {what}", other_side),
        *listed(f"images of another view {what}", other_view),
        *listed(
            "images whose header says that text is burned in, perhaps a name: look at the pictures",
            burned_in,
        ),
    )
