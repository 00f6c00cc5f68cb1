"""Results of exams without a model: phantom films on disk, with regions made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from simfrcnn.exam import Call, Detection, ExamResult, ImageResult, LeftOut
from simfrcnn.phantom.dicom_writer import dicom_bytes
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.phantom.render import render_view

PROVENANCE = {
    "simfrcnn": "0.9",
    "engine": "torchvision",
    "checkpoint_sha256": "5f" * 32,
    "classes": ["malignant"],
    "target_classes": ["malignant"],
}


def phantom_films(folder: Path, number: int = 0, **tags: Any) -> list[Path]:
    """The four views of a tiny phantom exam; ``tags`` replace elements, None removes one."""
    preset = PRESETS["tiny"]
    exam = draw_exams(preset, seed=0)[number]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for side, view in VIEWS_OF_EXAM:
        picture = render_view(exam, side, view, preset, 0)
        path = folder / f"{side.value}{view.value}.dcm"
        path.write_bytes(dicom_bytes(picture, exam, side, view, preset, 0))
        if tags:
            dataset = pydicom.dcmread(path)
            for keyword, value in tags.items():
                setattr(dataset, keyword, value)
                if value is None:
                    delattr(dataset, keyword)
            dataset.save_as(path)
        paths.append(path)
    return paths


def exam_of(
    paths: list[Path], *, n_regions: int = 2, n_failed: int = 0, **facts: Any
) -> ExamResult:
    """The result of an exam: regions on its first film, the last films failed."""
    n_judged = len(paths) - n_failed
    images = []
    for place, path in enumerate(paths[:n_judged]):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        shape = dataset.Rows, dataset.Columns
        found = [
            Detection((4.5 + 9 * n, 6.0, 12.25 + 9 * n, 15.0), 0.9 - n / 8, "malignant")
            for n in range(n_regions if place == 0 else 0)
        ]
        side, view = VIEWS_OF_EXAM[place]
        image = ImageResult(path.name, place, *shape, tuple(found), ("malignant",), side, view)
        pixels = np.full(shape, 90, np.uint8)
        images.append(dataclasses.replace(image, path=path, pixels=pixels))
    left_out = [LeftOut(p.name, "unreadable", "cut off", p) for p in paths[n_judged:]]
    score = max((image.score for image in images), default=None)
    call = None if score is None else Call(score >= 0.4, score, 0.4, "case", "youden", "a test")
    made_of = {"left_out": tuple(left_out), "provenance": PROVENANCE, **facts}
    return ExamResult("exam", "patient", score, call, tuple(images), **made_of)
