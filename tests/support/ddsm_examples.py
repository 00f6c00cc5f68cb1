"""DDSM in miniature: case files, markings as chain codes, converted films of synthetic pixels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 80, 60
VIEWS = ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO")


def rectangle(x: int, y: int, width: int, height: int) -> str:
    """The chain code of a rectangle that covers these pixels, clockwise from its first one."""
    steps = "2" * (width - 1) + "4" * (height - 1) + "6" * (width - 1) + "0" * (height - 1)
    return f"{x} {y} {' '.join(steps)} #"


def abnormality(
    number: int = 1,
    outline: str = rectangle(10, 20, 30, 25),
    pathology: str = "MALIGNANT",
    assessment: int = 4,
    cores: Sequence[str] = (),
) -> str:
    """A block of an OVERLAY file, with the tabs and blanks of the real ones."""
    return (
        f"ABNORMALITY {number}\n"
        "LESION_TYPE MASS SHAPE OVAL MARGINS SPICULATED\n"
        f"ASSESSMENT {assessment}\nSUBTLETY 3\nPATHOLOGY {pathology}\n"
        f"TOTAL_OUTLINES {1 + len(cores)} \nBOUNDARY\n{outline}\n"
    ) + "".join(f"\tCORE\n{core}\n" for core in cores)


def overlay(*blocks: str, total: int | None = None) -> str:
    return f"TOTAL_ABNORMALITIES {len(blocks) if total is None else total}\n" + "".join(blocks)


def film_pixels(name: str, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint16]:
    seed = zlib.crc32(name.encode())
    return np.random.default_rng(seed).integers(0, 4000, (height, width)).astype(np.uint16)


def write_png(path: Path, pixels: NDArray[np.uint16]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_case(
    root: Path,
    volume: str,
    name: str,
    overlays: dict[str, str] | None = None,
    *,
    suffix: str = ".png",
) -> Path:
    """A case folder as published, with converted films; returns the folder.

    Args:
        root: The download.
        volume: Such as ``cancer_01``.
        name: Such as ``A_1141_1``.
        overlays: View -> the text of its OVERLAY file.
        suffix: Of the films; ``.LJPEG`` writes something that nothing can read.
    """
    folder = root / volume / f"case{name.split('_')[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    marked = overlays or {}
    lines = [
        "ics_version 1.0",
        f"filename {name.replace('_', '-')}",
        "DATE_OF_STUDY 2 7 1995",
        "PATIENT_AGE 42",
        "FILM ",
        "FILM_TYPE REGULAR",
        "DENSITY 3",
        "DATE_DIGITIZED 7 22 1997 ",
        "DIGITIZER LUMISYS LASER ",
        "SELECTED",
        *(
            f"{view} LINES {HEIGHT} PIXELS_PER_LINE {WIDTH} BITS_PER_PIXEL 12 RESOLUTION 50 "
            f"{'OVERLAY' if view in marked else 'NON_OVERLAY'} "
            for view in VIEWS
        ),
    ]
    (folder / f"{name.replace('_', '-')}.ics").write_text("\n".join(lines) + "\n")
    for view in VIEWS:
        path = folder / f"{name}.{view}{suffix}"
        if suffix == ".LJPEG":
            path.write_bytes(b"not for us")
        else:
            write_png(path, film_pixels(path.stem))
    for view, text in marked.items():
        (folder / f"{name}.{view}.OVERLAY").write_text(text)
    return folder
