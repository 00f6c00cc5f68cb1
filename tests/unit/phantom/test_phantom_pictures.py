"""The pictures: tissue spectrum, masses where the boxes are, sides, markers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from simfrcnn.phantom.exams import VIEWS_OF_EXAM, PhantomExam, draw_exams, stored_box
from simfrcnn.phantom.lesions import (
    Projection,
    Spicule,
    mass_box,
    mass_profile,
    pixel_centres,
)
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.phantom.render import DISPLAY_RANGE, render_view, skin_distance
from simfrcnn.phantom.texture import power_law_noise
from simfrcnn.records import Laterality, Pathology, ViewPosition

DEMO = PRESETS["demo"]
DISC = Projection((40.0, 60.0), 10.0, 0.2, 1.0, 0.0, 0.3, (), ())


@pytest.fixture(scope="module")
def exams() -> list[PhantomExam]:
    return draw_exams(DEMO, seed=0)


def spectral_slope(image: np.ndarray, spacing_mm: float, low: float, high: float) -> float:
    """Exponent beta of the radial power spectrum 1/f^beta between two frequencies (1/mm)."""
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    vertical = np.fft.fftfreq(image.shape[0], spacing_mm)[:, None]
    frequency = np.hypot(vertical, np.fft.fftfreq(image.shape[1], spacing_mm)[None, :])
    edges = np.geomspace(low, high, 12)
    rings = [(frequency >= a) & (frequency < b) for a, b in itertools.pairwise(edges)]
    points = [(np.log(frequency[r].mean()), np.log(power[r].mean())) for r in rings if r.sum() > 3]
    return -float(np.polyfit(*np.array(points).T, 1)[0])


def core_mask(projection: Projection, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(H, W) mask of a mass without its spicules, at the distances x (W,) and v (H,) in mm."""
    dx, dv = x[None, :] - projection.centre_mm[0], v[:, None] - projection.centre_mm[1]
    return np.hypot(dx, dv) <= projection.boundary(np.arctan2(dv, dx))


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_noise_has_the_slope_that_is_asked_for(beta: float) -> None:
    slopes = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noise = power_law_noise(rng, (256, 256), 0.5, beta=beta)
        assert noise.dtype == np.float32
        assert noise.mean() == pytest.approx(0.0, abs=1e-3)
        assert noise.std() == pytest.approx(1.0, abs=1e-3)
        slopes.append(spectral_slope(noise, 0.5, 0.04, 0.6))
    assert np.mean(slopes) == pytest.approx(beta, abs=0.15)


def test_tissue_in_the_pictures_is_about_one_over_f_cubed(exams: list[PhantomExam]) -> None:
    slopes = []
    for exam in exams[:12]:
        shape = exam.breast(Laterality.LEFT).shape
        picture = render_view(exam, Laterality.LEFT, ViewPosition.CC, DEMO, 0, with_masses=False)
        row, column = (
            round(shape.nipple_row_cc / DEMO.pixel_spacing_mm),
            round(0.5 * shape.depth / DEMO.pixel_spacing_mm),
        )
        patch = picture[row - 50 : row + 50, max(0, column - 50) : column + 50]
        slopes.append(spectral_slope(patch, DEMO.pixel_spacing_mm, 0.04, 0.4))
    assert 2.5 < np.mean(slopes) < 3.5


def test_a_disc_has_the_box_and_the_area_of_a_disc() -> None:
    x, v = pixel_centres(480, 300, 0.5)
    # Centre (40, 60) mm, radius 5 mm: columns 70-90, rows 110-130.
    assert mass_box(DISC, 0.5, 480, 300) == (70.0, 110.0, 90.0, 130.0)
    area_mm2 = core_mask(DISC, x, v).sum() * 0.25
    assert area_mm2 == pytest.approx(np.pi * 25.0, rel=0.03)
    rippled = replace(DISC, harmonics=((0.1, 0.3), (0.08, 1.0)), elongation=0.8)
    assert core_mask(rippled, x, v).sum() * 0.25 == pytest.approx(np.pi * 25.0, rel=0.03)


