"""A plain Detectron2 script: an import, ``add_simfrcnn_config``, a ten-line ``DefaultTrainer``."""

import json
import logging

import pytest
import torch

from simfrcnn.engines.common.checkpoints import read_checkpoint

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
        def build_hooks(self):
            self.checkpointer = sim.Checkpointer(self.model, self.cfg, trainer=self)
            return super().build_hooks()

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
    final = read_checkpoint(folder / "model_final.pth", trainer.model.identity)
    assert final["config"] == cfg.dump()
    assert final["card"]["steps"] == 2
    assert final["card"]["trained_on"][0]["name"] == "discs/train"
    model = sim.build_model(cfg)
    sim.load_weights(model, folder / "model_final.pth")
    assert all(torch.equal(after[name], value) for name, value in model.state_dict().items())
    metrics = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert 0 <= metrics["case/auc"] <= 1
    covered = json.loads((folder / "inference/discs/val/detections.meta.json").read_text())
    assert covered["image_ids"] == [1, 2, 3, 4, 5, 6]

    cfg.SOLVER.MAX_ITER = 3
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2
    assert all(torch.equal(after[n], v) for n, v in resumed.model.state_dict().items())
    state = resumed.optimizer.state_dict()["state"]
    assert state.keys() == trainer.optimizer.state_dict()["state"].keys()
    resumed.train()
    assert read_checkpoint(folder / "model_final.pth")["card"]["steps"] == 3
