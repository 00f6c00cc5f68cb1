"""How does a model of timm become a backbone, for either engine?

timm's ResNet family (its class ``ResNet``: resnet, resnext, seresnet, ecaresnet, ...) serves as C4
(conv1 to layer3, layer4 being the box head) and below a feature pyramid; any other model that gives
feature maps of strides 4, 8, 16 and 32 for inputs of any size serves below a pyramid only.

timm is an optional extra and imported when it is asked for. Nothing is ever downloaded.

Shapes: N images, C channels of a level.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn.engines.common.checkpoints import is_simfrcnn_checkpoint, read_weights_file
from simfrcnn.engines.common.stages import LAYERS, freeze_layers
from simfrcnn.errors import CheckpointError, ConfigError

C4_NAME, FPN_NAME = "build_timm_backbone", "build_timm_fpn_backbone"
"""Values of ``MODEL.BACKBONE.NAME``."""

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
"""Feature maps by Detectron2's names."""

_STEM = ("conv1", "bn1", "act1", "maxpool")
_NORMS = ("FrozenBN", "BN", "GN", "")
_N_GROUPS = 32
_PROBE_PX = (64, 96)
_LARGER_PROBE_PX = (96, 128)
# What the many models of timm raise when they have no feature maps, or not for such an input.
_FAILURES = (RuntimeError, AttributeError, AssertionError, TypeError, ValueError)
_MODELS_OF_A_CHECKPOINT = ("state_dict_ema", "model_ema", "state_dict", "model")


class TimmBody(nn.Module):
    """A network of timm that maps images to feature maps by Detectron2's names."""

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.channels = dict(channels)
        """Of each feature map that ``forward`` returns."""


class TimmResNet(TimmBody):
    """conv1 to one of the stages of a ResNet of timm, under timm's names."""

    def __init__(self, resnet: Any, returned: tuple[str, ...]) -> None:
        """Take the parts of ``resnet`` up to the last of the ``returned`` stages."""
        channels = _channels_of(resnet)
        super().__init__({name: channels[name] for name in returned})
        n_stages = max(list(STRIDES).index(name) for name in returned) + 1
        for name in (*_STEM, *list(LAYERS)[:n_stages]):
            self.add_module(name, getattr(resnet, name))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"res2": (N, C, H / 4, W / 4), ...}, those that were asked for."""
        maps, x = {}, images
        for name, part in self.named_children():
            x = part(x)
            if LAYERS.get(name) in self.channels:
                maps[LAYERS[name]] = x
        return maps


class TimmFeatures(TimmBody):
    """Any other model of timm, cut to its four feature maps, or to some of them."""

    def __init__(self, net: Any, levels: Sequence[str] = tuple(STRIDES)) -> None:
        """Wrap what ``timm.create_model(features_only=True)`` gave, with an output a level."""
        super().__init__(dict(zip(levels, net.feature_info.channels(), strict=True)))
        self.net = net

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"res2": (N, C, H / 4, W / 4), ..., "res5": (N, C, H / 32, W / 32)}."""
        return dict(zip(self.channels, self.net(images), strict=True))


def is_timm(cfg: Any) -> bool:
    """Whether the config asks for a backbone of timm."""
    return cfg.MODEL.BACKBONE.NAME in (C4_NAME, FPN_NAME)


def build_c4(cfg: Any) -> tuple[TimmResNet, nn.Module, int]:
    """conv1 to conv4, conv5 as box head, and the channels of the latter; weights are random.

    Raises:
        ConfigError: timm is missing, the model is unknown or not a ResNet, or a key that it cannot
            honour.
    """
    _check_keys(cfg, ["res4"])
    resnet = _create(cfg, num_classes=0)
    if not _is_resnet(resnet):
        raise ConfigError(
            f"MODEL.TIMM.NAME is {cfg.MODEL.TIMM.NAME}: a C4 detector needs a ResNet of timm, "
            "whose last stage (layer4) serves as box head, and this model has none. Take one of "
            f"its ResNet family, such as seresnet101, or MODEL.BACKBONE.NAME {FPN_NAME}"
        )
    _with_norm(resnet, cfg)
    body = TimmResNet(resnet, ("res4",))
    freeze_layers(body, cfg.MODEL.BACKBONE.FREEZE_AT, freeze_statistics)
    return body, resnet.layer4, _channels_of(resnet)["res5"]


def build_pyramid_body(cfg: Any) -> TimmBody:
    """The network below a feature pyramid: maps res2 to res5; weights are random.

    Raises:
        ConfigError: timm is missing, the model is unknown or does not have the four feature maps,
            or a key that it cannot honour.
    """
    _check_keys(cfg, list(STRIDES))
    model = _create(cfg, num_classes=0)
    if _is_resnet(model):
        body = TimmResNet(_with_norm(model, cfg), tuple(STRIDES))
        freeze_layers(body, cfg.MODEL.BACKBONE.FREEZE_AT, freeze_statistics)
        return body
    _refuse_freezing(cfg)
    return TimmFeatures(_with_norm(_create_features(cfg), cfg))


