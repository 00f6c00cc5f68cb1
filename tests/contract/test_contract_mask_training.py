"""Trainings with a mask head on every engine: resumed, and started from other files.

One that is killed is in ``test_contract_training.py``.
"""

from __future__ import annotations

import json

import pytest
import torch

from simfrcnn.engines.common.checkpoints import LAST, Identity, read_checkpoint, save_checkpoint
from simfrcnn.engines.contract import MASK_KEY
from simfrcnn.errors import CheckpointError
from support.examples import initialised, seeded_model, tiny_config
from support.outlined import tiny_mask_config

SCHEDULE = ("SOLVER.WARMUP_ITERS", "3", "SOLVER.STEPS", "[2]")


def weights_of(path):
    return read_checkpoint(path)["model"]


def changed(before, after):
    assert before.keys() == after.keys()
    return [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]


def test_a_resumed_training_ends_in_the_weights_of_one_that_was_not_stopped(
    engine, heads, tmp_path
):
    one, two = tmp_path / "one", tmp_path / "two"
    whole = tiny_mask_config(engine, heads, one, *SCHEDULE, "SOLVER.MAX_ITER", "4")
    uninterrupted = weights_of(engine.train(whole))
    engine.train(tiny_mask_config(engine, heads, two, *SCHEDULE, "SOLVER.MAX_ITER", "2"))
    halfway = weights_of(two / "run" / LAST)
    cfg = tiny_mask_config(engine, heads, two, *SCHEDULE, "SOLVER.MAX_ITER", "4")
    resumed = weights_of(engine.train(cfg, resume=True))
    of_masks = {name for name in resumed if ".mask_" in name}
    assert of_masks
    assert of_masks <= set(changed(halfway, resumed))
    assert changed(resumed, uninterrupted) == []
    lines = [json.loads(line) for line in (two / "run" / "metrics.json").read_text().splitlines()]
    losses = [line[MASK_KEY] for line in lines if MASK_KEY in line]
    assert losses
    assert min(losses) > 0
    manifest = json.loads((two / "run" / "manifest.json").read_text())
    assert [each["key"] for each in manifest["deviations"]] == [e.key for e in engine.DEVIATIONS]


WITHOUT, WITH = tiny_config, tiny_mask_config
CASES = {
    "a head is new": (WITHOUT, WITH, "False in the file, True in the config"),
    "a head is left out": (WITH, WITHOUT, "True in the file, False in the config"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_with_or_without_a_mask_head_starts_and_resumes_only_its_like(
    engine, heads, case, tmp_path
):
    of_file, of_config, said = CASES[case]
    words = rf"\.pth is of another architecture: MODEL\.MASK_ON is {said}; .*another file"
    stored = of_file(engine, heads, tmp_path / "file", "SOLVER.MAX_ITER", "1")
    path = tmp_path / "start.pth"
    given = seeded_model(engine, stored, seed=3)
    save_checkpoint(path, given, Identity.of(engine.NAME, stored))
    cfg = of_config(engine, heads, tmp_path / "config", "MODEL.WEIGHTS", path)
    with pytest.raises(CheckpointError, match=words) as error:
        engine.train(cfg)
    assert "None" not in str(error.value)
    assert not (tmp_path / "config" / "run" / LAST).exists()
    # Its like starts from it, with every weight of the mask head.
    assert changed(given.state_dict(), initialised(engine, stored, path).state_dict()) == []
    last = engine.train(stored)
    before = last.read_bytes()
    again = of_config(engine, heads, tmp_path / "config", "OUTPUT_DIR", last.parent)
    with pytest.raises(CheckpointError, match=words):
        engine.train(again, resume=True)
    assert last.read_bytes() == before
