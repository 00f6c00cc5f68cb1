"""What does a folder of one's own say, with a table of labels beside the images, as records?

Images are DICOM, PNG, PGM, JPEG or TIFF, in any folders below the root. The table is CSV or Excel
with a row per finding, or one per image where there are no boxes:

    file      image, relative to the root; required
    label     malignant, benign, normal or unlabelled; required
    x1 y1 x2 y2  the finding's box in pixels of the file, origin top left; x2, y2 one past the last
    patient   who it is; may be left out where DICOM headers have a Patient ID
    exam      which of the patient's studies; else the header's Study Instance UID, else one
    laterality  L or R; else the header's
    view      CC, MLO or other; else the header's
    lesion    joins the findings of one lesion over views
    density   A, B, C or D
    labels    malignant=1;benign=0: whether such a finding is visible in this image
    split     train, val (or valid, validation, dev) or test; for all images or for none

What is empty counts as left out, and capitals do not matter. A mapping file names other columns and
words, see :mod:`simfrcnn.data.sources.folder.mapping`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

from simfrcnn import outlines
from simfrcnn.data.sources.breasts import doubtful_views, without_guesses
from simfrcnn.data.sources.facts import Facts
from simfrcnn.data.sources.folder.columns import CATEGORIES, COLUMNS, FURTHER, KEYS, TABLES
from simfrcnn.data.sources.folder.images import Image, Opened, exams_of, labels_by_file, opened
from simfrcnn.data.sources.folder.mapping import FolderMapping, read_mapping
from simfrcnn.data.sources.folder.rows import (
    Label,
    names_of_nobody,
    require_agreement,
    require_split,
)
from simfrcnn.data.sources.folder.translate import translated, unmapped_columns
from simfrcnn.data.sources.source import (
    ClinicOptions,
    Reading,
    Source,
    SourceData,
    listed,
    note_on_labels,
)
from simfrcnn.data.sources.table import Table, each_good, read_any_table, require_none
from simfrcnn.data.spelling import DIFFERENCES, folded
from simfrcnn.described import described
from simfrcnn.dicom.patient import with_whole_years
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

UNBOXED_BENIGN = {
    "image_label": "benign images without boxes are image_label: they do not train",
    "normal": "benign images without boxes are normal: known to hold no cancer",
}
"""What becomes of images that are benign as a whole: the choice -> what it says."""
DEFAULT_UNBOXED_BENIGN = "image_label"


@dataclass(frozen=True)
class FolderOptions(ClinicOptions):
    """What only a folder with a table can be asked for."""

    table: Path | None = described(
        None,
        f"the labels, with columns of {', '.join(COLUMNS)} (default: {TABLES[0]} in ROOT, or "
        f"{TABLES[1]})",
        parse=Path,
        metavar="FILE",
    )
    mapping: Path | None = described(
        None,
        "a YAML file that names the table's own columns and words; see docs/datasets.md",
        parse=Path,
        metavar="FILE",
    )
    unboxed_benign: str = described(
        DEFAULT_UNBOXED_BENIGN,
        "what benign images without boxes are: image_label (default: they do not train), or "
        "normal, known to hold no cancer",
        choices=tuple(UNBOXED_BENIGN),
    )
    ignore_columns: tuple[str, ...] = described(
        (), "columns of the table that are to be left aside", many="commas", metavar="NAME,..."
    )


def read_folder(
    root: Path, options: FolderOptions = FolderOptions(), how: Reading = Reading()
) -> SourceData:
    """Read a folder of images by its table.

    The labels are taken at their word. An image with boxes is ``boxes``, so every malignant finding
    in it must have one; where a row of a malignant finding has none it is ``image_label``, as is an
    image that is malignant as a whole. `normal` is ``normal``; of benign images without boxes the
    user decides, but where another view has a cancer, and not certainly in the other breast, they
    are ``image_label``. `unlabelled` is for images of which nothing is known, such as the other
    breast of a patient with a cancer. Column `labels` says what is visible in one image, not in its
    breast: an unlabelled one with it is ``image_label``, and so is one that shows something
    malignant of which no row is.

    Raises:
        ConfigError: A known column is to be left aside, or the mapping file is wrong.
        AnnotationError: Rows are bad; names them, with line, column and what is legal.
        DataError: The folder or the table cannot be read.
    """
    root = Path(root).absolute()
    table, notes = _read_table(root, options)
    of_file, known = labels_by_file(table, root, how)
    each_good(table.path, of_file.values(), require_agreement)
    require_none(table.path, names_of_nobody(of_file.values()))
    require_split(of_file.values())
    found = opened(table, of_file, known, how, all_views=options.all_views)
    images = found.images
    make = partial(_record, unboxed_benign=options.unboxed_benign)
    records = each_good(table.path, list(enumerate(images, start=1)), make)
    exams, exam_notes = exams_of(table, images)
    records = [replace(r, exam_id=exam) for r, exam in zip(records, exams, strict=True)]
    other_patients = _other_patients(table, images, records)
    records = without_guesses(
        records,
        {
            record.image_id
            for record in records
            if record.supervision is Supervision.NORMAL and record.pathology is Pathology.BENIGN
        },
    )
    doubtful = [images[record.image_id - 1].file for record in doubtful_views(records)]
    return SourceData(
        records=_numbered(records),
        categories=CATEGORIES,
        info={
            "description": "a folder of images",
            "reference": "the table of labels that came with the images",
            "malignant_rule": _malignant_rule(options),
            "benign_rule": UNBOXED_BENIGN[options.unboxed_benign],
            "boxes": "as the table says",
        },
        notes=(
            *notes,
            *_notes(root, found),
            *note_on_labels(records),
            *listed(
                "[image is|images are] of another patient of the table than others with the same "
                "Patient ID in the header: the table was followed",
                other_patients,
            ),
            *exam_notes,
            *listed(
                "[image|images] taken as normal, as stated, in a breast with a cancer", doubtful
            ),
        ),
    )


def _read_table(root: Path, options: FolderOptions) -> tuple[Table, tuple[str, ...]]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds the mammograms")
    mapping = read_mapping(options.mapping) if options.mapping else FolderMapping()
    there = [root / name for name in TABLES if (root / name).exists()]
    path = options.table or mapping.table or next(iter(there), None)
    if path is None:
        raise DataError(
            f"{root}: holds no {' and no '.join(TABLES)}: put the table of labels there, or name "
            f"it with --table; its columns are {', '.join(COLUMNS)}, or others that a mapping file "
            "(--mapping) names"
        )
    required = [] if mapping.path else [KEYS[0], "label"]
    table = read_any_table(
        path,
        required,
        encoding=mapping.encoding,
        sheet=mapping.sheet,
        decimal=mapping.decimal,
        otherwise=": say in a mapping file (--mapping) which of them is what",
    )
    if mapping.path is None:
        _require_known_columns(table, [name.lower() for name in options.ignore_columns])
    return translated(table, mapping)


def _malignant_rule(options: FolderOptions) -> str:
    threshold = read_mapping(options.mapping).malignant_from if options.mapping else None
    by_birads = f"; where it says nothing, BI-RADS {threshold} or higher" if threshold else ""
    return f"as the table says{by_birads}"


def _require_known_columns(table: Table, ignored: Collection[str]) -> None:
    known = sorted(set(COLUMNS) & set(ignored))
    if known:
        raise ConfigError(
            f"--ignore-columns {','.join(known)}: a known column is read: rename it in the table "
            "to have it left aside"
        )
    unknown = unmapped_columns(table, list(ignored))
    if unknown:
        raise AnnotationError(
            f"{table.path}: line 1 has the unknown column {unknown[0]!r}; known are "
            f"{', '.join(COLUMNS)}: correct it, name columns that are to be left aside with "
            f"--ignore-columns {','.join(unknown)}, or say what they mean in a mapping file "
            "(--mapping)"
        )


def _record(item: tuple[int, Image], unboxed_benign: str) -> ImageRecord:
    """The record of one image; its exam is found and its findings are numbered later."""
    number, image = item
    facts, row = image.facts, image.row
    patient = image.patient
    if patient is None:
        raise row.error(
            "patient", "who it is must stand here, because the file does not say it either"
        )
    laterality, view = image.get("laterality"), image.get("view")
    stated = {"density": image.get("density")} | {
        column.removeprefix(FURTHER): image.get(column)
        for column in row.values
        if column.startswith(FURTHER)
    }
    record = ImageRecord(
        image_id=number,
        file_name=image.path.name,
        path=image.path,
        height=facts.height,
        width=facts.width,
        patient_id=patient,
        exam_id=patient,
        supervision=_supervision(image.labels, unboxed_benign),
        laterality=Laterality(laterality) if laterality else facts.laterality,
        view_position=ViewPosition(view) if view else facts.view_position,
        pixel_spacing_mm=facts.pixel_spacing_mm,
        pathology=_pathology(image.labels),
        split=image.get("split") or None,
        findings=tuple(
            _finding(one, one.box, patient, facts) for one in image.labels if one.box is not None
        ),
        labels={name: value for one in image.labels for name, value in one.visible.items()},
        attributes={**facts.person, **with_whole_years(stated), **facts.attributes},
    )
    for name, is_visible in record.labels.items():
        if not is_visible and record.findings_of((name,)):
            raise row.error("labels", f"a row of this image is the box of something {name}")
    return record


def _finding(one: Label, box: Box, patient: str, facts: Facts) -> Finding:
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
    if problem := outlines.problem_of(one.outline, facts.height, facts.width):
        raise one.row.error("outline", f"it {problem}")
    lesion = one.row.get("lesion")
    return Finding(
        box=box,
        category=one.label,
        finding_id=0,
        pathology=Pathology(one.label),
        lesion_id=f"{patient}/{lesion}" if lesion else None,
        outline=outlines.clean(one.outline, facts.height, facts.width),
    )


def _pathology(labels: Sequence[Label]) -> Pathology | None:
    said = {one.label for one in labels}
    return next((p for p in Pathology if p.value in said), None)


def _supervision(labels: Sequence[Label], unboxed_benign: str) -> Supervision:
    """What the labels mean, see :func:`read_folder`."""
    if labels[0].label == "normal":
        return Supervision.NORMAL
    if labels[0].label == "unlabelled":
        return Supervision.IMAGE_LABEL if labels[0].visible else Supervision.UNLABELLED
    if any(one.label == "malignant" and one.box is None for one in labels):
        return Supervision.IMAGE_LABEL
    is_boxed = any(one.label == "malignant" for one in labels)
    if not is_boxed and any(one.visible.get("malignant") for one in labels):
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
    table: Table, images: Sequence[Image], records: Sequence[ImageRecord]
) -> list[str]:
    """The images whose header names a patient of whom the table made several.

    Raises:
        AnnotationError: One patient is spelt in two ways, or is named by the table for some images
            and by the header for others: two splits could share them.
    """
    spelt: dict[str, Image] = {}
    of_header: dict[str, Image] = {}
    errors: list[str] = []
    others: list[str] = []
    for image, record in zip(images, records, strict=True):
        row, file = image.labels[0].row, image.labels[0].file
        first = spelt.setdefault(folded(record.patient_id), image)
        if first.patient != record.patient_id:
            errors.append(
                f"{row.where}: the patient of {file} differs from that of line "
                f"{first.labels[0].row.line} only in {DIFFERENCES}: spell both alike, or, of two "
                "patients, give one another name in column 'patient'"
            )
        if image.facts.patient_id is None:
            continue
        first = of_header.setdefault(folded(image.facts.patient_id), image)
        if first.patient == record.patient_id:
            continue
        others.append(file)
        if not (image.get("patient") and first.get("patient")):
            errors.append(
                f"{row.where}: the header of {file} has the Patient ID of line "
                f"{first.labels[0].row.line}, and the table names the patient of one of them only: "
                "name both in column 'patient', or none"
            )
    require_none(table.path, errors)
    return others


def _notes(root: Path, found: Opened) -> tuple[str, ...]:
    named, images = set(found.paths), found.images
    unnamed = [str(p.relative_to(root)) for p in find_images(root) if p not in named]
    other_side = [
        image.file
        for image in images
        if image.facts.laterality and image.get("laterality") not in ("", image.facts.laterality)
    ]
    other_view = [
        image.file
        for image in images
        if image.facts.view_position and image.get("view") not in ("", image.facts.view_position)
    ]
    burned_in = [image.file for image in images if image.facts.has_burned_in_text]
    what = "in the header than in the table, which was followed"
    return (
        *found.notes,
        *listed("[image|images] without a row of the table, not used", unnamed),
        *listed(f"[image|images] of another laterality {what}", other_side),
        *listed(f"[image|images] of another view {what}", other_view),
        *listed(
            "[image|images] whose header says that text is burned in, perhaps a name: look at the "
            "pictures",
            burned_in,
        ),
    )


SOURCE = Source(
    name="folder",
    help="images of your own, with a table of labels",
    root_help="folder of DICOM, PNG, PGM, JPEG or TIFF images, nested or not",
    options=FolderOptions,
    read=read_folder,
    publishes_split=True,
    has_public_ids=False,
    dicom_options=ClinicOptions.dicom,
)
