"""The second look on every engine: it learns beside the detector, and rescores what that finds."""

from __future__ import annotations

import dataclasses
import logging
import math

import pytest
import torch

from simfrcnn import artifacts
from simfrcnn.config import load_config, needs_native_pixels
from simfrcnn.data.coco import read_coco
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.common.checkpoints import LAST, Identity, read_checkpoint, save_checkpoint
from simfrcnn.engines.common.validation import save_detections
from simfrcnn.engines.contract import loss_keys
from simfrcnn.errors import CheckpointError, ConfigError, DataError, TrainingError
from simfrcnn.second_look import Regions
from simfrcnn.second_look import choice as choice_module
from simfrcnn.second_look import module as look_module
from simfrcnn.structures import ImageTargets
from simfrcnn.training import precision as precision_module
from support.commands import TEST_CONFIGS
from support.examples import BATCHES, normals, positives, seeded_model, smoke_config, tiny_config
from support.labelled_examples import LABELS_ON, labelled
from support.native_examples import with_native

ON = ("MODEL.SECOND_LOOK.ENABLED", True)
KEY = "loss_second_look"
PREFIX = "second_look."


def losses_of(engine, model, samples):
    torch.manual_seed(1)
    return engine.training_losses(model, samples)


@pytest.mark.parametrize("batch", BATCHES)
def test_it_adds_one_loss_that_reaches_itself_alone_and_leaves_the_others(engine, heads, batch):
    off, on = smoke_config(engine, heads), smoke_config(engine, heads, *ON)
    model = seeded_model(engine, on)
    losses = losses_of(engine, model, with_native(BATCHES[batch]))
    assert tuple(losses) == loss_keys(on) == (*LOSS_KEYS, KEY)
    assert loss_keys(off) == LOSS_KEYS
    without = losses_of(engine, seeded_model(engine, off), BATCHES[batch])
    for key in LOSS_KEYS:  # to the last bit: the detector is the same
        assert torch.equal(losses[key], without[key]), key
    assert 0.2 < float(losses[KEY].detach()) < 1
    losses[KEY].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(PREFIX), name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name


def test_it_is_given_what_the_box_head_makes_of_its_regions(engine, heads, monkeypatch):
    model = seeded_model(engine, smoke_config(engine, heads, *ON))
    given, samples = [], with_native(BATCHES["pairs"])
    original = model.second_look.training_loss

    def spied(pictures, targets, regions):
        given.extend(regions)
        return original(pictures, targets, regions)

    monkeypatch.setattr(model.second_look, "training_loss", spied)
    losses_of(engine, model, samples)
    highest = [float(regions.suspicion.max()) for regions in given]
    assert highest == pytest.approx(model.firing_scores.tolist(), rel=1e-5)
    for regions, sample in zip(given, samples, strict=True):
        assert len(regions.boxes) == len(regions.labels) == len(regions.suspicion) > 0
        assert not regions.boxes.requires_grad
        foreground = regions.boxes[regions.labels > 0]
        if sample.targets.is_normal:
            assert not len(foreground)
        else:  # a new network refines boxes little
            (truth,) = sample.targets.boxes
            centres = (foreground[:, :2] + foreground[:, 2:]) / 2
            assert len(foreground)
            assert bool(((centres > truth[:2]) & (centres < truth[2:])).all())


def test_as_a_control_the_same_boxes_of_normal_images_lie_anywhere(engine, monkeypatch):
    """Positive images, the detector's losses and the sides stay; the places do not."""
    samples, drawn, losses = with_native(BATCHES["pairs"]), {}, {}
    for normals_are in ("default", "suspected", "random"):
        boxes = drawn[normals_are] = []
        monkeypatch.setattr(
            look_module, "jittered", lambda own, kept=boxes: kept.append(own) or own
        )
        words = () if normals_are == "default" else ("MODEL.SECOND_LOOK.NORMALS", normals_are)
        words += ("MODEL.SECOND_LOOK.REGIONS_PER_IMAGE", 8, "MODEL.SECOND_LOOK.MEMORY", 0)
        model = seeded_model(engine, smoke_config(engine, "fpn", *ON, *words))
        losses[normals_are] = losses_of(engine, model, samples)
    for key, value in losses["default"].items():
        assert torch.equal(losses["suspected"][key], value), key
        assert torch.equal(losses["random"][key], value) == (key != KEY), key
    of_images = list(zip(samples, drawn["random"], drawn["suspected"], strict=True))
    for sample, own, before in of_images[:3]:  # the draws of the first normal one are alike
        if not sample.targets.is_normal:
            assert torch.equal(own, before)
            continue
        torch.testing.assert_close(own[:, 2:] - own[:, :2], before[:, 2:] - before[:, :2])
        centres = (own[:, :2] + own[:, 2:]) / 2
        height, width = sample.image.shape[-2:]
        assert len(centres.unique(dim=0)) > 5 >= len(before.unique(dim=0))
        assert bool(((centres > 0) & (centres < torch.tensor([width, height]))).all())


