"""How much faster do N processes prepare images than one?

Measured is what ``prepare-data --cache`` does with each file: decode, crop, resize, write. All
records point to one uncompressed mammogram, so that neither disk nor memory is measured. The cost
of starting processes is left out by taking the difference of a long and a short run: a data set of
any size pays it once.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from simfrcnn.data.prepared import CacheSettings, cache_images
from simfrcnn.records import ImageRecord, Supervision

SHAPE = (3328, 2560)
_SHORT, _LONG = 16, 144  # images for each process


def table(n_workers: int, n_repeats: int) -> list[str]:
    """Lines of Markdown: images a second by one and by ``n_workers`` processes, taken in turn.

    Args:
        n_workers: Processes.
        n_repeats: Of each; figures are medians.
    """
    n_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        record = noise_record(Path(name))
        rates: dict[int, list[float]] = {1: [], n_workers: []}
        for _ in range(n_repeats):
            for workers, measured in rates.items():
                measured.append(_rate(record, Path(name), workers))
    cv2.setNumThreads(n_threads)
    one, many = (statistics.median(rates[workers]) for workers in (1, n_workers))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        "",
        "## Preparing images",
        "",
        f"DICOM, {SHAPE[0]} x {SHAPE[1]} px, uncompressed, to 8-bit PNG of 512 px; one thread a "
        f"process; {os.cpu_count()} cores, load {load:.1f} at the end; medians of {n_repeats} runs "
        "each, taken in turn.",
        "",
        "| processes | images / s | times one process |",
        "|---|---|---|",
        f"| 1 | {one:.2f} | 1 |",
        f"| {n_workers} | {many:.2f} | {many / one:.2f} |",
    ]


def _rate(record: ImageRecord, folder: Path, n_workers: int) -> float:
    """Images a second, without the start of the processes."""
    few, many = _SHORT * n_workers, _LONG * n_workers
    short, long = (_seconds(record, folder, n, n_workers) for n in (few, many))
    return (many - few) / (long - short)


def _seconds(record: ImageRecord, folder: Path, n_images: int, n_workers: int) -> float:
    records = [dataclasses.replace(record, image_id=n) for n in range(n_images)]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        places = {each.image_id: Path(out, f"{each.image_id}.png") for each in records}
        start = time.perf_counter()
        cache_images(records, places, CacheSettings(), fingerprint=str, n_workers=n_workers)
        return time.perf_counter() - start


def noise_record(folder: Path) -> ImageRecord:
    """A mammogram of noise in the shape of a breast."""
    path = folder / "view.dcm"
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    depth = np.clip(1 - (x / (0.7 * SHAPE[1])) ** 2 - (2 * y / SHAPE[0] - 1) ** 2, 0, 1)
    noise = np.random.default_rng(0).integers(0, 400, SHAPE, dtype=np.uint16)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality, dataset.PresentationIntentType = "MG", "FOR PRESENTATION"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = SHAPE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2000, 3500
    dataset.PixelData = ((3600 * depth).astype(np.uint16) + noise).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return ImageRecord(
        image_id=0,
        file_name=path.name,
        path=path,
        height=SHAPE[0],
        width=SHAPE[1],
        patient_id="noise",
        exam_id="noise",
        supervision=Supervision.UNLABELLED,
    )