def test_the_box_takes_the_inner_half_of_a_spicule() -> None:
    spicule = Spicule(angle=0.0, length_mm=8.0, width_mm=2.0, bend=0.0, strength=0.6)
    spiculated = replace(DISC, spicules=(spicule,))
    # The margin at x = 45 mm, half of 8 mm further: 49 mm = column 98.
    assert mass_box(spiculated, 0.5, 480, 300) == (70.0, 110.0, 98.0, 130.0)


def test_spicules_change_nothing_deep_in_the_core_and_shine_beyond_the_margin() -> None:
    x, v = pixel_centres(480, 300, 0.5)
    spicule = Spicule(angle=0.0, length_mm=8.0, width_mm=2.0, bend=0.0, strength=0.6)
    plain = mass_profile(DISC, x, v)
    spiculated = mass_profile(replace(DISC, spicules=(spicule,)), x, v)
    inner = core_mask(replace(DISC, diameter_mm=8.0), x, v)
    np.testing.assert_array_equal(plain[inner], spiculated[inner])
    beyond = (120, 96)  # 60 mm, 48 mm: 3 mm outside the margin, on the spicule
    assert plain[beyond] == pytest.approx(0.0, abs=1e-3)
    assert spiculated[beyond] > 0.05
    assert spiculated[:, 130:].max() < 1e-6


