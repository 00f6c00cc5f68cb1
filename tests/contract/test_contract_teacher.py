"""An averaged teacher on every engine: it boxes labelled images, and follows the model exactly."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.common.checkpoints import BEST, read_checkpoint
from simfrcnn.engines.contract import loss_keys
from simfrcnn.errors import ConfigError
from simfrcnn.structures import ImageTargets
from simfrcnn.workflows.export import export_model
from support.examples import BATCHES, CONFIGS, positives, seeded_model, smoke_config, tiny_config
from support.labelled_examples import LABELS_ON, label_two_images, labelled
from support.teacher_examples import (
    KEY,
    LABEL_KEY,
    NODE,
    ON,
    box_of,
    finds,
    following,
    losses_of,
    taught_model,
    the_square,
)


def test_a_model_that_is_not_trained_has_no_second_network(engine):
    model = seeded_model(engine, smoke_config(engine, "fpn", *ON))
    engine.detect(model, labelled(1))
    assert float(losses_of(engine, model, [*positives(1), *labelled(1)])[KEY]) == 0
    assert "network" not in vars(model.teacher)
    assert not model.teacher.is_teaching


@pytest.mark.parametrize("batch", BATCHES)
def test_all_is_finite_and_gradients_reach_the_student_alone(engine, heads, batch):
    cfg = smoke_config(engine, heads, *ON)
    model = following(seeded_model(engine, cfg))
    model.teacher._detect = finds(the_square)
    samples = BATCHES[batch] + labelled(2)
    losses = losses_of(engine, model, samples)
    assert tuple(losses) == loss_keys(cfg) == (*LOSS_KEYS, LABEL_KEY, KEY)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert (float(losses[KEY].detach()) > 0) is (batch != "normals")  # no drawn box: none allowed
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.network.parameters())
    owned = {id(parameter) for parameter in model.parameters()}
    assert not owned & {id(parameter) for parameter in model.teacher.network.parameters()}


def test_the_other_losses_and_draws_are_those_without_a_teacher(engine, heads):
    samples = BATCHES["pairs"] + labelled(2)
    off = seeded_model(engine, smoke_config(engine, heads, *LABELS_ON))
    expected = losses_of(engine, off, samples)
    state, firing = torch.get_rng_state(), off.firing_scores
    model = taught_model(engine, heads)
    losses = losses_of(engine, model, samples)
    assert float(losses[KEY].detach()) > 0
    for key in (*LOSS_KEYS, LABEL_KEY):
        assert torch.equal(losses[key], expected[key]), key
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.firing_scores, firing)
    assert KEY not in expected
    assert off.teacher is None
    assert off.state_dict().keys() == model.state_dict().keys()


def test_the_loss_is_that_of_the_boxed_images_times_their_share_and_weight(engine, heads):
    model = taught_model(engine, heads)
    one, two = labelled(2)
    boxed = dataclasses.replace(
        one, targets=ImageTargets(box_of(one), torch.ones(1, dtype=torch.int64), False)
    )
    plain = losses_of(engine, model, [boxed])
    keys = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")
    expected = 0.1 * sum(float(plain[key].detach()) for key in keys)
    whole = losses_of(engine, model, [*positives(1), one])[KEY]
    assert float(whole.detach()) == pytest.approx(expected, rel=1e-5)
    # One drawn box allows one box of the teacher; the other bag adds 0 to the mean.
    model.teacher._detect = finds(
        lambda sample, _: the_square(sample, score=0.9 if sample.record == one.record else 0.8)
    )
    half = losses_of(engine, model, [*positives(1), two, one])[KEY]
    assert float(half.detach()) == pytest.approx(expected / 2, rel=1e-5)


def test_which_images_get_a_box(engine):
    model = taught_model(engine)
    boxed = model.teacher.boxed

    def chosen(*samples, boxes_of=the_square):
        model.teacher._detect = finds(boxes_of)
        return [each.sample.record.image_id for each in boxed(samples)]

    drawn, (one, two, three) = positives(2), labelled(3)
    ids = [sample.record.image_id for sample in (one, two, three)]
    by_id = dict(zip(ids, (0.75, 0.95, 0.85), strict=True))

    def by_score(sample, _is_turned):
        return the_square(sample, score=by_id[sample.record.image_id])

    assert chosen(*drawn, one, two, three, boxes_of=by_score) == [ids[1], ids[2]]  # two drawn
    assert chosen(one, two, three) == []
    assert chosen(*BATCHES["normals"], *drawn) == []  # what they show is known
    # Of a bag one image.
    bag = [dataclasses.replace(s.targets, bag=7) for s in (one, two)]
    of_bag = [dataclasses.replace(s, targets=t) for s, t in zip((one, two), bag, strict=True)]
    assert chosen(*drawn, *of_bag, boxes_of=by_score) == [ids[1]]
    # Unsure, of another class, or not there in the mirror image.
    assert chosen(*drawn, one, boxes_of=lambda s, _: the_square(s, score=0.69)) == []
    assert chosen(*drawn, one, boxes_of=lambda s, _: the_square(s, label=2)) == []
    for mirrored in (
        lambda s: the_square(s, score=0.2),
        lambda s: (box_of(s) + 30, *the_square(s)[1:]),
        lambda s: (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)),
    ):
        only_here = lambda s, turned, m=mirrored: m(s) if turned else the_square(s)  # noqa: E731
        assert chosen(*drawn, one, boxes_of=only_here) == []
        only_there = lambda s, turned, m=mirrored: the_square(s) if turned else m(s)  # noqa: E731
        assert chosen(*drawn, one, boxes_of=only_there) == []
    # The image's own labels deny what is said of its bag.
    denied = dataclasses.replace(one.record, labels={"malignant": False})
    assert chosen(*drawn, dataclasses.replace(one, record=denied)) == []
    later = taught_model(engine, "fpn", the_square, f"{NODE}START", 1)
    assert later.teacher.boxed([*drawn, one]) == []


def test_an_image_labelled_with_another_class_is_boxed_only_where_no_target_can_hide(engine):
    words = ("DATASETS.CLASSES", "[malignant,benign]", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    model = taught_model(engine, "fpn", lambda s, _: the_square(s, label=2), *words)
    (one,) = labelled(1)
    one = dataclasses.replace(one, targets=dataclasses.replace(one.targets, image_label=2))
    assert model.teacher.boxed([*positives(1), one]) == []
    record = dataclasses.replace(one.record, labels={"benign": True, "malignant": False})
    (boxed,) = model.teacher.boxed([*positives(1), dataclasses.replace(one, record=record)])
    assert boxed.as_boxed().targets.labels.tolist() == [2]


def test_an_image_and_its_mirror_image_get_mirrored_boxes(engine):
    """With the engine's own detection, whatever the random network finds."""
    cfg = smoke_config(engine, "fpn", *ON, f"{NODE}SCORE", 1e-6, f"{NODE}AGREEMENT", 1e-6,
                       "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)  # fmt: skip
    model = following(seeded_model(engine, cfg))
    (one,) = labelled(1)
    width = one.image.shape[-1]
    mirror = dataclasses.replace(one.frame, scale_x=-1.0, offset_x=float(width))
    turned = dataclasses.replace(one, image=one.image.flip(-1), frame=mirror)
    (boxed,), (other,) = (model.teacher.boxed([*positives(1), each]) for each in (one, turned))
    assert boxed.score == pytest.approx(other.score, abs=1e-5)
    x1, y1, x2, y2 = other.box.tolist()
    torch.testing.assert_close(
        boxed.box, torch.tensor([width - x2, y1, width - x1, y2]), rtol=0, atol=0.05
    )


def test_the_teacher_is_a_copy_stays_fixed_and_is_then_averaged(engine):
    cfg = smoke_config(engine, "fpn", *ON, f"{NODE}START", 2, f"{NODE}FIXED", 1,
                       f"{NODE}MOMENTUM", 0.9)  # fmt: skip
    model = seeded_model(engine, cfg)
    teacher, generator = model.teacher, torch.Generator().manual_seed(3)
    name = next(name for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1)
    of_model = dict(model.named_parameters())[name]
    expected = None
    for steps in range(7):
        with torch.no_grad():
            of_model.add_(torch.randn(of_model.shape, generator=generator))
        teacher.follow(model, steps)
        now = of_model.detach().double()
        if steps in (0, 2):
            expected = now
        elif steps > 3:  # the slow twin
            expected = torch.tensor(
                [
                    0.9 * old + 0.1 * new
                    for old, new in zip(expected.flatten(), now.flatten(), strict=True)
                ],
                dtype=torch.float64,
            ).reshape(now.shape)
        own = dict(teacher.network.named_parameters())[name]
        torch.testing.assert_close(own.double(), expected, rtol=1e-5, atol=1e-6)
        assert teacher.is_teaching is (steps >= 2)


def test_a_teacher_whose_start_comes_earlier_in_a_resumed_run_copies_the_model(engine):
    late, early = (
        seeded_model(engine, smoke_config(engine, "fpn", *ON, f"{NODE}START", start), seed)
        for start, seed in ((5, 0), (2, 1))
    )
    late.teacher.follow(late, 0)
    late.teacher.follow(late, 3)
    early.teacher.load_state_dict(late.teacher.state_dict())
    assert not early.teacher.is_teaching
    early.teacher.follow(early, 4)
    assert early.teacher.is_teaching
    for own, of_model in zip(early.teacher.network.parameters(), early.parameters(), strict=True):
        assert torch.equal(own, of_model)
    again = seeded_model(engine, smoke_config(engine, "fpn", *ON, f"{NODE}START", 5)).teacher
    again.load_state_dict(early.teacher.state_dict())
    assert (again.is_teaching, again.begun_at) == (True, 4)


RUN = (
    *(*LABELS_ON, f"{NODE}ENABLED", True, f"{NODE}START", 1, f"{NODE}FIXED", 1),
    *(f"{NODE}MOMENTUM", 0.5, f"{NODE}SCORE", 1e-6, f"{NODE}AGREEMENT", 1e-6),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
)


@pytest.mark.parametrize("tested", ["student", "teacher"])
def test_a_training_goes_on_exactly(engine, tested, tmp_path):
    def trained(folder, steps, resume=False):
        place = tmp_path / folder
        validated = "[tiny]" if tested == "teacher" and folder == "one" else "[]"
        words = (*RUN, f"{NODE}TESTED", tested, "SOLVER.MAX_ITER", steps)
        words = (*words, "DATASETS.VAL", validated)
        cfg = tiny_config(engine, "fpn", place, *words)
        label_two_images(place / "data" / "tiny.json")
        return engine.train(cfg, resume=resume)

    whole = read_checkpoint(trained("one", 4))
    half = read_checkpoint(trained("two", 3))
    resumed = read_checkpoint(trained("two", 4, resume=True))
    states = [content["training"]["teacher"] for content in (whole, resumed)]
    assert states[0]["steps"] == states[1]["steps"] == 4
    assert states[0]["n_boxes"] == states[1]["n_boxes"] == 3
    assert any(not torch.equal(half["model"][n], whole["model"][n]) for n in whole["model"])
    for name, value in whole["model"].items():
        assert torch.equal(resumed["model"][name], value), name
        assert torch.equal(states[0]["weights"][name], states[1]["weights"][name]), name
    is_teacher = all(torch.equal(whole["model"][n], v) for n, v in states[0]["weights"].items())
    assert is_teacher is (tested == "teacher")
    assert ("student" in whole["training"]) is (tested == "teacher")
    text = (tmp_path / "one" / "run" / "metrics.json").read_text()
    assert KEY in text
    assert "teacher/boxes" in text
    if tested == "teacher":  # what was validated is what is kept, and given away
        best = read_checkpoint(tmp_path / "one" / "run" / BEST)
        assert best["card"]["validation_in_training"]
        assert all(torch.equal(best["model"][n], v) for n, v in states[0]["weights"].items())
    exported = export_model(tmp_path / "one" / "run" / "model_last.pth", tmp_path / "a.safetensors")
    given = read_checkpoint(exported)
    assert given["training"] is None
    assert all(torch.equal(given["model"][n], value) for n, value in whole["model"].items())


def test_a_teacher_may_be_switched_on_and_off_in_a_resumed_run(engine, tmp_path, caplog):
    off = tiny_config(engine, "fpn", tmp_path, *LABELS_ON, "SOLVER.MAX_ITER", 1)
    label_two_images(tmp_path / "data" / "tiny.json")
    engine.train(off)
    on = (*RUN, f"{NODE}START", 0, f"{NODE}TESTED", "teacher")
    with caplog.at_level("WARNING", "simfrcnn"):
        second = engine.train(
            tiny_config(engine, "fpn", tmp_path, *on, "SOLVER.MAX_ITER", 2), resume=True
        )
    assert "has no teacher" in caplog.text
    student = read_checkpoint(second)["training"]["student"]
    cfg = tiny_config(engine, "fpn", tmp_path, *LABELS_ON, "SOLVER.MAX_ITER", 3,
                      "SOLVER.BASE_LR", 1e-30)  # fmt: skip
    third = read_checkpoint(engine.train(cfg, resume=True))["model"]
    for name, value in student.items():  # the model goes on, not its average
        torch.testing.assert_close(third[name], value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("DATASETS.LABELS_PER_ITEM", 0), r"TEACHER.ENABLED is True but .*LABELS_PER_ITEM is 0"),
        (("MODEL.SECOND_LOOK.ENABLED", True), "no second look at what it boxes"),
        ((f"{NODE}START", 40, "SOLVER.MAX_ITER", 40), "START is 40 but SOLVER.MAX_ITER is 40"),
        ((f"{NODE}MOMENTUM", 1), r"MOMENTUM is 1.0; legal is a number in \[0, 1\)"),
        ((f"{NODE}TESTED", "both"), "TESTED is 'both'; legal is student"),
    ],
)
def test_what_cannot_be_meant_is_refused(engine, words, message):
    path = CONFIGS / "smoke" / "sim_r18_fpn.yaml"
    with pytest.raises(ConfigError, match=message):
        load_config(engine.default_cfg(), path, list(map(str, (*ON, *words))))
