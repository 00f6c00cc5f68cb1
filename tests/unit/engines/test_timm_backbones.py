"""timm's models as backbones: the very features, norms as asked, files read safely."""

import os
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from simfrcnn import config
from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.timm_backbones import (
    TimmFeatures,
    TimmResNet,
    build_c4,
    build_pyramid_body,
    read_timm_weights,
)
from simfrcnn.errors import CheckpointError, ConfigError

LEVELS = ["res2", "res3", "res4", "res5"]


def make_config(name, *, norm="BN", pyramid=False, freeze_at=0, **resnets):
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.MODEL.TIMM.NAME = name
    cfg.MODEL.BACKBONE.NAME = timm_backbones.FPN_NAME if pyramid else timm_backbones.C4_NAME
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.OUT_FEATURES = LEVELS if pyramid else ["res4"]
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def kinds_of(model, kind):
    return [layer for layer in model.modules() if isinstance(layer, kind)]


def test_c4_and_box_head_are_the_network_of_timm():
    body, layer4, n_features = build_c4(make_config("test_resnet"))
    whole = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    parts = {**body.state_dict(), **{f"layer4.{n}": t for n, t in layer4.state_dict().items()}}
    whole.load_state_dict(parts)
    body.eval(), layer4.eval(), whole.eval()
    with torch.no_grad():
        maps = body(images())
        assert list(maps) == ["res4"]
        assert maps["res4"].shape == (2, body.channels["res4"], 4, 6)
        assert torch.equal(layer4(maps["res4"]), whole.forward_features(images()))
    assert layer4(maps["res4"]).shape[1] == n_features


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "regnetx_002"])
def test_pyramid_levels_have_strides_4_to_32(name):
    body = build_pyramid_body(make_config(name, pyramid=True))
    assert isinstance(body, TimmResNet if name == "test_resnet" else TimmFeatures)
    assert body.training
    maps = body(images())
    assert {level: tuple(m.shape) for level, m in maps.items()} == {
        level: (2, body.channels[level], 64 // stride, 96 // stride)
        for level, stride in timm_backbones.STRIDES.items()
    }
    sum(m.square().sum() for m in maps.values()).backward()
    assert [n for n, p in body.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_frozen_statistics_are_kept(name):
    body = build_pyramid_body(make_config(name, pyramid=True))
    for layer in kinds_of(body, nn.BatchNorm2d):
        nn.init.uniform_(layer.running_mean, -1, 1)
        nn.init.uniform_(layer.running_var, 0.5, 2)
        nn.init.uniform_(layer.weight, 0.5, 2)
    with torch.no_grad():
        expected = body.eval()(images())
        frozen = timm_backbones.freeze_statistics(body).train()
        assert kinds_of(frozen, nn.BatchNorm2d) == []
        for level, features in frozen(images()).items():
            torch.testing.assert_close(features, expected[level], rtol=1e-4, atol=1e-4)


def test_norms_are_those_of_the_config():
    frozen, _, _ = build_c4(make_config("seresnet18", norm="FrozenBN"))
    assert kinds_of(frozen, nn.BatchNorm2d) == []
    assert not any("bn" in name for name, _ in frozen.named_parameters())
    grouped = build_pyramid_body(make_config("seresnet18", norm="GN", pyramid=True))
    assert kinds_of(grouped, nn.BatchNorm2d) == []
    assert len(kinds_of(grouped, nn.GroupNorm)) == 20
    # timm's start is kept: a block adds nothing.
    assert not grouped.layer1[0].bn2.weight.detach().any()


def test_a_norm_layer_with_an_activation_inside_keeps_it():
    layers = nn.Sequential(timm.layers.BatchNormAct2d(64, act_layer=nn.SiLU))
    converted = timm_backbones._with_group_norm(layers, "x")
    x = torch.randn(2, 64, 4, 4)
    expected = nn.functional.silu(nn.functional.group_norm(x, 32))
    torch.testing.assert_close(converted(x), expected)


def test_a_model_s_own_norm_layers_can_be_kept():
    body = build_pyramid_body(make_config("test_convnext", norm="", pyramid=True))
    assert kinds_of(body, nn.BatchNorm2d) == []
    with pytest.raises(ConfigError, match=r"NORM is FrozenBN, but test_convnext has no batch norm"):
        build_pyramid_body(make_config("test_convnext", norm="FrozenBN", pyramid=True))


def test_a_model_without_norm_layers_is_refused():
    with pytest.raises(ConfigError, match=r"NORM is GN, but x has no batch.*it has no norm layers"):
        timm_backbones._with_norm(nn.Sequential(nn.Conv2d(3, 3, 1)), make_config("x", norm="GN"))


def test_a_parameter_that_no_feature_map_depends_on_is_not_trained(monkeypatch):
    create = timm.create_model

    def with_a_spare_part(name, **arguments):
        model = create(name, **arguments)
        model.spare = nn.Linear(2, 2)
        return model

    monkeypatch.setattr(timm, "create_model", with_a_spare_part)
    body = build_pyramid_body(make_config("test_efficientnet", pyramid=True))
    frozen = [name for name, p in body.named_parameters() if not p.requires_grad]
    assert frozen == ["net.spare.weight", "net.spare.bias"]


@pytest.mark.parametrize("freeze_at", [0, 1, 2, 4, 5])
def test_stages_are_frozen_from_the_stem_on(freeze_at):
    body = build_pyramid_body(make_config("seresnet18", pyramid=True, freeze_at=freeze_at))
    left = {name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad}
    names = ["conv1", "layer1", "layer2", "layer3", "layer4"][freeze_at:]
    assert left == {*names, *(["bn1"] if freeze_at == 0 else [])}
    assert isinstance(body.bn1, nn.BatchNorm2d) == (freeze_at == 0)
    c4, layer4, _ = build_c4(make_config("seresnet18", freeze_at=freeze_at))
    assert all(p.requires_grad for p in layer4.parameters())
    assert any(p.requires_grad for p in c4.parameters()) == (freeze_at < 4)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (
            make_config("test_efficientnet"),
            r"a C4 detector needs a ResNet.*build_timm_fpn",
        ),
        (make_config("legacy_seresnet18"), r"a C4 detector needs a ResNet"),
        (
            make_config("seresnet11"),
            r"'seresnet11', which timm .* does not know; did you mean se",
        ),
        (make_config("test_vit", pyramid=True), r"strides \[16, 16, 16\].*4, 8, 16, 32"),
        (make_config("test_efficientnet", norm="GN", pyramid=True), r"24 channels.*32 groups"),
        (make_config("test_resnet", norm="SyncBN"), r"MODEL\.RESNETS\.NORM is 'SyncBN'.*legal is"),
        (make_config("test_resnet", OUT_FEATURES=["res5"]), r"OUT_FEATURES is \['res5'\]"),
        (make_config("test_resnet", freeze_at=6), r"FREEZE_AT is 6"),
        (make_config("test_convnext", pyramid=True, freeze_at=2), r"FREEZE_AT is 2.*set it to 0"),
        (make_config("mobilevitv2_050", pyramid=True), r"cannot stand below.*64 x 96 gives"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.MODEL.TIMM.NAME,
)
def test_what_is_refused_and_why(cfg, message):
    build = build_pyramid_body if "fpn" in cfg.MODEL.BACKBONE.NAME else build_c4
    with pytest.raises(ConfigError, match=message):
        build(cfg)


def test_a_model_of_a_fixed_input_size_is_refused():
    cfg = make_config("swin_tiny_patch4_window7_224", norm="", pyramid=True)
    with pytest.raises(ConfigError, match=r"does not take an input of 64 x 96 \(Input height"):
        build_pyramid_body(cfg)


def test_without_timm_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm.*pip install timm"):
        build_c4(make_config("test_resnet"))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model", "state_dict_ema"])
def test_files_of_timm_are_read(tmp_path, wrapped):
    state = {"conv1.weight": torch.rand(2, 2), "layer1.0.se.fc1.weight": torch.rand(3)}
    content = state
    if wrapped:
        content = {wrapped: {f"module.{n}": t for n, t in state.items()}, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    found = read_timm_weights(tmp_path / "w.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_safetensors_are_read(tmp_path):
    state = {"conv1.weight": torch.rand(2, 2)}
    save_file(state, tmp_path / "w.safetensors")
    assert torch.equal(
        read_timm_weights(tmp_path / "w.safetensors")["conv1.weight"], state["conv1.weight"]
    )
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    for name in ("torn.safetensors", "absent.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            read_timm_weights(tmp_path / name)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_files_that_are_no_weights_are_refused(tmp_path):
    trap = tmp_path / "it_ran"
    torch.save({"conv1.weight": Evil(str(trap))}, tmp_path / "evil.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth was not opened"):
        read_timm_weights(tmp_path / "evil.pth")
    assert not trap.exists()
    with pytest.raises(CheckpointError, match=r"empty\.pth holds no state dict.*epoch"):
        read_timm_weights(tmp_path / "empty.pth")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels", "cells"),
    [("densenet121", 1024, 9), ("inception_v3", 2048, 8), ("seresnet18", 512, 10)],
)
def test_a_classifier_takes_what_has_a_map_of_stride_32(name, channels, cells):
    """299 pixels are 10 cells of 32, but 9 where halves are rounded down (DenseNet), and 8 behind
    convolutions that do not pad (Inception).
    """
    cfg = make_config(name, norm="BN", pyramid=True)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS.OUT_FEATURES = "build_timm_backbone", ["res5"]
    body = timm_backbones.build_levels(cfg).eval()
    assert body.channels == {"res5": channels}
    with torch.no_grad():
        maps = body(torch.zeros(1, 3, 299, 299))
    assert {level: tuple(each.shape) for level, each in maps.items()} == {
        "res5": (1, channels, cells, cells)
    }


def test_a_model_without_a_map_of_stride_32_is_refused_by_a_classifier():
    cfg = make_config("vit_tiny_patch16_224", norm="", pyramid=True)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS.OUT_FEATURES = "build_timm_backbone", ["res5"]
    with pytest.raises(ConfigError, match=r"cannot give the map of a classifier.*of stride 32"):
        timm_backbones.build_levels(cfg)
