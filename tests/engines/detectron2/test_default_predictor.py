"""Detectron2's ``DefaultPredictor`` does not make our inputs: it must not give wrong boxes."""

import numpy as np
import pytest
import torch

from simfrcnn.engines.common.checkpoints import save_checkpoint
from simfrcnn.errors import DataError

pytestmark = pytest.mark.detectron2


@pytest.fixture
def predictor(make_cfg, tmp_path):
    from detectron2.engine import DefaultPredictor

    from simfrcnn.engines import detectron2 as sim

    cfg = make_cfg("fpn")
    model = sim.build_model(cfg)
    save_checkpoint(tmp_path / "m.pth", model, model.identity)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "m.pth")
    return DefaultPredictor(cfg), model


def test_its_inputs_are_refused_with_what_to_use(predictor):
    predict, model = predictor
    # It reads our file, and into the same weights ...
    for name, tensor in predict.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    # ... but resizes the shorter edge to 800, and crops nothing.
    message = r"800 x 960 pixels and without 'frame'.*96 x 96.*simfrcnn\.load\(WEIGHTS\)"
    with pytest.raises(DataError, match=message):
        predict(np.zeros((100, 120, 3), dtype=np.uint8))


def test_an_image_of_the_right_size_is_taken_as_prepared_with_one_warning(predictor, caplog):
    predict, _ = predictor
    image = {"image": torch.zeros(3, 96, 96), "height": 96, "width": 96}
    with torch.no_grad(), caplog.at_level("WARNING", "simfrcnn"):
        assert len(predict.model([image])) == 1
        assert len(predict.model([image, image])) == 2
    assert caplog.text.count("was not made by simfrcnn's loader") == 1
