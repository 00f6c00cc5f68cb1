"""What does a phantom mass look like, and which box encloses it?

Malignant and benign masses draw size, elongation and contrast from the same distributions. Only the
margin differs: benign ones are smooth ellipses with a sharp edge, malignant ones have an irregular,
ill-defined edge and spicules. Coordinates as in :mod:`simfrcnn.phantom.anatomy` (mm, drawn for
a left breast).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simfrcnn.phantom.anatomy import SCREENING_VIEWS, BreastShape, Point3D
from simfrcnn.phantom.presets import Preset
from simfrcnn.records import Box, Pathology, ViewPosition

MAX_SPICULE_MM = 7.0
_CLEARANCE_MM = 4.0
_MAX_DRAWS = 2000


@dataclass(frozen=True)
class Spicule:
    """One line of tissue drawn into the mass: mm and radians.

    ``bend`` is the sideways offset per squared distance from the mass's centre, in 1/mm.
    """

    angle: float
    length_mm: float
    width_mm: float
    bend: float
    strength: float


@dataclass(frozen=True)
class Projection:
    """One mass as one view shows it. ``centre_mm`` is (x, v)."""

    centre_mm: tuple[float, float]
    diameter_mm: float
    contrast: float
    elongation: float
    tilt: float
    edge_mm: float
    harmonics: tuple[tuple[float, float], ...]
    spicules: tuple[Spicule, ...]

    def boundary(self, angle: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Distance of the core's margin from its centre, in mm, at angles in radians.

        The core's area is that of a disc of ``diameter_mm``, whatever its shape.
        """
        full_turn = np.linspace(0.0, 2.0 * np.pi, 90, endpoint=False)
        unit_area = math.sqrt(float(np.mean(self._outline(full_turn) ** 2)))
        return 0.5 * self.diameter_mm * self._outline(angle - self.tilt) / unit_area

    def _outline(self, turned: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """The ellipse and its ripples, of arbitrary size."""
        squeeze = math.sqrt(self.elongation)
        outline = 1.0 / np.hypot(np.cos(turned) * squeeze, np.sin(turned) / squeeze)
        ripple = np.ones_like(outline)
        for order, (amplitude, phase) in enumerate(self.harmonics, start=2):
            ripple += amplitude * np.cos(order * turned + phase)
        return np.asarray(outline * ripple)

    @property
    def reach_mm(self) -> float:
        """A radius that holds the whole mass with its spicules and its soft edge."""
        longest = max((spicule.length_mm for spicule in self.spicules), default=0.0)
        return 0.5 * self.diameter_mm * 1.6 + longest + 4.0 * self.edge_mm


@dataclass(frozen=True)
class Mass:
    """One lesion: what it is, where it lies, and how it looks in each view that shows it."""

    lesion_id: str
    pathology: Pathology
    position_mm: Point3D
    diameter_mm: float
    contrast: float
    projections: dict[ViewPosition, Projection]


def draw_mass(
    rng: np.random.Generator,
    preset: Preset,
    shape: BreastShape,
    lesion_id: str,
    pathology: Pathology,
    others: tuple[Mass, ...] = (),
) -> Mass | None:
    """Draw a mass and its projections; the same steps for both kinds until the margin.

    Returns:
        The mass, or None if the breast has no place for it beside the ``others``.
    """
    diameter = float(rng.uniform(*preset.core_diameter_mm))
    contrast = float(rng.uniform(*preset.contrast))
    position = _draw_position(rng, shape, diameter, others)
    if position is None:
        return None
    projections = {
        view: _draw_projection(rng, shape.project(view, position), diameter, contrast, pathology)
        for view in SCREENING_VIEWS
    }
    shown = _draw_visible_views(rng, preset.visible_probability)
    visible = {view: projections[view] for view in shown}
    return Mass(lesion_id, pathology, position, diameter, contrast, visible)


def _draw_position(
    rng: np.random.Generator,
    shape: BreastShape,
    diameter_mm: float,
    others: tuple[Mass, ...],
) -> Point3D | None:
    room = 0.5 * diameter_mm + MAX_SPICULE_MM + _CLEARANCE_MM
    for _ in range(_MAX_DRAWS):
        x = float(rng.uniform(room, max(room, shape.depth - room)))
        lateral, cranial = (float(value) for value in rng.normal(4.0, 20.0, size=2))
        point = (x, lateral, cranial)
        fits = all(shape.holds(view, shape.project(view, point), room) for view in SCREENING_VIEWS)
        if fits and all(_apart(shape, point, other, room) for other in others):
            return point
    return None


def _apart(shape: BreastShape, point: Point3D, other: Mass, room_mm: float) -> bool:
    """Whether two masses stay apart in every view, so that neither hides in the other's box."""
    gap = room_mm + 0.5 * other.diameter_mm
    return all(
        math.dist(shape.project(view, point), shape.project(view, other.position_mm)) > gap
        for view in SCREENING_VIEWS
    )


def _draw_visible_views(rng: np.random.Generator, probability: float) -> list[ViewPosition]:
    while True:
        shown = [view for view in SCREENING_VIEWS if rng.random() < probability]
        if shown:
            return shown


def _draw_projection(
    rng: np.random.Generator,
    centre: tuple[float, float],
    diameter_mm: float,
    contrast: float,
    pathology: Pathology,
) -> Projection:
    """How one view shows a mass: compression moves it by a millimetre or two and turns it."""
    is_malignant = pathology is Pathology.MALIGNANT
    dx, dv = np.clip(rng.normal(0.0, 1.2, size=2), -3.0, 3.0)
    elongation = float(rng.uniform(0.78, 1.0))
    tilt = float(rng.uniform(0.0, np.pi))
    seen_contrast = contrast * float(rng.uniform(0.92, 1.08))
    harmonics = tuple(
        (float(rng.uniform(0.3, 1.0)) * 0.1 / (order - 1) ** 0.5, float(rng.uniform(0, 2 * np.pi)))
        for order in range(2, 7)
    )
    n_spicules = int(rng.integers(8, 16))
    spicules = tuple(_draw_spicule(rng, i / n_spicules, diameter_mm) for i in range(n_spicules))
    sharp, soft = float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.5, 0.9))
    return Projection(
        centre_mm=(centre[0] + float(dx), centre[1] + float(dv)),
        diameter_mm=diameter_mm,
        contrast=seen_contrast,
        elongation=elongation,
        tilt=tilt,
        edge_mm=soft if is_malignant else sharp,
        harmonics=harmonics if is_malignant else (),
        spicules=spicules if is_malignant else (),
    )


