"""Which backbones does simfrcnn add to Detectron2's registry, and where are a model's stages?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import ResNet
from torch import Tensor, nn

from simfrcnn.config import is_classifier
from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.stages import STEM, stages_by_layer
from simfrcnn.engines.common.timm_backbones import TimmBody


class TimmBackbone(Backbone):
    """A network of timm as Detectron2's backbone."""

    def __init__(self, body: TimmBody) -> None:
        super().__init__()
        self.body = body
        self._out_features = list(body.channels)
        self._out_feature_channels = dict(body.channels)
        self._out_feature_strides = dict(timm_backbones.STRIDES)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> feature maps by level."""
        features: dict[str, Tensor] = self.body(images)
        return features


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: Any, input_shape: ShapeSpec) -> TimmBackbone:
    """conv1 to conv4 of a ResNet of timm, for a C4 detector; what a classifier asks for."""
    if is_classifier(cfg):
        return TimmBackbone(timm_backbones.build_levels(cfg))
    return TimmBackbone(timm_backbones.build_c4(cfg)[0])


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """A feature pyramid on a model of timm: p2 to p5, and p6 by subsampling."""
    return FPN(
        bottom_up=TimmBackbone(timm_backbones.build_pyramid_body(cfg)),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def stages_of(backbone: nn.Module, roi_heads: nn.Module) -> dict[str, nn.Module]:
    """The stages of a detector's ResNet by name, res5 in the C4 head included; else empty."""
    bottom_up, res5 = getattr(backbone, "bottom_up", backbone), getattr(roi_heads, "res5", None)
    if isinstance(bottom_up, TimmBackbone):
        return stages_by_layer(bottom_up.body, res5)
    if not isinstance(bottom_up, ResNet):
        return {}
    stages = {name: getattr(bottom_up, name) for name in bottom_up.stage_names}
    return {STEM: bottom_up.stem, **stages, **({"res5": res5} if res5 is not None else {})}


def statistics_freezer(cfg: Any) -> Callable[[nn.Module], nn.Module]:
    """What freezes batch statistics in this backbone: timm's function or Detectron2's."""
    if timm_backbones.is_timm(cfg):
        return timm_backbones.freeze_statistics
    freeze: Callable[[nn.Module], nn.Module] = FrozenBatchNorm2d.convert_frozen_batchnorm
    return freeze
