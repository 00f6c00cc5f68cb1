"""The truth of the phantoms: who has what, where, and what is stated of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.errors import DataError
from simfrcnn.phantom.anatomy import SCREENING_VIEWS
from simfrcnn.phantom.exams import (
    VIEWS_OF_EXAM,
    PhantomExam,
    draw_exams,
    stored_box,
)
from simfrcnn.phantom.lesions import Mass
from simfrcnn.phantom.presets import FIELD_MM, PRESETS, SPLITS, Preset
from simfrcnn.records import Laterality, Pathology, Supervision, ViewPosition

DEMO = PRESETS["demo"]


@pytest.fixture(scope="module")
def demo_exams() -> list[PhantomExam]:
    return draw_exams(DEMO, seed=3)


@pytest.fixture(scope="module")
def study_exams() -> list[PhantomExam]:
    return draw_exams(PRESETS["study"], seed=0)


def all_masses(exams: list[PhantomExam], kind: Pathology) -> list[Mass]:
    masses = [mass for exam in exams for breast in exam.breasts for mass in breast.masses]
    return [mass for mass in masses if mass.pathology is kind]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_each_split_has_the_patients_of_its_preset(preset: Preset) -> None:
    exams = draw_exams(preset, seed=0)
    assert len(exams) == preset.n_patients
    assert len({exam.patient_id for exam in exams}) == preset.n_patients
    for split in SPLITS:
        of_split = Counter(exam.is_malignant for exam in exams if exam.split == split)
        assert of_split[True] == preset.split(split).n_malignant >= 1
        assert of_split[False] == preset.split(split).n_normal >= 1


def test_same_seed_same_exams_other_seed_others() -> None:
    tiny = PRESETS["tiny"]
    assert draw_exams(tiny, seed=4) == draw_exams(tiny, seed=4)
    assert draw_exams(tiny, seed=4) != draw_exams(tiny, seed=5)


def test_truth_of_a_view_follows_from_its_masses(demo_exams: list[PhantomExam]) -> None:
    seen: Counter[Supervision] = Counter()
    for exam in demo_exams:
        sick_sides = [
            breast.laterality
            for breast in exam.breasts
            if any(mass.pathology is Pathology.MALIGNANT for mass in breast.masses)
        ]
        assert len(sick_sides) == exam.is_malignant
        for side, view in VIEWS_OF_EXAM:
            kinds = [mass.pathology for mass in exam.masses(side, view)]
            supervision, pathology = exam.truth(side, view)
            seen[supervision] += 1
            if not exam.is_malignant:
                benign = Pathology.BENIGN in kinds
                assert supervision is Supervision.NORMAL
                assert pathology is (Pathology.BENIGN if benign else Pathology.NORMAL)
            elif side not in sick_sides:
                assert (supervision, pathology) == (Supervision.UNLABELLED, None)
            else:
                assert pathology is Pathology.MALIGNANT
                boxed = supervision is Supervision.BOXES
                assert boxed == (Pathology.MALIGNANT in kinds)
                assert boxed or supervision is Supervision.IMAGE_LABEL
    assert set(seen) == set(Supervision)


def test_every_malignant_mass_is_shown_in_at_least_one_view_and_not_always_in_two(
    study_exams: list[PhantomExam],
) -> None:
    masses = all_masses(study_exams, Pathology.MALIGNANT)
    n_views = np.array([len(mass.projections) for mass in masses])
    assert n_views.min() == 1
    # Two views given at least one, at p = .85 each: .7225 / .9775 = .739; 760 masses: +- .016.
    assert np.mean(n_views == 2) == pytest.approx(0.739, abs=0.05)


def test_about_half_of_the_normal_patients_have_a_benign_mass(
    study_exams: list[PhantomExam],
) -> None:
    normal = [exam for exam in study_exams if not exam.is_malignant]
    share = np.mean([any(breast.masses for breast in exam.breasts) for exam in normal])
    assert share == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("fact", ["diameter_mm", "contrast", "elongation"])
def test_malignant_and_benign_share_size_and_contrast(
    study_exams: list[PhantomExam], fact: str
) -> None:
    samples = [
        np.array([getattr(next(iter(mass.projections.values())), fact) for mass in masses])
        for masses in (
            all_masses(study_exams, Pathology.MALIGNANT),
            all_masses(study_exams, Pathology.BENIGN),
        )
    ]
    assert min(len(sample) for sample in samples) > 300
    assert kolmogorov_distance(*samples) < 1.63 * np.sqrt(sum(1 / len(s) for s in samples))


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of the two empirical distributions (1.63 sqrt(1/n + 1/m): p = .01)."""
    points = np.concatenate([first, second])
    shares = [(sample[:, None] <= points).mean(axis=0) for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def test_only_malignant_masses_have_spicules(study_exams: list[PhantomExam]) -> None:
    for kind in (Pathology.MALIGNANT, Pathology.BENIGN):
        for mass in all_masses(study_exams, kind):
            for projection in mass.projections.values():
                is_malignant = kind is Pathology.MALIGNANT
                assert bool(projection.spicules) == is_malignant
                assert bool(projection.harmonics) == is_malignant


def test_a_lesion_lies_at_the_same_depth_in_both_views(demo_exams: list[PhantomExam]) -> None:
    n_compared = 0
    for exam in demo_exams:
        for breast in exam.breasts:
            for mass in breast.masses:
                if len(mass.projections) < 2:
                    continue
                behind_nipple_mm = [
                    breast.shape.nipple(view)[0] - mass.projections[view].centre_mm[0]
                    for view in SCREENING_VIEWS
                ]
                assert abs(behind_nipple_mm[0] - behind_nipple_mm[1]) <= 6.0
                boxes = [
                    stored_box(mass, breast.laterality, view, DEMO) for view in SCREENING_VIEWS
                ]
                centres_mm = [0.5 * (box[0] + box[2]) * DEMO.pixel_spacing_mm for box in boxes]
                assert abs(centres_mm[0] - centres_mm[1]) <= 12.0
                n_compared += 1
    assert n_compared > 100


def test_boxes_are_whole_inside_and_of_the_stated_size(demo_exams: list[PhantomExam]) -> None:
    field_mm2 = FIELD_MM[0] * FIELD_MM[1]
    for exam in demo_exams:
        for side, view in VIEWS_OF_EXAM:
            for mass in exam.masses(side, view):
                box = stored_box(mass, side, view, DEMO)
                assert 0 <= box[0] < box[2] <= DEMO.columns
                assert 0 <= box[1] < box[3] <= DEMO.rows
                width_mm = (box[2] - box[0]) * DEMO.pixel_spacing_mm
                height_mm = (box[3] - box[1]) * DEMO.pixel_spacing_mm
                # The core is 10-16 mm across on average, its short side a little less.
                assert min(width_mm, height_mm) >= 7.5
                assert max(width_mm, height_mm) <= 25.0
                assert width_mm * height_mm < 0.02 * field_mm2


def test_right_breasts_are_mirrored(demo_exams: list[PhantomExam]) -> None:
    mass = all_masses(demo_exams, Pathology.BENIGN)[0]
    view = next(iter(mass.projections))
    left = stored_box(mass, Laterality.LEFT, view, DEMO)
    right = stored_box(mass, Laterality.RIGHT, view, DEMO)
    assert right == (DEMO.columns - left[2], left[1], DEMO.columns - left[0], left[3])


def test_cc_shows_lateral_up_and_mlo_shows_cranial_up(demo_exams: list[PhantomExam]) -> None:
    shape = demo_exams[0].breasts[0].shape
    centre = shape.project(ViewPosition.CC, (30.0, 0.0, 0.0))
    assert centre == (30.0, shape.nipple_row_cc)
    assert shape.project(ViewPosition.CC, (30.0, 10.0, 99.0)) == (30.0, shape.nipple_row_cc - 10)
    x, v = shape.project(ViewPosition.MLO, (30.0, 0.0, 10.0))
    assert (x, v) == (30.0, pytest.approx(shape.nipple_row_mlo - 10.0 / np.sqrt(2.0)))


def test_a_mass_that_no_breast_can_hold_is_refused_by_name() -> None:
    huge = replace(PRESETS["tiny"], core_diameter_mm=(150.0, 160.0))
    with pytest.raises(DataError, match=r"PHANTOM-0000.*core_diameter_mm"):
        draw_exams(huge, seed=0)
