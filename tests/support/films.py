"""Small test sets with films on the disk, larger than the pictures that a report embeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from simfrcnn.artifacts import DetectionFile
from simfrcnn.outlines import rle_of_box
from simfrcnn.records import ImageRecord, Laterality, Outline
from support.data_examples import write_dicom
from support.evaluation_examples import detection_file, finding, found, image

HEIGHT, WIDTH = 1200, 700
BOX = (200.0, 503.0, 321.0, 640.0)
RING: Outline = (((201.0, 510.0), (260.0, 503.0), (261.0, 503.5), (321.0, 600.0), (240.0, 640.0)),)
"""Its third corner is 0.58 px beside a line: less than what a report's small pictures can show."""
FALSE = (60.0, 800.0, 120.0, 870.0)
N_EXAMS = 3


def film(seed: int = 0) -> np.ndarray:
    """(H, W) uint8: a breast at the left edge, in it columns of 60 and 180 in turn, and noise."""
    pixels = np.random.default_rng(seed).integers(0, 9, size=(HEIGHT, WIDTH)).astype(np.uint8)
    breast = np.zeros_like(pixels)
    cv2.ellipse(breast, (0, HEIGHT // 2), (WIDTH * 2 // 3, HEIGHT // 3), 0, 0, 360, 1, -1)
    columns = np.where(np.arange(WIDTH) % 2 == 0, 60, 180).astype(np.uint8)
    return pixels + breast * columns


def films(folder: Path, n_exams: int = N_EXAMS) -> tuple[list[ImageRecord], DetectionFile]:
    """Exams of two films each, the chest wall of both stored at the left.

    Of each exam, image 2n + 1 is a left breast with an outlined lesion, which is found; image
    2n + 2 is a right breast with a false positive, so that it hangs mirrored. The last left film is
    a DICOM file that lies upside down.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records, images = [], []
    for exam in range(n_exams):
        left, right = 2 * exam + 1, 2 * exam + 2
        lesion = replace(finding(BOX, left, lesion_id="L1"), outline=RING)
        for number, side in ((left, Laterality.LEFT), (right, Laterality.RIGHT)):
            is_upside_down = number == 2 * n_exams - 1
            path = folder / f"film{number}.{'dcm' if is_upside_down else 'png'}"
            if is_upside_down:
                words = {"WindowCenter": 127.5, "WindowWidth": 255}
                write_dicom(
                    path, film(number), PatientOrientation=["A", "H"], **words,
                    VOILUTFunction="LINEAR_EXACT",
                )  # fmt: skip
            else:
                cv2.imwrite(str(path), film(number))
            findings = [lesion] if side is Laterality.LEFT else []
            record = image(number, f"P{exam}", *findings, laterality=side)
            records.append(
                replace(record, path=path, file_name=path.name, height=HEIGHT, width=WIDTH)
            )
        mask = rle_of_box(BOX, HEIGHT, WIDTH)
        hit = replace(
            found(left, (BOX, 0.9)),
            looks=np.array([[0.8, 0.95]]),
            squares=np.array([BOX]) + np.array([-50, -50, 50, 50]),
            masks=(mask,),
        )
        images += [hit, found(right, (FALSE, 0.6 + exam / 10))]
    return records, detection_file(*images)
