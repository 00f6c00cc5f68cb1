"""How does one phantom view look: the picture a reader sees after the display transform?

Shapes: (H, W) float32 images in the display range, 0 black to 1 white. Tissue adds up as
attenuation does: fat everywhere, gland by density, muscle, fibres, masses; then the breast's
thinning towards the skin, quantum noise and the burned-in marker.
"""

from __future__ import annotations

import cv2
import numpy as np

from simfrcnn.phantom.anatomy import BreastShape
from simfrcnn.phantom.exams import PhantomExam, exam_random
from simfrcnn.phantom.lesions import Mass, mass_profile, mass_window, pixel_centres
from simfrcnn.phantom.presets import Preset
from simfrcnn.phantom.texture import (
    FloatImage,
    ducts_and_vessels,
    fibres,
    power_law_noise,
)
from simfrcnn.records import Laterality, ViewPosition

DISPLAY_RANGE = (0.012, 0.988)
"""Pictures are clipped to this, because a sigmoid VOI function never reaches black or white."""

GLAND_SHARE = {"A": 0.08, "B": 0.24, "C": 0.5, "D": 0.8}
"""Part of the breast's area that is mostly glandular, by BI-RADS density."""

_FAT, _GLAND, _MUSCLE = 0.4, 0.17, 0.27


def render_view(
    exam: PhantomExam,
    laterality: Laterality,
    view: ViewPosition,
    preset: Preset,
    seed: int,
    *,
    with_masses: bool = True,
) -> FloatImage:
    """Draw one view as it should look on a display.

    Args:
        exam: Whose view.
        laterality: Which breast; right breasts have the chest wall on the right edge.
        view: CC or MLO.
        preset: Size and spacing of the image.
        seed: The data set's seed.
        with_masses: False draws the same tissue and noise without any mass (for tests and figures).

    Returns:
        (H, W) float32 in :data:`DISPLAY_RANGE`.
    """
    stream = 1 + 2 * list(Laterality).index(laterality) + (view is ViewPosition.MLO)
    rng = exam_random(seed, exam.number, stream)
    shape = exam.breast(laterality).shape
    masses = exam.masses(laterality, view) if with_masses else ()
    picture = _breast(rng, shape, view, exam.density, preset, masses)
    picture += _quantum_noise(rng, picture)
    if laterality is Laterality.RIGHT:
        picture = np.ascontiguousarray(picture[:, ::-1])
    _burn_marker(picture, laterality, view, preset.pixel_spacing_mm)
    return np.asarray(np.clip(picture, *DISPLAY_RANGE), np.float32)


