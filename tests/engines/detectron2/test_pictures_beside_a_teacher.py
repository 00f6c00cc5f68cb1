"""A step whose picture is not due draws none, also where a teacher has boxed an image."""

import pytest

from support.examples import engine_named, positives
from support.labelled_examples import labelled
from support.teacher_examples import taught_model

pytestmark = pytest.mark.detectron2


def test_the_pass_over_boxed_images_knows_which_step_it_is(monkeypatch):
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines.detectron2.data import to_dicts

    model = taught_model(engine_named("detectron2"))
    model.vis_period = 10
    drawn = []
    monkeypatch.setattr(model, "visualize_training", lambda *_: drawn.append(1))
    for step, is_due in ((3, False), (10, True)):
        with EventStorage(step):
            losses = model(to_dicts([*positives(1), *labelled(1)]))
        assert float(losses["loss_teacher"].detach()) > 0
        assert bool(drawn) is is_due