def build_levels(cfg: Any) -> TimmBody:
    """A network for a classifier, which gives the maps of ``MODEL.RESNETS.OUT_FEATURES``.

    A model whose only map is res5 may have one of another size than a 32nd of the input, as
    Inception-v3 has: its convolutions do not pad.

    Raises:
        ConfigError: timm is missing, the model is unknown or does not have the feature maps, or a
            key that it cannot honour.
    """
    levels = tuple(cfg.MODEL.RESNETS.OUT_FEATURES)
    _check_keys(cfg, list(levels))
    model = _create(cfg, num_classes=0)
    if _is_resnet(model):
        body = TimmResNet(_with_norm(model, cfg), levels)
        freeze_layers(body, cfg.MODEL.BACKBONE.FREEZE_AT, freeze_statistics)
        return body
    _refuse_freezing(cfg)
    net = _create_features(cfg, levels, is_exact=len(levels) > 1)
    return TimmFeatures(_with_norm(net, cfg), levels)


def _refuse_freezing(cfg: Any) -> None:
    if cfg.MODEL.BACKBONE.FREEZE_AT:
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, but {cfg.MODEL.TIMM.NAME}"
            " is not a ResNet of timm and has no stages res2 to res5; set it to 0"
        )


def freeze_statistics(module: nn.Module) -> nn.Module:
    """timm's own conversion of batch normalisation to frozen statistics, which are kept."""
    frozen: nn.Module = _timm().layers.freeze_batch_norm_2d(module)
    return frozen


