"""What do the files of NIH ChestX-ray14 say, as records?

112,120 frontal chest films of 30,805 patients with 14 labels that were mined from reports, and some
1,000 boxes. It is not mammography: the set shows a classifier of many labels on real films.

Reference:
    Wang et al. (2017), ChestX-ray8, CVPR; the NIH Clinical Center's download, whose read-me
    describes ``Data_Entry_2017``, ``BBox_List_2017`` and the two lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.data.sources.table import Row, each_good, read_table, require_none
from simfrcnn.described import Options
from simfrcnn.dicom.patient import AGE_STRING, OLDEST_YEARS, years_of, years_stated
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.images.names import files_below
from simfrcnn.records import Box, Finding, ImageRecord, Supervision
from simfrcnn.wording import counted

LABELS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening"),
    "Hernia",
)
NO_FINDING = "No Finding"
"""The complement of the 14: no label of its own. A mean over 15 is no mean over 14."""
CATEGORIES = dict(enumerate(LABELS, start=1))
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "labels.csv")
BOXES = ("BBox_List_2017.csv", "boxes.csv")
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_COLUMNS = ("image index", "finding labels", "follow-up #", "patient id")
# The published header of the boxes has brackets with commas in them, and names two columns nothing.
_BOX_COLUMNS = {
    "BBox_List_2017.csv": ("image index", "finding label", "bbox [x", "y", "w", "h]"),
    "boxes.csv": ("image", "finding", "x", "y", "w", "h"),
}
_SYNONYMS = {"Infiltrate": "Infiltration"}
_PICTURES = (".png", ".jpg", ".jpeg")
_SIDE_PX = 1024
"""Of the published pictures, in whose pixels the boxes are."""
_ATTRIBUTES = {
    "patient gender": "sex",
    "patient sex": "sex",
    "view position": "view",
}


@dataclass(frozen=True)
class ChestXray14Options(Options):
    """There are none that only this set has."""


def read_chestxray14(
    root: Path, *, skip_unreadable: bool = False, n_workers: int | None = None
) -> SourceData:
    """Read the collection's table, its boxes and lists, and the sizes of the images.

    - Each film says of all 14 labels whether it shows them: what its row names is there, all others
      are not. ``No Finding`` is no label: such a film shows none of the 14, and is ``normal``.
    - A film with a box stays ``image_label``: the boxes are examples, not all that is there.
    - ``split`` is that of the official lists, where they are there.

    Args:
        root: The download, or a folder that holds it.
        skip_unreadable: Leave out images that cannot be read, and tell which.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        AnnotationError: A table or list is not understood, or contradicts itself.
        DataError: The table or all images are missing, or images are damaged.
    """
    root = Path(root).absolute()
    table = _find(root, TABLES)
    if table is None:
        raise DataError(f"{root}: must hold one of {', '.join(TABLES)}")
    rows = read_table(table, _COLUMNS).rows
    labels = each_good(table, rows, _labels_of)
    _require_once(rows)
    splits = _splits(root, rows)
    boxes, unstated = _boxes(root, dict(zip(map(_name, rows), labels, strict=True)))
    files = _files(root, {PurePath(_name(row)).stem for row in rows})
    present = [
        (row, own, files[stem])
        for row, own in zip(rows, labels, strict=True)
        if (stem := PurePath(_name(row)).stem) in files
    ]
    if not present:
        raise DataError(f"{root}: none of the {len(rows)} images of {table.name} is there")
    found = facts_of_all(
        [path for _, _, path in present],
        title="chestxray14",
        skip_unreadable=skip_unreadable,
        n_workers=n_workers,
    )
    records = tuple(
        _record(number, row, own, path, facts, boxes.get(_name(row), ()), splits.get(_name(row)))
        for number, ((row, own, path), facts) in enumerate(
            zip(present, found, strict=True), start=1
        )
        if facts is not None
    )
    unreadable = [_name(r) for (r, _, _), facts in zip(present, found, strict=True) if not facts]
    counts = Counter(
        name for record in records for name, is_there in record.labels.items() if is_there
    )
    return SourceData(
        records=records,
        categories=CATEGORIES,
        info={
            "description": "NIH ChestX-ray14: chest films with 14 labels mined from reports",
            "reference": "Wang et al. (2017), ChestX-ray8, CVPR; NIH Clinical Center",
            "licence": "no restriction on use; acknowledge the NIH Clinical Center and cite",
            "label_rule": "a label that 'Finding Labels' names is there, all others are not; "
            f"'{NO_FINDING}' is no label",
        },
        notes=(
            "films by label: " + ", ".join(f"{name} {counts[name]}" for name in LABELS),
            f"{counted(_n_free(records), '[film|films]')} with none of the 14",
            *listed(f"[image|images] of {table.name} [is|are] not there", _missing(rows, files)),
            *listed("[image|images] that cannot be read, left out", unreadable),
            *listed(
                f"[film|films] of a patient of more than {OLDEST_YEARS} years, whose age is not "
                "kept",
                [_name(row) for row, *_ in present if _is_too_old(row)],
            ),
            *listed(
                "[box|boxes] of a label that the table does not give the film, left out", unstated
            ),
        ),
        label_targets=LABELS,
    )


def _name(row: Row) -> str:
    return row.get("image index")


def _labels_of(row: Row) -> dict[str, bool]:
    """Of all 14 whether the film shows them."""
    row.text("image index")
    row.text("patient id")
    _age(row)
    words = [word.strip() for word in row.text("finding labels").split("|")]
    unknown = [word for word in words if word not in (*LABELS, NO_FINDING)]
    if unknown:
        raise row.error("finding labels", f"legal are {', '.join((*LABELS, NO_FINDING))}")
    if NO_FINDING in words and len(words) > 1:
        raise row.error("finding labels", f"{NO_FINDING!r} stands alone")
    return {name: name in words for name in LABELS}


def _age(row: Row) -> str | None:
    """In whole years; the first edition of the table has 058Y and, of infants, 013M or 001D.

    Some rows state an age such as 414, which nobody has: theirs is not known.
    """
    stated = row.get("patient age")
    if not stated or stated.isdecimal():
        return str(int(stated)) if years_stated(stated) else None
    if not AGE_STRING.fullmatch(stated):
        raise row.error(
            "patient age", "legal are years such as 58, 058Y, 013M, 001W, 001D, or nothing"
        )
    return years_of(stated)


def _is_too_old(row: Row) -> bool:
    stated = row.get("patient age").rstrip("DWMY")
    return _age(row) is None and int(stated or 0) > 0


def _require_once(rows: Sequence[Row]) -> None:
    of_image: dict[str, Row] = {}
    for row in rows:
        other = of_image.setdefault(_name(row), row)
        if other is not row:
            raise AnnotationError(f"{row.where}: the image of line {other.line} is listed twice")


def _splits(root: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Image -> part, by the official lists; nothing where there are none.

    The lists are of the whole set, so they may name images that a part of it lacks.
    """
    paths = {part: _find(root, (name,)) for part, name in LISTS.items()}
    if not any(paths.values()):
        return {}
    missing = [LISTS[part] for part, path in paths.items() if path is None]
    if missing:
        raise DataError(f"{root}: has one of the official lists, but not {missing[0]}")
    splits: dict[str, str] = {}
    for part, path in paths.items():
        assert path is not None
        for name in _lines(path):
            if splits.setdefault(name, part) != part:
                raise AnnotationError(f"{path}: {name} is in {LISTS[splits[name]]} as well")
    without = [row for row in rows if _name(row) not in splits]
    if without:
        raise AnnotationError(
            f"{without[0].where}: {_name(without[0])} is in none of {', '.join(LISTS.values())} "
            f"({counted(len(without), 'such [image|images]')})"
        )
    return splits


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(
            f"{path}: cannot be read as text in UTF-8 ({error}); fetch it again"
        ) from error