def test_every_box_is_brighter_than_its_surroundings_and_kinds_do_not_differ(
    exams: list[PhantomExam],
) -> None:
    x, v = pixel_centres(DEMO.rows, DEMO.columns, DEMO.pixel_spacing_mm)
    contrasts: dict[Pathology, list[float]] = {Pathology.MALIGNANT: [], Pathology.BENIGN: []}
    for exam in exams[:90]:
        for side, view in VIEWS_OF_EXAM:
            masses = exam.masses(side, view)
            picture = render_view(exam, side, view, DEMO, 0) if masses else np.empty(0)
            for mass in masses:
                if side is Laterality.RIGHT:
                    core = core_mask(mass.projections[view], x, v)[:, ::-1]
                else:
                    core = core_mask(mass.projections[view], x, v)
                left, top, right, bottom = map(int, stored_box(mass, side, view, DEMO))
                assert core[top:bottom, left:right].sum() == core.sum()
                ring = surroundings(core) & (picture > 0.1)
                inner = cv2.erode(core.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
                contrast = float(picture[inner].mean() - picture[ring].mean())
                assert contrast > 0.03, f"{mass.lesion_id} {view.value}: {contrast:.3f}"
                contrasts[mass.pathology].append(contrast)
    malignant, benign = (np.array(values) for values in contrasts.values())
    assert min(malignant.size, benign.size) > 25
    error = np.sqrt(malignant.var() / malignant.size + benign.var() / benign.size)
    assert abs(malignant.mean() - benign.mean()) < 3.0 * error


def surroundings(core: np.ndarray) -> np.ndarray:
    """The pixels 2 to 6 mm outside a mass's core."""
    core_8_bit = core.astype(np.uint8)
    near = cv2.dilate(core_8_bit, np.ones((9, 9), np.uint8)) > 0
    far = cv2.dilate(core_8_bit, np.ones((25, 25), np.uint8)) > 0
    return np.asarray(far & ~near)


def test_a_mass_changes_its_window_only(exams: list[PhantomExam]) -> None:
    exam, side, view = next(
        (exam, side, view)
        for exam in exams
        for side, view in VIEWS_OF_EXAM
        if len(exam.masses(side, view)) == 1
    )
    mass = exam.masses(side, view)[0]
    change = render_view(exam, side, view, DEMO, 0) - render_view(
        exam, side, view, DEMO, 0, with_masses=False
    )
    rows, columns = np.nonzero(change > 0.03)
    left, top, right, bottom = stored_box(mass, side, view, DEMO)
    margin_px = 14  # the outer half of the spicules and a little noise
    assert left - margin_px <= columns.min() < columns.max() <= right + margin_px
    assert top - margin_px <= rows.min() < rows.max() <= bottom + margin_px
    assert (left + right) / 2 == pytest.approx((columns.min() + columns.max()) / 2, abs=8)


@pytest.mark.parametrize("view", [ViewPosition.CC, ViewPosition.MLO])
@pytest.mark.parametrize("side", list(Laterality))
def test_the_chest_wall_is_on_its_side_and_the_marker_opposite(
    exams: list[PhantomExam], side: Laterality, view: ViewPosition
) -> None:
    picture = render_view(exams[0], side, view, DEMO, 0)
    assert picture.shape == (DEMO.rows, DEMO.columns)
    assert picture.dtype == np.float32
    assert picture.min() >= np.float32(DISPLAY_RANGE[0])
    assert picture.max() <= np.float32(DISPLAY_RANGE[1])
    from_chest_wall = picture if side is Laterality.LEFT else picture[:, ::-1]
    row = round(exams[0].breast(side).shape.nipple(view)[1] / DEMO.pixel_spacing_mm)
    assert from_chest_wall[row, :10].mean() > 0.25
    assert from_chest_wall[row, -10:].mean() < 0.1
    corner = from_chest_wall[:40, -100:]
    assert corner.max() > 0.7
    breast = skin_distance(exams[0].breast(side).shape, view, DEMO) > 0
    assert not breast[:40, -60:].any()


def test_the_last_bit_of_opencv_distances_does_not_reach_the_picture(
    exams: list[PhantomExam], monkeypatch: pytest.MonkeyPatch
) -> None:
    # That bit depends on the memory in which the array lies, and on the number of threads.
    arguments = (exams[17], Laterality.LEFT, ViewPosition.MLO, DEMO, 0)
    usual = render_view(*arguments)
    original = cv2.distanceTransform

    def a_bit_more(*args: object) -> np.ndarray:
        distance = original(*args)
        return np.where(distance > 0.0, np.nextafter(distance, np.float32(np.inf)), distance)

    monkeypatch.setattr(cv2, "distanceTransform", a_bit_more)
    np.testing.assert_array_equal(render_view(*arguments), usual)


def test_skin_distance_is_that_of_the_nearest_pixel_outside(exams: list[PhantomExam]) -> None:
    tiny = PRESETS["tiny"]
    depth_mm = skin_distance(exams[0].breasts[0].shape, ViewPosition.CC, tiny)
    outside = np.argwhere(depth_mm == 0.0)
    inside = np.argwhere(depth_mm > 0.0)[::97]
    squared = ((inside[:, None, :] - outside[None, :, :]) ** 2).sum(axis=2).min(axis=1)
    expected_mm = (np.sqrt(squared) - 0.5) * tiny.pixel_spacing_mm
    np.testing.assert_allclose(depth_mm[tuple(inside.T)], expected_mm, rtol=1e-6)


def test_mlo_shows_the_pectoral_muscle_and_cc_does_not(exams: list[PhantomExam]) -> None:
    v = np.linspace(0.0, 240.0, 60)
    shape = exams[0].breasts[0].shape
    assert not shape.pectoral_edge(ViewPosition.CC, v).any()
    edge = shape.pectoral_edge(ViewPosition.MLO, v)
    assert np.all(np.diff(edge) <= 0.0)
    assert edge[0] == pytest.approx(shape.pectoral_width)
    assert np.all(edge <= np.maximum(shape.edge(ViewPosition.MLO, v), 0.0))


def test_denser_breasts_are_brighter(exams: list[PhantomExam]) -> None:
    exam = exams[0]
    shape = exam.breast(Laterality.LEFT).shape
    breast = skin_distance(shape, ViewPosition.CC, DEMO) > 15.0
    means = [
        render_view(replace(exam, density=density), Laterality.LEFT, ViewPosition.CC, DEMO, 0)[
            breast
        ].mean()
        for density in "ABCD"
    ]
    assert np.all(np.diff(means) > 0.005)
