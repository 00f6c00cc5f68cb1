"""How is a phantom data set written to a folder: in parallel, resumably, byte for byte the same?

The folder: ``dicom/<patient>/<exam>_<side><view>.dcm``, ``train.json``, ``val.json``,
``test.json``, ``train_oracle.json`` and, last of all, ``phantom.json``; those with outlines
(``train_outlines.json`` ...) where somebody asks for them. While it is incomplete it
holds ``phantom.incomplete.json`` instead, which says what is being made there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pydicom

from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.files import sha256_of, write_bytes, write_json
from simfrcnn.locks import LOCK, working_in
from simfrcnn.parallel import results_of
from simfrcnn.phantom.annotations import annotation_file
from simfrcnn.phantom.dicom_writer import dicom_bytes, instance_uid
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, PhantomExam, draw_exams
from simfrcnn.phantom.presets import PRESETS, SPLITS, Preset
from simfrcnn.phantom.render import render_view
from simfrcnn.records import Laterality, Supervision, ViewPosition

GENERATOR_VERSION = 2
"""Raised whenever the same preset and seed give other bytes. 2: annotation files state the age."""

MANIFEST = "phantom.json"
INCOMPLETE = "phantom.incomplete.json"
ORACLE = "train_oracle.json"
OUTLINED = {f"{split}_outlines.json": split for split in SPLITS}
"""File with the outlines of what is boxed -> the split it is of."""
_OWN_NAMES = {
    *(MANIFEST, INCOMPLETE, ORACLE, "dicom"),
    *(f"{split}.json" for split in SPLITS),
    *OUTLINED,
}

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def generate(
    preset: Preset,
    folder: Path,
    *,
    seed: int,
    n_workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a phantom data set; go on where an interrupted run of the same preset and seed stopped.

    The content follows from preset and seed alone, whatever ``n_workers``. The annotation files
    come after all images, so a folder that has them is complete.

    Args:
        preset: What to make.
        folder: Where; made if need be.
        seed: Any integer from 0.
        n_workers: Number of processes; 1 works in this one.
        overwrite: Replace another phantom data set in ``folder``, and tolerate other files there
            (which stay untouched). Annotation files that no ``phantom.json`` vouches for are never
            replaced.
        progress: Told how many images are done.

    Returns:
        The path of ``phantom.json``: preset, seed, counts, and a SHA-256 over everything.

    Raises:
        ConfigError: ``n_workers`` or ``seed`` is out of range.
        DataError: A process was killed.
        OutputError: ``folder`` holds something else, another run is at work in it, or it cannot be
            written.
    """
    if n_workers < 1:
        raise ConfigError(f"--workers is {n_workers}: give at least 1")
    if seed < 0:
        raise ConfigError(f"--seed is {seed}: give an integer from 0")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder: give another --out")
    identity = _identity(preset, seed)
    with working_in(folder):
        _claim(folder, identity, overwrite)
        exams = draw_exams(preset, seed)
        hashes = _write_images(exams, preset, seed, folder, n_workers, progress)
        return _finish(folder, identity, exams, preset, seed, hashes)


def write_outlined(folder: Path) -> list[Path]:
    """Write the annotation files with outlines beside those of a complete phantom data set.

    They follow from its preset and seed, so the images are not made again, nor is any other file.

    Raises:
        OutputError: The folder holds no complete data set of this version's presets, or cannot be
            written.
    """
    found = _read_identity(folder) if (folder / MANIFEST).exists() else None
    preset = PRESETS.get(found["preset"].get("name", "")) if found else None
    if found is None or preset is None or found != _identity(preset, found["seed"]):
        raise OutputError(
            f"{folder} holds no complete phantom data set of this version, so its outlines are not "
            "known: make it again (simfrcnn make-phantoms --overwrite)"
        )
    exams = draw_exams(preset, found["seed"])
    for name, split in OUTLINED.items():
        content = annotation_file(exams, preset, found["seed"], split=split, outlined=True)
        write_json(folder / name, content)
    return [folder / name for name in OUTLINED]


def other_version(folder: Path) -> int | None:
    """The generator version of a complete phantom data set, None if it is this one or unknown."""
    found = _read_identity(folder) if (folder / MANIFEST).exists() else None
    version = found["generator_version"] if found else GENERATOR_VERSION
    return version if isinstance(version, int) and version != GENERATOR_VERSION else None


def _identity(preset: Preset, seed: int) -> dict[str, Any]:
    settings = asdict(preset)
    settings["core_diameter_mm"] = list(preset.core_diameter_mm)
    settings["contrast"] = list(preset.contrast)
    return {"generator_version": GENERATOR_VERSION, "seed": seed, "preset": settings}


