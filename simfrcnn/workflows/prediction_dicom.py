"""The DICOM results of one exam in the folder of a prediction, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
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
    try:
        contents = dict(files_of(result.dicom_findings(score_threshold), kinds))
    except DataError as error:
        return {"files": [], "why_none": str(error).removeprefix(f"{NO_DICOM}: ")}
    except Exception as error:  # whatever it is, the other exams can be written
        return {"files": [], "why_none": reason_of_fault(error)}
    write_files(output / folder, contents)
    return {"files": [f"{folder}/{name}" for name in contents]}
