"""Small studies as DICOM files, and everything that makes an exam awkward."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from support.data_examples import write_dicom

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def write_view(path: Path, *, height: int = 96, width: int = 72, **tags: Any) -> Path:
    """One mammogram: a bright half disc with noise that depends on the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(os.fsencode(path.name)))
    rows, columns = np.mgrid[:height, :width]
    inside = (columns / width) ** 2 + ((rows - height / 2) / (height / 2)) ** 2 < 0.8
    stored = (inside * 1500 + rng.integers(0, 800, (height, width))).astype(np.uint16)
    facts = {"WindowCenter": 1200, "WindowWidth": 2400, **tags}
    return write_dicom(path, stored, **facts)


def write_study(folder: Path, number: int, *, n_views: int = 4, **tags: Any) -> list[Path]:
    """The views of one exam: study ``1.2.3.<number>`` of patient ``P<number>``."""
    facts = {"StudyInstanceUID": f"1.2.3.{number}", "PatientID": f"P{number}", **tags}
    facts.setdefault("SeriesInstanceUID", f"1.2.4.{number}")
    return [
        write_view(
            folder / f"study{number}" / f"{side}{view}.dcm",
            ImageLaterality=side,
            ViewPosition=view,
            SOPInstanceUID=f"1.2.3.{number}.{index}",
            **facts,
        )
        for index, (side, view) in enumerate(VIEWS[:n_views], start=1)
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file with its content, by its path below the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def results(out: Path) -> dict[str, Any]:
    """Of the folder of a prediction, what stands in the file of each exam, by the exam's name."""
    contents = [json.loads(path.read_text()) for path in sorted(out.glob("exams/*/*.json"))]
    return {content["exam_id"]: content for content in contents}
