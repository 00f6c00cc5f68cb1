"""What do three validators say of the DICOM results of many phantom exams?

Run as ``PYTHONPATH=tools python -m benchmarks.dicom_results --exams 1000``. The films are tiny
phantoms, the regions made up: exams with findings, without, with one failed film, and with none
that could be judged, in turn. dciodvfy reads every file, dsrdump every report, and PixelMed's
DicomSRValidator the reports of a sample, some 35 s each.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom

from benchmarks.dicom_validators import dciodvfy, dsrdump, pixelmed
from simfrcnn.cli.main import run_program
from simfrcnn.dicom_out.checking import check_report
from simfrcnn.dicom_out.saving import KINDS
from simfrcnn.exam import Detection, ExamResult, ImageResult, LeftOut
from simfrcnn.phantom.dicom_writer import dicom_bytes
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.version import __version__

SORTS = ("with findings", "without findings", "one failed film", "no film judged")
_REPORTS = ("sr.dcm", "cad-sr.dcm")
_CLASSES = ("malignant",)
_PROVENANCE = {
    "simfrcnn": __version__,
    "engine": "none",
    "checkpoint_sha256": "0" * 64,
    "target_classes": _CLASSES,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many exams, and for how long."""
    parser.add_argument("--exams", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=20, help="reports that PixelMed reads")
    parser.add_argument("--minutes", type=float, help="stop after so long, and say how many it was")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    """Write, validate, and print a table in Markdown; 1 where something was found."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    ends = time.monotonic() + 60 * (arguments.minutes or 1e9)
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        sample: list[tuple[Path, str]] = []
        per_exam = arguments.sample / max(1, arguments.exams)
        for number, sort, files in _written(arguments.exams, arguments.seed, Path(name)):
            counts[sort] += 1
            counts["files"] += len(files)
            for found in pool.map(_faults, files):
                faults += found
            for path in files:
                is_drawn = path.name in _REPORTS and chance.random() < 2 * per_exam
                if is_drawn and len(sample) < arguments.sample:
                    kept = Path(name) / f"{number}-{path.name}"
                    sample.append((path.rename(kept), sort))
                else:
                    path.unlink()
            if time.monotonic() > ends:
                break
        for path, _ in sample:
            found = pixelmed(path)
            counts["pixelmed"] += 1
            faults += [f"{path.name}: PixelMed: {line}" for line in found]
    print("\n".join(_lines(counts, faults)))
    return 1 if faults else 0


def _lines(counts: Counter[str], faults: list[str]) -> Iterator[str]:
    yield "| exams | number |"
    yield "| --- | --- |"
    for sort in SORTS:
        yield f"| {sort} | {counts[sort]} |"
    yield f"| files that dciodvfy read | {counts['files']} |"
    yield f"| reports that PixelMed read | {counts['pixelmed']} |"
    yield f"| errors | {len(faults)} |"
    yield from faults[:20]


def _faults(path: Path) -> list[str]:
    found = [f"dciodvfy: {line}" for line in dciodvfy(path)]
    if path.name in _REPORTS:
        found += [f"dsrdump: {line}" for line in dsrdump(path)]
        found += [f"check: {line}" for line in check_report(pydicom.dcmread(path))]
    return [f"{path.name}: {line}" for line in found]


def _written(n_exams: int, seed: int, folder: Path) -> Iterator[tuple[int, str, list[Path]]]:
    preset = PRESETS["tiny"]
    exams = draw_exams(preset, seed=seed)
    for number in range(n_exams):
        exam = exams[number % len(exams)]
        sort = SORTS[number % len(SORTS)]
        films = []
        rng = np.random.default_rng([seed, number])
        for side, view in VIEWS_OF_EXAM:
            path = folder / f"film-{side.value}{view.value}.dcm"
            picture = rng.uniform(0.1, 0.9, (96, 80)).astype(np.float32)
            path.write_bytes(dicom_bytes(picture, exam, side, view, preset, seed + number))
            films.append(path)
        result = _result(films, sort, rng)
        yield number, sort, list(result.save_dicom(folder / "results", list(KINDS)))


def _result(films: list[Path], sort: str, rng: np.random.Generator) -> ExamResult:
    n_failed = {"one failed film": 1, "no film judged": len(films)}.get(sort, 0)
    n_judged = len(films) - n_failed
    images = []
    for place, (path, (side, view)) in enumerate(zip(films, VIEWS_OF_EXAM, strict=True)):
        n_found = 0 if sort == "without findings" else int(rng.integers(0, 4)) + (place == 0)
        images.append(
            ImageResult(
                file=path.name,
                image_id=place,
                height=96,
                width=80,
                detections=tuple(_detection(rng) for _ in range(n_found)),
                target_classes=_CLASSES,
                laterality=side,
                view_position=view,
                path=path,
                pixels=rng.integers(0, 256, (96, 80), dtype=np.uint8),
            )
        )
    judged = tuple(images[:n_judged])
    return ExamResult(
        exam_id="exam",
        patient_id="patient",
        score=max((image.score for image in judged), default=None),
        call=None,
        images=judged,
        left_out=tuple(LeftOut(p.name, "unreadable", "cut off", p) for p in films[n_judged:]),
        provenance=_PROVENANCE,
    )


def _detection(rng: np.random.Generator) -> Detection:
    left, top = rng.uniform(-3, 70, 2)
    width, height = rng.uniform(4, 30, 2)
    box = (float(left), float(top), float(left + width), float(top + height))
    return Detection(box, float(rng.uniform(0.5, 1)), _CLASSES[0])


if __name__ == "__main__":
    run_program(sys.modules[__name__])
