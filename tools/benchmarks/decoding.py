"""What does preparing a DICOM file cost over decoding it?

*Bare* is what anybody pays: ``pydicom.dcmread(path).pixel_array``. *Picture* is the front door: all
checks, the values on their way to the display, 8 bits at full size. *Prepared* is what
``prepare-data --cache`` does besides writing: the picture, the breast found, cut out and reduced to
512 px, encoded as PNG. The three are taken in turn in one process; figures are seconds of its
processor, so that what else the machine does counts little.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless

from simfrcnn.images.preprocess import to_input
from simfrcnn.images.reading import read_image
from simfrcnn.phantom.dicom_writer import dicom_bytes
from simfrcnn.phantom.exams import draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.records import Laterality, ViewPosition
from simfrcnn.settings import InputSettings

SHAPE = (3328, 2560)
PROMISED = {ExplicitVRLittleEndian: 4.0, JPEG2000Lossless: 1.2}
"""Transfer syntax -> how many times the bare decoding preparing may cost."""


def table(n_repeats: int) -> list[str]:
    """Lines of Markdown: medians of each, and of the ratio to the bare decoding next to it."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    lines = [
        "",
        "## Preparing a DICOM file",
        "",
        f"`python tools/benchmark.py --decoding {n_repeats}`: {SHAPE[0]} x {SHAPE[1]} px, "
        f"12 bits in 16; one process, one thread, processor time; {os.cpu_count()} cores, "
        f"load {load:.1f}. Bare is pydicom's `dcmread` and `pixel_array`; picture is the 8-bit "
        "picture at full size; "
        "prepared is cut to the breast, reduced to 512 px and encoded as PNG, too. Medians, taken "
        "in turn.",
        "",
        "| encoding | bare | picture | prepared | picture : bare | prepared : bare | promised |",
        "|---|---|---|---|---|---|---|",
    ]
    n_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for syntax, most in PROMISED.items():
            path = _write(Path(folder, "view.dcm"), syntax)
            n = n_repeats if syntax == ExplicitVRLittleEndian else max(3, n_repeats // 10)
            bare, picture, prepared = _measure(path, n)
            ratios = [
                statistics.median(b / a for a, b in zip(bare, other, strict=True))
                for other in (picture, prepared)
            ]
            seconds = [statistics.median(times) for times in (bare, picture, prepared)]
            lines.append(
                f"| {syntax.name} | "
                + " | ".join(f"{1000 * s:.1f} ms" for s in seconds)
                + f" | {ratios[0]:.2f} | {ratios[1]:.2f} | {most:g} |"
            )
    cv2.setNumThreads(n_threads)
    return lines


def _measure(path: Path, n_repeats: int) -> tuple[list[float], ...]:
    """Processor seconds of each of the three, ``n_repeats`` times; the first round warms up."""
    jobs: tuple[Callable[[Path], object], ...] = (_bare, read_image, _prepared)
    times: tuple[list[float], ...] = ([], [], [])
    for _ in range(n_repeats + 1):
        for job, measured in zip(jobs, times, strict=True):
            start = time.process_time()
            job(path)
            measured.append(time.process_time() - start)
    return tuple(measured[1:] for measured in times)


def _bare(path: Path) -> object:
    return pydicom.dcmread(path).pixel_array


def _prepared(path: Path) -> object:
    content, _ = to_input(read_image(path), InputSettings())
    return cv2.imencode(".png", content)


def _write(path: Path, syntax: UID) -> Path:
    """A breast of smooth texture with the noise of a detector."""
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    depth = np.clip(1 - (x / (0.7 * SHAPE[1])) ** 2 - (2 * y / SHAPE[0] - 1) ** 2, 0, 1)
    noise = np.random.default_rng(0).normal(0, 0.01, SHAPE)
    tissue = 0.05 + 0.8 * np.sqrt(depth) + noise * (depth > 0)
    picture = np.clip(tissue, 0.01, 0.99).astype(np.float32)
    preset = PRESETS["tiny"]
    exam = draw_exams(preset, seed=0)[0]
    path.write_bytes(dicom_bytes(picture, exam, Laterality.LEFT, ViewPosition.CC, preset, 0))
    if syntax != ExplicitVRLittleEndian:
        dataset = pydicom.dcmread(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
    return path
