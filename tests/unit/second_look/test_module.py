"""The network and its loss: values, gradients, and what must not change a score."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from simfrcnn.second_look import Found, Picture, Regions, SecondLook
from simfrcnn.second_look.module import balanced_cross_entropy
from simfrcnn.second_look.network import small_judge
from simfrcnn.second_look_settings import SecondLookSettings
from simfrcnn.settings import SimilaritySettings
from simfrcnn.structures import Frame, ImageTargets

PLAIN = Frame(1.0, 0.0, 1.0, 0.0, 100, 80)
NO_SIMILARITY = SimilaritySettings(kind="none")


def second_look(similarity: SimilaritySettings = NO_SIMILARITY, **settings: Any) -> SecondLook:
    torch.manual_seed(0)
    made = SecondLook(
        SecondLookSettings(enabled=True, size=32, **settings),
        small_judge(1),
        target_labels=(1,),
        similarity=similarity,
    )
    torch.nn.init.normal_(made.judge.classifier.weight)  # a new network judges all alike
    return made


def picture(seed: int = 0, spacing_mm: tuple[float, float] | None = (1.0, 1.0)) -> Picture:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (100, 80), dtype=torch.uint8, generator=generator)
    return Picture(pixels, PLAIN, spacing_mm)


def found(*corners: float) -> Found:
    boxes = torch.tensor([[at, at, at + 20, at + 25] for at in corners]).reshape(-1, 4)
    scores = torch.linspace(0.9, 0.5, len(boxes))
    return Found(boxes, scores, torch.ones(len(boxes), dtype=torch.int64))


POSITIVE = ImageTargets(torch.tensor([[10.0, 10, 40, 40]]), torch.tensor([1]), is_normal=False)
NORMAL = ImageTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), is_normal=True)
REGIONS = Regions(
    torch.tensor([[10.0, 12, 40, 42], [50.0, 50, 70, 75]]),
    torch.tensor([0, 0]),
    torch.tensor([0.4, 0.8]),
)


def test_the_small_network_is_small() -> None:
    n_parameters = sum(parameter.numel() for parameter in small_judge(1).parameters())
    assert 0.29e6 < n_parameters < 0.31e6


def test_both_sides_count_one_half() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 2.0], [3.0, 0.0]])
    labels, of_positive = torch.tensor([1, 1, 0, 0]), torch.tensor([True, True, False, False])
    positive = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    normal = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-3))) / 2
    loss = balanced_cross_entropy(logits, labels, of_positive)
    assert float(loss) == pytest.approx((positive + normal) / 2, rel=1e-6)
    doubled = [0, 1, 2, 3, 2, 3]  # more of one side changes nothing
    again = balanced_cross_entropy(logits[doubled], labels[doubled], of_positive[doubled])
    assert float(again) == pytest.approx(float(loss), rel=1e-6)
    alone = balanced_cross_entropy(logits[:2], labels[:2], of_positive[:2])
    assert float(alone) == pytest.approx(positive / 2, rel=1e-6)


def test_a_benign_normal_image_counts_as_its_weight_says() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    labels, of_positive = torch.tensor([1, 0, 0]), torch.tensor([True, False, False])
    plain = balanced_cross_entropy(logits, labels, of_positive)
    assert torch.equal(balanced_cross_entropy(logits, labels, of_positive, torch.ones(3)), plain)
    graded = balanced_cross_entropy(logits, labels, of_positive, torch.tensor([1.0, 2.0, 1.0]))
    normal = (2 * math.log(1 + math.exp(2)) + math.log(1 + math.exp(-3))) / 2
    assert float(graded) == pytest.approx((math.log(2) + normal) / 2, rel=1e-6)


def test_the_loss_of_a_step_takes_the_weights_of_its_images() -> None:
    heavy = dataclasses.replace(NORMAL, normal_weight=3.0)
    losses = []
    for normal in (NORMAL, heavy):
        look = second_look(memory=0)
        torch.manual_seed(1)
        losses.append(float(look.training_loss([picture()], [normal], [REGIONS]).detach()))
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-6)


@pytest.mark.parametrize("targets", [[POSITIVE, NORMAL], [POSITIVE], [NORMAL], []])
def test_every_parameter_gets_a_gradient_whatever_there_is(targets: list[ImageTargets]) -> None:
    look = second_look()
    pictures, regions = [picture()] * len(targets), [REGIONS] * len(targets)
    loss = look.training_loss(pictures or [picture()], targets or [NORMAL], regions or [NONE])
    assert loss.shape == ()
    assert (float(loss.detach()) > 0) == bool(targets)
    loss.backward()
    for name, parameter in look.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


NONE = Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))


def test_the_loss_comes_weighted_and_may_hold_a_similarity() -> None:
    def loss(look: SecondLook) -> float:
        torch.manual_seed(3)
        value = look.training_loss([picture(), picture(1)], [POSITIVE, NORMAL], [REGIONS] * 2)
        return float(value.detach())

    plain = loss(second_look())
    assert loss(second_look(weight=3.0)) == pytest.approx(3 * plain, rel=1e-6)
    with_cosine = loss(second_look(SimilaritySettings(kind="cosine", weight=0.5)))
    assert 0.05 < with_cosine - plain <= 0.5  # vectors after a ReLU: their cosine is far above 0


def test_ten_steps_tell_stripes_from_noise() -> None:
    """Stripes are malignant, and noise is what is suspected on a normal image."""
    stripes = torch.zeros(100, 80, dtype=torch.uint8)
    stripes[:, (torch.arange(80) % 8) < 4] = 200
    pictures = [Picture(stripes, PLAIN, (1.0, 1.0)), picture()]
    look = second_look(regions_per_image=4)
    torch.nn.init.normal_(look.judge.classifier.weight, std=0.01)
    optimizer = torch.optim.Adam(look.parameters(), lr=0.001)
    for _ in range(10):
        optimizer.zero_grad()
        look.training_loss(pictures, [POSITIVE, NORMAL], [REGIONS, REGIONS]).backward()
        optimizer.step()
    malignant, normal = look.rescored(pictures, [found(20.0)] * 2)
    assert float(malignant.second_scores) > 0.6
    assert float(normal.second_scores) < 0.4


def test_a_batch_is_filled_up_with_remembered_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    look = second_look(regions_per_image=2, batch_size=10, memory=3)
    judged: list[int] = []
    original = look.judge.forward
    monkeypatch.setattr(look.judge, "forward", lambda x: (judged.append(len(x)), original(x))[1])
    for _ in range(3):
        look.training_loss([picture(), picture(1)], [POSITIVE, NORMAL], [REGIONS] * 2)
    assert judged == [4, 8, 10]  # 2 + 2 new; then 2 of each side, then 3, are remembered


def test_scores_hang_neither_on_the_batch_nor_on_flips() -> None:
    look = second_look()
    one, two = look.rescored([picture(), picture(1)], [found(5.0, 30.0, 50.0), found(12.0)])
    (alone,) = look.rescored([picture()], [found(5.0, 30.0, 50.0)])
    torch.testing.assert_close(one.scores, alone.scores, rtol=1e-5, atol=1e-6)
    assert len(set(one.second_scores.tolist())) == 3
    for flips in ((1,), (0,), (0, 1)):
        mirrored = dataclasses.replace(picture(1), pixels=picture(1).pixels.flip(*flips))
        (box,) = found(12.0).boxes.tolist()
        if 1 in flips:
            box[0], box[2] = 80 - box[2], 80 - box[0]
        if 0 in flips:
            box[1], box[3] = 100 - box[3], 100 - box[1]
        there = dataclasses.replace(found(12.0), boxes=torch.tensor([box]))
        (again,) = look.rescored([mirrored], [there])
        torch.testing.assert_close(again.second_scores, two.second_scores, rtol=1e-4, atol=1e-5)


def test_as_many_as_the_cap_are_looked_at() -> None:
    look = second_look(detections_per_image=2)
    many, none = look.rescored([picture(), picture()], [found(1.0, 20.0, 40.0, 50.0), found()])
    assert many.second_scores.isnan().tolist() == [False, False, True, True]
    assert len(none.scores) == 0
    (alone,) = look.rescored([picture()], [found()])
    assert alone.scores.shape == alone.second_scores.shape == (0,)


def test_an_unknown_spacing_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    look = second_look()
    for _ in range(2):
        look.rescored([picture(spacing_mm=None)], [found(20.0)])
    (note,) = caplog.messages
    assert "MIN_MM cannot be honoured" in note
    assert "at least MODEL.SECOND_LOOK.SIZE 32 pixels" in note
