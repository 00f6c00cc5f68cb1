"""What is true of each phantom patient: breasts, density, masses, vendor?

Everything here is a pure function of (preset, seed, patient number), costs no pixels, and is the
only source of the annotations: the pictures are drawn from it, never measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simfrcnn.errors import DataError
from simfrcnn.phantom.anatomy import (
    DENSITIES,
    DENSITY_SHARES,
    SCREENING_VIEWS,
    BreastShape,
    draw_shape,
    mirror_box,
    vary_shape,
)
from simfrcnn.phantom.lesions import Mass, draw_mass, mass_box, mass_margin
from simfrcnn.phantom.presets import SPLITS, Preset
from simfrcnn.records import (
    Box,
    Laterality,
    Outline,
    Pathology,
    Supervision,
    ViewPosition,
)

Vendor = Literal["A", "B"]
VENDORS: tuple[Vendor, Vendor] = ("A", "B")
"""A stores MONOCHROME1 with a sigmoid VOI function, B stores MONOCHROME2 with a linear window."""

VIEWS_OF_EXAM = tuple((side, view) for side in Laterality for view in SCREENING_VIEWS)


@dataclass(frozen=True)
class PhantomBreast:
    """One breast of one patient."""

    laterality: Laterality
    shape: BreastShape
    masses: tuple[Mass, ...]


@dataclass(frozen=True)
class PhantomExam:
    """One patient's one exam: four views."""

    number: int
    split: str
    is_malignant: bool
    density: str
    vendor: Vendor
    age_years: int
    breasts: tuple[PhantomBreast, PhantomBreast]

    @property
    def patient_id(self) -> str:
        """Patient ID (0010,0020)."""
        return f"PHANTOM-{self.number:06d}"

    @property
    def exam_id(self) -> str:
        """The exam in the annotation files, and the stem of the file names; no DICOM element."""
        return f"{self.patient_id}-1"

    def breast(self, laterality: Laterality) -> PhantomBreast:
        """The breast of one side."""
        return next(breast for breast in self.breasts if breast.laterality is laterality)

    def file_name(self, laterality: Laterality, view: ViewPosition) -> str:
        """The image's path relative to the data set's folder."""
        return f"dicom/{self.patient_id}/{self.exam_id}_{laterality.value}{view.value}.dcm"

    def masses(self, laterality: Laterality, view: ViewPosition) -> tuple[Mass, ...]:
        """The masses that one view shows."""
        return tuple(mass for mass in self.breast(laterality).masses if view in mass.projections)

    def truth(
        self, laterality: Laterality, view: ViewPosition
    ) -> tuple[Supervision, Pathology | None]:
        """What the data set states of one view.

        A malignant breast's view without a visible malignant mass is known to be malignant but has
        nothing to box; of a malignant patient's other breast nothing is stated, as in real
        archives.
        """
        shown = {mass.pathology for mass in self.masses(laterality, view)}
        if not self.is_malignant:
            benign = Pathology.BENIGN in shown
            return Supervision.NORMAL, Pathology.BENIGN if benign else Pathology.NORMAL
        if Pathology.MALIGNANT in shown:
            return Supervision.BOXES, Pathology.MALIGNANT
        in_breast = {mass.pathology for mass in self.breast(laterality).masses}
        if Pathology.MALIGNANT in in_breast:
            return Supervision.IMAGE_LABEL, Pathology.MALIGNANT
        return Supervision.UNLABELLED, None


def exam_random(seed: int, number: int, *stream: int) -> np.random.Generator:
    """The random numbers of one patient, or of one of his views: independent of every other's."""
    return np.random.default_rng(np.random.SeedSequence([seed, number, *stream]))


def draw_exams(preset: Preset, seed: int) -> list[PhantomExam]:
    """All exams of a data set, numbered from 1; a split is a consecutive run of numbers."""
    exams: list[PhantomExam] = []
    for split in SPLITS:
        size = preset.split(split)
        malignant = [True] * size.n_malignant + [False] * size.n_normal
        order = exam_random(seed, 0, SPLITS.index(split)).permutation(len(malignant))
        for position in order:
            exams.append(draw_exam(preset, seed, len(exams) + 1, split, malignant[position]))
    return exams


def draw_exam(
    preset: Preset, seed: int, number: int, split: str, is_malignant: bool
) -> PhantomExam:
    """Draw one exam. Malignant and normal patients differ in their masses only.

    A benign mass that finds no place beside the malignant one is left out.

    Raises:
        DataError: A breast has no place for its only mass.
    """
    rng = exam_random(seed, number)
    density = DENSITIES[int(rng.choice(len(DENSITIES), p=DENSITY_SHARES))]
    vendor = VENDORS[int(rng.integers(len(VENDORS)))]
    age = int(rng.integers(40, 75))
    patient_shape = draw_shape(rng)
    shapes = {side: vary_shape(patient_shape, rng) for side in Laterality}
    side_of_mass = list(Laterality)[int(rng.integers(2))]
    kinds = _draw_kinds(rng, preset, is_malignant)
    masses: tuple[Mass, ...] = ()
    for index, kind in enumerate(kinds, start=1):
        lesion_id = f"PHANTOM-{number:06d}-1/{side_of_mass.value}/{index}"
        mass = draw_mass(rng, preset, shapes[side_of_mass], lesion_id, kind, masses)
        if mass is not None:
            masses += (mass,)
        elif not masses:
            raise DataError(
                f"phantom {lesion_id}: no place for a mass in a breast "
                f"{shapes[side_of_mass].depth:.0f} mm deep: lower core_diameter_mm, which is "
                f"{preset.core_diameter_mm} in preset {preset.name!r}"
            )
    left, right = (
        PhantomBreast(side, shapes[side], masses if side is side_of_mass else ())
        for side in (Laterality.LEFT, Laterality.RIGHT)
    )
    return PhantomExam(number, split, is_malignant, density, vendor, age, (left, right))


def _draw_kinds(
    rng: np.random.Generator, preset: Preset, is_malignant: bool
) -> tuple[Pathology, ...]:
    chance = rng.random()
    if is_malignant:
        also_benign = chance < preset.benign_in_malignant_breasts
        return (Pathology.MALIGNANT,) + ((Pathology.BENIGN,) if also_benign else ())
    return (Pathology.BENIGN,) if chance < preset.benign_in_normal_patients else ()


def stored_box(mass: Mass, laterality: Laterality, view: ViewPosition, preset: Preset) -> Box:
    """The mass's box in the stored image of one view (XYXY, pixels, half open)."""
    box = mass_box(mass.projections[view], preset.pixel_spacing_mm, preset.rows, preset.columns)
    return mirror_box(box, preset.columns, laterality)


def stored_outline(
    mass: Mass, laterality: Laterality, view: ViewPosition, preset: Preset
) -> Outline:
    """The margin of the mass's core in the stored image of one view, a point a degree.

    Spicules are not inside: no reader would follow them.
    """
    x, y = mass_margin(mass.projections[view], preset.pixel_spacing_mm)
    x = preset.columns - x if laterality is Laterality.RIGHT else x
    points = zip(x.clip(0, preset.columns).tolist(), y.clip(0, preset.rows).tolist(), strict=True)
    return (tuple((round(column, 2), round(row, 2)) for column, row in points),)
