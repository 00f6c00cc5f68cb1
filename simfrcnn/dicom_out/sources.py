"""What do the headers of an exam's films give to its results? Patient, study, dates, references.

Only headers are read. A result belongs to one study of one patient, whose modules are copied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from simfrcnn.dicom.header import (
    Header,
    kind_of_picture,
    naming_damage,
    read_header,
    tag_name,
)
from simfrcnn.dicom.view import laterality_of, orientation_of, view_position_of
from simfrcnn.dicom_out.findings import ExamFindings, JudgedFilm
from simfrcnn.dicom_out.greyscale import Greyscale, greyscale_of
from simfrcnn.errors import DataError, DicomError
from simfrcnn.records import Laterality, ViewPosition

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID"),
    "AccessionNumber",
)
"""Type 1 and 2 of the modules Patient and General Study: copied, empty where the source is."""
IF_THERE = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "StudyDescription", "PatientAge"),
)
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_IMAGE = (
    *LOSSY,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns"),
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
NO_DATE = ("19000101", "000000")
"""Content date and time where the study states none."""
_TIME = r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?"
"""HH, HHMM or HHMMSS, with a fraction."""


class UnopenedError(DataError):
    """A film could not be opened: no fault of its content, and another try may succeed."""


@dataclass(frozen=True)
class Source:
    """A film's own elements that results use; ``film`` is None where it could not be judged.

    ``laterality`` and ``view_position`` are those of the result, or of the header of a film that
    could not be judged; ``greyscale`` is that of a judged film.
    """

    elements: Dataset
    film: JudgedFilm | None = None
    laterality: Laterality | None = None
    view_position: ViewPosition | None = None
    greyscale: Greyscale | None = None

    @property
    def reference(self) -> Dataset:
        """The item of a Referenced SOP Sequence (0008,1199)."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.elements.SOPClassUID
        item.ReferencedSOPInstanceUID = self.elements.SOPInstanceUID
        return item


@dataclass(frozen=True)
class Study:
    """The films of an exam that results refer to, and how many they cannot refer to.

    ``failed`` are those whose header can be read although the film could not be judged;
    ``n_unnamed`` counts the others.
    """

    findings: ExamFindings
    judged: tuple[Source, ...]
    failed: tuple[Source, ...]
    n_unnamed: int

    @property
    def films(self) -> tuple[Source, ...]:
        """Judged, then failed."""
        return self.judged + self.failed

    @property
    def common(self) -> Dataset:
        """The elements of patient and study: those of the first film."""
        return self.films[0].elements

    @property
    def n_failed(self) -> int:
        """Of all films."""
        return len(self.failed) + self.n_unnamed

    @property
    def n_regions(self) -> int:
        """Of all films."""
        return sum(len(film.regions) for film in self.findings.films)

    @property
    def date_and_time(self) -> tuple[str, str]:
        """What stands for the time of the result: that of the study, so that it is always the same.

        Study Date and Time; else the first Content Date and Time of its films; else
        :data:`NO_DATE`.
        """
        stated = [_date_and_time(source.elements, "Study") for source in self.films[:1]]
        stated += sorted(
            one for s in self.films if (one := _date_and_time(s.elements, "Content")) is not None
        )
        return next((one for one in stated if one is not None), NO_DATE)


def study_of(findings: ExamFindings) -> Study:
    """Read the headers of an exam's films.

    Raises:
        DataError: No result must be written: a film is not DICOM or lacks what a reference needs,
            the films are of several studies or patients, or there is none that can be referred to.
    """
    if findings.refused is not None:
        raise DataError(f"no DICOM result: {findings.refused}")
    judged = tuple(_judged(film) for film in findings.films)
    failed: list[Source] = []
    n_unnamed = 0
    for path in findings.failed:
        source = _failed_if_readable(path)
        if source is None or not _can_be_named(source.elements, [*judged, *failed]):
            n_unnamed += 1
        else:
            failed.append(source)
    if not judged and not failed:
        raise DataError(
            "no DICOM result: no film of the exam was judged, and no header tells its study"
        )
    _require_one_exam(judged)
    return Study(findings, judged, tuple(failed), n_unnamed)


def _judged(film: JudgedFilm) -> Source:
    header = _header_of(film.path)
    elements = _elements_of(header)
    with naming_damage(film.path):
        greyscale = greyscale_of(header)
        size = int(elements.Rows), int(elements.Columns)
    _require_regions_on(film, *size)
    return Source(elements, film, film.laterality, film.view_position, greyscale)