def skin_distance(shape: BreastShape, view: ViewPosition, preset: Preset) -> FloatImage:
    """(H, W) distance from the skin in mm: positive inside the breast, 0 outside.

    The image's own edges are not skin: the breast goes on beyond them.
    """
    x, v = pixel_centres(preset.rows, preset.columns, preset.pixel_spacing_mm)
    inside = (x[None, :] < shape.edge(view, v)[:, None]).astype(np.uint8)
    border = round(40.0 / preset.pixel_spacing_mm)
    padded = cv2.copyMakeBorder(inside, border, border, border, 0, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inner = distance[border:-border, border:]
    # OpenCV's last bit depends on the array's place in memory; squared distances are whole.
    exact = np.sqrt(np.rint(inner * inner))
    depth_px = np.maximum(exact - 0.5, 0.0)
    return np.asarray(depth_px * preset.pixel_spacing_mm, np.float32)


def _breast(
    rng: np.random.Generator,
    shape: BreastShape,
    view: ViewPosition,
    density: str,
    preset: Preset,
    masses: tuple[Mass, ...],
) -> FloatImage:
    """The breast without noise or marker, drawn as a left one."""
    spacing = preset.pixel_spacing_mm
    x, v = pixel_centres(preset.rows, preset.columns, spacing)
    depth_in = skin_distance(shape, view, preset)
    nipple = shape.nipple(view)
    lobes = power_law_noise(rng, depth_in.shape, spacing, beta=4.2)
    tissue = power_law_noise(rng, depth_in.shape, spacing)
    strands = fibres(rng, x, v, nipple, spacing)
    lines = ducts_and_vessels(rng, depth_in.shape, nipple, shape.depth, spacing)
    gland = _gland(shape, view, x, v, depth_in, lobes, GLAND_SHARE[density])
    content = _FAT + gland * _GLAND + (0.026 + 0.026 * gland) * tissue
    content += strands * (0.07 + 0.03 * gland) + 0.06 * lines
    muscle = _pectoral(shape, view, x, v)
    content += muscle * (_MUSCLE - 0.6 * (content - _FAT) + 0.03 * tissue)
    for mass in masses:
        projection = mass.projections[view]
        rows, columns = mass_window(projection, spacing, preset.rows, preset.columns)
        content[rows, columns] += mass_profile(projection, x[columns], v[rows])
    return np.asarray(content * _thickness(depth_in, float(rng.uniform(18.0, 28.0))), np.float32)


def _gland(
    shape: BreastShape,
    view: ViewPosition,
    x: FloatImage,
    v: FloatImage,
    depth_in: FloatImage,
    lobes: FloatImage,
    share: float,
) -> FloatImage:
    """Where the fibroglandular tissue is: (H, W) in [0, 1], mostly 1 on ``share`` of the breast.

    A disc behind the nipple is likelier than the rest; a smooth power-law texture makes its lobes.
    """
    row = shape.nipple(view)[1]
    upper = shape.lateral_extent if view is ViewPosition.CC else shape.nipple_row_mlo * 0.6
    lower = shape.medial_extent if view is ViewPosition.CC else shape.caudal_extent
    height = np.where(v < row, (row - v) / (0.85 * upper), (v - row) / (0.85 * lower))
    forward = (x - 0.62 * shape.depth) / (0.55 * shape.depth)
    likely = 1.0 - np.hypot(forward[None, :], height[:, None]).astype(np.float32)
    likely -= np.exp(-depth_in / 4.0) * 1.5
    field = 1.5 * likely + 0.6 * lobes
    inside = field[depth_in > 0.0]
    cut_at = int((1.0 - share) * (inside.size - 1))
    cut = np.partition(inside, cut_at)[cut_at]
    return np.asarray(1.0 / (1.0 + np.exp(-(field - cut) / 0.4)), np.float32)


def _pectoral(shape: BreastShape, view: ViewPosition, x: FloatImage, v: FloatImage) -> FloatImage:
    """(H, W) in [0, 1]: 1 deep in the pectoral muscle, thinning towards its soft edge."""
    edge = shape.pectoral_edge(view, v).astype(np.float32)
    if not edge.any():
        return np.zeros((v.size, x.size), np.float32)
    within = edge[:, None] - x[None, :]
    rim = 1.0 / (1.0 + np.exp(-np.clip(within / 1.2, -20.0, 20.0)))
    body = 0.78 + 0.22 * np.clip(within / 20.0, 0.0, 1.0)
    return np.asarray(rim * body * (edge > 0.0)[:, None], np.float32)


def _thickness(depth_in: FloatImage, roll_mm: float) -> FloatImage:
    """What is left of the full thickness at a distance from the skin, and the skin's line."""
    rest = 1.0 - np.minimum(depth_in / roll_mm, 1.0)
    body = 0.15 + 0.85 * np.sqrt(1.0 - rest**2)
    skin = 0.17 * np.exp(-(((depth_in - 0.9) / 0.7) ** 2))
    layer = np.asarray((body + skin) * (depth_in > 0.0), np.float32)
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.7), np.float32)


def _quantum_noise(rng: np.random.Generator, picture: FloatImage) -> FloatImage:
    """Noise of the photons counted per pixel; a little blurred by the detector."""
    white = rng.standard_normal(picture.shape, dtype=np.float32)
    blurred = cv2.GaussianBlur(white, (0, 0), 0.6)
    return np.asarray(blurred * (0.004 + 0.012 * np.sqrt(np.maximum(picture, 0.0))), np.float32)


def _burn_marker(
    picture: FloatImage, laterality: Laterality, view: ViewPosition, spacing_mm: float
) -> None:
    """Write side and view ("R MLO") into the upper corner opposite the chest wall."""
    text = f"{laterality.value} {view.value}"
    scale = 0.2 / spacing_mm
    thickness = max(1, round(0.5 / spacing_mm))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = round(5.0 / spacing_mm)
    left = picture.shape[1] - margin - width if laterality is Laterality.LEFT else margin
    stroke = np.zeros(picture.shape, np.uint8)
    place = (left, margin + height)
    cv2.putText(stroke, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
    np.maximum(picture, stroke * np.float32(0.9 / 255.0), out=picture)
