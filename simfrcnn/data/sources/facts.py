"""What does an image file say of itself before its pixels are looked at?

For readers of sets with thousands of files: a DICOM header is read in milliseconds. Whether the
pixels can be decoded is found out where they are stored, loaded or checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.dicom.display import is_raw
from simfrcnn.dicom.header import Header, naming_damage, read_header
from simfrcnn.dicom.patient import age_of, sex_of
from simfrcnn.dicom.screening import not_screening_of
from simfrcnn.dicom.view import (
    has_burned_in_text,
    laterality_of,
    pixel_spacing_of,
    view_position_of,
)
from simfrcnn.errors import DataError
from simfrcnn.images.finding import is_dicom
from simfrcnn.images.reading import prepared_of, read_image
from simfrcnn.parallel import in_parallel
from simfrcnn.records import RAW_ATTRIBUTE, Laterality, ViewPosition
from simfrcnn.wording import counted, first_few

_N_SHOWN = 20


@dataclass(frozen=True)
class Facts:
    """Size in pixels and, of DICOM files, whose view it is; None is what the file does not say.

    ``pixel_spacing_mm`` is (row, column), at the detector. ``is_raw`` is FOR PROCESSING;
    ``has_burned_in_text`` is what Burned In Annotation (0028,0301) says; ``not_screening`` is why
    the picture is no screening view. ``is_prepared`` is whether `prepare-data` made the file.
    """

    height: int
    width: int
    patient_id: str | None = None
    exam_id: str | None = None
    laterality: Laterality | None = None
    view_position: ViewPosition | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    manufacturer: str | None = None
    model_name: str | None = None
    is_raw: bool = False
    has_burned_in_text: bool = False
    sop_instance_uid: str | None = None
    not_screening: str | None = None
    is_prepared: bool = False
    age: str | None = None
    sex: str | None = None

    @property
    def person(self) -> dict[str, str]:
        """Age in years and sex, as attributes of a record; a table's own come after them."""
        facts = {"age": self.age, "sex": self.sex}
        return {key: value for key, value in facts.items() if value}

    @property
    def attributes(self) -> dict[str, str]:
        """The device, and whether the image is raw, as attributes of a record."""
        facts = {
            "manufacturer": self.manufacturer,
            "model": self.model_name,
            RAW_ATTRIBUTE: "yes" if self.is_raw else None,
        }
        return {key: value for key, value in facts.items() if value}


def facts_of(path: Path) -> Facts:
    """Read the header of a DICOM file; the size of any other image.

    Raises:
        DataError: The file cannot be read, or a DICOM file states no size.
    """
    if not is_dicom(path):
        height, width = read_image(path).shape
        return Facts(height, width, is_prepared=prepared_of(path) is not None)
    with naming_damage(path):
        return _facts(read_header(path))


def facts_or_problem(path: Path) -> Facts | str:
    """The facts of a file, or why there are none; the message begins with the path."""
    try:
        return facts_of(path)
    except DataError as error:
        return str(error)


def facts_of_all(
    paths: Sequence[Path], *, title: str, skip_unreadable: bool, n_workers: int | None
) -> list[Facts | None]:
    """The facts of many files, None for those that cannot be read and may be left out.

    All files are looked at before any is refused, so that one run names all that are damaged.

    Args:
        paths: Files.
        title: Of the bar.
        skip_unreadable: Whether files may be left out.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        DataError: Files cannot be read and must not be left out, or none can be read.
    """
    found = list(
        in_parallel(facts_or_problem, paths, title=title, unit="image", n_workers=n_workers)
    )
    problems = [problem for problem in found if isinstance(problem, str)]
    if problems and (not skip_unreadable or len(problems) == len(found)):
        shown = first_few(problems, _N_SHOWN, "\n  ")
        raise DataError(
            f"{len(problems)} of {counted(len(found), '[image|images]')} cannot be read; fetch "
            f"them again, or leave them out (--skip-unreadable):\n  {shown}"
        )
    return [None if isinstance(facts, str) else facts for facts in found]


def _facts(header: Header) -> Facts:
    notes: list[str] = []
    height, width = header.whole_number("Rows"), header.whole_number("Columns")
    if min(height, width) < 1:
        raise header.error("Rows" if height < 1 else "Columns", "is below 1: leave the file out")
    return Facts(
        height=height,
        width=width,
        patient_id=header.text("PatientID"),
        exam_id=header.text("StudyInstanceUID"),
        laterality=laterality_of(header, notes),
        view_position=view_position_of(header, notes),
        pixel_spacing_mm=pixel_spacing_of(header, notes),
        manufacturer=header.text("Manufacturer"),
        model_name=header.text("ManufacturerModelName"),
        is_raw=is_raw(header),
        has_burned_in_text=has_burned_in_text(header),
        sop_instance_uid=header.text("SOPInstanceUID"),
        not_screening=not_screening_of(header),
        age=age_of(header),
        sex=sex_of(header),
    )
