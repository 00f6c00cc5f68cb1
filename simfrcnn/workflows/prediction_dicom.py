"""The DICOM results of one exam in the folder of a prediction, or why there are none."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from simfrcnn.data.exams import reason_of_fault
from simfrcnn.dicom_out.saving import files_of
from simfrcnn.errors import DataError
from simfrcnn.exam import ExamResult
from simfrcnn.files import write_files

NO_DICOM = "no DICOM result"
"""What a failure of this kind is called in ``failures.csv``."""


def write_dicom(
    output: Path, folder: str, result: ExamResult, kinds: Sequence[str], score_threshold: float
) -> dict[str, Any]:
    """Write the DICOM files of an exam; all kinds, or none where one cannot be made.

    The folder is the exam's alone: whatever else lies in it is deleted.

    Args:
        output: The folder of the prediction.
        folder: That of the exam's files, below it.
        result: Of the exam.
        kinds: What is asked for.
        score_threshold: Smallest score of a region that is written.

    Returns:
        ``files`` (paths below ``output``), and ``why_none`` where nothing was written: it is a
        failure of this exam, and the others can be written.

    Raises:
        OutputError: The operating system refused to write.
    """
    contents: dict[str, bytes] = {}
    why_none = None
    try:
        contents = dict(files_of(result.dicom_findings(score_threshold), kinds))
    except DataError as error:
        why_none = str(error).removeprefix(f"{NO_DICOM}: ")
    except Exception as error:  # whatever it is, the other exams can be written
        why_none = reason_of_fault(error)
    _remove_others(output / folder, contents)
    if why_none is not None:
        return {"files": [], "why_none": why_none}
    write_files(output / folder, contents)
    return {"files": [f"{folder}/{name}" for name in contents]}


def files_written(content: Mapping[str, Any]) -> set[str]:
    """Pictures and DICOM files of an exam, by its result."""
    pictures = {image["picture"] for image in content["images"] if image.get("picture")}
    return pictures | set(content.get("dicom", {}).get("files", ()))


def _remove_others(folder: Path, names: Container[str]) -> None:
    """Delete what a run that was killed, or the exam as it was before, left in a folder."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
