"""What fills a phantom breast: power-law tissue, fibres that run to the nipple, ducts and vessels?

Shapes: (H, W) float32 images; lengths in mm unless a name ends in ``_px``.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]

BETA = 3.0
"""Exponent of the power spectrum 1/f^beta of mammographic tissue.

Reference: Burgess, Jacobson and Judy (2001), Medical Physics 28(4), 419-437.
"""


def power_law_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    spacing_mm: float,
    *,
    beta: float = BETA,
    largest_mm: float = 60.0,
) -> FloatImage:
    """Random texture with power spectrum 1/f^beta, mean 0 and standard deviation 1.

    Args:
        rng: Source of the phases and amplitudes.
        shape: (H, W) in pixels; the texture is periodic with it.
        spacing_mm: Pixel size.
        beta: Exponent of the power spectrum.
        largest_mm: Structures larger than this are not amplified further, so that no single slope
            across the breast dominates.

    Returns:
        (H, W) float32.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    vertical = np.fft.fftfreq(shape[0], spacing_mm).astype(np.float32)[:, None]
    horizontal = np.fft.rfftfreq(shape[1], spacing_mm).astype(np.float32)[None, :]
    power = vertical**2 + horizontal**2 + np.float32(1.0 / largest_mm) ** 2
    spectrum = np.fft.rfft2(white) * power ** np.float32(-beta / 4.0)
    spectrum[0, 0] = 0.0
    texture = np.fft.irfft2(spectrum, s=shape)
    return np.asarray(texture / texture.std(), np.float32)


def fibres(
    rng: np.random.Generator,
    x: FloatImage,
    v: FloatImage,
    nipple: tuple[float, float],
    spacing_mm: float,
) -> FloatImage:
    """Thin bright strands that run towards the nipple: where a stretched texture crosses zero.

    The texture is read in polar coordinates about a point in front of the nipple, compressed along
    the radius, so that its structures become long and converge.

    Args:
        rng: Source of the texture.
        x: (W,) mm from the chest wall.
        v: (H,) mm from the top.
        nipple: (x, v) in mm.
        spacing_mm: Pixel size.

    Returns:
        (H, W) float32 in [0, 1], 1 on a strand's middle.
    """
    size = (256, 256)
    cell_mm = max(0.5, spacing_mm)
    fine = power_law_noise(rng, size, cell_mm, beta=5.0, largest_mm=16.0)
    where = power_law_noise(rng, size, cell_mm, beta=3.0, largest_mm=40.0)
    dx = (nipple[0] + 12.0 - x)[None, :] + np.zeros((v.size, 1), np.float32)
    dv = (v - nipple[1])[:, None] + np.zeros((1, x.size), np.float32)
    radius, angle = cv2.cartToPolar(dx, dv)
    angle[angle > math.pi] -= np.float32(2.0 * math.pi)
    along_px = (0.28 * radius / cell_mm).astype(np.float32)
    across_px = (55.0 * angle / cell_mm).astype(np.float32)
    read = (along_px, across_px, cv2.INTER_LINEAR)
    fine = cv2.remap(fine, *read, borderMode=cv2.BORDER_WRAP)
    where = cv2.remap(where, *read, borderMode=cv2.BORDER_WRAP)
    strand = np.exp(-((fine / 0.28) ** 2))
    # Close to the nipple the strands would be finer than a pixel.
    present = np.clip(0.5 + 0.6 * where, 0.0, 1.0) * np.clip((radius - 14.0) / 16.0, 0.0, 1.0)
    return np.asarray(strand * present, dtype=np.float32)


def ducts_and_vessels(
    rng: np.random.Generator,
    shape: tuple[int, int],
    nipple: tuple[float, float],
    depth_mm: float,
    spacing_mm: float,
) -> FloatImage:
    """A few curved lines: ducts that fan out from the nipple, vessels that cross the breast.

    Returns:
        (H, W) float32 in [0, 1].
    """
    lines = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(5, 9))):
        heading = math.pi + float(rng.uniform(-0.9, 0.9))
        length = depth_mm * float(rng.uniform(0.35, 0.75))
        path = _wander(rng, (nipple[0] - 3.0, nipple[1]), heading, length, 0.14)
        _draw_line(lines, path, float(rng.uniform(0.8, 1.5)), 0.8, spacing_mm)
    for _ in range(int(rng.integers(2, 5))):
        start = (float(rng.uniform(0.0, 15.0)), nipple[1] + float(rng.uniform(-70.0, 60.0)))
        heading = float(rng.uniform(-0.6, 0.6))
        path = _wander(rng, start, heading, depth_mm * float(rng.uniform(0.5, 0.9)), 0.1)
        _draw_line(lines, path, float(rng.uniform(1.0, 2.0)), 1.0, spacing_mm)
    return lines


def _wander(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    length_mm: float,
    turn: float,
) -> npt.NDArray[np.floating]:
    """A path of 3 mm steps whose direction changes a little at each: (points, 2) in mm."""
    n_steps = max(2, int(length_mm / 3.0))
    headings = heading + np.cumsum(rng.normal(0.0, turn, n_steps))
    steps = 3.0 * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.asarray(start) + np.cumsum(steps, axis=0)


def _draw_line(
    canvas: FloatImage,
    path: npt.NDArray[np.floating],
    width_mm: float,
    strength: float,
    spacing_mm: float,
) -> None:
    """Draw a path into ``canvas``, thinner than a pixel if need be (by drawing it fainter)."""
    width_px = width_mm / spacing_mm
    stroke = np.zeros(canvas.shape, np.uint8)
    points = np.round(path / spacing_mm * 16.0).astype(np.int32)[:, None, :]
    thickness = max(1, round(width_px))
    cv2.polylines(stroke, [points], False, 255, thickness, cv2.LINE_AA, shift=4)
    brightness = strength * min(1.0, width_px) / 255.0
    np.maximum(canvas, stroke * np.float32(brightness), out=canvas)