def _claim(folder: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """Take the folder as ours, or refuse it; remove what an interrupted run left half-written."""
    present = {entry.name for entry in folder.iterdir()}
    foreign = sorted(name for name in present - _OWN_NAMES if not _is_leftover(name))
    found = _read_identity(folder)
    if found is None and present & _OWN_NAMES:
        raise OutputError(
            f"{folder} holds {', '.join(sorted(present & _OWN_NAMES))} without a readable "
            f"{MANIFEST}: perhaps another data set, and --overwrite would not spare it; give "
            "another --out"
        )
    is_other = found is not None and found != identity
    if (foreign or is_other) and not overwrite:
        what = _describe(found) if found and is_other else f"for instance {foreign[0]}"
        raise OutputError(
            f"{folder} already holds something else ({what}): give an empty folder, or "
            "--overwrite to replace phantom files in it"
        )
    if found is not None and is_other:
        _remove_phantoms(folder, found)
    for leftover in [*folder.glob(".*.part"), *folder.glob("dicom/*/.*.part")]:
        leftover.unlink()
    write_json(folder / INCOMPLETE, identity)
    (folder / MANIFEST).unlink(missing_ok=True)


def _is_leftover(name: str) -> bool:
    return name == LOCK or (name.startswith(".") and name.endswith(".part"))


def _read_identity(folder: Path) -> dict[str, Any] | None:
    """What the folder says that it holds, or None."""
    for name in (INCOMPLETE, MANIFEST):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            return {key: content[key] for key in ("generator_version", "seed", "preset")}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _describe(found: dict[str, Any]) -> str:
    return (
        f"phantoms of preset {found['preset'].get('name')}, seed {found['seed']}, "
        f"generator version {found['generator_version']}"
    )


def _remove_phantoms(folder: Path, found: dict[str, Any]) -> None:
    """Delete what this generator writes, and nothing else.

    Whenever it is interrupted, the folder says that it holds what is left of the set that was
    there; the caller replaces that file in the end.
    """
    write_json(folder / INCOMPLETE, found)
    for name in _OWN_NAMES - {"dicom", INCOMPLETE}:
        (folder / name).unlink(missing_ok=True)
    for patient in folder.glob("dicom/PHANTOM-*"):
        shutil.rmtree(patient)


def _write_images(
    exams: Sequence[PhantomExam],
    preset: Preset,
    seed: int,
    folder: Path,
    n_workers: int,
    progress: Progress | None,
) -> dict[str, str]:
    """Write (or keep) every image; give the SHA-256 of each by file name."""
    hashes: dict[str, str] = {}
    n_images = len(exams) * len(VIEWS_OF_EXAM)
    write = partial(_write_exam, preset, seed, folder)
    with _one_thread():
        for written in results_of(write, exams, title="phantoms", n_workers=n_workers, chunk=1):
            hashes.update(written)
            if progress:
                progress(len(hashes), n_images)
    return hashes


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV's: the bytes must not depend on how many it would take."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _write_exam(preset: Preset, seed: int, folder: Path, exam: PhantomExam) -> dict[str, str]:
    """Write the views of one exam that are not there yet; the SHA-256 of all four by file name."""
    hashes: dict[str, str] = {}
    for laterality, view in VIEWS_OF_EXAM:
        name = exam.file_name(laterality, view)
        path = folder / name
        if _is_finished(path, exam, laterality, view, preset, seed):
            hashes[name] = sha256_of(path)
            continue
        picture = render_view(exam, laterality, view, preset, seed)
        content = dicom_bytes(picture, exam, laterality, view, preset, seed)
        write_bytes(path, content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def _is_finished(
    path: Path,
    exam: PhantomExam,
    laterality: Laterality,
    view: ViewPosition,
    preset: Preset,
    seed: int,
) -> bool:
    """Whether a file of an interrupted run is this very image, whole."""
    try:
        dataset = pydicom.dcmread(path)
        uid, pixels = dataset.SOPInstanceUID, dataset.PixelData
    except (OSError, AttributeError, ValueError, pydicom.errors.InvalidDicomError):
        return False
    expected = instance_uid(exam, laterality, view, preset, seed)
    return bool(uid == expected and len(pixels) == 2 * preset.rows * preset.columns)


def _finish(
    folder: Path,
    identity: dict[str, Any],
    exams: Sequence[PhantomExam],
    preset: Preset,
    seed: int,
    hashes: dict[str, str],
) -> Path:
    """Write the annotation files, then the manifest; both only now, when every image is there."""
    files = {f"{split}.json": (split, False) for split in SPLITS} | {ORACLE: ("train", True)}
    counts: dict[str, dict[str, int]] = {}
    for name, (split, oracle) in files.items():
        content = annotation_file(exams, preset, seed, split=split, oracle=oracle)
        write_json(folder / name, content)
        hashes[name] = sha256_of(folder / name)
        counts[name.removesuffix(".json")] = _counts(content)
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    write_json(folder / MANIFEST, {**identity, "counts": counts, "sha256": digest})
    (folder / INCOMPLETE).unlink(missing_ok=True)
    return folder / MANIFEST


def _counts(content: dict[str, Any]) -> dict[str, int]:
    images = content["images"]
    by_supervision = {
        f"n_{kind.value}": sum(image["supervision"] == kind.value for image in images)
        for kind in Supervision
    }
    return {
        "n_patients": len({image["patient_id"] for image in images}),
        "n_images": len(images),
        "n_findings": len(content["annotations"]),
        **by_supervision,
    }