def test_the_best_detections_are_rescored_and_both_scores_kept(engine, heads, tmp_path):
    cfg = smoke_config(engine, heads, *ON, "MODEL.SECOND_LOOK.DETECTIONS_PER_IMAGE", 3)
    model = seeded_model(engine, cfg)
    torch.nn.init.normal_(model.second_look.judge.classifier.weight)
    samples = with_native(positives(2) + normals(1))
    found = engine.detect(model, samples)
    plain = engine.detect(seeded_model(engine, smoke_config(engine, heads)), samples)
    for one, before in zip(found, plain, strict=True):
        assert len(one.scores) == len(before.scores) > 4
        assert before.first_scores is None
        first = one.first_scores.sort(descending=True)
        torch.testing.assert_close(first.values, before.scores)
        torch.testing.assert_close(one.boxes[first.indices][:3], before.boxes[:3])
        looked = ~one.second_scores.isnan()
        assert looked.tolist() == [True] * 3 + [False] * (len(one.scores) - 3)
        assert one.squares[3:].isnan().all()
        # Round the boxes as they were before they were clipped: all but those at an edge.
        sides = one.squares[:3, 2:] - one.squares[:3, :2]
        torch.testing.assert_close(sides[:, 0], sides[:, 1], rtol=1e-4, atol=1e-2)
        centres = (one.squares[:3, :2] + one.squares[:3, 2:]) / 2
        torch.testing.assert_close(
            centres, (one.boxes[:3, :2] + one.boxes[:3, 2:]) / 2, rtol=1e-3, atol=0.5
        )
        second = one.second_scores.nan_to_num(float(one.second_scores[:3].min()))
        torch.testing.assert_close(one.scores, one.first_scores.sqrt() * second)
        assert bool((one.scores.diff() <= 0).all())
        assert len(set(one.second_scores[:3].tolist())) == 3
    (alone,) = engine.detect(model, samples[:1])
    torch.testing.assert_close(alone.scores, found[0].scores, rtol=1e-4, atol=1e-5)

    tiny_config(engine, heads, tmp_path)  # writes the annotation file
    annotated = read_coco(tmp_path / "data" / "tiny.json")
    save_detections(tmp_path / "found.json", found, cfg, annotated, {})
    again = artifacts.read_detections(tmp_path / "found.json").images[found[0].image_id]
    torch.testing.assert_close(torch.tensor(again.looks[:, 0]), found[0].first_scores.double())
    seconds = found[0].second_scores.double()
    torch.testing.assert_close(torch.tensor(again.looks[:, 1]), seconds, equal_nan=True)
    squares = found[0].squares.double()
    torch.testing.assert_close(torch.tensor(again.squares), squares, equal_nan=True)


def test_the_input_is_cut_from_where_there_are_no_stored_pixels(engine):
    source = ("MODEL.SECOND_LOOK.SOURCE", "input")
    cfg = smoke_config(engine, "fpn", *ON, *source)
    assert not needs_native_pixels(cfg)
    model = seeded_model(engine, cfg)
    (found,) = engine.detect(model, positives(1))
    assert not bool(found.second_scores[0].isnan())
    native = smoke_config(engine, "fpn", *ON)
    assert needs_native_pixels(native)
    with pytest.raises(DataError, match=r"image1\.png was loaded without its stored pixels"):
        engine.detect(seeded_model(engine, native), positives(1))


