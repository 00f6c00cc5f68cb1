"""What makes class maps of a backbone's features? The heads of a whole-image classifier.

Shapes: N images, K classes, D features of the last stage, h x w its cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from simfrcnn.classifier_settings import ClassifierSettings

STRIDES = {"res3": 8, "res4": 16, "res5": 32}
_LAST = "res5"
_BINS = (1, 2, 3, 6)
_SCALES = (1.0, 0.5)


class ClassMaps(nn.Module):
    """A 1x1 convolution, m_c(x, y) = w_c . f(x, y) + b_c, in float32: the head ``plain``.

    With ``avg`` pooling the logit is the mean of this map, so the map is the evidence itself, and
    not a picture made afterwards.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        """Small weights: a new classifier says 1/2 of everything."""
        super().__init__()
        self.stride = STRIDES[_LAST]
        """Input pixels of a cell."""
        self.scales: tuple[float, ...] = (1.0,)
        """At which sizes of the input the backbone runs; the maps are averaged."""
        self.classify = nn.Conv2d(n_features, n_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features by level -> (N, K, h, w) float32."""
        return self._classified(features[_LAST])

    def _classified(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            maps: Tensor = self.classify(features.float())
        return maps


class MultiScaleMaps(ClassMaps):
    """The mean of the maps of the input and of the input at half its size: ``multi_scale``.

    It has no weights beyond those of ``plain``. With average pooling it is close to redundant: the
    mean of an upsampled map is nearly the mean of the map, so two scales are two views of one
    average.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes)
        self.scales = _SCALES


class PspMaps(ClassMaps):
    """Pyramid pooling before the convolution: means of 1, 4, 9 and 36 parts beside the features.

    With average pooling it is nearly redundant: the mean of a pooled and upsampled map is the mean
    of the map, exactly so where the parts tile it; what is left is one more layer.

    Reference:
        Zhao 2017 (PSPNet).
    """

    def __init__(self, n_features: int, n_classes: int, channels: int) -> None:
        super().__init__(channels, n_classes)
        n_part = max(channels // len(_BINS), 1)
        self.parts = nn.ModuleList(nn.Conv2d(n_features, n_part, 1) for _ in _BINS)
        self.join = nn.Conv2d(n_features + n_part * len(_BINS), channels, 3, padding=1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features by level -> (N, K, h, w) float32."""
        last = features[_LAST]
        parts = [
            _to_size(functional.relu(reduce(functional.adaptive_avg_pool2d(last, n_bins))), last)
            for n_bins, reduce in zip(_BINS, self.parts, strict=True)
        ]
        return self._classified(functional.relu(self.join(torch.cat([last, *parts], dim=1))))


class FpnMaps(ClassMaps):
    """A top-down pyramid before the convolution: maps of stride 8 in place of 32.

    With average pooling it is nearly redundant: the mean of an upsampled map is nearly the mean of
    the map. What a pyramid adds is finer cells, which ``top`` and the boxes can use.

    Reference:
        Lin 2017 (feature pyramid networks).
    """

    def __init__(self, n_features: Mapping[str, int], n_classes: int, channels: int) -> None:
        super().__init__(channels, n_classes)
        self.stride = STRIDES["res3"]
        self.lateral = nn.ModuleDict(
            {level: nn.Conv2d(n_features[level], channels, 1) for level in STRIDES}
        )
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features by level -> (N, K, h, w) float32."""
        coarse, *finer = reversed(STRIDES)
        joined: Tensor = self.lateral[coarse](features[coarse])
        for level in finer:
            beside = self.lateral[level](features[level])
            joined = beside + functional.interpolate(joined, size=beside.shape[-2:])
        return self._classified(functional.relu(self.smooth(joined)))


def build_class_maps(
    settings: ClassifierSettings, n_features: Mapping[str, int], n_classes: int
) -> ClassMaps:
    """The head of ``MODEL.CLASSIFIER.HEAD`` on levels with so many features."""
    if settings.head == "fpn":
        return FpnMaps(n_features, n_classes, settings.channels)
    if settings.head == "psp":
        return PspMaps(n_features[_LAST], n_classes, settings.channels)
    kind = MultiScaleMaps if settings.head == "multi_scale" else ClassMaps
    return kind(n_features[_LAST], n_classes)


def _to_size(maps: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
