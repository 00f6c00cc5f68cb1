"""Which classifier of whole images does this engine build?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import ResNet

from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.classifier import ImageClassifier, classifier_parts
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.stages import LAYERS, adapt_stages, freeze_layers, stages_by_layer
from simfrcnn.engines.torchvision import backbone as backbones
from simfrcnn.engines.torchvision.supported import NAME, check_resnet
from simfrcnn.structures import Sample


class ClassifierBackbone(nn.Module):
    """A network whose feature maps of the named stages are wanted."""

    def __init__(self, body: nn.Module, channels: dict[str, int]) -> None:
        super().__init__()
        self.channels = channels
        self.body = body

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"res5": (N, C, H / 32, W / 32), ...}."""
        features: dict[str, Tensor] = self.body(images)
        return features


class SimClassifier(ImageClassifier):
    """The classifier on samples; in training it returns the losses of the contract."""

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the ResNet by name (stem, res2 ... res5); empty for another backbone."""
        return stages_by_layer(self.backbone.body)  # type: ignore[arg-type]

    def forward(self, samples: Sequence[Sample]) -> Any:
        """In training the losses, else one detection a class of each image."""
        return self.losses(samples) if self.training else self.found_in(samples)


def build_classifier(cfg: Any) -> SimClassifier:
    """Build the classifier of a config, with random weights, on ``MODEL.DEVICE``, in training mode.

    Raises:
        ConfigError: A key has a value that this engine cannot honour; says which are legal.
    """
    device = check_device(cfg)
    backbone = _backbone(cfg)
    model = SimClassifier(backbone, classifier_parts(cfg, NAME, backbone.channels))
    adapt_stages(cfg, model.stages, backbones.statistics_freezer(cfg))
    return model.to(device).train()


def _backbone(cfg: Any) -> ClassifierBackbone:
    if timm_backbones.is_timm(cfg):
        body = timm_backbones.build_levels(cfg)
        return ClassifierBackbone(body, body.channels)
    check_resnet(cfg)
    resnet = backbones.build_resnet(cfg)
    freeze_layers(resnet, cfg.MODEL.BACKBONE.FREEZE_AT, backbones.freeze_statistics)
    levels = {layer: name for layer, name in LAYERS.items() if name in _levels(cfg)}
    channels = {name: _n_channels(resnet, layer) for layer, name in levels.items()}
    return ClassifierBackbone(IntermediateLayerGetter(resnet, levels), channels)


def _levels(cfg: Any) -> list[str]:
    return list(cfg.MODEL.RESNETS.OUT_FEATURES)


def _n_channels(resnet: ResNet, layer: str) -> int:
    stage = getattr(resnet, layer)
    return int([part for part in stage.modules() if isinstance(part, nn.Conv2d)][-1].out_channels)
