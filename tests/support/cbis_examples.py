"""CBIS-DDSM in miniature: its tables in their real form, its files in every known layout."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from support.data_examples import write_dicom

HEIGHT, WIDTH = 96, 64
LAYOUTS = ("first", "later", "dated", "mirror")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
STEM = "1.3.6.1.4.1.9590.100.1.2"
COMMON = ["left or right breast", "image view", "abnormality id", "abnormality type"]
COLUMNS = {
    "mass": ["patient_id", "breast_density", *COMMON, "mass shape", "mass margins"],
    "calc": ["patient_id", "breast density", *COMMON, "calc type", "calc distribution"],
}
LAST_COLUMNS = [
    "assessment",
    "pathology",
    "subtlety",
    "image file path",
    "cropped image file path",
    "ROI mask file path",
]


@dataclass(frozen=True)
class Row:
    """One abnormality. ``box`` is that of its mask; ``apart`` puts mask and crop in two series."""

    kind: str
    split: str
    patient: str
    side: str
    view: str
    number: int
    pathology: str
    box: tuple[int, int, int, int]
    assessment: str = "4"
    words: tuple[str, str] = ("OVAL", "NA")
    apart: bool = False

    @property
    def folder(self) -> str:
        split = {"train": "Training", "test": "Test"}[self.split]
        return f"{self.kind.title()}-{split}_{self.patient}_{self.side}_{self.view}"

    def uid(self, what: str) -> str:
        """A UID that is always the same for one series: FULL, CROP or MASK."""
        name = self.folder if what == "FULL" else f"{self.folder}_{self.number}"
        if what == "MASK" and not self.apart:
            what = "CROP"
        return f"{STEM}.{zlib.crc32(f'{name}/{what}'.encode())}"


ROWS = (
    Row("mass", "train", "P_00001", "LEFT", "CC", 1, "MALIGNANT", (8, 16, 24, 40)),
    Row("mass", "train", "P_00001", "LEFT", "CC", 2, "BENIGN", (32, 48, 40, 64), apart=True),
    Row("mass", "train", "P_00001", "LEFT", "MLO", 1, "MALIGNANT", (0, 0, 16, 8)),
    Row("mass", "test", "P_00002", "RIGHT", "CC", 1, "BENIGN_WITHOUT_CALLBACK", (8, 8, 32, 24)),
    Row("calc", "train", "P_00002", "RIGHT", "CC", 1, "MALIGNANT", (40, 72, 64, 96)),
    Row("calc", "test", "P_00003", "RIGHT", "MLO", 1, "BENIGN", (16, 16, 48, 80), assessment="0"),
)


def write_tables(folder: Path, rows: Sequence[Row] = ROWS) -> Path:
    """The four tables; one path of each row ends with a line feed, inside quotes."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("mass", "calc"):
        for split in ("train", "test"):
            path = folder / f"{kind}_case_description_{split}_set.csv"
            with open(path, "w", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow([*COLUMNS[kind], *LAST_COLUMNS])
                writer.writerows(_values(r) for r in rows if (r.kind, r.split) == (kind, split))
    return folder


def _values(row: Row) -> list[Any]:
    paths = [
        f"{row.folder}{'' if what == 'FULL' else f'_{row.number}'}/{STEM}.7/{row.uid(what)}/0.dcm"
        for what in ("FULL", "CROP", "MASK")
    ]
    kind = {"mass": "mass", "calc": "calcification"}[row.kind]
    place = [row.side, row.view, row.number, kind]
    judged = [row.assessment, row.pathology, 3]
    paths[2 if row.kind == "mass" else 1] += "\n"  # as published
    return [row.patient, 2, *place, *row.words, *judged, *paths]


def film_pixels(row: Row) -> NDArray[np.uint16]:
    """The film of a view: the same in the mass and the calc set."""
    seed = zlib.crc32(f"{row.patient}{row.side}{row.view}".encode())
    noise = np.random.default_rng(seed).integers(0, 4000, (HEIGHT, WIDTH))
    return noise.astype(np.uint16)


def mask_pixels(row: Row, scale: int = 1) -> NDArray[np.uint8]:
    mask = np.zeros((HEIGHT * scale, WIDTH * scale), np.uint8)
    x1, y1, x2, y2 = (scale * value for value in row.box)
    mask[y1:y2, x1:x2] = 255
    return mask


def crop_pixels(row: Row) -> NDArray[np.uint16]:
    x1, y1, x2, y2 = row.box
    return np.ascontiguousarray(film_pixels(row)[y1:y2, x1:x2])


def write_image(path: Path, pixels: NDArray[Any], series: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        grey = pixels if pixels.dtype == np.uint8 else (pixels >> 4).astype(np.uint8)
        cv2.imwrite(str(path), grey, [cv2.IMWRITE_JPEG_QUALITY, 95])
        return path
    return write_dicom(
        path,
        pixels,
        SOPClassUID=SECONDARY_CAPTURE,
        SOPInstanceUID=f"{series}.{path.stem[-1]}",
        SeriesInstanceUID=series,
        PresentationIntentType=None,
        ImagerPixelSpacing=None,
    )


def place_of(root: Path, row: Row, what: str, layout: str) -> Path:
    """Where a layout has a file; which of two names is the mask changes from row to row."""
    uid = row.uid(what)
    is_second = not row.apart and what != "FULL" and (what == "MASK") == (row.kind == "mass")
    folder = row.folder if what == "FULL" else f"{row.folder}_{row.number}"
    match layout:
        case "first":
            return root / folder / f"{STEM}.7" / uid / f"00000{int(is_second)}.dcm"
        case "later":
            return root / "CBIS-DDSM" / folder / f"{STEM}.7" / uid / f"1-{1 + is_second}.dcm"
        case "dated":
            words = "full mammogram images" if what == "FULL" else "ROI mask images"
            series = f"1.000000-{words}-{uid[-5:]}"
            return (
                root / "manifest" / folder / "07-20-2016-DDSM" / series / f"1-{1 + is_second}.dcm"
            )
    return root / "jpeg" / uid / f"{1 + is_second}-{len(uid)}.jpg"


def write_download(
    root: Path, layout: str = "first", rows: Sequence[Row] = ROWS, *, tables: bool = True
) -> Path:
    """The tables and all images of rows in a layout."""
    if tables:
        write_tables(root / "csv" if layout == "mirror" else root, rows)
    for row in rows:
        write_image(place_of(root, row, "FULL", layout), film_pixels(row), row.uid("FULL"))
        write_image(place_of(root, row, "MASK", layout), mask_pixels(row), row.uid("MASK"))
        write_image(place_of(root, row, "CROP", layout), crop_pixels(row), row.uid("CROP"))
    return root


def changed(index: int, **facts: Any) -> tuple[Row, ...]:
    """:data:`ROWS` with other facts of one row."""
    rows = list(ROWS)
    rows[index] = replace(rows[index], **facts)
    return tuple(rows)
