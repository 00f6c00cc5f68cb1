"""What do the headers of an exam's films give to its results? Patient, study, dates, references.

Only headers are read. A result belongs to one study of one patient, whose modules are copied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from simfrcnn.dicom.header import naming_damage, read_header, tag_name
from simfrcnn.dicom_out.findings import ExamFindings, JudgedFilm
from simfrcnn.errors import DataError, DicomError

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID"),
    "AccessionNumber",
)
"""Type 1 and 2 of the modules Patient and General Study: copied, empty where the source is."""
IF_THERE = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyDescription", "PatientAge"),
)
_IMAGE = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PresentationLUTShape", "PatientOrientation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    "WindowCenterWidthExplanation",
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
NO_DATE = ("19000101", "000000")
"""Content date and time where the study states none."""


class UnopenedError(DataError):
    """A film could not be opened: no fault of its content, and another try may succeed."""


@dataclass(frozen=True)
class Source:
    """A film's own elements that results use; ``film`` is None where it could not be judged."""

    elements: Dataset
    film: JudgedFilm | None = None

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
    judged = tuple(Source(_elements_of(film.path), film) for film in findings.films)
    instances = {source.elements.SOPInstanceUID for source in judged}
    failed: list[Source] = []
    n_unnamed = 0
    for path in findings.failed:
        elements = _elements_if_readable(path)
        if elements is None or not _is_of_study(elements, [*judged, *failed]):
            n_unnamed += 1
        elif elements.SOPInstanceUID not in instances:
            instances.add(elements.SOPInstanceUID)
            failed.append(Source(elements))
    if not judged and not failed:
        raise DataError(
            "no DICOM result: no film of the exam was judged, and no header tells its study"
        )
    _require_one_exam(judged)
    return Study(findings, judged, tuple(failed), n_unnamed)


def _elements_of(path: Path) -> Dataset:
    """Those elements of a film's header that results use, decoded.

    Raises:
        DataError: It is no DICOM file, or lacks what a reference needs; :class:`UnopenedError`
            where it could not be opened.
    """
    try:
        header = read_header(path)
    except DicomError as error:
        if isinstance(error.__cause__, OSError):
            raise UnopenedError(f"no DICOM result: {error}") from error
        raise DataError(
            f"no DICOM result: {error}. Results refer to DICOM images, so they are written for "
            "exams of DICOM files alone"
        ) from error
    with naming_damage(path):
        kept = Dataset()
        for keyword in IF_THERE + _IMAGE:
            _copy(header.dataset, kept, keyword)
        _copy(header.dataset, kept, "SpecificCharacterSet")
        for keyword in PATIENT + STUDY:
            _copy(header.dataset, kept, keyword)
            if keyword not in kept:
                setattr(kept, keyword, "")
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


def _elements_if_readable(path: Path | None) -> Dataset | None:
    """Of a film that failed; None where its header is damaged or says too little.

    Raises:
        UnopenedError: It could not be opened.
    """
    try:
        return None if path is None or path.is_dir() else _elements_of(path)
    except UnopenedError:
        raise
    except DataError:
        return None


def _is_of_study(elements: Dataset, others: Sequence[Source]) -> bool:
    """Whether a film is of the study and patient of the others; of a first one there is no doubt"""
    return all(_exam_of(elements) == _exam_of(other.elements) for other in others[:1])


def _exam_of(elements: Dataset) -> tuple[str, str]:
    return str(elements.StudyInstanceUID), str(elements.PatientID)


def _require_one_exam(sources: Sequence[Source]) -> None:
    if len({_exam_of(source.elements) for source in sources}) > 1:
        raise DataError(
            "no DICOM result: the films are of more than one study or patient, and a result "
            "belongs to one"
        )


def _date_and_time(elements: Dataset, of_what: str) -> tuple[str, str] | None:
    date = str(elements.get(f"{of_what}Date") or "")
    time = str(elements.get(f"{of_what}Time") or "")
    if not re.fullmatch(r"\d{8}", date):
        return None
    return date, time if re.fullmatch(r"\d{6}(\.\d{1,6})?", time) else NO_DATE[1]
