"""Images of which nothing is known, on every engine: they train by a teacher's box alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.engines.contract import loss_keys
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.records import Supervision
from support.examples import BATCHES, CONFIGS, positives, seeded_model, smoke_config, tiny_config
from support.labelled_examples import LABELS_ON, labelled, unknown
from support.teacher_examples import (
    KEY,
    LABEL_KEY,
    NODE,
    ON,
    finds,
    following,
    losses_of,
    taught_model,
    the_square,
)

UNLABELLED = f"{NODE}UNLABELLED_PER_ITEM"
EACH_ONE = (UNLABELLED, 1, "SOLVER.IMS_PER_BATCH", 4)
ALL_FOUND = (
    *(f"{NODE}SCORE", 1e-6, f"{NODE}AGREEMENT", 1e-6),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
)


@pytest.mark.parametrize("batch", BATCHES)
def test_all_is_finite_and_every_parameter_has_a_gradient(engine, heads, batch):
    cfg = smoke_config(engine, heads, *ON, *EACH_ONE)
    model = taught_model(engine, heads, the_square, *EACH_ONE)
    losses = losses_of(engine, model, [*BATCHES[batch], *unknown(2)])
    assert tuple(losses) == loss_keys(cfg) == (*LOSS_KEYS, LABEL_KEY, KEY)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert float(losses[LABEL_KEY].detach()) == 0  # there is no label
    assert (float(losses[KEY].detach()) > 0) is (batch != "normals")  # no drawn box: none allowed
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name


def test_the_other_losses_and_draws_are_those_without_such_images(engine, heads):
    """To the last bit, wherever they stand in the batch."""
    one, other = unknown(2)
    known = [*BATCHES["pairs"], *labelled(2)]
    off = seeded_model(engine, smoke_config(engine, heads, *LABELS_ON))
    expected, state = losses_of(engine, off, known), torch.get_rng_state()
    model = taught_model(engine, heads, the_square, *EACH_ONE)
    losses = losses_of(engine, model, [one, *known[:3], other, *known[3:]])
    for key in (*LOSS_KEYS, LABEL_KEY):
        assert torch.equal(losses[key], expected[key]), key
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.firing_scores, off.firing_scores)


def test_without_a_box_such_an_image_has_no_loss_at_all(engine, heads):
    def nothing(_sample, _is_turned):
        return torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)

    model = taught_model(engine, heads, nothing, *EACH_ONE)
    losses = losses_of(engine, model, [*positives(1), *unknown(1)])
    without = losses_of(engine, model, positives(1))
    assert float(losses[KEY]) == 0
    assert all(torch.equal(losses[key], without[key]) for key in without)


def test_the_loss_is_the_mean_over_labelled_and_unknown_images(engine):
    model = taught_model(engine, "fpn", the_square, *EACH_ONE)
    (one,), (none,) = unknown(1), labelled(1)
    alone = float(losses_of(engine, model, [*positives(1), one])[KEY].detach())
    model.teacher._detect = finds(
        lambda sample, _: the_square(sample, score=0.9 if sample.is_unknown else 0.1)
    )
    half = losses_of(engine, model, [*positives(1), none, one])[KEY]
    assert float(half.detach()) == pytest.approx(alone / 2, rel=1e-5)
    assert model.teacher.figures() == {"teacher/boxes": 2.0, "teacher/unlabelled_boxes": 2.0}


def test_not_more_boxes_than_drawn_ones_and_labelled_images_first(engine):
    model = taught_model(engine, "fpn", the_square, *EACH_ONE)
    drawn, (stated,), (one, two) = positives(2), labelled(1), unknown(2)
    ids = [sample.record.image_id for sample in (stated, one, two)]

    def chosen(*samples, **scores):
        by_id = dict(zip(ids, (0.75, 0.95, 0.99), strict=True))
        model.teacher._detect = finds(
            lambda sample, _: the_square(sample, score=by_id[sample.record.image_id], **scores)
        )
        return [each.sample.record.image_id for each in model.teacher.boxed(samples)]

    # The boxes that somebody may have hidden in their records are not counted.
    assert chosen(*drawn, one, two, stated) == [ids[0], ids[2]]
    assert chosen(*drawn[:1], one, two, stated) == [ids[0]]
    assert chosen(*drawn[:1], one, two) == [ids[2]]
    assert chosen(one, two) == []
    assert chosen(*drawn, one, two, label=2) == []  # no target
    denied = dataclasses.replace(one.record, labels={"malignant": False})
    assert chosen(*drawn, dataclasses.replace(one, record=denied)) == []
    model.teacher._detect = finds(
        lambda sample, turned: the_square(sample, score=0.2 if turned else 0.9)
    )
    assert model.teacher.boxed([*drawn, one]) == []


def test_only_a_target_is_boxed_where_other_classes_are_trained(engine):
    """Beside a benign mass that the teacher finds a malignant one may hide."""
    words = ("DATASETS.CLASSES", "[benign,malignant]", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    model = taught_model(engine, "fpn", the_square, *EACH_ONE, *words)
    assert model.teacher.boxed([*positives(1), *unknown(1)]) == []
    model.teacher._detect = finds(lambda sample, _: the_square(sample, label=2))
    (boxed,) = model.teacher.boxed([*positives(1), *unknown(1)])
    assert boxed.as_boxed().targets.labels.tolist() == [2]
    assert not boxed.as_boxed().is_unknown


def test_what_is_hidden_in_a_record_has_no_say(engine):
    """With the engine's own detection, whatever the random network finds."""
    cfg = smoke_config(engine, "fpn", *ON, *EACH_ONE, *ALL_FOUND)
    model = following(seeded_model(engine, cfg))
    (one,) = unknown(1)
    bare = dataclasses.replace(one, record=dataclasses.replace(one.record, findings=()))
    losses = [losses_of(engine, model, [*positives(1), each])[KEY] for each in (one, bare)]
    assert float(losses[0].detach()) > 0
    assert torch.equal(*losses)


