"""How is torchvision's ResNet built so that it means what the config's Detectron2 keys say?

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
from torchvision.ops import FrozenBatchNorm2d

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
        freeze(resnet, min(freeze_at, 4))
        self.out_channels = _out_channels(resnet.layer3)
        self.body = IntermediateLayerGetter(resnet, {"layer3": "res4"})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"res4": (N, channels, H / 16, W / 16)}."""
        features: dict[str, Tensor] = self.body(images)
        return features


def fpn_backbone(cfg: Any, resnet: ResNet) -> BackboneWithFPN:
    """The whole ResNet with a feature pyramid on top: p2, p3, p4, p5 and ``pool`` (p6)."""
    freeze(resnet, cfg.MODEL.BACKBONE.FREEZE_AT)
    return BackboneWithFPN(
        resnet,
        return_layers=dict(zip(_STAGES, FPN_STRIDES, strict=False)),
        in_channels_list=[_out_channels(getattr(resnet, stage)) for stage in _STAGES],
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm_layer=NORMS[cfg.MODEL.FPN.NORM] if cfg.MODEL.FPN.NORM else None,
    )


def freeze(resnet: ResNet, freeze_at: int) -> None:
    """Freeze as Detectron2 does: 1 the stem, 2 the stem and res2, and so on; 0 nothing.

    Parameters are not trained, and batch normalisation keeps its statistics for good.
    """
    stem = ("conv1", "bn1") if freeze_at >= 1 else ()
    for name in (*stem, *_STAGES[: max(freeze_at - 1, 0)]):
        part = getattr(resnet, name)
        part.requires_grad_(False)
        setattr(resnet, name, _with_frozen_statistics(part))


def _with_frozen_statistics(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, eps=module.eps)
        frozen.load_state_dict(module.state_dict())
        return frozen
    for name, child in module.named_children():
        setattr(module, name, _with_frozen_statistics(child))
    return module


def _out_channels(stage: nn.Module) -> int:
    convolutions = [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d)]
    return int(convolutions[-1].out_channels)