def test_checkpoints_cross_the_switch_and_say_so(engine, tmp_path, caplog):
    off, on = smoke_config(engine, "fpn"), smoke_config(engine, "fpn", *ON)
    plain, looking = seeded_model(engine, off, 1), seeded_model(engine, on, 2)
    for name, model, cfg in (("off", plain, off), ("on", looking, on)):
        save_checkpoint(tmp_path / name, model, Identity.of(engine.NAME, cfg))
    target = seeded_model(engine, on, 3)
    fresh = {k: v.clone() for k, v in target.state_dict().items() if k.startswith(PREFIX)}
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        engine.load_weights(target, tmp_path / "off")
    assert "has no second look" in caplog.text
    state = target.state_dict()
    assert fresh
    assert all(torch.equal(state[name], value) for name, value in fresh.items())
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        engine.load_weights(plain, tmp_path / "on")
    assert "has a second look, which is left out" in caplog.text
    state = looking.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    larger = seeded_model(engine, smoke_config(engine, "fpn", *ON))
    larger.second_look.judge.classifier = torch.nn.Linear(128, 5)
    with pytest.raises(
        CheckpointError, match=r"second_look\.judge\.classifier\.weight: \(2, 128\)"
    ):
        engine.load_weights(larger, tmp_path / "on")


def diverged(model, value=float("nan"), layers=("cls_score",)):
    """The model with outputs of a layer that are not finite."""
    names = tuple(f"{layer}.bias" for layer in layers)
    (bias,) = (p for n, p in model.named_parameters() if n.endswith(names))
    torch.nn.init.constant_(bias, value)
    return model


LABELS_WITH_IT = (*LABELS_ON, "MODEL.SIMFRCNN.LABELS.CHOOSER")
WITH_LABELLED = BATCHES["pairs"] + labelled(2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("words", "batch"),
    [
        ((), BATCHES["pairs"]),
        (("MODEL.SECOND_LOOK.SIMILARITY", "cosine"), BATCHES["pairs"]),
        (("MODEL.SECOND_LOOK.BACKBONE", "test_resnet"), BATCHES["normals"]),
        ((*LABELS_WITH_IT, "second_look"), WITH_LABELLED),
        ((*LABELS_WITH_IT, "detector"), WITH_LABELLED),
    ],
)
def test_a_detector_that_diverges_says_so_by_its_own_losses(engine, words, batch, value):
    cfg = smoke_config(engine, "fpn", *ON, *words)
    losses = losses_of(engine, diverged(seeded_model(engine, cfg), value), with_native(batch))
    assert not bool(torch.isfinite(losses["loss_cls"]))
    assert bool(torch.isfinite(losses[KEY]))
    losses[KEY].backward()


def test_an_rpn_that_diverges_proposes_nothing_and_says_so(engine):
    model = seeded_model(engine, smoke_config(engine, "fpn", *ON))
    diverged(model, layers=("objectness_logits", "cls_logits"))
    if engine.NAME == "detectron2":  # which looks for it before it proposes
        with pytest.raises(FloatingPointError):
            losses_of(engine, model, with_native(BATCHES["normals"]))
        return
    losses = losses_of(engine, model, with_native(BATCHES["normals"]))
    assert not bool(torch.isfinite(losses["loss_rpn_top_likelihood"]))
    assert float(losses[KEY].detach()) == 0


def test_a_training_that_diverges_reports_it(engine, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, *ON)
    start = tmp_path / "start.pth"
    save_checkpoint(start, diverged(seeded_model(engine, cfg)), Identity.of(engine.NAME, cfg))
    cfg = tiny_config(engine, "fpn", tmp_path, *ON, "MODEL.WEIGHTS", start)
    with pytest.raises(TrainingError, match=r"step 0: .*loss_cls.* is not finite .*image\d+\.png"):
        engine.train(cfg)
    (evidence,) = (tmp_path / "run").glob("diverged_step0000000.pth")
    losses = read_checkpoint(evidence)["training"]["losses"]
    assert math.isnan(losses["loss_cls"])
    assert math.isfinite(losses[KEY])