def read_timm_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict of timm: ``.pth`` (tensors only, no code) or ``.safetensors``.

    Args:
        path: What ``torch.save(model.state_dict())`` wrote, a checkpoint of timm's training script
            (its averaged weights first), or a file of safetensors.

    Raises:
        CheckpointError: Missing, damaged, unsafe, a checkpoint of simfrcnn, or without tensors.
    """
    content = read_weights_file(path)
    if is_simfrcnn_checkpoint(content):
        raise CheckpointError(f"{path} is a whole detector, not an ImageNet backbone")
    state: Any = content if isinstance(content, dict) else {}
    for key in _MODELS_OF_A_CHECKPOINT:
        if isinstance(state.get(key), dict):
            state = state[key]
            break
    weights = {
        str(name).removeprefix("module."): value
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    if not weights:
        raise CheckpointError(f"{path} holds no state dict of timm; found {sorted(state)[:4]}")
    return weights


def create_model(name: str, key: str, **arguments: Any) -> Any:
    """A new model of timm with random weights.

    Args:
        name: As timm has it.
        key: The config key that names it, for messages.
        **arguments: Of ``timm.create_model``.

    Raises:
        ConfigError: timm is missing, or does not know the model.
    """
    timm = _timm(key)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"{key} is {name!r}, which timm {timm.__version__} does not know{hint}")
    return timm.create_model(name, pretrained=False, **arguments)


def _timm(key: str = f"MODEL.BACKBONE.NAME {C4_NAME} or {FPN_NAME}") -> Any:
    try:
        import timm
        import timm.layers
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "timm":
            raise
        raise ConfigError(f"{key} needs timm, which is not installed: pip install timm") from error
    return timm


def _create(cfg: Any, **arguments: Any) -> Any:
    """A new model with random weights."""
    return create_model(cfg.MODEL.TIMM.NAME, "MODEL.TIMM.NAME", **arguments)


def _is_resnet(model: Any) -> bool:
    """Whether conv1 to layer4 of a model, one after the other, are a ResNet as we know it."""
    if not isinstance(model, _timm().models.resnet.ResNet):
        return False
    strides = {level["module"]: level["reduction"] for level in model.feature_info}
    return [strides.get(layer) for layer in LAYERS] == list(STRIDES.values())


def _create_features(
    cfg: Any, levels: Sequence[str] = tuple(STRIDES), *, is_exact: bool = True
) -> Any:
    """A model cut to the feature maps of strides 4, 8, 16 and 32, or some, tried on an input.

    Maps that must be exact have a size that is the input's divided by the stride.

    A parameter that no feature map depends on (some versions of timm leave one in) is not trained.
    """
    name, wanted = cfg.MODEL.TIMM.NAME, [STRIDES[level] for level in levels]
    getter = {"features_only": True, "feature_cls": "getter"}
    try:
        info = _create(cfg, **getter).feature_info
        strides = [int(stride) for stride in info.reduction()]
    except _FAILURES as error:
        reason = f"timm gives no feature maps of it ({_one_line(error)})"
        raise _no_pyramid(name, reason, wanted) from error
    missing = [stride for stride in wanted if stride not in strides]
    if missing:
        raise _no_pyramid(name, f"its feature maps have the strides {strides}", wanted)
    indices = [info.out_indices[strides.index(stride)] for stride in wanted]
    net = _create(cfg, **getter, out_indices=indices)
    height, width = _PROBE_PX if is_exact else _LARGER_PROBE_PX
    expected = [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(net.feature_info.channels(), wanted, strict=True)
    ]
    try:
        maps = net.eval()(torch.ones(1, 3, height, width))
    except _FAILURES as error:
        reason = f"it does not take an input of {height} x {width} ({_one_line(error)})"
        raise _no_pyramid(name, reason, wanted) from error
    found = [tuple(level.shape) for level in maps]
    if is_exact and found != expected:
        reason = f"an input of {height} x {width} gives {found}, not {expected}"
        raise _no_pyramid(name, reason, wanted)
    parameters = list(net.parameters())
    total = torch.stack([level.sum() for level in maps]).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return net.train()


def _no_pyramid(name: str, reason: str, wanted: Sequence[int]) -> ConfigError:
    what = "stand below a feature pyramid" if len(wanted) > 1 else "give the map of a classifier"
    maps = "feature maps of strides" if len(wanted) > 1 else "a feature map of stride"
    return ConfigError(
        f"MODEL.TIMM.NAME is {name}, which cannot {what}: {reason}. Needed "
        f"{'are' if len(wanted) > 1 else 'is'} {maps} {', '.join(map(str, wanted))} for inputs of "
        "any size, as ResNets, RegNets, ConvNeXts and EfficientNets have"
        f"{' them' if len(wanted) > 1 else ''}"
    )


def _with_norm(model: Any, cfg: Any) -> Any:
    """Bring batch normalisation to the configured norm; '' leaves the model's norm layers alone.

    Raises:
        ConfigError: The model has no batch normalisation to convert, or channels that GroupNorm
            cannot group.
    """
    norm, name = cfg.MODEL.RESNETS.NORM, cfg.MODEL.TIMM.NAME
    if norm == "":
        return model
    has_batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    is_group_norm = norm == "GN" and any(isinstance(x, nn.GroupNorm) for x in model.modules())
    if not has_batch_norm and not is_group_norm:
        layers = [layer for layer in model.modules() if isinstance(getattr(layer, "eps", 0), float)]
        kinds = {type(layer).__name__ for layer in layers if "Norm" in type(layer).__name__}
        raise ConfigError(
            f"MODEL.RESNETS.NORM is {norm}, but {name} has no batch normalisation (it has "
            f"{', '.join(sorted(kinds)) or 'no norm layers'}); '' keeps its own norm layers"
        )
    if norm == "FrozenBN":
        return freeze_statistics(model)
    return _with_group_norm(model, name) if norm == "GN" else model


def _with_group_norm(module: nn.Module, name: str) -> nn.Module:
    """Every batch normalisation as GroupNorm with 32 groups; scale, shift and activation stay."""
    if not isinstance(module, nn.BatchNorm2d):
        for child_name, child in module.named_children():
            setattr(module, child_name, _with_group_norm(child, name))
        return module
    layers, n_channels = _timm().layers, module.num_features
    if n_channels % _N_GROUPS:
        raise ConfigError(
            f"MODEL.RESNETS.NORM is GN, but {name} has a layer of {n_channels} channels, which do "
            f"not make {_N_GROUPS} groups; take BN, or FrozenBN with MODEL.WEIGHTS"
        )
    group_norm: Any
    if isinstance(module, layers.BatchNormAct2d):
        group_norm = layers.GroupNormAct(n_channels, _N_GROUPS, apply_act=False)
        group_norm.act, group_norm.drop = module.act, module.drop
    else:
        group_norm = nn.GroupNorm(_N_GROUPS, n_channels)
    group_norm.load_state_dict({"weight": module.weight, "bias": module.bias})
    converted: nn.Module = group_norm
    return converted


def _check_keys(cfg: Any, levels: list[str]) -> None:
    legal: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "MODEL.RESNETS.NORM": (cfg.MODEL.RESNETS.NORM, _NORMS),
        "MODEL.RESNETS.OUT_FEATURES": (list(cfg.MODEL.RESNETS.OUT_FEATURES), (levels,)),
        "MODEL.BACKBONE.FREEZE_AT": (cfg.MODEL.BACKBONE.FREEZE_AT, (0, 1, 2, 3, 4, 5)),
    }
    for key, (value, values) in legal.items():
        if value not in values:
            raise ConfigError(
                f"{key} is {value!r}; with MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} legal is "
                + " | ".join(map(repr, values))
            )


def _channels_of(resnet: Any) -> dict[str, int]:
    by_layer = {level["module"]: int(level["num_chs"]) for level in resnet.feature_info}
    return {name: by_layer[layer] for layer, name in LAYERS.items()}


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