def _draw_spicule(rng: np.random.Generator, turn: float, diameter_mm: float) -> Spicule:
    """A spicule near ``turn`` (part of a full circle): they stand about evenly, not on a grid."""
    length = 0.5 * diameter_mm * float(rng.uniform(0.5, 1.15))
    return Spicule(
        angle=2.0 * math.pi * (turn + float(rng.normal(0.0, 0.03))),
        length_mm=float(np.clip(length, 3.0, MAX_SPICULE_MM)),
        width_mm=float(rng.uniform(1.0, 2.3)),
        bend=float(rng.normal(0.0, 0.006)),
        strength=float(rng.uniform(0.4, 0.8)),
    )


def mass_profile(
    projection: Projection, x: npt.NDArray[np.float32], v: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """What a mass adds to the image, in units of the display range.

    Core and spicules are joined by maximum, so spicules change nothing inside the core.

    Args:
        projection: The mass in this view.
        x: (W,) distance of the pixel columns from the chest wall, mm.
        v: (H,) distance of the pixel rows from the top, mm.

    Returns:
        (H, W) added brightness, 0 far from the mass.
    """
    radius, angle = _polar(projection, x, v)
    boundary = projection.boundary(angle)
    inside = np.clip((boundary - radius) / projection.edge_mm, -30.0, 30.0)
    dome = 1.0 - 0.3 * np.minimum(radius / boundary, 1.0) ** 2
    profile = dome / (1.0 + np.exp(-2.0 * inside))
    for spicule in projection.spicules:
        along, across, width = _spicule_frame(spicule, projection, radius, angle)
        line = np.exp(-((across / (0.6 * width)) ** 2)) * _fade(along)
        profile = np.maximum(profile, spicule.strength * line)
    return (projection.contrast * profile).astype(np.float32)


def mass_box(projection: Projection, spacing_mm: float, rows: int, columns: int) -> Box:
    """The tight box of the core and of the inner half of each spicule.

    The tips are left out because they fade into the tissue; a radiologist's box cuts them as well.

    Returns:
        XYXY in pixels of the image as drawn for a left breast, half open, inside the image.
    """
    window = mass_window(projection, spacing_mm, rows, columns)
    x, v = pixel_centres(rows, columns, spacing_mm)
    radius, angle = _polar(projection, x[window[1]], v[window[0]])
    mask = radius <= projection.boundary(angle)
    for spicule in projection.spicules:
        along, across, width = _spicule_frame(spicule, projection, radius, angle)
        mask |= (along >= 0.0) & (along <= 0.5) & (np.abs(across) <= 0.5 * width)
    rows_hit = np.flatnonzero(mask.any(axis=1)) + window[0].start
    columns_hit = np.flatnonzero(mask.any(axis=0)) + window[1].start
    left, top = float(columns_hit[0]), float(rows_hit[0])
    return left, top, float(columns_hit[-1] + 1), float(rows_hit[-1] + 1)


def mass_margin(
    projection: Projection, spacing_mm: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The core's margin, x and y in pixels of the image as drawn for a left breast: (360,) each."""
    angle = np.deg2rad(np.arange(360.0))
    radius = projection.boundary(angle)
    x, v = projection.centre_mm
    return (x + radius * np.cos(angle)) / spacing_mm, (v + radius * np.sin(angle)) / spacing_mm


def mass_window(
    projection: Projection, spacing_mm: float, rows: int, columns: int
) -> tuple[slice, slice]:
    """The rows and columns of the image that hold the whole mass; outside it the profile is 0."""
    x, v = projection.centre_mm
    reach = projection.reach_mm
    return (
        slice(max(0, int((v - reach) / spacing_mm)), min(rows, int((v + reach) / spacing_mm) + 1)),
        slice(
            max(0, int((x - reach) / spacing_mm)), min(columns, int((x + reach) / spacing_mm) + 1)
        ),
    )


def pixel_centres(
    rows: int, columns: int, spacing_mm: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The (W,) x and (H,) v of the pixels' centres in mm."""
    x = ((np.arange(columns) + 0.5) * spacing_mm).astype(np.float32)
    v = ((np.arange(rows) + 0.5) * spacing_mm).astype(np.float32)
    return x, v


def _polar(
    projection: Projection, x: npt.NDArray[np.float32], v: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    dx = x[None, :] - projection.centre_mm[0]
    dv = v[:, None] - projection.centre_mm[1]
    return np.hypot(dx, dv), np.arctan2(dv, dx)


def _spicule_frame(
    spicule: Spicule,
    projection: Projection,
    radius: npt.NDArray[np.floating],
    angle: npt.NDArray[np.floating],
) -> tuple[
    npt.NDArray[np.floating],
    npt.NDArray[np.floating],
    npt.NDArray[np.floating],
]:
    """Place along (0 margin, 1 tip) and across (mm) a spicule, and its width there (mm)."""
    forward = radius * np.cos(angle - spicule.angle)
    sideways = radius * np.sin(angle - spicule.angle)
    margin = float(projection.boundary(np.array([spicule.angle]))[0])
    along = (forward - margin) / spicule.length_mm
    across = sideways - spicule.bend * forward * np.abs(forward)
    width = spicule.width_mm * (1.0 - 0.6 * np.clip(along, 0.0, 1.0))
    return along, across, width


def _fade(along: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Strength along a spicule: full up to the margin's inside, half at the tip, then quickly 0."""
    body = 1.0 - 0.5 * np.clip(along, 0.0, 1.0)
    return np.asarray(body * np.clip((1.15 - along) / 0.15, 0.0, 1.0) * (along > -0.6))
