"""What a training step gives on every engine: keys, values, gradients, for whatever batch."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest
import torch

from simfrcnn.engines import LOSS_KEYS, Detector
from simfrcnn.engines.contract import as_contracted
from simfrcnn.errors import EngineError
from support.examples import BATCHES, normals, positives, seeded_model, smoke_config

BASELINE = (
    *("MODEL.SIMFRCNN.RPN_NORMALS", "ordinary"),
    *("MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING", "random"),
    *("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"),
)


def value(loss):
    return float(loss.detach())


def losses_of(engine, cfg, samples, model=None):
    model = model or seeded_model(engine, cfg)
    torch.manual_seed(1)
    return engine.training_losses(model, samples)


@pytest.mark.parametrize("batch", BATCHES)
def test_losses_have_constant_keys_and_sane_values(engine, heads, batch):
    losses = losses_of(engine, smoke_config(engine, heads), BATCHES[batch])
    assert tuple(losses) == LOSS_KEYS
    for name, loss in losses.items():
        assert loss.shape == (), name
        assert bool(torch.isfinite(loss)), name
        assert 0 <= value(loss) < 10, name


def changed(losses, change):
    """The losses with one too many, or with one too few."""
    if change == "more":
        return {**losses, "loss_mask": losses["loss_cls"]}
    return {name: loss for name, loss in losses.items() if name != "loss_cls"}


@pytest.mark.parametrize(
    ("change", "message"),
    [("more", "returns loss_mask, which nobody"), ("fewer", "does not return loss_cls")],
)
def test_a_loss_beyond_or_below_the_contract_is_named(engine, monkeypatch, change, message):
    cfg = smoke_config(engine, "fpn")
    model = seeded_model(engine, cfg)
    if engine.NAME == "torchvision":
        owner, name = model.roi_heads, "_losses"
    else:
        owner, name = model.roi_heads.box_predictor, "losses"
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given: changed(original(*given), change))
    with pytest.raises(EngineError, match=message):
        losses_of(engine, cfg, BATCHES["pairs"], model)


def test_a_model_is_a_detector_as_the_contract_says(engine, heads):
    cfg = smoke_config(engine, heads)
    model = seeded_model(engine, cfg)
    assert isinstance(model, Detector)
    assert model.identity.engine == engine.NAME
    of_a_resnet = ["stem", "res2", "res3", "res4", "res5"]
    assert list(model.stages) == (of_a_resnet if heads == "c4" else [])
    losses_of(engine, cfg, BATCHES["pairs"], model)
    assert model.firing_scores.shape == (len(BATCHES["pairs"]),)


def test_losses_are_given_in_the_order_of_the_contract():
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    assert list(as_contracted({"b": two, "a": one}, ("a", "b"))) == ["a", "b"]
    with pytest.raises(EngineError, match=r"returns c, .*does not return a.*are a, b"):
        as_contracted({"b": two, "c": one}, ("a", "b"))


@pytest.mark.parametrize(
    ("batch", "method"),
    [
        *((batch, "simfrcnn") for batch in BATCHES),
        ("pairs", "baseline"),
        ("normals", "no_rpn_normals"),
    ],
)
def test_every_trained_parameter_gets_a_gradient(engine, heads, batch, method):
    overrides = {
        "simfrcnn": (),
        "baseline": BASELINE,
        "no_rpn_normals": ("MODEL.SIMFRCNN.RPN_NORMALS", "none"),
    }[method]
    cfg = smoke_config(engine, heads, *overrides)
    model = seeded_model(engine, cfg)
    losses = losses_of(engine, cfg, BATCHES[batch], model)
    torch.stack(list(losses.values())).sum().backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    assert any(bool(parameter.grad.abs().sum() > 0) for parameter in trained.values())


def test_normal_images_leave_the_ordinary_rpn_losses_alone(engine, heads):
    cfg = smoke_config(engine, heads)
    model = seeded_model(engine, cfg)
    alone = losses_of(engine, cfg, positives(2), model)
    together = losses_of(engine, cfg, positives(2) + normals(2), model)
    for key in ("loss_rpn_cls", "loss_rpn_loc"):
        assert value(together[key]) == pytest.approx(value(alone[key]), abs=1e-6), key
    assert value(alone["loss_rpn_top_likelihood"]) == 0
    assert value(together["loss_rpn_top_likelihood"]) > 0.1
    assert value(alone["loss_similarity"]) == 0


def test_ordinary_losses_of_normal_images_change_them(engine, heads):
    cfg = smoke_config(engine, heads, *BASELINE)
    model = seeded_model(engine, cfg)
    alone = losses_of(engine, cfg, positives(1), model)
    together = losses_of(engine, cfg, positives(1) + normals(1), model)
    assert value(together["loss_rpn_cls"]) != pytest.approx(value(alone["loss_rpn_cls"]), abs=1e-6)
    assert value(together["loss_rpn_loc"]) == pytest.approx(
        value(alone["loss_rpn_loc"]) / 2, rel=1e-4
    )
    assert value(together["loss_rpn_top_likelihood"]) == 0
    assert value(together["loss_similarity"]) == 0


@pytest.mark.parametrize("batch", ["normals"])
def test_a_batch_of_normals_has_no_ordinary_rpn_loss_and_no_boxes(engine, heads, batch):
    losses = losses_of(engine, smoke_config(engine, heads), BATCHES[batch])
    for key in ("loss_rpn_cls", "loss_rpn_loc", "loss_box_reg", "loss_similarity"):
        assert value(losses[key]) == 0, key
    assert value(losses["loss_cls"]) > 0
    assert value(losses["loss_rpn_top_likelihood"]) > 0.1


@pytest.mark.parametrize(
    ("key", "loss"),
    [
        ("MODEL.SIMFRCNN.TOP_LIKELIHOOD.WEIGHT", "loss_rpn_top_likelihood"),
        ("MODEL.SIMFRCNN.SIMILARITY.WEIGHT", "loss_similarity"),
        ("MODEL.RPN.BBOX_REG_LOSS_WEIGHT", "loss_rpn_loc"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "loss_box_reg"),
    ],
)
def test_losses_come_weighted(engine, key, loss):
    one = losses_of(engine, smoke_config(engine, "fpn", key, 1.0), BATCHES["pairs"])
    three = losses_of(engine, smoke_config(engine, "fpn", key, 3.0), BATCHES["pairs"])
    assert value(one[loss]) > 0
    for name in LOSS_KEYS:
        factor = 3 if name == loss else 1
        assert value(three[name]) == pytest.approx(factor * value(one[name]), rel=1e-5), name


@pytest.mark.parametrize("partners", ["suspected", "hardest", "random", "all"])
def test_similarity_loss_reaches_the_box_head_for_every_choice_of_partners(engine, heads, partners):
    cfg = smoke_config(engine, heads, "MODEL.SIMFRCNN.SIMILARITY.PARTNERS", partners)
    model = seeded_model(engine, cfg)
    loss = losses_of(engine, cfg, BATCHES["pairs"], model)["loss_similarity"]
    # Vectors after a ReLU point into one orthant: their cosine is far above 0 in a new network.
    assert 0.01 < value(loss) <= 0.1
    loss.backward()
    gradients = [p.grad for n, p in model.named_parameters() if "box_head" in n or "res5" in n]
    assert gradients
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients)


@pytest.mark.parametrize("same_kind", [False, True])
def test_contrastive_loss_reaches_the_box_head(engine, heads, same_kind):
    node = "MODEL.SIMFRCNN.SIMILARITY"
    words = (f"{node}.LOSS", "contrastive", f"{node}.SAME_KIND_PAIRS", same_kind)
    cfg = smoke_config(engine, heads, *words, f"{node}.DISTANCE_MARGIN", 2.0)
    model = seeded_model(engine, cfg)
    losses = losses_of(engine, cfg, positives(2) + normals(2), model)
    # Half the squared violation of a distance in [0, 2], with weight .1.
    assert 0 < value(losses["loss_similarity"]) <= 0.2
    losses["loss_similarity"].backward()
    gradients = [p.grad for n, p in model.named_parameters() if "box_head" in n or "res5" in n]
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients)


def test_normal_images_with_pseudo_boxes_are_partners(engine, heads):
    """In the second stage of weak training both images of a pair are boxed: the similarity loss
    compares malignant regions with suspected ones, and never a positive with a positive.
    """
    options = ("MODEL.ROI_HEADS.NUM_CLASSES", 2, "DATASETS.CLASSES", ["malignant", "suspected"])
    cfg = smoke_config(engine, heads, *options)
    model = seeded_model(engine, cfg)
    boxed = [suspected(sample) for sample in positives(2)]
    loss = value(losses_of(engine, cfg, positives(2) + boxed, model)["loss_similarity"])
    assert loss > 0
    alone = losses_of(engine, cfg, positives(2), model)["loss_similarity"]
    assert value(alone) == 0
    assert value(losses_of(engine, cfg, boxed, model)["loss_similarity"]) == 0


def suspected(sample):
    """The image as a normal one whose box is a pseudo-box of class 2."""
    targets = dataclasses.replace(sample.targets, labels=torch.full_like(sample.targets.labels, 2))
    return dataclasses.replace(sample, targets=targets)


def brute_force_firing(engine, model, samples, monkeypatch):
    """The highest malignant probability of each image, region by region, from the predictor."""
    predictor, logits = model.roi_heads.box_predictor, []
    original = predictor.forward

    def spied(vectors):
        outputs = original(vectors)
        logits.extend(outputs[0].detach().tolist())
        return outputs

    counts = []
    owner = model.roi_heads
    name = {"detectron2": "label_and_sample_proposals", "torchvision": "subsample"}[engine.NAME]
    sample = getattr(owner, name)

    def counted(*arguments):
        found = sample(*arguments)
        counts.extend(len(of_image) for of_image in found)
        return found

    monkeypatch.setattr(predictor, "forward", spied)
    monkeypatch.setattr(owner, name, counted)
    engine.training_losses(model, samples)
    malignant = {"detectron2": 0, "torchvision": 1}[engine.NAME]
    assert len(logits) == sum(counts)
    rows, expected = iter(logits), []
    for n_regions in counts:
        of_image = [next(rows) for _ in range(n_regions)]
        chances = [math.exp(r[malignant]) / sum(math.exp(x) for x in r) for r in of_image]
        expected.append(max(chances, default=0.0))
    return expected


@pytest.mark.parametrize("batch", BATCHES)
def test_firing_scores_are_the_highest_malignant_probabilities(engine, heads, batch, monkeypatch):
    model = seeded_model(engine, smoke_config(engine, heads))
    with torch.no_grad():  # a new network's regions all look alike
        model.roi_heads.box_predictor.cls_score.weight.mul_(3)
    expected = brute_force_firing(engine, model, BATCHES[batch], monkeypatch)
    scores = model.firing_scores
    assert not scores.requires_grad
    assert scores.tolist() == pytest.approx(expected, rel=1e-4)
    assert len(set(scores.tolist())) == len(BATCHES[batch])


def test_a_normal_image_without_a_region_scores_0(engine, monkeypatch):
    # An RPN that proposes nothing on an image as small as a few cells is out of reach here: the
    # ROI batch of normal images is cut to nothing instead.
    model = seeded_model(engine, smoke_config(engine, "fpn"))
    module = sys.modules[type(model.roi_heads).__mro__[0].__module__]
    top = module.top_proposals
    monkeypatch.setattr(module, "top_proposals", lambda objectness, _n: top(objectness, 0))
    engine.training_losses(model, BATCHES["pairs"])
    scores = model.firing_scores.tolist()
    assert scores[2:] == [0, 0]
    assert all(score > 0 for score in scores[:2])


def test_images_of_different_sizes_make_one_batch(engine, heads):
    samples = positives(1, size_px=60) + normals(1)
    losses = losses_of(engine, smoke_config(engine, heads), samples)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


@pytest.mark.slow
def test_two_images_can_be_overfitted(engine):
    cfg = smoke_config(engine, "fpn", "SOLVER.BASE_LR", 0.001)
    model = seeded_model(engine, cfg)
    samples = positives(1) + normals(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for step in range(70):
        torch.manual_seed(step)
        optimizer.zero_grad()
        torch.stack(list(engine.training_losses(model, samples).values())).sum().backward()
        optimizer.step()
    malignant, normal = engine.detect(model, samples)
    truth = samples[0].targets.boxes[0]
    assert float(malignant.scores[0]) > 0.7
    assert _iou(malignant.boxes[0], truth) > 0.6
    assert not len(normal.scores) or float(normal.scores.max()) < 0.3


def _iou(one, other):
    edges = torch.min(one[2:], other[2:]) - torch.max(one[:2], other[:2])
    common = float(edges.clamp(min=0).prod())
    return common / (float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - common)