def _boxes(
    root: Path, labels: Mapping[str, Mapping[str, bool]]
) -> tuple[dict[str, list[tuple[str, Box]]], list[str]]:
    """Image -> its boxes in published pixels; and those of labels that the table does not give."""
    path = _find(root, BOXES)
    if path is None:
        return {}, []
    image, finding, *sides = columns = _BOX_COLUMNS[path.name]
    boxes: dict[str, list[tuple[str, Box]]] = {}
    unstated, errors = [], []
    for row in read_table(path, columns).rows:
        name = _SYNONYMS.get(row.get(finding), row.get(finding))
        try:
            x, y, width, height = (row.number(side) for side in sides)
            if name not in LABELS:
                raise row.error(finding, f"legal are {', '.join(LABELS)}")
            if not (width > 0 and height > 0):
                raise row.error(sides[2], "width and height must be above 0")
            if x + width <= 0 or y + height <= 0 or max(x, y) >= _SIDE_PX:
                raise row.error(
                    sides[0], f"the box lies outside its film of {_SIDE_PX} x {_SIDE_PX} pixels"
                )
        except AnnotationError as error:
            errors.append(str(error))
            continue
        of_image = labels.get(row.get(image))
        if of_image is not None and not of_image[name]:
            unstated.append(f"{row.get(image)} {name}")
        elif of_image is not None:
            boxes.setdefault(row.get(image), []).append((name, (x, y, x + width, y + height)))
    require_none(path, errors)
    return boxes, unstated


