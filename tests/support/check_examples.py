"""A small data set in which nothing is wrong, to be spoilt in one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.data.coco import write_coco
from simfrcnn.data.inspect.checks.model import CheckSettings, Defect
from simfrcnn.data.inspect.checks.reading import annotation_files, collect, read_sets
from simfrcnn.data.inspect.checks.registry import run_checks
from simfrcnn.records import (
    Finding,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)
from simfrcnn.settings import InputSettings

HEIGHT, WIDTH = 128, 96
SETTINGS = CheckSettings(InputSettings((HEIGHT, HEIGHT)), smallest_anchor_px=12)
N_PATIENTS = {"train": 8, "test": 4}
BOX = (30.0, 50.0, 56.0, 80.0)


@dataclass
class Files:
    """Annotation files by name, with their records, and images by path: all may be changed."""

    sets: dict[str, list[ImageRecord]]
    pixels: dict[Path, NDArray[np.uint8]]

    def change(self, set_name: str, index: int, **facts: Any) -> ImageRecord:
        """Change one record; returns the new one."""
        changed = replace(self.sets[set_name][index], **facts)
        self.sets[set_name][index] = changed
        return changed


def breast(seed: int, laterality: Laterality) -> NDArray[np.uint8]:
    """Half an ellipse of grey noise at the chest wall: left for a left breast, on dark air."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = (columns / 70) ** 2 + ((rows - 64) / 58) ** 2 < 1
    pixels = np.where(inside, rng.normal(140, 12, inside.shape), rng.integers(0, 2, inside.shape))
    grey = pixels.clip(0, 250).astype(np.uint8)
    return grey if laterality is Laterality.LEFT else np.ascontiguousarray(grey[:, ::-1])


def good_files(folder: Path) -> Files:
    """Twelve patients with both breasts; every second one has a cancer in the left one."""
    sets: dict[str, list[ImageRecord]] = {}
    pixels: dict[Path, NDArray[np.uint8]] = {}
    patient = 0
    for split, n_patients in N_PATIENTS.items():
        for _ in range(n_patients):
            patient += 1
            for laterality in Laterality:
                has_cancer = patient % 2 == 0 and laterality is Laterality.LEFT
                record = _record(folder, patient, laterality, split, has_cancer=has_cancer)
                sets.setdefault(split, []).append(record)
                pixels[record.path] = breast(record.image_id, laterality)
    return Files(sets, pixels)


def _record(
    folder: Path, patient: int, laterality: Laterality, split: str, *, has_cancer: bool
) -> ImageRecord:
    image_id = 2 * patient + (laterality is Laterality.RIGHT)
    findings = (Finding(BOX, "malignant", image_id, Pathology.MALIGNANT),) if has_cancer else ()
    return ImageRecord(
        image_id=image_id,
        file_name=f"{image_id}.png",
        path=folder / "images" / f"{image_id}.png",
        height=HEIGHT,
        width=WIDTH,
        patient_id=f"p{patient}",
        exam_id=f"e{patient}",
        supervision=Supervision.BOXES if has_cancer else Supervision.NORMAL,
        laterality=laterality,
        view_position=ViewPosition.MLO,
        pixel_spacing_mm=(1.5, 1.5),
        pathology=Pathology.MALIGNANT if has_cancer else Pathology.NORMAL,
        split=split,
        findings=findings,
    )


def write_files(folder: Path, files: Files) -> None:
    """Write the images as PNG and one COCO file per set."""
    for path, pixels in files.pixels.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
    for name, records in files.sets.items():
        categories = {1: "malignant", 2: "benign", 3: "cancers", 4: "Malignant "}
        write_coco(folder / f"{name}.json", records, categories, {"description": name})


def write_spoilt(folder: Path, spoil: Callable[[Files], None] | None = None) -> Path:
    """Write the good set with a change; returns its folder."""
    files = good_files(folder)
    if spoil is not None:
        spoil(files)
    write_files(folder, files)
    return folder


def defects_in(
    *targets: Path, settings: CheckSettings = SETTINGS, read_pixels: bool = True
) -> dict[str, Defect]:
    """What is wrong with annotation files or folders of them, by key."""
    sets = read_sets([path for target in targets for path in annotation_files(str(target), {})])
    collection = collect(sets, settings.input, read_pixels=read_pixels, n_workers=0)
    defects = run_checks(collection, settings)
    by_key = {defect.key: defect for defect in defects}
    assert len(by_key) == len(defects)
    return by_key
