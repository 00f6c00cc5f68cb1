"""Files full of marks that must appear nowhere else: in all texts of DICOM files, and in paths."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from support.data_examples import mammogram_dataset

MARK = "canary"
_TEXTS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_DATE, _TIME, _UID = "18570312", "031415", "1.2.826.0.1.3680043.2.1857"
MARKS = (MARK, _DATE, "1857-03-12", _UID, "doe", "jane")
"""In lower case; none is likely to be part of a random pseudonym."""
_FOLDERS = ("Canary_Doe^Jane", "1857-03-12 canary")


def canary_folder(root: Path, patient: str = "") -> Path:
    """A folder below ``root`` whose name tells a patient."""
    folder = root.joinpath(f"{_FOLDERS[0]}{patient}", _FOLDERS[1])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_canary(path: Path, stored: NDArray[Any], number: int = 1, **tags: Any) -> Path:
    """A mammogram with a mark in each text, date, time and identifier of the DICOM dictionary."""
    dataset = mammogram_dataset(stored, **tags)
    kept = {element.tag for element in dataset}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag in kept or not keyword or tag >> 16 in (0, 2, 4) or tag == 0x00080005:
            continue
        if value := _value(vr, keyword):
            dataset.add_new(tag, vr, value)
    _mark(dataset, number)
    block = dataset.private_block(0x0011, f"{MARK} creator", create=True)
    block.add_new(0x01, "LO", f"{MARK} private")
    dataset.file_meta.ImplementationVersionName = f"{MARK} impl"
    dataset.file_meta.SourceApplicationEntityTitle = f"{MARK} ae"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def _value(vr: str, keyword: str) -> str | None:
    if vr in _TEXTS:
        return f"{MARK} {keyword}"[:16].strip()
    return {"DA": _DATE, "DT": _DATE + _TIME, "TM": _TIME, "UI": f"{_UID}.1"}.get(vr)


def _mark(dataset: Dataset, number: int) -> None:
    dataset.PatientName = f"Doe^Jane^{MARK}"
    dataset.PatientID = f"{MARK}-{number // 2}"
    dataset.AccessionNumber = f"{MARK}{_DATE}"
    dataset.Manufacturer = f"{MARK} HOLOGIC"
    dataset.StudyInstanceUID = f"{_UID}.{number // 2}"
    dataset.SeriesInstanceUID = f"{_UID}.2.{number}"
    dataset.SOPInstanceUID = f"{_UID}.3.{number}"


def leaks(folder: Path) -> list[str]:
    """Every file below a folder, with the marks that its bytes, unpacked texts or path hold."""
    found = []
    for path in sorted(folder.rglob("*")):
        place = str(path.relative_to(folder))
        content = _texts(path.read_bytes()) if path.is_file() else b""
        found += [f"{place}: {mark}" for mark in MARKS if _holds(content, place, mark)]
    return found


def _holds(content: bytes, place: str, mark: str) -> bool:
    return mark.encode() in content.lower() or mark in place.lower()


def _texts(content: bytes) -> bytes:
    """All bytes of a file but the compressed pixels of a PNG, which are noise."""
    if not content.startswith(b"\x89PNG"):
        return content
    kept, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        kept.append(b"" if kind == b"IDAT" else kind + data)
        if kind in (b"zTXt", b"iTXt"):
            kept.append(zlib.decompress(data[data.index(b"\0") + 2 :]))
        at += 12 + length
    return b" ".join(kept)
