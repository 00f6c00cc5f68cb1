"""Are the embedded phantom data sets there? If a config names one that is not, it is made.

``train_labels`` is made of a preset's ``train``: one patient in two keeps the boxes, the images of
the others their label alone. ``train_outlines``, ``val_outlines`` and ``test_outlines`` are the
splits with the outlines of what is boxed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from simfrcnn.data import catalog
from simfrcnn.data.weaken import INFO_KEY, weaken
from simfrcnn.errors import OutputError
from simfrcnn.files import sha256_of
from simfrcnn.locks import is_locked
from simfrcnn.parallel import available_cores
from simfrcnn.phantom.generate import (
    GENERATOR_VERSION,
    MANIFEST,
    OUTLINED,
    generate,
    other_version,
    write_outlined,
)
from simfrcnn.phantom.presets import PRESETS, Preset

logger = logging.getLogger("simfrcnn")

_PREFIX = "phantom_"
_LABELS, _SOURCE = "train_labels.json", "train.json"
_TARGETS = ("malignant",)
_FOLDERS = frozenset(f"{_PREFIX}{preset}" for preset in PRESETS)


def make_missing_phantoms(cfg: Any) -> None:
    """Make the phantom data sets that the config names and that are not there yet.

    One that another version of the generator has made is used as it is, since trainings may have
    begun on it; a warning says how to make it again.

    Raises:
        OutputError: Another process makes one, or a folder cannot be written.
    """
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    named = _named_folders(names, files)
    for folder in named:
        _say_if_of_another_version(folder)
        _say_if_labels_are_of_another_set(folder)
    for folder in (folder for folder in named if not (folder / MANIFEST).exists()):
        if is_locked(folder):
            raise OutputError(
                f"{folder} is being made by another process: give this command again when "
                f"{folder / MANIFEST} is there"
            )
        logger.info(f"making the embedded data set {folder.name} in {folder}")
        preset = PRESETS[folder.name.removeprefix(_PREFIX)]
        make_phantoms(preset, folder, n_workers=available_cores())
    for name in names:
        path = catalog.datasets_root() / f"{name}.json"
        of_phantom = name not in files and name.partition("/")[0] in _FOLDERS
        if of_phantom and path.name == _LABELS and not path.exists():
            annotated = catalog.read(path.with_name(_SOURCE))
            patients = {r.patient_id for r in annotated.records if r.is_positive(_TARGETS)}
            weaken(annotated, path, n_patients=(len(patients) + 1) // 2, seed=0)
        if of_phantom and path.name in OUTLINED and not path.exists():
            write_outlined(path.parent)


def make_phantoms(
    preset: Preset,
    folder: Path,
    *,
    seed: int = 0,
    n_workers: int = 1,
    overwrite: bool = False,
    outlines: bool = False,
) -> Path:
    """Make a data set with a progress bar; see :func:`simfrcnn.phantom.generate.generate`.

    With ``outlines`` there are ``train_outlines.json`` ... as well.
    """
    with tqdm(total=4 * preset.n_patients, unit="image", desc=f"phantoms {preset.name}") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        manifest = generate(
            preset, folder, seed=seed, n_workers=n_workers, overwrite=overwrite, progress=show
        )
    if outlines:
        write_outlined(folder)
    _say_if_labels_are_of_another_set(folder)
    return manifest


def lines_on(manifest: Path) -> Iterator[str]:
    """What was made, for a terminal: the counts of each part, the file and its hash."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    for split, counts in content["counts"].items():
        yield f"{split}: " + ", ".join(f"{key[2:]} {value}" for key, value in counts.items())
    yield f"wrote {manifest} (sha256 {content['sha256']})"


def _named_folders(names: Sequence[str], files: Mapping[str, str]) -> list[Path]:
    return sorted(
        {
            catalog.datasets_root() / name.partition("/")[0]
            for name in names
            if name not in files and name.partition("/")[0] in _FOLDERS
        }
    )


def _say_if_labels_are_of_another_set(folder: Path) -> None:
    """Other files of the folder stay when a set is replaced, this one too: it may be anybody's."""
    labels, source = folder / _LABELS, folder / _SOURCE
    try:
        made_from = json.loads(labels.read_text(encoding="utf-8"))["info"][INFO_KEY]
        is_other = made_from["source_sha256"] != sha256_of(source)
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or weaken did not make it
        return
    if is_other:
        logger.warning(
            f"{labels} was made from another {_SOURCE} than the one beside it: delete it, and it "
            "is made again when a config names it"
        )


def _say_if_of_another_version(folder: Path) -> None:
    version = other_version(folder)
    if version is not None:
        preset = folder.name.removeprefix(_PREFIX)
        logger.warning(
            f"{folder} was made by version {version} of the phantom generator, and this is version "
            f"{GENERATOR_VERSION}: it is used as it is; `simfrcnn make-phantoms --preset {preset} "
            f"--out {folder} --overwrite` makes it again"
        )
