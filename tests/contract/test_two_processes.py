"""Two processes on every engine: they learn from labels what one process does."""

from __future__ import annotations

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.engines.common.checkpoints import LAST, read_checkpoint, state_sha256
from simfrcnn.training import recipe
from support.two_processes import run_recorded


@pytest.mark.slow
def test_two_processes_learn_from_labels_what_one_does_and_keep_one_teacher(engine, tmp_path):
    node = "MODEL.SIMFRCNN.LABELS.TEACHER"
    words = (
        *("DATASETS.LABELS_PER_ITEM", "1", "SOLVER.IMS_PER_BATCH", "6", "SOLVER.MAX_ITER", "3"),
        *(f"{node}.ENABLED", "True", f"{node}.START", "1", f"{node}.FIXED", "0"),
        *(f"{node}.SCORE", "1e-6", f"{node}.AGREEMENT", "1e-6", f"{node}.MOMENTUM", "0.5"),
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "DATASETS.VAL", "[]"),
    )
    (first, second), weights = run_recorded(engine, tmp_path, *words, labelled=True)
    last = read_checkpoint(tmp_path / "run" / LAST)
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        assert torch.equal(tensor, last["model"][name]), name
    assert first["teacher"] == second["teacher"]
    assert first["teacher"] == state_sha256(last["training"]["teacher"]["weights"])
    assert first["teacher"] != state_sha256(last["model"])
    taught = [one["losses"][step]["loss_teacher"] for one in (first, second) for step in (0, 1, 2)]
    assert taught[0] == taught[3] == 0
    assert all(loss > 0 for loss in (*taught[1:3], *taught[4:]))
    # Each has one of the two items, and its mean over bags is half of that of one process.
    cfg = load_config(engine.default_cfg(), tmp_path / "config.yaml")
    loader = recipe.training_loader(cfg)
    batch = next(iter(loader))
    alone = [sample.record.file_name for sample in batch]
    assert [first["steps"][0], second["steps"][0]] == [alone[0::2], alone[1::2]]
    if engine.NAME == "detectron2":
        recipe.seed_step(cfg.SEED, 0)
    else:
        torch.manual_seed(cfg.SEED)
    expected = float(engine.training_losses(engine.build_model(cfg), batch)["loss_label"].detach())
    of_both = [one["losses"][0]["loss_label"] for one in (first, second)]
    assert sum(of_both) / 2 == pytest.approx(expected, rel=1e-5)
    assert expected > 0