def test_a_training_with_it_goes_on_exactly(engine, tmp_path):
    def trained(folder, steps, resume=False):
        cfg = tiny_config(engine, "fpn", tmp_path / folder, *ON, "SOLVER.MAX_ITER", steps)
        return read_checkpoint(engine.train(cfg, resume=resume))["model"]

    whole, half = trained("one", 2), trained("two", 1)
    resumed = trained("two", 2, resume=True)
    looking = [name for name in whole if name.startswith(PREFIX)]
    assert any(not torch.equal(half[name], whole[name]) for name in looking)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    other = tiny_config(engine, "fpn", tmp_path / "two", "SOLVER.MAX_ITER", 3)
    with pytest.raises(CheckpointError, match=r"MODEL\.SECOND_LOOK changed"):
        engine.train(other, resume=True)
    assert (tmp_path / "two" / "run" / LAST).exists()


REPLAY = ("DATASETS.REPLAY.FRACTION", 0.9, "DATASETS.REPLAY.PERIOD", 1)


IN_BFLOAT16 = ("SOLVER.AMP.AUTO_ON_CPU", True)
EFFICIENTNET = (  # its depthwise convolutions ask for another layout than the second look's norms
    *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "test_efficientnet"),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.WEIGHTS", ""),
)


@pytest.mark.parametrize(
    "drawn",
    [(), REPLAY, IN_BFLOAT16, EFFICIENTNET, (*EFFICIENTNET, *IN_BFLOAT16)],
    ids=["evenly", "with replay", "in bfloat16", "depthwise", "depthwise in bfloat16"],
)
def test_its_detector_is_that_of_a_training_without_it(engine, tmp_path, drawn, monkeypatch):
    """What the key DETECTOR_OF of a ladder stands on: all steps, to the last bit."""
    monkeypatch.setattr(precision_module, "bf16_units", lambda: ("avx512_bf16",))

    def trained(folder, *words):
        cfg = tiny_config(engine, "fpn", tmp_path / folder, *words, "SOLVER.MAX_ITER", 3)
        return read_checkpoint(engine.train(cfg))

    without, with_it = trained("without", *drawn), trained("with", *ON, *drawn)
    plain, looking = without["model"], with_it["model"]
    assert plain
    assert {name for name in looking if not name.startswith(PREFIX)} == set(plain)
    assert all(torch.equal(value, looking[name]) for name, value in plain.items())
    fired = [each["training"]["replay"].get("scores") for each in (without, with_it)]
    assert (fired[0] is not None) == (drawn == REPLAY)
    if drawn == REPLAY:  # what the detector fires on, the second look leaves alone
        torch.testing.assert_close(*fired, rtol=0, atol=0, equal_nan=True)
        assert bool((fired[0] > 0).any())


def as_boxed(sample, label):
    """The image with a box of a class in its middle."""
    height, width = sample.image.shape[-2:]
    box = torch.tensor([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]])
    targets = ImageTargets(box, torch.tensor([label]), is_normal=False)
    return dataclasses.replace(sample, targets=targets)


@pytest.mark.parametrize("name", ["oracle", "weak_stage2"])
def test_of_two_classes_each_is_learnt_and_judged_by_its_own(engine, name, monkeypatch):
    """Benign masses that an oracle boxed, or what stage 1 suspected: a class that is no target."""
    words = ("SEED", "0", "MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.MEMORY", "0")
    cfg = load_config(engine.default_cfg(), TEST_CONFIGS / f"{name}.yaml", words)
    model = seeded_model(engine, cfg)
    assert model.second_look.judge.classifier.out_features == 3
    assert model.second_look.target_labels == (1,)
    first, second = normals(2)
    learnt = []
    original = look_module.balanced_cross_entropy

    def spied(logits, labels, *others):
        learnt.extend(zip(labels.tolist(), others[0].tolist(), strict=True))
        return original(logits, labels, *others)

    monkeypatch.setattr(look_module, "balanced_cross_entropy", spied)
    suspects = lambda *_: torch.tensor([0])  # noqa: E731 - the region of the box itself
    monkeypatch.setattr(choice_module, "suspected", suspects)
    samples = with_native([*positives(1), as_boxed(first, 2), second])
    regions = [
        Regions(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([label]), torch.tensor([0.5]))
        for label in (1, 2, 0)
    ]
    pictures = [look_module.Picture(s.native.pixels, s.native.frame, (0.5, 0.5)) for s in samples]
    model.second_look.training_loss(pictures, [s.targets for s in samples], regions)
    assert set(learnt) == {(1, True), (2, False), (0, False)}
    losses = losses_of(engine, model, samples)
    losses[KEY].backward()
    assert bool(torch.isfinite(losses[KEY].detach()))
    torch.nn.init.constant_(model.second_look.judge.classifier.weight, 0)
    with torch.no_grad():  # whatever it sees: background .2, class 1 .3, class 2 .5
        model.second_look.judge.classifier.bias.copy_(torch.tensor([0.2, 0.3, 0.5]).log())
    (found,) = engine.detect(model, samples[:1])
    looked = ~found.second_scores.isnan()
    assert int(looked.sum()) == cfg.MODEL.SECOND_LOOK.DETECTIONS_PER_IMAGE
    expected = torch.where(found.labels == 1, 0.3, 0.5)[looked]
    torch.testing.assert_close(found.second_scores[looked], expected)


