"""How is torchvision's ResNet, or a model of timm, built as the config's Detectron2 keys say?

C4: the stages up to res4 give one feature map of stride 16, res5 becomes the box head. FPN: res2 to
res5 give the pyramid p2 to p5, and p6 by subsampling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.stages import freeze_layers
from simfrcnn.engines.common.timm_backbones import TimmBody

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "FrozenBN": FrozenBatchNorm2d,
    "BN": nn.BatchNorm2d,
    "GN": partial(nn.GroupNorm, 32),
}
"""Norm layers by Detectron2's names."""

C4_STRIDES = {"res4": 16}
FPN_STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "pool": 64}
"""Names of the feature maps, torchvision's ``pool`` being p6."""

_STAGES = ("layer1", "layer2", "layer3", "layer4")


def build_resnet(cfg: Any) -> ResNet:
    """A ResNet of the configured depth and norm, strided where the config says."""
    node = cfg.MODEL.RESNETS
    resnet: ResNet = getattr(torchvision.models, f"resnet{node.DEPTH}")(
        weights=None, norm_layer=NORMS[node.NORM]
    )
    if node.STRIDE_IN_1X1:
        for block in resnet.modules():
            if isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return resnet


class C4Backbone(nn.Module):
    """conv1 to conv4 of a ResNet."""

    def __init__(self, resnet: ResNet, freeze_at: int) -> None:
        super().__init__()
        freeze_layers(resnet, min(freeze_at, 4), freeze_statistics)
        self.out_channels = _out_channels(resnet.layer3)
        self.body = IntermediateLayerGetter(resnet, {"layer3": "res4"})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"res4": (N, channels, H / 16, W / 16)}."""
        features: dict[str, Tensor] = self.body(images)
        return features


def fpn_backbone(cfg: Any, resnet: ResNet) -> BackboneWithFPN:
    """The whole ResNet with a feature pyramid on top: p2, p3, p4, p5 and ``pool`` (p6)."""
    freeze_layers(resnet, cfg.MODEL.BACKBONE.FREEZE_AT, freeze_statistics)
    return BackboneWithFPN(
        resnet,
        return_layers=dict(zip(_STAGES, FPN_STRIDES, strict=False)),
        in_channels_list=[_out_channels(getattr(resnet, stage)) for stage in _STAGES],
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm_layer=_norm_of_pyramid(cfg),
    )


class TimmC4Backbone(nn.Module):
    """conv1 to conv4 of a ResNet of timm."""

    def __init__(self, body: TimmBody) -> None:
        super().__init__()
        self.out_channels = body.channels["res4"]
        self.body = body

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"res4": (N, channels, H / 16, W / 16)}."""
        features: dict[str, Tensor] = self.body(images)
        return features


class TimmFpnBackbone(nn.Module):
    """A model of timm with a feature pyramid on top: p2, p3, p4, p5 and ``pool`` (p6)."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.body = timm_backbones.build_pyramid_body(cfg)
        self.out_channels = cfg.MODEL.FPN.OUT_CHANNELS
        self.fpn = FeaturePyramidNetwork(
            list(self.body.channels.values()),
            self.out_channels,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=_norm_of_pyramid(cfg),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> feature maps by level."""
        maps = dict(zip(FPN_STRIDES, self.body(images).values(), strict=False))
        features: dict[str, Tensor] = self.fpn(maps)
        return features


def _norm_of_pyramid(cfg: Any) -> Callable[[int], nn.Module] | None:
    return NORMS[cfg.MODEL.FPN.NORM] if cfg.MODEL.FPN.NORM else None


def statistics_freezer(cfg: Any) -> Callable[[nn.Module], nn.Module]:
    """What freezes batch statistics in this backbone: timm's function or ours."""
    return timm_backbones.freeze_statistics if timm_backbones.is_timm(cfg) else freeze_statistics


def freeze_statistics(module: nn.Module) -> nn.Module:
    """Every batch normalisation with its statistics frozen, and kept."""
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, eps=module.eps)
        frozen.load_state_dict(module.state_dict())
        return frozen
    for name, child in module.named_children():
        setattr(module, name, freeze_statistics(child))
    return module


def _out_channels(stage: nn.Module) -> int:
    convolutions = [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d)]
    return int(convolutions[-1].out_channels)