def _record(
    number: int,
    row: Row,
    labels: Mapping[str, bool],
    path: Path,
    facts: Facts,
    boxes: Sequence[tuple[str, Box]],
    split: str | None,
) -> ImageRecord:
    patient = row.get("patient id")
    attributes = {ours: row.get(theirs) for theirs, ours in _ATTRIBUTES.items() if row.get(theirs)}
    age = _age(row)
    attributes = {**attributes, **({} if age is None else {"age": age})}
    scale_x, scale_y = facts.width / _SIDE_PX, facts.height / _SIDE_PX
    limits = float(facts.width), float(facts.height)
    findings = tuple(
        Finding(
            (
                max(0.0, x1 * scale_x),
                max(0.0, y1 * scale_y),
                min(limits[0], x2 * scale_x),
                min(limits[1], y2 * scale_y),
            ),
            category,
            finding_id=1000 * number + place,
        )
        for place, (category, (x1, y1, x2, y2)) in enumerate(boxes)
    )
    return ImageRecord(
        image_id=number,
        file_name=path.name,
        path=path,
        height=facts.height,
        width=facts.width,
        patient_id=patient,
        exam_id=f"{patient}-{row.get('follow-up #')}",
        supervision=Supervision.IMAGE_LABEL if any(labels.values()) else Supervision.NORMAL,
        split=split,
        findings=findings,
        labels=labels,
        attributes={**attributes, **facts.attributes},
    )


def _find(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these files, in the folder or below."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the ChestX-ray14 download")
    for name in names:
        if (root / name).is_file():
            return root / name
    below = {path.name: path for path in files_below(root) if path.name in names}
    return next((below[name] for name in names if name in below), None)


def _files(root: Path, stems: Collection[str]) -> dict[str, Path]:
    """The pictures of some stems: copies in other formats and sizes keep theirs.

    Raises:
        DataError: A film is there twice, and may not be the same.
    """
    files: dict[str, Path] = {}
    for path in files_below(root):
        if path.suffix.lower() in _PICTURES and path.stem in stems:
            first = files.setdefault(path.stem, path)
            if first != path:
                raise DataError(f"{first} and {path} are of the same image: remove one")
    return files


def _missing(rows: Sequence[Row], files: Mapping[str, Path]) -> list[str]:
    return [_name(row) for row in rows if PurePath(_name(row)).stem not in files]


def _n_free(records: Sequence[ImageRecord]) -> int:
    return sum(not any(record.labels.values()) for record in records)


SOURCE = Source(
    name="chestxray14",
    help="NIH ChestX-ray14: 112,120 chest films, 14 labels mined from reports, few boxes",
    root_help="the download, with Data_Entry_2017*.csv and the images in any folders",
    options=ChestXray14Options,
    read=lambda root, options, how: read_chestxray14(
        root, skip_unreadable=how.skip_unreadable, n_workers=how.n_workers
    ),
    publishes_split=True,
)