def test_stage_1_of_weak_supervision_has_nothing_to_suspect(engine):
    with pytest.raises(ConfigError, match=r"BATCHES is positives: the second look learns"):
        load_config(
            engine.default_cfg(),
            TEST_CONFIGS / "weak_stage1.yaml",
            ("SEED", "0", "MODEL.SECOND_LOOK.ENABLED", "True"),
        )


def test_contrastive_similarity_is_that_of_its_own_vectors_by_hand(engine, monkeypatch):
    node = "MODEL.SIMFRCNN.SIMILARITY."
    words = ("MODEL.SECOND_LOOK.REGIONS_PER_IMAGE", 1, "MODEL.SECOND_LOOK.MEMORY", 0)
    words += (f"{node}WEIGHT", 0.5, f"{node}LOSS", "none")
    cfg = smoke_config(engine, "fpn", *ON, *words, "MODEL.SECOND_LOOK.SIMILARITY", "contrastive")
    samples, vectors = with_native(BATCHES["pairs"]), []
    model = seeded_model(engine, cfg)
    model.second_look.judge.register_forward_hook(lambda *outputs: vectors.append(outputs[2][0]))
    losses = losses_of(engine, model, samples)
    assert float(losses["loss_similarity"].detach()) == 0
    without = losses_of(
        engine, seeded_model(engine, smoke_config(engine, "fpn", *ON, *words)), samples
    )
    settings = model.second_look.similarity
    (own,) = vectors
    assert len(own) == len(samples) == 4  # two positive images, then their normal partners
    unit = own / own.norm(dim=1, keepdim=True) if settings.normalise_vectors else own
    violations = [settings.distance_margin - (unit[i] - unit[i + 2]).norm() for i in (0, 1)]
    expected = sum(max(0.0, float(each.detach())) ** 2 / 2 for each in violations) / 2
    assert expected > 0.01
    added = float((losses[KEY] - without[KEY]).detach())
    assert added == pytest.approx(0.5 * expected, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("DATASETS.BATCHES", "positives"), "BATCHES is positives: the second look learns"),
        (("MODEL.SECOND_LOOK.BACKBONE_WEIGHTS", "w.pth"), "BACKBONE is '', whose network"),
        (("MODEL.SECOND_LOOK.SOURCE", "film"), "SOURCE is 'film'; legal is native | input"),
        (("MODEL.SECOND_LOOK.NORMALS", "randm"), "'randm'; legal is suspected | random"),
        (("MODEL.SECOND_LOOK.CONTEXT", 0.5), "CONTEXT is 0.5; legal is at least 1"),
    ],
)
def test_what_it_cannot_do_is_refused(engine, words, message):
    with pytest.raises(ConfigError, match=message):
        load_config(engine.default_cfg(), None, [str(w) for w in ("SEED", 0, *ON, *words)])


def test_images_in_which_nothing_is_found(engine):
    words = ("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SOURCE", "input")
    cfg = smoke_config(engine, "fpn", *words, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.9999")
    found = engine.detect(seeded_model(engine, cfg), positives(1) + normals(1))
    assert [len(of_image.scores) for of_image in found] == [0, 0]
    assert [len(of_image.second_scores) for of_image in found] == [0, 0]
