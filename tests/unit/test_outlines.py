"""Outlines and masks: what becomes of one as the other, and which are refused."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import cv2
import numpy as np
import pytest
import torch

from simfrcnn import outlines
from simfrcnn.engines.common.masks import masks_of, pasted
from simfrcnn.errors import AnnotationError
from simfrcnn.images.preprocess import flip, to_input
from simfrcnn.outlines import (
    Rle,
    as_segmentation,
    box_of,
    clean,
    crosses_itself,
    fits,
    moved,
    of_pixels,
    problem_of,
    read_segmentation,
    rle_of,
    rle_of_box,
    rle_of_window,
    shared_by,
    simplified,
    traced,
    union_of,
)
from simfrcnn.settings import InputSettings
from simfrcnn.structures import Frame
from simfrcnn.training.loading import moved_outline
from support.outlined import ellipse_in

H, W = 48, 40
SQUARE = ((2.0, 3.0), (8.0, 3.0), (8.0, 9.0), (2.0, 9.0))
BOW = ((2.0, 2.0), (9.0, 9.0), (9.0, 2.0), (2.0, 9.0))


def drawn(name):
    """A drawn mask (H, W) and how many of its pixels lie in holes."""
    mask = np.zeros((H, W), np.uint8)
    if name == "circle":
        cv2.circle(mask, (20, 22), 11, 1, -1)
    elif name == "L":
        mask[5:30, 6:12] = 1
        mask[24:30, 6:30] = 1
    elif name == "hole":
        cv2.circle(mask, (20, 22), 12, 1, -1)
        mask[20:25, 18:22] = 0
        return mask.astype(bool), 20
    elif name == "border":
        mask[30:, :15] = 1
    elif name == "pixel":
        mask[7, 9] = 1
    elif name == "corner to corner":
        mask[5:9, 5:9] = mask[9:12, 9:12] = 1
    return mask.astype(bool), 0


SHAPES = ("circle", "L", "hole", "border", "pixel", "corner to corner")


@pytest.mark.parametrize("name", SHAPES)
def test_a_mask_is_its_outline_and_its_outline_the_mask(name):
    mask, n_in_holes = drawn(name)
    found = traced(mask)
    again = rle_of(found.outline, H, W)
    assert again.area == mask.sum() + n_in_holes
    assert (again.to_array() & mask).sum() == mask.sum()
    assert found.n_holes == (1 if n_in_holes else 0)
    rows, columns = np.nonzero(mask)
    assert box_of(found.outline) == (
        columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    )  # fmt: skip
    assert problem_of(found.outline, H, W) is None
    assert len(found.outline) == (2 if name == "corner to corner" else 1)


def test_noise_is_traced_to_the_pixel():
    rng = np.random.default_rng(0)
    for share in (0.1, 0.4, 0.6, 0.9):
        mask = rng.random((21, 17)) < share
        padded = np.pad(mask, 1).astype(np.uint8)
        _, outside = cv2.connectedComponents(1 - padded, connectivity=8)
        filled = ((padded > 0) | (outside != outside[0, 0]))[1:-1, 1:-1]
        assert (rle_of(traced(mask).outline, 21, 17).to_array() == filled).all()


@pytest.mark.parametrize("name", SHAPES)
def test_fewer_points_stay_within_half_a_pixel(name):
    mask, _ = drawn(name)
    whole = traced(mask).outline
    fewer = simplified(whole, 0.5)
    assert sum(map(len, fewer)) <= sum(map(len, whole))
    edge = np.array([point for ring in fewer for point in ring])
    for ring, shorter in zip(whole, fewer, strict=True):
        for point in ring:
            assert _distance(np.array(point), np.array(shorter)) <= 0.5 + 1e-6
    assert fits(fewer, box_of(whole))
    assert (edge == edge.round(2)).all()


def _distance(point, ring):
    """From a point to the nearest side of a ring."""
    starts, ends = ring, np.roll(ring, -1, axis=0)
    along = ends - starts
    share = ((point - starts) * along).sum(1) / np.maximum((along**2).sum(1), 1e-12)
    nearest = starts + np.clip(share, 0, 1)[:, None] * along
    return np.hypot(*(nearest - point).T).min()


def test_a_window_is_packed_as_the_library_packs_the_whole():
    rng = np.random.default_rng(1)
    for place, size in (((0, 0), (H, W)), ((3, 5), (9, 7)), ((W - 4, H - 6), (6, 4))):
        window = rng.random(size) < 0.5
        whole = np.zeros((H, W), bool)
        x, y = place
        whole[y : y + size[0], x : x + size[1]] = window
        packed = rle_of_window(window, place, H, W)
        assert (packed.to_array() == whole).all()
        assert packed.area == whole.sum()
    assert rle_of_window(np.zeros((3, 3), bool), (1, 1), H, W).area == 0


def test_run_lengths_come_back_and_lists_are_taken():
    mask = rle_of((SQUARE,), H, W)
    assert Rle.from_json(mask.to_json()) == mask
    assert mask.box == (2.0, 3.0, 8.0, 9.0)
    flat = mask.to_array().T.reshape(-1)
    runs, last, count = [], False, 0
    for value in flat.tolist():
        if value != last:
            runs.append(count)
            last, count = value, 0
        count += 1
    assert Rle.from_json({"size": [H, W], "counts": [*runs, count]}) == mask


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"size": [H, W], "counts": "0"}, "do not add up"),
        ({"size": [H, W], "counts": [5, 3]}, "add up to height x width"),
        ({"size": [H], "counts": "0"}, "'size'"),
        ({"size": [H, W], "counts": "é"}, "no run length"),
        ({"size": [H, W], "counts": 3}, "a text or a list"),
        ({"counts": "0"}, "'size'"),
    ],
)
def test_damaged_run_lengths_are_refused(value, words):
    """The library would read beyond its memory."""
    with pytest.raises(ValueError, match=words):
        Rle.from_json(value)


def test_masks_are_joined_and_met():
    one, other = rle_of_box((0, 0, 4, 4), H, W), rle_of_box((2, 2, 6, 6), H, W)
    assert union_of([one, other], H, W).area == 28
    assert shared_by(one, other).area == 4
    assert union_of([], H, W).area == 0
    assert rle_of_box((-5, -5, 2.0, 3.0), H, W).area == 6


def test_what_crosses_itself_is_told_and_mended():
    assert crosses_itself(BOW)
    assert not crosses_itself(SQUARE)
    assert problem_of((BOW,), H, W) == "crosses itself"
    mended = clean((BOW,), H, W)
    assert problem_of(mended, H, W) is None
    assert rle_of(mended, H, W).area == pytest.approx(24.5, abs=6)


def test_outlines_outside_or_of_two_points_are_told():
    assert "leaves its image" in problem_of((((0, 0), (W + 9, 0), (5, 5)),), H, W)
    assert "2 points" in problem_of((((0, 0), (4, 4), (0, 0)),), H, W)
    assert problem_of((SQUARE,), H, W) is None
    inside = clean((((-3.0, 2.0), (9.0, 2.0), (9.0, 9.0), (-3.0, 9.0)),), H, W)
    assert box_of(inside) == (0.0, 2.0, 9.0, 9.0)
    assert clean((((1.0, 1.0), (2.0, 2.0)),), H, W) == ()


@pytest.mark.parametrize(
    "ring",
    [
        ((5.0, 5.0), (-100.0, 40.0), (30.0, 45.0)),  # long sides that leave the image
        ((20.0, -60.0), (90.0, 30.0), (20.0, 100.0), (-70.0, 30.0)),  # and all its corners outside
        (
            (5.0, 5.0),
            (60.0, 5.0),
            (60.0, 9.0),
            (20.0, 9.0),
            (20.0, 30.0),
            (60.0, 30.0),
            (5.0, 40.0),
        ),
    ],
)
def test_an_outline_is_cut_where_its_sides_leave_the_image(ring):
    far = 200
    larger = tuple((x + far, y + far) for x, y in ring)
    pixels = rle_of((larger,), H + 2 * far, W + 2 * far).to_array()
    expected = pixels[far : far + H, far : far + W]
    cut = clean((ring,), H, W)
    assert problem_of(cut, H, W) is None
    differ = rle_of(cut, H, W).to_array() != expected
    assert differ.sum() <= 0.02 * expected.sum()


def test_a_ring_without_a_pixel_is_left_out():
    line = ((2.0, 2.0), (5.0, 5.0), (9.0, 9.0))
    beyond = ((W + 1.0, 2.0), (W + 9.0, 2.0), (W + 9.0, 9.0))
    assert clean((line, SQUARE, beyond), H, W) == (SQUARE,)


def test_a_boundary_of_pixels_holds_its_own_pixels():
    ring = [(5, 5), (6, 5), (7, 5), (7, 6), (7, 7), (6, 7), (5, 7), (5, 6)]
    assert rle_of(of_pixels(ring).outline, H, W).area == 9
    with_spur = [*ring, (5, 5), (4, 4), (3, 3), (4, 4)]
    assert box_of(of_pixels(with_spur).outline) == (3, 3, 8, 8)
    assert problem_of(of_pixels(with_spur).outline, H, W) is None


def test_segmentations_are_read_as_they_are_written():
    assert read_segmentation(as_segmentation((SQUARE,)), H, W).outline == (SQUARE,)
    mask = rle_of((SQUARE,), H, W)
    assert read_segmentation(mask.to_json(), H, W).outline == traced(mask.to_array()).outline
    for nothing in (None, [], [[]]):
        assert read_segmentation(nothing, H, W).outline == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2, 3, 4]], "polygon of 4 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "all finite"),
        ([[1, 2, 3, 4, 5]], "polygon of 5 numbers"),
        ([1, 2, 3, 4, 5, 6], "must be polygons"),
        ("mask.png", "must be polygons"),
        ({"size": [3, 3], "counts": [9]}, "is a mask of 3 x 3 pixels"),
        ({"size": [H, W]}, "is no mask"),
        ({"size": [H, W], "counts": [H * W]}, "is a mask without a pixel"),
    ],
)
def test_bad_segmentations_are_refused(value, words):
    with pytest.raises(AnnotationError, match=words):
        read_segmentation(value, H, W)


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("turns", [(False, False), (True, False), (True, True)])
def test_points_go_where_the_pixels_go(keep_aspect, turns):
    """Against the warped picture: crop, stretch and both flips."""
    outline = ellipse_in((30.0, 44.0, 70.0, 104.0))
    stored = rle_of(outline, 160, 120).to_array()
    picture = np.full((160, 120), 40, np.uint8)
    picture[:, 90:] = 0  # the breast is at the left
    picture[stored] = 220
    settings = InputSettings((128, 96), keep_aspect=keep_aspect)
    image, frame = to_input(picture, settings)
    image, frame = flip(image, frame, horizontal=turns[0], vertical=turns[1])
    inside = rle_of(moved_outline(outline, frame), 128, 96).to_array()
    bright = image > 130
    assert (inside & bright).sum() / (inside | bright).sum() > 0.95
    points = torch.tensor(outline[0])
    there_and_back = frame.points_to_original(frame.points_to_input(points))
    assert torch.allclose(there_and_back, points, atol=1e-4)


def test_an_outline_moves_with_its_box():
    frame = Frame(-0.5, 60.0, 2.0, 3.0, H, W)
    box = torch.tensor([[4.0, 5.0, 20.0, 30.0]])
    outline = ellipse_in(tuple(box[0].tolist()), n_points=360)
    assert box_of(moved_outline(outline, frame)) == pytest.approx(
        frame.to_input(box)[0].tolist(), abs=0.01
    )
    shifted = moved(outline, lambda point: (point[0] + 1, point[1]))
    assert box_of(shifted)[0] == pytest.approx(box_of(outline)[0] + 1)


# From a head's grid to a mask


@pytest.mark.parametrize("scales", [(1.0, 1.0), (-0.4, 0.7), (0.5, -0.5), (-2.0, -1.5)])
def test_a_grid_is_pasted_as_by_sampling_it(scales):
    """The slow twin: torch's grid_sample over the whole image, on the mirrored grid."""
    rng = np.random.default_rng(4)
    grid = cv2.GaussianBlur(rng.random((28, 28)).astype(np.float32), (9, 9), 3)
    grid = (grid - grid.min()) / (grid.max() - grid.min())
    sides = zip(scales, (W, H), strict=True)
    offsets = [0.0 if scale > 0 else abs(scale) * side for scale, side in sides]
    frame = Frame(scales[0], offsets[0], scales[1], offsets[1], H, W)
    original = torch.tensor([[6.3, 4.8, 31.2, 40.1]])
    box = frame.to_input(original)[0].tolist()
    mask = pasted(grid, box, frame).to_array()
    x1, y1, x2, y2 = original[0].tolist()
    turned = grid[:: 1 if scales[1] > 0 else -1, :: 1 if scales[0] > 0 else -1].copy()
    ys, xs = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    places = torch.stack([(xs - x1) / (x2 - x1) * 2 - 1, (ys - y1) / (y2 - y1) * 2 - 1], dim=-1)
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(turned)[None, None], places[None], align_corners=False
    )[0, 0]
    expected = sampled.numpy() >= 0.5
    assert (mask != expected).sum() <= 2  # ties
    assert mask.sum() > 50