def _require_regions_on(film: JudgedFilm, rows: int, columns: int) -> None:
    """A box is cut at the film's edge where it is written; nothing must be left without an area."""
    for number, region in enumerate(film.regions, start=1):
        x1, y1, x2, y2 = region.box
        if not (min(x2, columns) > max(x1, 0) and min(y2, rows) > max(y1, 0)):
            box = ", ".join(f"{side:g}" for side in region.box)
            raise DataError(
                f"no DICOM result: {film.path}: region {number} (x1, y1, x2, y2 = {box}) has no "
                f"area on the film of {columns} x {rows} pixels; boxes are in pixels of the stored "
                "film"
            )


def _header_of(path: Path) -> Header:
    """The header of a film.

    Raises:
        DataError: It is no DICOM file; :class:`UnopenedError` where it could not be opened.
    """
    try:
        return read_header(path)
    except DicomError as error:
        if isinstance(error.__cause__, OSError):
            raise UnopenedError(f"no DICOM result: {error}") from error
        kind = kind_of_picture(path)
        why = f"{path} is a {kind} picture" if kind else str(error)
        raise DataError(
            f"no DICOM result: {why}. Results refer to DICOM images, so they are written for "
            "exams of DICOM files alone"
        ) from error


def _elements_of(header: Header) -> Dataset:
    """Those elements of a film's header that results use, decoded.

    Raises:
        DataError: One is malformed, or lacks what a reference needs.
    """
    path = header.path
    with naming_damage(path):
        kept = Dataset()
        for keyword in IF_THERE + _IMAGE:
            _copy(header.dataset, kept, keyword)
        _copy(header.dataset, kept, "SpecificCharacterSet")
        for keyword in PATIENT + STUDY:
            _copy(header.dataset, kept, keyword)
            if keyword not in kept:
                setattr(kept, keyword, "")
        if (modality := header.code("Modality")) is not None:
            kept.Modality = modality
        if (orientation := orientation_of(header)) is not None:
            kept.PatientOrientation = list(orientation)
        for keyword in ("ContentDate", "ContentTime"):
            _copy(header.dataset, kept, keyword)
        kept.decode()
    for keyword in _NEEDED:
        if not kept.get(keyword):
            raise DataError(
                f"no DICOM result: {path}: {tag_name(keyword)} is missing, so that no result can "
                "refer to the film"
            )
    return kept


def _copy(source: Dataset, target: Dataset, keyword: str) -> None:
    if keyword in source and source[keyword].value not in (None, "", []):
        target[keyword] = source[keyword]


def _failed_if_readable(path: Path | None) -> Source | None:
    """A film that failed; None where its header is damaged or says too little.

    Raises:
        UnopenedError: It could not be opened.
    """
    if path is None or path.is_dir():
        return None
    try:
        header = _header_of(path)
        elements = _elements_of(header)
        with naming_damage(path):
            side, view = laterality_of(header, []), view_position_of(header, [])
    except UnopenedError:
        raise
    except DataError:
        return None
    return Source(elements, None, side, view)


def _can_be_named(elements: Dataset, others: Sequence[Source]) -> bool:
    """Whether a film is an image of its own, of the study and patient of the others."""
    is_another = all(elements.SOPInstanceUID != one.elements.SOPInstanceUID for one in others)
    is_of_exam = all(_exam_of(elements) == _exam_of(other.elements) for other in others[:1])
    return is_another and is_of_exam and _is_image(elements)


def _is_image(elements: Dataset) -> bool:
    """By its class, or by its rows where the class is private."""
    uid = UID(str(elements.SOPClassUID))
    return "Image" in uid.name if uid.name != uid else "Rows" in elements


def _exam_of(elements: Dataset) -> tuple[str, ...]:
    """Study, patient, and who gave the Patient ID; without one, name and date of birth.

    Spaces round them are no part of them.
    """
    has_id = bool(str(elements.PatientID).strip())
    identity = ("PatientID",) if has_id else ("PatientName", "PatientBirthDate")
    keywords = ("StudyInstanceUID", "IssuerOfPatientID", *identity)
    return tuple(str(elements.get(keyword) or "").strip() for keyword in keywords)


def _require_one_exam(sources: Sequence[Source]) -> None:
    if len({_exam_of(source.elements) for source in sources}) > 1:
        raise DataError(
            "no DICOM result: the films are of more than one study or patient, and a result "
            "belongs to one"
        )


def _date_and_time(elements: Dataset, of_what: str) -> tuple[str, str] | None:
    date = str(elements.get(f"{of_what}Date") or "")
    time = str(elements.get(f"{of_what}Time") or "")
    if not re.fullmatch("[0-9]{8}", date) or not _is_in_calendar(date):
        return None
    return date, time.ljust(6, "0") if re.fullmatch(_TIME, time) else NO_DATE[1]


def _is_in_calendar(date: str) -> bool:
    try:
        return bool(datetime.strptime(date, "%Y%m%d"))
    except ValueError:
        return False
