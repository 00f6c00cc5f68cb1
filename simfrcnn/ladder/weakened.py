"""Which training sets does a rung with few boxes have? Each seed keeps those of other patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from simfrcnn.data import catalog
from simfrcnn.data.weaken import Labels, weaken
from simfrcnn.errors import ConfigError

_KEYS = ("PATIENTS", "LABELS")


@dataclass(frozen=True)
class Weakening:
    """Whose boxes stay, and which images are labelled: see :func:`simfrcnn.data.weaken.weaken`."""

    n_patients: int
    labels: Labels = "true"

    def __str__(self) -> str:
        return f"boxes of {self.n_patients} patients by seed, labels: {self.labels}"


def read_weakening(value: Any, where: str) -> Weakening | None:
    """The key ``WEAKEN`` of a rung.

    Raises:
        ConfigError: It is not ``{PATIENTS: N, LABELS: ...}``.
    """
    if value is None:
        return None
    legal = f"{{PATIENTS: N, LABELS: {' | '.join(get_args(Labels))}}} is legal"
    if not isinstance(value, dict) or "PATIENTS" not in value or not set(value) <= set(_KEYS):
        raise ConfigError(f"{where}: WEAKEN is {value!r}; {legal}")
    n_patients, labels = value["PATIENTS"], str(value.get("LABELS", "true")).lower()
    if type(n_patients) is not int or n_patients < 1 or labels not in get_args(Labels):
        raise ConfigError(f"{where}: WEAKEN is {value!r}; {legal}")
    return Weakening(n_patients, labels)  # type: ignore[arg-type]  # one of get_args(Labels)


def weakened_files(rung_folder: Path, seed: int, names: Iterable[str]) -> dict[str, Path]:
    """Where the training sets of a rung and seed are, by name."""
    folder = rung_folder.absolute() / "weakened" / f"seed_{seed}"
    return {name: folder / f"{name}.json" for name in names}


def write_weakened(
    files: Mapping[str, Path],
    sources: Mapping[str, str],
    weakening: Weakening,
    *,
    seed: int,
    target_classes: tuple[str, ...],
    ignored_classes: tuple[str, ...] = (),
) -> None:
    """Write the training sets; the same inputs give the same bytes.

    Raises:
        DataError: Fewer patients have a box than are asked for.
    """
    for name, path in files.items():
        weaken(
            catalog.load(name, sources),
            path,
            n_patients=weakening.n_patients,
            seed=seed,
            target_classes=target_classes,
            labels=weakening.labels,
            ignored_classes=ignored_classes,
        )
