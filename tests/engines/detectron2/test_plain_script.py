"""A plain Detectron2 script: an import, ``add_simfrcnn_config``, a ten-line ``DefaultTrainer``."""

import json
import logging

import pytest
import torch

pytestmark = pytest.mark.detectron2


@pytest.fixture(autouse=True)
def detectron2s_logger():
    """``DefaultTrainer`` attaches a handler to the library's logger, for the whole process."""
    logger = logging.getLogger("detectron2")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def test_a_plain_detectron2_script_trains_and_evaluates(make_cfg, tmp_path):
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultTrainer

    import simfrcnn.engines.detectron2 as sim
    from simfrcnn.config import add_simfrcnn_config

    cfg = get_cfg()
    add_simfrcnn_config(cfg)
    config_file = tmp_path / "config.yaml"
    config_file.write_text(
        make_cfg("c4", "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "[discs/val]").dump()
    )
    cfg.merge_from_file(str(config_file))
    cfg.TEST.EVAL_PERIOD = 1
    sim.register_datasets(cfg)

    class Trainer(DefaultTrainer):
        build_train_loader = staticmethod(sim.build_train_loader)
        build_test_loader = staticmethod(sim.build_test_loader)
        build_optimizer = staticmethod(sim.build_optimizer)
        build_lr_scheduler = staticmethod(sim.build_lr_scheduler)
        build_evaluator = staticmethod(sim.build_evaluator)

    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()

    assert type(trainer.model) is sim.SimFasterRCNN
    after = trainer.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert trainer.optimizer.param_groups[0]["lr"] == cfg.SOLVER.BASE_LR
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    folder = tmp_path / "run"
    assert (folder / "model_final.pth").exists()
    metrics = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert 0 <= metrics["case/auc"] <= 1
    covered = json.loads((folder / "inference/discs/val/detections.meta.json").read_text())
    assert covered["image_ids"] == [1, 2, 3, 4, 5, 6]
