"""Which regions are looked at again: against slow twins, and how often."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simfrcnn.second_look.choice import Regions, choose_regions, jittered, suspected
from simfrcnn.structures import ImageTargets

NOTHING = ImageTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), is_normal=True)


def targets(*boxes: list[float], labels: list[int]) -> ImageTargets:
    return ImageTargets(torch.tensor(boxes), torch.tensor(labels), is_normal=False)


def random_boxes(n: int) -> Tensor:
    corners = 60 * torch.rand(n, 2)
    return torch.cat([corners, corners + 5 + 30 * torch.rand(n, 2)], dim=1)


def iou(one: list[float], two: list[float]) -> float:
    across = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    down = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return across * down / (sum(areas) - across * down)


def slowly_suspected(boxes: list[list[float]], suspicion: list[float]) -> list[int]:
    """Take the most suspected region that overlaps none of those taken, five times."""
    taken: list[int] = []
    while len(taken) < 5:
        free = [i for i in range(len(boxes)) if all(iou(boxes[i], boxes[j]) <= 0.5 for j in taken)]
        if not free:
            break
        taken.append(max(free, key=lambda i: (suspicion[i], -i)))
    return taken


def test_suspected_places_are_those_of_a_slow_twin() -> None:
    torch.manual_seed(0)
    for n in (0, 1, 3, 40):
        boxes, suspicion = random_boxes(n), (10 * torch.rand(n)).round() / 10  # with ties
        expected = slowly_suspected(boxes.tolist(), suspicion.tolist())
        assert suspected(boxes, suspicion).tolist() == expected


def test_a_normal_image_gives_its_suspected_places_in_proportion_to_suspicion() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 0, 60, 10]])
    regions = Regions(boxes, torch.zeros(3, dtype=torch.int64), torch.tensor([0.6, 0.5, 0.2]))
    drawn, labels, suspicion = choose_regions(regions, NOTHING, target_labels=(1,), n_regions=4000)
    assert labels.tolist() == [0] * 4000
    first = (drawn[:, 0] == 0).float().mean()
    assert float(first) == pytest.approx(0.75, abs=0.03)  # the second is the same place
    assert set(drawn[:, 0].tolist()) == {0, 50}
    assert set(suspicion.tolist()) == set(torch.tensor([0.6, 0.2]).tolist())


def test_a_positive_image_gives_its_boxes_and_foreground_alone() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10], [50.0, 0, 60, 10]])
    regions = Regions(boxes, torch.tensor([0, 1, -1]), torch.tensor([0.9, 0.1, 0.9]))
    drawn, labels, suspicion = choose_regions(
        regions, targets([21.0, 0, 31, 10], labels=[1]), target_labels=(1,), n_regions=400
    )
    assert set(drawn[:, 0].tolist()) == {20, 21}
    assert labels.tolist() == [1] * 400
    is_own = drawn[:, 0] == 21
    assert float(is_own.float().mean()) == pytest.approx(0.5, abs=0.1)  # evenly
    torch.testing.assert_close(suspicion, torch.where(is_own, 1.0, 0.1))


def test_places_without_any_suspicion_are_drawn_evenly() -> None:
    """A probability may be 0 in single precision, and a draw needs weights."""
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 10, 10], [50.0, 0, 60, 10]])
    regions = Regions(boxes, torch.zeros(2, dtype=torch.int64), torch.zeros(2))
    drawn, _, suspicion = choose_regions(regions, NOTHING, target_labels=(1,), n_regions=400)
    assert float((drawn[:, 0] == 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert suspicion.tolist() == [0] * 400


def test_boxes_of_other_classes_on_normal_images_are_learnt_as_those_where_suspected() -> None:
    """Pseudo-boxes of stage 2 and the oracle's: class 2 is no target."""
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 10, 10], [50.0, 0, 60, 10]])
    regions = Regions(boxes, torch.tensor([2, 0]), torch.tensor([0.5, 0.5]))
    _, labels, _ = choose_regions(
        regions, targets([0.0, 0, 10, 10], labels=[2]), target_labels=(1,), n_regions=200
    )
    assert set(labels.tolist()) == {0, 2}


def test_nothing_to_draw_from_gives_nothing() -> None:
    empty = Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    flat = Regions(torch.tensor([[5.0, 5, 5, 9]]), torch.tensor([0]), torch.tensor([0.9]))
    for regions in (empty, flat):
        drawn, labels, _ = choose_regions(regions, NOTHING, target_labels=(1,), n_regions=4)
        assert drawn.shape == (0, 4)
        assert labels.shape == (0,)


def test_what_is_not_finite_is_left_out_and_takes_no_place() -> None:
    nan, inf = float("nan"), float("inf")
    boxes = torch.cat([random_boxes(8), torch.tensor([[20.0, 20, 30, 30]])])
    boxes[0, 2], boxes[1, 3] = inf, nan
    suspicion = torch.tensor([0.9, 0.9, nan, nan, nan, nan, nan, nan, 0.1])
    for of_image, label, wanted in (
        (NOTHING, 0, {20.0}),
        (targets([1.0, 1, 9, 9], labels=[1]), 1, {1.0, 20.0}),
    ):
        regions = Regions(boxes, torch.full((9,), label), suspicion)
        drawn, _, chance = choose_regions(regions, of_image, target_labels=(1,), n_regions=200)
        assert set(drawn[:, 0].tolist()) == wanted
        assert bool(chance.isfinite().all())


def test_jitter_moves_and_scales_a_little() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20, 30, 60]]).repeat(500, 1)
    moved = jittered(boxes)
    sides = (moved[:, 2:] - moved[:, :2]) / torch.tensor([20.0, 40.0])
    assert float(sides.min()) >= 0.86
    assert float(sides.max()) <= 1.17
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    shifts = ((moved[:, 2:] + moved[:, :2]) / 2 - torch.tensor([20.0, 40.0])).abs()
    assert 1.8 < float(shifts[:, 0].max()) <= 2.001
    assert 3.6 < float(shifts[:, 1].max()) <= 4.001
