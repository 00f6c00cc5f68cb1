"""What shape does a phantom breast have in each view, and where does a point of it project to?

All geometry is drawn for a *left* breast: x is the distance in mm from the chest wall (the image's
left edge), v the distance in mm from the image's top edge. Right breasts are mirrored when
rendered. A point of the breast is (x, lateral, cranial): x as above, the others in mm from the
nipple's axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from simfrcnn.phantom.presets import FIELD_MM
from simfrcnn.records import Laterality, ViewPosition

FloatArray = npt.NDArray[np.floating]
Point3D = tuple[float, float, float]

SCREENING_VIEWS = (ViewPosition.CC, ViewPosition.MLO)
MLO_ANGLE = math.radians(45.0)
DENSITIES = ("A", "B", "C", "D")
DENSITY_SHARES = (0.1, 0.4, 0.4, 0.1)
"""BI-RADS composition categories and about how often each is met in screening."""


@dataclass(frozen=True)
class BreastShape:
    """The size and form of one breast; all lengths in mm.

    ``depth`` is the distance from chest wall to nipple, the same in both views (the posterior
    nipple line hardly differs between CC and MLO).
    """

    depth: float
    nipple_row_cc: float
    nipple_row_mlo: float
    lateral_extent: float
    medial_extent: float
    caudal_extent: float
    axilla: float
    roundness: float
    pectoral_width: float
    pectoral_length: float
    pectoral_bend: float

    def nipple(self, view: ViewPosition) -> tuple[float, float]:
        """The nipple's (x, v) in mm."""
        row = self.nipple_row_cc if view is ViewPosition.CC else self.nipple_row_mlo
        return self.depth, row

    def edge(self, view: ViewPosition, v: FloatArray) -> FloatArray:
        """How far the breast reaches from the chest wall, in mm, at the heights ``v`` (mm).

        Negative where there is no breast. The nipple stands out by some millimetres.
        """
        _, row = self.nipple(view)
        above = np.maximum(row - v, 0.0)
        below = np.maximum(v - row, 0.0)
        if view is ViewPosition.CC:
            upper = self._round(above / self.lateral_extent)
            lower = self._round(below / self.medial_extent)
        else:
            rest = self.axilla
            upper = rest + (1.0 - rest) * np.exp(-((above / (0.68 * row)) ** 2.2))
            lower = self._round(below / self.caudal_extent)
        profile = self.depth * np.where(v < row, upper, lower)
        return np.asarray(profile + 3.5 * np.exp(-(((v - row) / 3.5) ** 2)))

    def pectoral_edge(self, view: ViewPosition, v: FloatArray) -> FloatArray:
        """How far the pectoral muscle reaches from the chest wall, in mm; 0 where there is none."""
        if view is not ViewPosition.MLO:
            return np.zeros_like(v)
        remaining = np.clip(1.0 - v / self.pectoral_length, 0.0, None)
        return np.asarray(self.pectoral_width * remaining**self.pectoral_bend)

    def project(self, view: ViewPosition, point: Point3D) -> tuple[float, float]:
        """Where a point of the breast falls, as (x, v) in mm.

        CC looks from above: lateral is up. MLO looks along a line 45 degrees oblique: lateral and
        cranial are both up. The distance from the chest wall is kept.
        """
        x, lateral, cranial = point
        row = self.nipple(view)[1]
        if view is ViewPosition.CC:
            return x, row - lateral
        return x, row - (cranial * math.cos(MLO_ANGLE) + lateral * math.sin(MLO_ANGLE))

    def holds(self, view: ViewPosition, centre: tuple[float, float], radius_mm: float) -> bool:
        """Whether a disc lies in the breast, in front of the pectoral muscle, and in the image."""
        angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
        x = centre[0] + radius_mm * np.cos(angles)
        v = centre[1] + radius_mm * np.sin(angles)
        in_image = bool(x.min() > 0.0 and v.min() > 0.0 and v.max() < FIELD_MM[0])
        in_breast = bool(np.all(x < self.edge(view, v)))
        return in_image and in_breast and bool(np.all(x > self.pectoral_edge(view, v)))

    def _round(self, t: FloatArray) -> FloatArray:
        inside = np.clip(1.0 - np.abs(t) ** self.roundness, 0.0, None) ** 0.5
        return np.where(np.abs(t) <= 1.0, inside, -1.0)


def draw_shape(rng: np.random.Generator) -> BreastShape:
    """Draw the shape of a patient's breasts; depth 65-112 mm, as compressed breasts have."""
    height = FIELD_MM[0]
    depth = rng.uniform(65.0, 112.0)
    extent = rng.uniform(0.72, 0.95) * depth + 12.0
    nipple_row_mlo = rng.uniform(0.56, 0.64) * height
    axilla = rng.uniform(0.4, 0.65)
    return BreastShape(
        depth=depth,
        nipple_row_cc=height / 2 + rng.normal(0.0, 4.0),
        nipple_row_mlo=nipple_row_mlo,
        lateral_extent=min(extent * rng.uniform(0.98, 1.12), height / 2 - 10.0),
        medial_extent=min(extent * rng.uniform(0.9, 1.02), height / 2 - 10.0),
        caudal_extent=min(extent * rng.uniform(0.8, 0.95), height - nipple_row_mlo - 4.0),
        axilla=axilla,
        roundness=rng.uniform(2.1, 2.6),
        pectoral_width=depth * axilla * rng.uniform(0.6, 0.85),
        pectoral_length=nipple_row_mlo * rng.uniform(0.65, 1.05),
        pectoral_bend=rng.uniform(0.65, 1.0),
    )


def vary_shape(shape: BreastShape, rng: np.random.Generator) -> BreastShape:
    """The same patient's breast on one side: alike, not identical."""
    return replace(
        shape,
        depth=shape.depth * rng.uniform(0.96, 1.04),
        nipple_row_cc=shape.nipple_row_cc + rng.normal(0.0, 2.0),
        pectoral_length=shape.pectoral_length * rng.uniform(0.94, 1.06),
    )


def mirror_box(
    box: tuple[float, float, float, float], columns: int, laterality: Laterality
) -> tuple[float, float, float, float]:
    """Turn a box drawn for a left breast into one for ``laterality`` (XYXY, pixels, half open)."""
    if laterality is Laterality.LEFT:
        return box
    return columns - box[2], box[1], columns - box[0], box[3]
