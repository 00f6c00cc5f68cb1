"""Random places in the breast: how even, how large, and what they are learnt as."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from simfrcnn.images.breast import breast_mask
from simfrcnn.second_look.crops import Picture
from simfrcnn.second_look.places import labels_at, scattered
from simfrcnn.structures import Frame, ImageTargets

BOXES = torch.tensor([[10.0, 20, 18, 26], [0.0, 0, 4, 10]])


def half_disc(height: int = 120, width: int = 90) -> Picture:
    """A breast at the left edge, of which the input is half as large, beside a bright label."""
    pixels = np.zeros((height, width), dtype=np.uint8)
    cv2.circle(pixels, (0, height // 2), 50, 150, cv2.FILLED)
    pixels[2:8, width - 12 : width - 2] = 255
    return Picture(torch.from_numpy(pixels), Frame(0.5, 3.0, 0.5, 1.0, height, width))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_places_are_even_over_the_breast_and_nowhere_else(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    picture = half_disc()
    picture = Picture(picture.pixels.to(dtype), picture.frame)
    mask = breast_mask(half_disc().pixels.numpy())
    placed = scattered(BOXES[:1].repeat(6000, 1), picture)
    centres = picture.frame.points_to_original((placed[:, :2] + placed[:, 2:]) / 2)
    torch.testing.assert_close(centres % 1, torch.full_like(centres, 0.5))
    columns, rows = (centres - 0.5).round().long().unbind(dim=1)
    counts = np.zeros_like(mask, dtype=np.int64)
    np.add.at(counts, (rows.numpy(), columns.numpy()), 1)
    assert counts[~mask].sum() == 0
    for part in (np.s_[:60, :], np.s_[:, :25], np.s_[40:70, 10:30]):
        share = mask[part].sum() / mask.sum()
        assert counts[part].sum() / 6000 == pytest.approx(share, abs=0.025)


def test_the_sides_stay_in_order() -> None:
    torch.manual_seed(0)
    placed = scattered(BOXES, half_disc())
    torch.testing.assert_close(placed[:, 2:] - placed[:, :2], BOXES[:, 2:] - BOXES[:, :2])
    assert scattered(BOXES[:0], half_disc()).shape == (0, 4)


def test_in_a_picture_of_one_value_all_is_breast() -> None:
    torch.manual_seed(0)
    flat = Picture(torch.full((2, 2), 7, dtype=torch.uint8), Frame(1.0, 0.0, 1.0, 0.0, 2, 2))
    placed = scattered(torch.tensor([[0.0, 0, 1, 1]]).repeat(99, 1), flat)
    assert set(map(tuple, placed[:, :2].tolist())) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_place_is_learnt_as_the_box_that_holds_its_centre() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [8.0, 8, 20, 20]])
    targets = ImageTargets(boxes, torch.tensor([2, 3]), is_normal=False)
    # Their centres: in the first, in both, in the second, on its far edge, in none.
    places = torch.tensor([[0, 0, 4, 4], [8, 8, 10, 10], [9, 9, 31, 19], [19, 9, 21, 11]]).float()
    assert labels_at(places, targets).tolist() == [2, 2, 0, 0]
    assert labels_at(torch.tensor([[10.0, 10, 20, 20]]), targets).tolist() == [3]
    nothing = ImageTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), is_normal=True)
    assert labels_at(places, nothing).tolist() == [0, 0, 0, 0]
