"""Which files does the table speak of, and what do they say of themselves?"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from simfrcnn.data.sources.copies import ONE_UID, contradictions
from simfrcnn.data.sources.facts import Facts, facts_or_problem
from simfrcnn.data.sources.folder.rows import Label, label_of, place_of
from simfrcnn.data.sources.source import Reading, listed
from simfrcnn.data.sources.table import Row, Table, each_good, require_none
from simfrcnn.errors import AnnotationError
from simfrcnn.images.finding import find_images, is_dicom
from simfrcnn.images.names import Finder
from simfrcnn.parallel import in_parallel
from simfrcnn.wording import agreeing

Known = Mapping[Path, Facts | str]
"""What is known of files already, or why nothing is."""


@dataclass(frozen=True)
class Image:
    """An image of the table: its rows in file order, and what its file says."""

    labels: tuple[Label, ...]
    path: Path
    facts: Facts

    @property
    def file(self) -> str:
        """Its path below the root."""
        return self.labels[0].file

    @property
    def row(self) -> Row:
        """The first row that speaks of it."""
        return self.labels[0].row

    def get(self, column: str) -> str:
        """What the rows say in a column; empty where none says anything."""
        return next((text for one in self.labels if (text := one.row.get(column))), "")

    @property
    def patient(self) -> str | None:
        """By the table, else by the header; composed and decomposed letters are one spelling."""
        header = self.facts.patient_id
        return self.get("patient") or (header and unicodedata.normalize("NFC", header))


@dataclass(frozen=True)
class Opened:
    """The images that are used, and notes of those that were left out."""

    images: list[Image]
    paths: tuple[Path, ...]
    """Of all images that the table names, used or not."""
    notes: tuple[str, ...]


def labels_by_file(table: Table, root: Path, how: Reading) -> tuple[dict[Path, list[Label]], Known]:
    """The rows of each file, in the order of the table, and what was seen of files on the way.

    Raises:
        AnnotationError: Rows are bad, or name no file or several; all are named at once.
    """
    seen: Known = {}
    if "file" in table.columns:
        finder = Finder(root)
        found = each_good(table.path, table.rows, lambda row: _with_file(row, finder))
    else:
        of_uid, seen = _instances(root, how)
        found = each_good(table.path, table.rows, lambda row: _with_uid(row, root, of_uid))
    of_file: dict[Path, list[Label]] = {}
    for path, label in found:
        of_file.setdefault(path, []).append(label)
    require_none(table.path, _linked(of_file))
    return of_file, seen


def _linked(of_file: Mapping[Path, Sequence[Label]]) -> list[str]:
    """What is wrong with two names of one picture, of which one is a link: it would count twice.

    Of DICOM files, those are copies of one instance, which are reported later.
    """
    first_of: dict[str, Label] = {}
    errors: list[str] = []
    for path, (label, *_) in of_file.items():
        first = label if is_dicom(path) else first_of.setdefault(os.path.realpath(path), label)
        if first is not label:
            problem = f"it is the file of line {first.row.line} by a link; keep one name"
            errors.append(str(label.row.error("file", problem)))
    return errors


def opened(
    table: Table,
    of_file: Mapping[Path, Sequence[Label]],
    known: Known,
    how: Reading,
    *,
    all_views: bool,
) -> Opened:
    """The images with what their files say; what cannot be used is left out, and named.

    Left out are unreadable images where that is asked for, further copies of one instance, and
    pictures that are no screening view. All that cannot be opened are named at once.

    Raises:
        AnnotationError: Images cannot be opened, were made by `prepare-data`, or are copies of one
            instance with other labels or another picture.
    """
    unknown = [path for path in of_file if path not in known]
    found = in_parallel(
        facts_or_problem, unknown, title="folder", unit="image", n_workers=how.n_workers
    )
    facts_of = {**known, **dict(zip(unknown, found, strict=True))}
    images: list[Image] = []
    unreadable: list[str] = []
    errors: list[str] = []
    for path, labels in of_file.items():
        facts = facts_of[path]
        if isinstance(facts, Facts):
            images.append(Image(tuple(labels), path, facts))
        else:
            unreadable.append(labels[0].file)
            errors.append(str(labels[0].row.error("file", facts.removeprefix(f"{path}: "))))
    if not images:
        errors.append("no image can be read")
    if not how.skip_unreadable or not images:
        require_none(table.path, errors, "; to leave unreadable images out, give --skip-unreadable")
    _require_no_prepared(table, images)
    images, copies = _without_copies(table, images, how)
    images, other_views = (images, ()) if all_views else _screening_views(table, images)
    return Opened(
        images,
        tuple(of_file),
        (
            *listed("[image|images] that cannot be read, left out", unreadable),
            *listed("[further copy|further copies] of one SOP instance, left out", copies),
            *other_views,
        ),
    )


def exams_of(table: Table, images: Sequence[Image]) -> tuple[list[str], tuple[str, ...]]:
    """The exam of each image, and notes of what the table and the headers contradict.

    The words of the table are equated with Study Instance UIDs: an image without a word is of the
    exam that others of its patient and study are of. Equal words of two patients are two exams, and
    so is one study of two patients. Where a patient has no word, the study is the exam.

    Raises:
        AnnotationError: An image without a word is of a study that has several.
    """
    words: dict[tuple[str | None, str], dict[str, Image]] = {}
    studies: dict[tuple[str | None, str], dict[str, Image]] = {}
    patients: dict[str, dict[str | None, Image]] = {}
    for image in images:
        word, study = image.get("exam"), image.facts.exam_id
        if study is not None:
            patients.setdefault(study, {}).setdefault(image.patient, image)
        if word and study is not None:
            words.setdefault((image.patient, study), {}).setdefault(word, image)
            studies.setdefault((image.patient, word), {}).setdefault(study, image)
    shared = {study for study, found in patients.items() if len(found) > 1}
    exams = each_good(table.path, images, lambda image: _exam(image, words, shared))
    several = [_file_of(found) for found in studies.values() if len(found) > 1]
    split = [_file_of(found) for found in words.values() if len(found) > 1]
    return exams, (
        *listed(
            "[exam|exams] of the table [has|have] several Study Instance UIDs, the table was "
            "followed; images of [it|them]",
            several,
        ),
        *listed(
            "[study|studies] (Study Instance UID) [is|are] several exams in the table, which was "
            "followed; images of [it|them]",
            split,
        ),
        *listed(
            "[study|studies] (Study Instance UID) [is|are] of several patients, each an exam of "
            "its own; images of [it|them]",
            [_file_of(patients[study]) for study in sorted(shared)],
        ),
    )


def _exam(
    image: Image, words: Mapping[tuple[str | None, str], dict[str, Image]], shared: set[str]
) -> str:
    word, study = image.get("exam"), image.facts.exam_id
    patient = str(image.patient)
    if word == study and study is not None:
        word = ""
    if not word and study is not None:
        others = [other for other in words.get((image.patient, study), {}) if other != study]
        if len(others) > 1:
            raise image.row.error(
                "exam",
                "other images of its study are of several exams of the table: state which it is of",
            )
        word = others[0] if others else ""
    if word:
        return f"{patient}/{word}"
    if study is None:
        return patient
    return f"{patient}/{study}" if study in shared else study


def _file_of(images: Mapping[str, Image] | Mapping[str | None, Image]) -> str:
    return next(iter(images.values())).file


def _with_file(row: Row, finder: Finder) -> tuple[Path, Label]:
    file = place_of(row)
    label = label_of(row, file)
    paths = finder.at(PurePosixPath(file))
    if len(paths) != 1:
        problem = "several files have this name, in composed and decomposed letters or in several "
        problem += "encodings: rename one"
        raise row.error("file", problem if paths else "there is no such file below the root")
    return paths[0], label


def _instances(root: Path, how: Reading) -> tuple[dict[str, list[Path]], dict[Path, Facts | str]]:
    """SOP Instance UID -> the files that state it, and what the headers say."""
    paths = [path for path in find_images(root) if is_dicom(path)]
    found = in_parallel(
        facts_or_problem, paths, title="headers", unit="file", n_workers=how.n_workers
    )
    known = dict(zip(paths, found, strict=True))
    of_uid: dict[str, list[Path]] = {}
    for path, facts in known.items():
        if isinstance(facts, Facts) and facts.sop_instance_uid:
            of_uid.setdefault(facts.sop_instance_uid, []).append(path)
    return of_uid, known


def _with_uid(row: Row, root: Path, of_uid: Mapping[str, Sequence[Path]]) -> tuple[Path, Label]:
    paths = of_uid.get(row.text("sop_instance_uid"))
    if not paths:
        raise row.error("sop_instance_uid", "no DICOM file below the root has it")
    pairs = [(paths[0], other) for other in paths[1:]]
    for (first, path), other in zip(pairs, contradictions(pairs, n_workers=0), strict=True):
        if other is not None:
            names = " and ".join(one.relative_to(root).as_posix() for one in (path, first))
            problem = f"{names} have it, but are no copies: {other}; keep the right one"
            raise row.error("sop_instance_uid", problem)
    # Of several copies the first; that the others are not used is said as of other files.
    return paths[0], label_of(row, paths[0].relative_to(root).as_posix())


def _require_no_prepared(table: Table, images: Sequence[Image]) -> None:
    errors = [
        str(
            image.row.error(
                "file",
                "simfrcnn prepare-data made this picture: give the folder of the source, or train "
                "on the annotation files that lie beside the pictures",
            )
        )
        for image in images
        if image.facts.is_prepared
    ]
    require_none(table.path, errors)


def _without_copies(
    table: Table, images: Sequence[Image], how: Reading
) -> tuple[list[Image], list[str]]:
    """Each SOP instance once, and the files that were left out for it."""
    first_of: dict[str, Image] = {}
    kept: list[Image] = []
    copies: list[tuple[Image, Image]] = []
    for image in images:
        uid = image.facts.sop_instance_uid
        first = image if uid is None else first_of.setdefault(uid, image)
        if first is image:
            kept.append(image)
        else:
            copies.append((image, first))
    paths = [(first.path, image.path) for image, first in copies]
    errors: list[str] = []
    for (image, first), other in zip(copies, contradictions(paths, how.n_workers), strict=True):
        both = f"{image.row.where}: {image.file} and {first.file} (line {first.row.line})"
        if other is not None:
            errors.append(f"{both} {ONE_UID}, but are no copies: {other}; keep the right one")
        elif _said(image) != _said(first):
            errors.append(
                f"{both} are one SOP instance (SOP Instance UID (0008,0018)), and the labels "
                "differ: keep one"
            )
    require_none(table.path, errors)
    return kept, [f"{image.file} (of {first.file})" for image, first in copies]


def _said(image: Image) -> set[tuple[object, ...]]:
    return {(one.label, one.box) for one in image.labels}


def _screening_views(table: Table, images: Sequence[Image]) -> tuple[list[Image], tuple[str, ...]]:
    kept = [image for image in images if image.facts.not_screening is None]
    reasons = Counter(str(i.facts.not_screening) for i in images if i.facts.not_screening)
    if images and not kept:
        none = f"[the only picture is no|none of the {len(images)} pictures is a] screening view"
        raise AnnotationError(
            f"{table.path}: {agreeing(len(images), none)} ({'; '.join(reasons)}): give --all-views "
            f"to use {agreeing(len(images), '[it|them]')}"
        )
    of_reason = {
        reason: [image.file for image in images if image.facts.not_screening == reason]
        for reason in reasons
    }
    return kept, tuple(
        note
        for reason, files in of_reason.items()
        for note in listed(
            f"[picture|pictures] left out (--all-views keeps [it|them]): {reason}", files
        )
    )
