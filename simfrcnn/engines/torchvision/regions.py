"""What are the features of a region: pooled from the maps, and by which layers?

Shapes: R regions of a batch, D features of a region.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.ops.poolers import LevelMapper

from simfrcnn.engines.common.region_align import align_regions


class AlignedPooler(nn.Module):
    """ROIAlign over one or more levels, with the half-pixel shift that the library's pooler lacks.

    A region goes to the level of its size, floor(4 + log2(sqrt(area) / 224)), clipped.

    Reference:
        Lin 2017 (Feature Pyramid Networks), eq. 1.
    """

    def __init__(
        self,
        *,
        strides: dict[str, int],
        resolution: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.strides = dict(strides)
        self.resolution = resolution
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        exponents = [stride.bit_length() - 1 for stride in self.strides.values()]
        self._level_of = LevelMapper(min(exponents), max(exponents))

    def forward(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Regions (R, channels, resolution, resolution), in the order of the boxes."""
        image_index = [torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)]
        regions = torch.cat([torch.cat(image_index), torch.cat(boxes)], dim=1)
        levels = self._level_of(boxes)
        pooled, places = [], []
        for level, (name, stride) in enumerate(self.strides.items()):
            place = torch.nonzero(levels == level).flatten()
            of_level = align_regions(
                features[name],
                regions[place],
                output_size=(self.resolution, self.resolution),
                spatial_scale=1.0 / stride,
                sampling_ratio=self.sampling_ratio,
                aligned=self.aligned,
            )
            pooled.append(of_level)
            places.append(place)
        return torch.cat(pooled)[torch.argsort(torch.cat(places))]


class Res5BoxHead(nn.Module):
    """The last stage of a ResNet and the mean over space: one vector per region (C4)."""

    def __init__(self, layer4: nn.Module, n_features: int) -> None:
        super().__init__()
        self.layer4 = layer4
        self.n_features = n_features

    def maps(self, regions: Tensor) -> Tensor:
        """(R, channels, h, w) -> (R, D, h', w'), of which :meth:`forward` gives the mean."""
        maps: Tensor = self.layer4(regions)
        return maps

    def forward(self, regions: Tensor) -> Tensor:
        """(R, channels, h, w) -> (R, D)."""
        return self.maps(regions).mean(dim=(2, 3))


class FcBoxHead(nn.Sequential):
    """Fully connected layers on the flattened region (FPN), initialised as in Detectron2."""

    def __init__(self, n_inputs: int, n_layers: int, n_features: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for number in range(1, n_layers + 1):
            linear = nn.Linear(n_inputs, n_features)
            nn.init.kaiming_uniform_(linear.weight, a=1)
            nn.init.zeros_(linear.bias)
            layers[f"fc{number}"] = linear
            layers[f"relu{number}"] = nn.ReLU()
            n_inputs = n_features
        super().__init__(layers)
