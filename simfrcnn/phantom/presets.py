"""How many phantom patients are made, how large their images are, and how their masses are drawn.

Lengths are in millimetres, contrasts in units of the display range (0 black, 1 white).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

FIELD_MM = (240.0, 150.0)
"""Height and width of the imaged field; every preset covers it, with pixels of its own size."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitSize:
    """Number of patients of each kind in one split."""

    n_malignant: int
    n_normal: int


@dataclass(frozen=True)
class Preset:
    """One recipe for a phantom data set.

    ``core_diameter_mm`` and ``contrast`` are the ranges of the uniform distributions that malignant
    and benign masses **share**. ``visible_probability`` is the chance that a given view shows a
    mass; a draw in which no view shows it is repeated, since such a mass would never have been
    found.
    """

    name: str
    pixel_spacing_mm: float
    train: SplitSize
    val: SplitSize
    test: SplitSize
    visible_probability: float = 0.85
    benign_in_normal_patients: float = 0.5
    benign_in_malignant_breasts: float = 0.1
    core_diameter_mm: tuple[float, float] = (10.0, 16.0)
    contrast: tuple[float, float] = (0.14, 0.26)

    @property
    def rows(self) -> int:
        """Height of an image in pixels."""
        return round(FIELD_MM[0] / self.pixel_spacing_mm)

    @property
    def columns(self) -> int:
        """Width of an image in pixels."""
        return round(FIELD_MM[1] / self.pixel_spacing_mm)

    def split(self, name: str) -> SplitSize:
        """The size of the split called ``name`` (train, val or test)."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    @property
    def n_patients(self) -> int:
        """Number of patients over all splits."""
        sizes = [self.split(name) for name in SPLITS]
        return sum(size.n_malignant + size.n_normal for size in sizes)


PRESETS = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("tiny", 1.0, SplitSize(3, 4), SplitSize(1, 2), SplitSize(2, 2)),
            Preset("demo", 0.5, SplitSize(100, 100), SplitSize(16, 16), SplitSize(40, 40)),
            Preset("study", 0.4, SplitSize(400, 400), SplitSize(60, 60), SplitSize(300, 300)),
        )
    }
)
"""The shipped presets by name: tests, the README's run, the ladder of methods."""
