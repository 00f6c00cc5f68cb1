"""The DICOM results of one exam in the folder of a prediction, or why there are none."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from simfrcnn.data.exams import FAILED, reason_of_fault
from simfrcnn.dicom_out.saving import files_of
from simfrcnn.dicom_out.sources import UnopenedError
from simfrcnn.errors import DataError
from simfrcnn.exam import ExamResult
from simfrcnn.files import write_files
from simfrcnn.workflows.prediction_heat import CLASS_MAPS, HEAT_MAPS

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
        failure of this exam, and the others can be written. ``is_retried`` says that the films are
        not to blame: the exam is judged again when the run goes on.

    Raises:
        OutputError: The operating system refused to write.
    """
    contents: dict[str, bytes] = {}
    none: dict[str, Any] | None = None
    try:
        contents = dict(files_of(result.dicom_findings(score_threshold), kinds))
    except UnopenedError as error:
        none = {"why_none": _by_place(str(error), result), "is_retried": True}
    except DataError as error:
        none = {"why_none": _by_place(str(error), result)}
    except Exception as error:  # whatever it is, the other exams can be written
        none = {"why_none": _by_place(reason_of_fault(error), result), "is_retried": True}
    _remove_others(output / folder, contents)
    if none is not None:
        return {"files": [], **none}
    write_files(output / folder, contents)
    return {"files": [f"{folder}/{name}" for name in contents]}


def files_written(content: Mapping[str, Any]) -> set[str]:
    """Pictures, heat maps, class maps and DICOM files of an exam, by its result."""
    heat = {
        file
        for image in content["images"]
        for name in (HEAT_MAPS, CLASS_MAPS)
        for file in image.get(name, {}).values()
    }
    pictures = {image["picture"] for image in content["images"] if image.get("picture")}
    return heat | pictures | set(content.get("dicom", {}).get("files", ()))


def has_failed(content: Mapping[str, Any]) -> bool:
    """Whether another try may do better: a film was not to blame, or could not be opened."""
    is_retried = bool(content.get("dicom", {}).get("is_retried"))
    return is_retried or any(one["what"] == FAILED for one in content["left_out"])


def _by_place(why: str, result: ExamResult) -> str:
    """What went wrong, with films named by their places: a path may name a person."""
    places = {str(one.path): one.file for one in result.images if one.path}
    places |= {str(one.path): one.file for one in result.left_out if one.path}
    for path in sorted(places, key=len, reverse=True):
        why = why.replace(path, places[path])
    return why.removeprefix(f"{NO_DICOM}: ")


def _remove_others(folder: Path, names: Container[str]) -> None:
    """Delete what a run that was killed, or the exam as it was before, left in a folder."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
