"""Images with a label and no box, on every engine: they choose one region and learn from it."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.common import labelled as common
from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.engines.contract import loss_keys
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.structures import ImageTargets, Native
from simfrcnn.trees import leaves_of
from support.examples import (
    BATCHES,
    CONFIGS,
    normals,
    seeded_model,
    smoke_config,
    tiny_config,
)
from support.labelled_examples import LABELS_ON as ON
from support.labelled_examples import label_two_images, labelled, learn_from_all_regions

KEY = "loss_label"

WITH_LABELLED = {
    **{name: batch + labelled(2) for name, batch in BATCHES.items()},
    "first": labelled(1) + BATCHES["pairs"],
    "alone": labelled(2),
    "none": BATCHES["pairs"],
}


def with_heads(batches):
    """Every batch with a pyramid; the first one without, which is another ROI head."""
    first, *_ = batches
    pairs = [*(("fpn", name) for name in batches), ("c4", first)]
    return pytest.mark.parametrize(("heads", "batch"), pairs)


def losses_of(engine, model, samples):
    torch.manual_seed(1)
    return engine.training_losses(model, samples)


def value_of(engine, model, samples, key=KEY):
    return float(losses_of(engine, model, samples)[key].detach())


@with_heads(WITH_LABELLED)
def test_keys_are_constant_all_is_finite_and_every_parameter_has_a_gradient(engine, heads, batch):
    cfg = smoke_config(engine, heads, *ON)
    model = seeded_model(engine, cfg)
    losses = losses_of(engine, model, WITH_LABELLED[batch])
    assert tuple(losses) == loss_keys(cfg) == (*LOSS_KEYS, KEY)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert (float(losses[KEY].detach()) > 0) is (batch != "none")
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name


@with_heads(BATCHES)
@pytest.mark.parametrize("rpn_normals", ["top_likelihood", "ordinary"])
def test_labelled_images_leave_the_other_losses_and_draws_as_they_are(
    engine, heads, batch, rpn_normals
):
    words = (*ON, "MODEL.SIMFRCNN.RPN_NORMALS", rpn_normals)
    model = seeded_model(engine, smoke_config(engine, heads, *words))
    without = losses_of(engine, model, BATCHES[batch])
    state = torch.get_rng_state()
    for samples in (BATCHES[batch] + labelled(2), labelled(1) + BATCHES[batch]):
        losses = losses_of(engine, model, samples)
        for key in LOSS_KEYS:
            torch.testing.assert_close(losses[key], without[key], rtol=0, atol=1e-6)
        assert torch.equal(torch.get_rng_state(), state)


@with_heads(BATCHES)
def test_without_labelled_images_the_others_are_the_same_to_the_last_bit(engine, heads, batch):
    off = losses_of(engine, seeded_model(engine, smoke_config(engine, heads)), BATCHES[batch])
    on = seeded_model(engine, smoke_config(engine, heads, *ON))
    with_key = losses_of(engine, on, BATCHES[batch])
    assert tuple(off) == LOSS_KEYS
    for key in LOSS_KEYS:
        assert torch.equal(off[key], with_key[key]), key
    assert float(with_key[KEY].detach()) == 0


def test_choosing_and_then_learning_equals_learning_from_the_best_of_all(
    engine, heads, monkeypatch
):
    cfg = smoke_config(engine, heads, *ON, "MODEL.SIMFRCNN.LABELS.PROPOSALS", 8)
    samples, model = labelled(2, weight=0.7), seeded_model(engine, cfg)
    loss = losses_of(engine, model, samples)[KEY]
    loss.backward()

    learn_from_all_regions(engine, monkeypatch, 0.7)
    other = seeded_model(engine, cfg)
    expected = losses_of(engine, other, samples)[KEY]
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    compared = 0
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        if two.grad is not None and float(two.grad.abs().max()):
            torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=1e-6)
            compared += 1
    assert compared > 5


def test_the_rpn_head_learns_nothing_from_a_label_and_the_backbone_does(engine, heads):
    model = seeded_model(engine, smoke_config(engine, heads, *ON))
    losses_of(engine, model, WITH_LABELLED["pairs"])[KEY].backward()
    of_rpn, of_backbone = [], []
    for name, parameter in model.named_parameters():
        total = 0.0 if parameter.grad is None else float(parameter.grad.abs().sum())
        if name.startswith(("proposal_generator", "rpn")):
            of_rpn.append(total)
        elif name.startswith("backbone") and parameter.requires_grad:
            of_backbone.append(total)
    assert of_rpn
    assert set(of_rpn) == {0.0}
    assert max(of_backbone) > 0


def test_the_loss_is_a_weighted_mean_over_bags(engine, heads):
    model = seeded_model(engine, smoke_config(engine, heads, *ON))
    one, other = labelled(2)
    of_one, of_other = (value_of(engine, model, [each]) for each in (one, other))
    both = value_of(engine, model, [one, other])
    assert both == pytest.approx((of_one + of_other) / 2, rel=1e-5)
    light = dataclasses.replace(one, targets=dataclasses.replace(one.targets, label_weight=0.25))
    mixed = value_of(engine, model, [light, other])
    assert mixed == pytest.approx((0.25 * of_one + of_other) / 2, rel=1e-5)
    # Of a bag of two images the better region alone is learnt from.
    together = value_of(engine, model, labelled(2, bag=7))
    assert together == pytest.approx(min(of_one, of_other), rel=1e-5)


# By probabilities (background, malignant, benign) of a region whose label is benign.
VALUE_BY_RULE = {
    "target": lambda p: p[1],
    "own": lambda p: p[2],
    "discriminative": lambda p: max(p[1], p[2]),
    "abnormal": lambda p: p[1] + p[2],
}


@pytest.mark.parametrize("rule", VALUE_BY_RULE)
def test_of_two_classes_the_region_is_chosen_by_the_rule_and_teaches_its_label(
    engine, rule, monkeypatch
):
    cfg = smoke_config(
        engine,
        "fpn",
        *(*ON, f"{LABELS}REGION", rule, "DATASETS.CLASSES", "[malignant,benign]"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", 2),
    )
    malignant, benign = labelled(2)
    samples = [
        malignant,
        dataclasses.replace(benign, targets=dataclasses.replace(benign.targets, image_label=2)),
    ]
    model, seen = seeded_model(engine, cfg), []
    scale_class_logits(model, 30)  # so that the rules differ in what they choose
    choose = common.Choice.of

    def watched(self, bags, logits, boxes):
        chosen = choose(self, bags, logits, boxes)
        seen.append((bags, torch.split(logits, [len(own) for own in boxes]), chosen))
        return chosen

    monkeypatch.setattr(common.Choice, "of", watched)
    loss = value_of(engine, model, samples)
    ((bags, logits, chosen),) = seen
    assert bags.labels == (1, 2)
    costs = []
    for label, own, (place,) in zip(bags.labels, logits, chosen, strict=True):
        chances = own.double().softmax(dim=1)
        value = VALUE_BY_RULE["target" if label == 1 else rule]
        values = [value(row) for row in chances.tolist()]
        assert len(values) > 10
        assert values[int(place)] == pytest.approx(max(values), abs=1e-6)
        costs.append(-math.log(chances[int(place), label]))
    assert loss == pytest.approx(sum(costs) / 2, rel=1e-4)


def scale_class_logits(model, factor):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "cls_score" in name:
                parameter.mul_(factor)


def with_native(samples):
    return [
        dataclasses.replace(sample, native=Native(sample.image[0].to(torch.uint8), sample.frame))
        for sample in samples
    ]


@pytest.mark.parametrize("chooser", ["detector", "second_look"])
def test_the_chosen_region_gets_a_second_look(engine, heads, chooser):
    words = ("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SIMFRCNN.LABELS.CHOOSER", chooser)
    cfg = smoke_config(engine, heads, *ON, *words)
    model = seeded_model(engine, cfg)
    losses = losses_of(engine, model, with_native(WITH_LABELLED["pairs"]))
    assert tuple(losses) == (*LOSS_KEYS, KEY, "loss_second_look")
    without = losses_of(engine, seeded_model(engine, cfg), with_native(BATCHES["pairs"]))
    for key in LOSS_KEYS:
        torch.testing.assert_close(losses[key], without[key], rtol=0, atol=1e-6)
    # A new network gives both classes a chance of one half: log 2 more.
    more = float((losses["loss_second_look"] - without["loss_second_look"]).detach())
    assert more == pytest.approx(0.69, abs=0.1)
    losses["loss_second_look"].backward()
    assert all(parameter.grad is None for parameter in model.roi_heads.parameters())
    alone = value_of(engine, model, with_native(labelled(1)), "loss_second_look")
    assert alone == pytest.approx(0.69, abs=0.1)


def test_a_training_goes_on_exactly_and_its_log_has_the_loss(engine, tmp_path):
    def trained(folder, steps, resume=False):
        place = tmp_path / folder
        rising = ("MODEL.SIMFRCNN.LABELS.START", 0.5, "MODEL.SIMFRCNN.LABELS.PERIOD", 1)
        cfg = tiny_config(engine, "fpn", place, *ON, *rising, "SOLVER.MAX_ITER", steps)
        label_two_images(place / "data" / "tiny.json")
        return read_checkpoint(engine.train(cfg, resume=resume))["model"]

    whole, half = trained("one", 2), trained("two", 1)
    resumed = trained("two", 2, resume=True)
    assert any(not torch.equal(half[name], whole[name]) for name in whole)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert KEY in (tmp_path / "one" / "run" / "metrics.json").read_text()


def test_without_labelled_images_a_training_is_refused(engine, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, *ON)
    with pytest.raises(DataError, match=r"3 positive and 3 normal.*LABELS_PER_ITEM is 1, but no"):
        engine.train(cfg)


LABELS = "MODEL.SIMFRCNN.LABELS."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SOLVER.IMS_PER_BATCH", 4), "IMS_PER_BATCH is 4; legal is a multiple of 3: an item is"),
        ((f"{LABELS}WEIGHT", 0), "WEIGHT is 0.0; legal is above 0"),
        ((f"{LABELS}REGION", "own"), "REGION is own but DATASETS.CLASSES has malignant alone"),
        ((f"{LABELS}REGION", "best"), "REGION is 'best'; legal is target"),
        ((f"{LABELS}CLASS_WEIGHTS", "balanced"), "CLASS_WEIGHTS is balanced but DATASETS.CLASSES"),
        ((f"{LABELS}DECAY", 1, f"{LABELS}START", 0.5), "DECAY is 1 and .START 0.5: the weight"),
        ((f"{LABELS}CHOOSER", "second_look"), "CHOOSER is second_look but MODEL.SECOND_LOOK"),
        (
            (
                *("DATASETS.CLASSES", "[malignant,suspected]", "MODEL.ROI_HEADS.NUM_CLASSES", 2),
                *(f"{LABELS}REGION", "abnormal"),
            ),
            "REGION is abnormal and DATASETS.CLASSES has 'suspected'",
        ),
        (("DATASETS.LABELS_PER_ITEM", -1), "LABELS_PER_ITEM is -1; legal is at least 0"),
        (
            ("DATASETS.LABELS_PER_ITEM", 0, "DATASETS.LABEL_BAGS", "breast"),
            "LABEL_BAGS is breast but DATASETS.LABELS_PER_ITEM is 0, with which no label trains",
        ),
        (
            ("DATASETS.LABELS_PER_ITEM", 0, "SOLVER.IMS_PER_BATCH", 2, f"{LABELS}REGION", "own"),
            "REGION is own but DATASETS.LABELS_PER_ITEM is 0, .* or leave the key at target",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(engine, words, message):
    path = CONFIGS / "smoke" / "sim_r18_fpn.yaml"
    with pytest.raises(ConfigError, match=message):
        load_config(engine.default_cfg(), path, list(map(str, (*ON, *words))))


def test_a_head_with_batch_statistics_is_refused(engine):
    cfg = smoke_config(engine, "c4", *ON, "MODEL.RESNETS.NORM", "BN")
    with pytest.raises(
        ConfigError, match=r"the box head has a .*BatchNorm.* \(.*NORM FrozenBN"
    ) as e:
        engine.build_model(cfg)
    named = re.findall(r"MODEL\.[A-Z_.]+[A-Z]", str(e.value))
    assert named
    for key in named:  # the remedy is one that this engine knows
        assert key in dict(leaves_of(cfg))
    engine.build_model(smoke_config(engine, "c4", "MODEL.RESNETS.NORM", "BN"))


@pytest.mark.parametrize("kind", [torch.nn.Dropout, torch.nn.Dropout2d])
def test_a_head_with_dropout_is_refused_unless_it_drops_nothing(engine, kind):
    cfg = smoke_config(engine, "fpn", *ON)
    head = torch.nn.Sequential(torch.nn.Linear(2, 2), kind(0.5))
    with pytest.raises(ConfigError, match=rf"the box head has a {kind.__name__} \(1\).*no dropout"):
        common.require_separate_regions(cfg, head, None)
    assert common.not_separate(torch.nn.Sequential(kind(0.0))) is None
    by_path = torch.nn.Identity()
    by_path.drop_prob = 0.1  # as timm's DropPath has it
    assert common.not_separate(torch.nn.Sequential(by_path)) == "Identity (0)"
    common.require_separate_regions(smoke_config(engine, "fpn"), head, None)  # no label trains
    beside = torch.nn.ModuleDict({"mask_head": torch.nn.BatchNorm2d(2), "box_head": kind(0.0)})
    common.require_separate_regions(cfg, beside, None)  # no labelled region goes to the mask head


def test_a_second_look_with_batch_statistics_is_refused(engine):
    look = ("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.BACKBONE", "test_resnet")
    with pytest.raises(ConfigError, match=r"the second look has a BatchNorm.*BACKBONE_WEIGHTS"):
        engine.build_model(smoke_config(engine, "fpn", *ON, *look))
    engine.build_model(smoke_config(engine, "fpn", *look))


def test_a_labelled_image_has_no_boxes_and_is_not_normal():
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="a labelled image carries no training boxes"):
        ImageTargets(*nothing, True, 1)
    with pytest.raises(ValueError, match="a labelled image carries no training boxes"):
        ImageTargets(torch.ones(1, 4), torch.ones(1), False, 1)
    assert normals(1)[0].targets.image_label is None
    for fields in ((True, None), (False, 1)):
        with pytest.raises(ValueError, match="of which nothing is known carries no training boxes"):
            ImageTargets(*nothing, *fields, is_unknown=True)