def test_without_a_teacher_such_an_image_is_refused(engine):
    model = seeded_model(engine, smoke_config(engine, "fpn", *LABELS_ON))
    with pytest.raises(DataError, match=r"of 1 image of the batch nothing is known.*TEACHER"):
        losses_of(engine, model, [*positives(1), *unknown(1)])


def label_one_and_forget_one(path):
    """Of the three boxed images one keeps a label, of another one nothing is known."""
    annotated = read_coco(path)
    changes = {
        2: {"supervision": Supervision.IMAGE_LABEL, "labels": {"malignant": True}},
        3: {"supervision": Supervision.UNLABELLED, "pathology": None},
    }
    records = [
        dataclasses.replace(r, findings=(), **changes[r.image_id]) if r.image_id in changes else r
        for r in annotated.records
    ]
    write_coco(path, records, annotated.categories, {})


def test_a_training_goes_on_exactly(engine, tmp_path):
    def trained(folder, steps, resume=False):
        place = tmp_path / folder
        words = (*ON, *EACH_ONE, *ALL_FOUND, f"{NODE}START", 1, f"{NODE}MOMENTUM", 0.5)
        words = (*words, "DATASETS.BATCHES", "positives", "SOLVER.MAX_ITER", steps)
        cfg = tiny_config(engine, "fpn", place, *words)
        label_one_and_forget_one(place / "data" / "tiny.json")
        return read_checkpoint(engine.train(cfg, resume=resume))

    whole, _ = trained("one", 4), trained("two", 3)
    resumed = trained("two", 4, resume=True)
    for name, value in whole["model"].items():
        assert torch.equal(resumed["model"][name], value), name
    teachers = [content["training"]["teacher"] for content in (whole, resumed)]
    assert all(torch.equal(v, teachers[1]["weights"][n]) for n, v in teachers[0]["weights"].items())
    # Two drawn boxes a step allow two, once the teacher has begun.
    assert [(each["n_boxes"], each["n_unlabelled"]) for each in teachers] == [(6, 3), (6, 3)]
    log = (tmp_path / "one" / "run" / "metrics.json").read_text()
    assert "teacher/unlabelled_boxes" in log


def test_without_such_images_a_training_is_refused(engine, tmp_path):
    cfg = tiny_config(engine, "fpn", tmp_path, *ON, *EACH_ONE)
    path = tmp_path / "data" / "tiny.json"
    label_one_and_forget_one(path)
    annotated = read_coco(path)
    write_coco(path, [r for r in annotated.records if r.image_id != 3], annotated.categories, {})
    with pytest.raises(DataError, match="UNLABELLED_PER_ITEM is 1, but no image is unlabelled"):
        engine.train(cfg)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((f"{NODE}ENABLED", False), r"UNLABELLED_PER_ITEM is 1 but .*TEACHER.ENABLED is False"),
        (("SOLVER.IMS_PER_BATCH", 3), r"a multiple of 4: .* and .*UNLABELLED_PER_ITEM 1 unlabel"),
        ((UNLABELLED, -1), "UNLABELLED_PER_ITEM is -1; legal is at least 0"),
        (
            (
                *("DATASETS.CLASSES", "[malignant,benign]", "MODEL.ROI_HEADS.NUM_CLASSES", 2),
                *("DATASETS.TARGET_CLASSES", "[malignant,benign]"),
            ),
            "UNLABELLED_PER_ITEM is 1 but DATASETS.TARGET_CLASSES has 2 classes",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(engine, words, message):
    path = CONFIGS / "smoke" / "sim_r18_fpn.yaml"
    with pytest.raises(ConfigError, match=message):
        load_config(engine.default_cfg(), path, list(map(str, (*ON, *EACH_ONE, *words))))
