"""Checkpoints: whole or not at all, never code, never mistaken for another."""

import collections
import io
import os
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

from simfrcnn import config
from simfrcnn.engines.common import tensor_files
from simfrcnn.engines.common.checkpoints import (
    Identity,
    load_model_strictly,
    read_checkpoint,
    save_checkpoint,
)
from simfrcnn.engines.common.tensor_files import read_pickled_arrays
from simfrcnn.errors import CheckpointError, OutputError


def identity(engine="torchvision", **changes):
    return Identity(
        engine, {"MODEL.RESNETS.DEPTH": "18", "DATASETS.CLASSES": "[malignant]"} | changes
    )


@pytest.fixture
def saved(tmp_path):
    model = nn.Linear(3, 2)
    path = tmp_path / "model_last.pth"
    save_checkpoint(path, model, identity(), {"step": 7, "optimizer": {"state": {}}})
    return path, model


def test_what_was_saved_is_read(saved):
    path, model = saved
    content = read_checkpoint(path, identity())
    assert content["training"]["step"] == 7
    assert torch.equal(content["model"]["weight"], model.weight)


def test_another_engine_is_refused_with_the_remedy(saved):
    with pytest.raises(
        CheckpointError, match=r"model_last\.pth.*torchvision.*--engine torchvision"
    ):
        read_checkpoint(saved[0], identity("detectron2"))


def test_another_architecture_names_the_key_and_both_values(saved):
    message = r"MODEL\.RESNETS\.DEPTH is 18 in the file, 101 in the config"
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(saved[0], identity(**{"MODEL.RESNETS.DEPTH": "101"}))


def test_a_checkpoint_from_before_a_key_has_its_default(saved):
    plain = {"MODEL.TIMM.NAME": "", "MODEL.SIMFRCNN.DEFORM_STAGES": "[]"}
    assert read_checkpoint(saved[0], identity(**plain))["training"]["step"] == 7
    for key, value in zip(plain, ("seresnet18", "res5"), strict=True):
        with pytest.raises(CheckpointError, match=rf"{key} is .* in the file, {value} in"):
            read_checkpoint(saved[0], identity(**plain | {key: value}))


def test_a_list_and_a_tuple_are_the_same_architecture():
    trees = []
    for classes in (["malignant"], ("malignant",)):
        cfg = config.portable_defaults()
        config.add_simfrcnn_config(cfg)
        cfg.DATASETS.CLASSES = classes
        trees.append(Identity.of("torchvision", cfg))
    assert trees[0] == trees[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"a: text.\n", "was not opened|damaged"),
        (b"not a checkpoint at all", "was not opened|damaged"),
        (pickle.dumps({"a": 1}), "not a checkpoint of simfrcnn|was not opened|damaged"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert "x.pth" in str(caught.value)


def test_a_truncated_checkpoint_is_refused(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model_last\.pth"):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth does not exist"):
        read_checkpoint(tmp_path / "absent.pth")


def test_a_plain_state_dict_is_not_a_checkpoint(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of simfrcnn.*MODEL\.WEIGHTS"):
        read_checkpoint(tmp_path / "w.pth")


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["SIMFRCNN_EVIL"],)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_in_a_file_is_never_run(tmp_path, monkeypatch, suffix):
    trap = tmp_path / "it_ran"
    monkeypatch.setenv("SIMFRCNN_EVIL", str(trap))
    path = tmp_path / f"evil{suffix}"
    if suffix == ".pth":
        torch.save({"schema": 1, "model": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Evil()}))
    reader = read_checkpoint if suffix == ".pth" else read_pickled_arrays
    with pytest.raises(CheckpointError, match=rf"evil\{suffix}.*(mkdir|not opened)"):
        reader(path)
    assert not trap.exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_are_read_whatever_the_pickle_protocol(tmp_path, protocol):
    content = collections.OrderedDict(
        model={"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float64(2)}, n=1
    )
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    got = read_pickled_arrays(path)
    assert np.array_equal(got["model"]["a"], content["model"]["a"])
    assert got["model"]["b"] == 2


def test_object_arrays_cannot_smuggle_code(tmp_path, monkeypatch):
    trap = tmp_path / "it_ran"
    monkeypatch.setenv("SIMFRCNN_EVIL", str(trap))
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"a": np.array([Evil()], dtype=object)}))
    with pytest.raises(CheckpointError, match="mkdir"):
        read_pickled_arrays(path)
    assert not trap.exists()


def test_strict_loading_lists_what_does_not_fit(tmp_path):
    model = nn.Linear(3, 2)
    state = {"weight": torch.zeros(2, 4), "other": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        load_model_strictly(model, state, tmp_path / "x.pth")
    for part in (r"missing: bias", r"unexpected: other", r"weight: \(2, 4\) in the file, \(2, 3\)"):
        assert re.search(part, str(caught.value))


def test_counters_of_norm_layers_may_be_there_or_not(tmp_path):
    model = nn.BatchNorm2d(2)
    counter = "num_batches_tracked"
    weights = {name: torch.full((2,), 3.0) for name in model.state_dict() if name != counter}
    load_model_strictly(model, weights, tmp_path / "x.pth")
    assert model.running_var.tolist() == [3, 3]
    plain = nn.Linear(1, 1)
    state = plain.state_dict() | {f"norm.{counter}": torch.tensor(5)}
    load_model_strictly(plain, state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: norm\.weight"):
        load_model_strictly(plain, state | {"norm.weight": torch.ones(1)}, tmp_path / "x.pth")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_checkpoint(saved, monkeypatch):
    path, model = saved
    before = path.read_bytes()
    full = io.FileIO("/dev/full", "wb")
    monkeypatch.setattr(tensor_files, "open", lambda *_, **__: full, raising=False)
    with pytest.raises(OutputError, match=r"model_last\.pth.*disk is full"):
        save_checkpoint(path, model, identity())
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model_last.pth"]
