"""How many runs go side by side, and on which GPU."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from simfrcnn.errors import ConfigError
from simfrcnn.parallel import available_cores
from simfrcnn.workflows.ladder import slots_for


def runs_on(*devices):
    model = [SimpleNamespace(MODEL=SimpleNamespace(DEVICE=device)) for device in devices]
    return [SimpleNamespace(cfg=cfg) for cfg in model]


def test_on_cpus_there_are_as_many_as_cores_or_as_asked_for():
    assert len(slots_for(runs_on("cpu"), None)) == available_cores()
    slots = slots_for(runs_on("cpu", "cuda"), 3)  # mixed: GPUs cannot be shared out
    assert len(slots) == 3
    assert not any("CUDA_VISIBLE_DEVICES" in slot for slot in slots)


@pytest.mark.parametrize(
    ("visible", "n_workers", "expected"),
    [
        (None, None, ["0", "1", "2"]),
        ("5,7", None, ["5", "7"]),
        ("5,7", 1, ["5"]),
        ("5,7", 3, ["5", "7", "5"]),
    ],
)
def test_on_gpus_there_is_one_each(monkeypatch, visible, n_workers, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = slots_for(runs_on("cuda", "cuda"), n_workers)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == expected


def test_children_find_this_very_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    (slot,) = slots_for(runs_on("cpu"), 1)
    first, second = slot["PYTHONPATH"].split(os.pathsep)
    assert os.path.isfile(os.path.join(first, "simfrcnn", "__main__.py"))
    assert second == "/somewhere"


def test_no_worker_is_refused():
    with pytest.raises(ConfigError, match="--workers is 0"):
        slots_for(runs_on("cpu"), 0)
