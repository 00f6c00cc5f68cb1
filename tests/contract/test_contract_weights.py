"""Which files an engine takes as weights, and which it refuses, by name."""

from __future__ import annotations

import os
import pickle
import re

import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.engines.common.checkpoints import Identity, save_checkpoint
from simfrcnn.errors import CheckpointError, ConfigError
from support.examples import CONFIGS, initialised, resnet_config, seeded_model
from support.imagenet import write_imagenet_pkl, write_imagenet_pth

FROZEN = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS", "given")


@pytest.fixture(scope="module")
def imagenet_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    return {
        "pth": write_imagenet_pth(folder / "resnet18.pth", depth=18),
        "pkl": write_imagenet_pkl(folder / "R-18.pkl", depth=18),
    }


@pytest.mark.parametrize("kind", ["pth", "pkl"])
def test_imagenet_weights_fill_every_tensor_of_the_resnet(engine, heads, kind, imagenet_files):
    model = initialised(engine, resnet_config(engine, heads, *FROZEN), imagenet_files[kind])
    filled = list(model.state_dict().values())
    wanted = torch.load(imagenet_files["pth"], weights_only=True)
    for name, tensor in wanted.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        assert any(t.shape == tensor.shape and torch.equal(t, tensor) for t in filled), name


@pytest.mark.parametrize("missing", ["layer1.0.bn1.running_mean", "layer4.1.conv2.weight"])
def test_a_file_that_leaves_a_tensor_unfilled_is_refused(engine, heads, missing, tmp_path):
    path = write_imagenet_pth(tmp_path / "part.pth", depth=18, without=(missing,))
    with pytest.raises(CheckpointError, match=re.escape(missing)) as error:
        initialised(engine, resnet_config(engine, heads, *FROZEN), path)
    assert str(path) in str(error.value)


def test_imagenet_weights_of_another_depth_or_norm_are_refused(engine, imagenet_files, tmp_path):
    deeper = write_imagenet_pth(tmp_path / "resnet34.pth", depth=18)
    cfg = resnet_config(engine, "c4", *FROZEN, "MODEL.RESNETS.DEPTH", "34")
    with pytest.raises(CheckpointError, match=r"missing: layer.*MODEL\.RESNETS\.DEPTH"):
        initialised(engine, cfg, deeper)
    with pytest.raises(CheckpointError, match=r"MODEL\.RESNETS\.NORM"):
        initialised(engine, resnet_config(engine, "c4"), imagenet_files["pth"])


def test_a_pickle_that_holds_code_is_not_opened(engine, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": {"stem.conv1.weight": Payload()}}))
    with pytest.raises(CheckpointError, match="mkdir") as error:
        initialised(engine, resnet_config(engine, "c4", *FROZEN), path)
    assert str(path) in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_missing_weights_are_named(engine, tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        initialised(engine, resnet_config(engine, "c4", *FROZEN), tmp_path / "nowhere.pth")


def test_a_checkpoint_of_ours_starts_the_whole_detector(engine, heads, tmp_path):
    cfg = resnet_config(engine, heads)
    trained = seeded_model(engine, cfg, seed=5)
    path = tmp_path / "model.pth"
    save_checkpoint(path, trained, Identity.of(engine.NAME, cfg))
    started = initialised(engine, cfg, path).state_dict()
    assert all(torch.equal(tensor, started[name]) for name, tensor in trained.state_dict().items())


def test_checkpoints_of_another_engine_or_architecture_are_refused(engine, tmp_path):
    cfg = resnet_config(engine, "c4")
    model = seeded_model(engine, cfg)
    foreign, narrow = tmp_path / "foreign.pth", tmp_path / "narrow.pth"
    save_checkpoint(foreign, model, Identity.of("another", cfg))
    with pytest.raises(CheckpointError, match=r"foreign\.pth.*engine another"):
        engine.load_weights(model, foreign)
    other = resnet_config(engine, "c4", "MODEL.ANCHOR_GENERATOR.SIZES", "[[8, 16, 32, 64]]")
    save_checkpoint(narrow, model, Identity.of(engine.NAME, other))
    with pytest.raises(CheckpointError, match=r"narrow\.pth.*MODEL\.ANCHOR_GENERATOR\.SIZES"):
        engine.load_weights(model, narrow)


def test_a_checkpoint_with_other_tensors_is_refused(engine, tmp_path):
    cfg = resnet_config(engine, "c4")
    path = tmp_path / "model.pth"
    save_checkpoint(path, torch.nn.Linear(2, 2), Identity.of(engine.NAME, cfg))
    with pytest.raises(CheckpointError, match="missing"):
        engine.load_weights(seeded_model(engine, cfg), path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.RESNETS.NORM", "FrozenBN"), r"MODEL\.RESNETS\.NORM.*MODEL\.WEIGHTS"),
        (("MODEL.RPN.NMS_TRESH", "0.5"), r"NMS_TRESH.*Did you mean MODEL\.RPN\.NMS_THRESH"),
        (("DATALOADER.ASPECT_RATIO_GROUPING", "True"), r"ASPECT_RATIO_GROUPING.*pairs"),
        (("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True"), r"FILTER_EMPTY_ANNOTATIONS.*normal"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(engine, overrides, message):
    with pytest.raises(ConfigError, match=message):
        resnet_config(engine, "fpn", *overrides)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RPN"),
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
        ("MODEL.DEVICE", "cuda:99"),
    ],
)
def test_a_model_that_this_method_does_not_know_is_refused(engine, key, value):
    cfg = load_config(
        engine.default_cfg(), CONFIGS / "smoke" / "sim_r18_fpn.yaml", [key, value, "SEED", "0"]
    )
    with pytest.raises(ConfigError, match=re.escape(key)):
        engine.build_model(cfg)