def test_a_hundred_masks_of_a_film_stay_small():
    """100 boolean masks of 4,000 x 3,000 pixels would be 1.2 GB."""
    side = 28
    ys, xs = np.mgrid[:side, :side] - (side - 1) / 2
    disc = torch.from_numpy((np.hypot(xs, ys) < side / 2.2).astype(np.float32))
    frame = Frame(0.128, 0.0, 0.128, 0.0, 4000, 3000)
    corners = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 250
    boxes = torch.cat([corners, corners + 60], dim=1)
    boxes[0] = torch.tensor([0.0, 0.0, 384.0, 512.0])  # as large as the film
    grids, scores = disc.expand(100, side, side), torch.linspace(1, 0.5, 100)
    tracemalloc.start()
    masks = masks_of(grids, boxes, scores, frame, min_score=0.5)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6
    assert kept < 3e6
    first = masks[0]
    assert first is not None
    assert first.area == pytest.approx(math.pi / 4 * 4000 * 3000 * (2 / 2.2) ** 2, rel=0.03)
    (none, some) = masks_of(grids[:2], boxes[:2], torch.tensor([0.4, 0.6]), frame, min_score=0.5)
    assert none is None
    assert some == masks[1]


def test_a_ring_is_hashable_data():
    found = traced(drawn("L")[0])
    assert hash(found.outline) == hash(dataclasses.replace(found).outline)
    assert outlines.n_outlined([found.outline, ()]) == 1
