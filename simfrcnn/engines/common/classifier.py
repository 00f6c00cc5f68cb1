"""What is a whole-image classifier on both engines? It answers as a detector does.

Of each image and class it gives one detection: the score is the sigmoid of the class's logit, the
box that of the largest region of the class map. So whatever comes after detections works as it is.

Shapes: N images, K classes, h x w cells of a class map, H x W the network's input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from simfrcnn import config
from simfrcnn.engines.common.checkpoints import Identity
from simfrcnn.engines.common.class_maps import ClassMaps, build_class_maps
from simfrcnn.engines.common.inference import evaluating
from simfrcnn.engines.common.labelled import not_separate
from simfrcnn.engines.common.second_look import build_second_look
from simfrcnn.engines.common.teacher import Teacher
from simfrcnn.engines.contract import IMAGE_KEY, SECOND_LOOK_KEY, as_contracted, loss_keys
from simfrcnn.errors import ConfigError
from simfrcnn.losses import multilabel_loss, pooled
from simfrcnn.sampling.maps import Component, box_of_map, over_image
from simfrcnn.second_look import Found, Picture, Regions, SecondLook, picture_of
from simfrcnn.settings import ClassifierSettings
from simfrcnn.structures import Detections, ImageTargets, Sample


@dataclass(frozen=True)
class ClassifierParts:
    """What a classifier is made of, as a config says."""

    identity: Identity
    loss_names: tuple[str, ...]
    settings: ClassifierSettings
    head: ClassMaps
    target_labels: tuple[int, ...]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    second_look: SecondLook | None


def classifier_parts(cfg: Any, engine: str, n_features: Mapping[str, int]) -> ClassifierParts:
    """All but the backbone; build that before.

    Args:
        cfg: The config.
        engine: Its name.
        n_features: Of each level that the backbone gives.

    Raises:
        ConfigError: The second look asks for a network that timm does not know, or for one whose
            squares see one another.
    """
    data, settings = config.data_settings(cfg), config.classifier_settings(cfg)
    head = build_class_maps(settings, n_features, len(data.classes))
    look = build_second_look(cfg)  # last: the other weights are those without it
    if look is not None and (found := not_separate(look.judge)):
        raise ConfigError(
            f"MODEL.SECOND_LOOK.ENABLED is True, but its network has a {found}, and the one region "
            "of a labelled image is judged alone. Give MODEL.SECOND_LOOK.BACKBONE_WEIGHTS, with "
            "which its batch statistics are frozen, or leave MODEL.SECOND_LOOK.BACKBONE empty"
        )
    return ClassifierParts(
        identity=Identity.of(engine, cfg),
        loss_names=loss_keys(cfg),
        settings=settings,
        head=head,
        target_labels=tuple(data.classes.index(name) + 1 for name in data.target_classes),
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
        second_look=look,
    )


class ImageClassifier(nn.Module):
    """A backbone, a head that makes class maps, and their pooling; both engines derive from it."""

    def __init__(self, backbone: nn.Module, parts: ClassifierParts) -> None:
        """Take the parts.

        Args:
            backbone: Normalised images (N, 3, H, W) -> feature maps by level.
            parts: All else.
        """
        super().__init__()
        self.backbone = backbone
        self.head = parts.head
        self.second_look = parts.second_look
        self.teacher: Teacher | None = None
        self.identity = parts.identity
        self.settings = parts.settings
        self.target_labels = parts.target_labels
        self.firing_scores = torch.zeros(0)
        """(N,) how hard the last training step fired on each image of its batch."""
        self._loss_names = parts.loss_names
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        for name in ("pixel_mean", "pixel_std"):
            values = torch.tensor(getattr(parts, name)).reshape(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.parameters()).device

    def class_maps(self, samples: Sequence[Sample]) -> Tensor:
        """The evidence of each class in each image: (N, K, h, w) float32."""
        images = torch.stack([sample.image for sample in samples]).to(self.device)
        images = (images - self.pixel_mean) / self.pixel_std
        maps = [self.head(self.backbone(_scaled(images, scale))) for scale in self.head.scales]
        size = maps[0].shape[-2:]
        same_size = [
            functional.interpolate(each, size=size, mode="bilinear", align_corners=False)
            for each in maps[1:]
        ]
        return torch.stack([maps[0], *same_size]).mean(dim=0)

    def losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The losses of the contract.

        Raises:
            ValueError: A sample was not loaded for a classifier.
        """
        present = [_present(sample) for sample in samples]
        maps = self.class_maps(samples)
        logits = self._pooled(maps)
        targets = [label - 1 for label in self.target_labels]
        self.firing_scores = logits.detach().sigmoid()[:, targets].amax(dim=1)
        loss = multilabel_loss(logits, torch.stack(present), smoothing=self.settings.smoothing)
        losses = {IMAGE_KEY: loss}
        if self.second_look is not None:
            losses[SECOND_LOOK_KEY] = self._second_look_loss(self.second_look, samples, maps)
        return as_contracted(losses, self._loss_names)

    @torch.no_grad()
    def found_in(self, samples: Sequence[Sample]) -> list[Detections]:
        """One detection a class of each image, in original pixels, by falling score.

        A box that would lie in the padding alone becomes the whole image: every image keeps its K
        scores.
        """
        maps = self.class_maps(samples)
        component: Component = "largest" if self.second_look is None else "highest"
        found = [
            Found(boxes, scores, torch.arange(1, len(scores) + 1))
            for boxes, scores in zip(
                self._boxes(samples, maps, component),
                self._pooled(maps).sigmoid().cpu(),
                strict=True,
            )
        ]
        found = [_by_score(one) for one in found]
        if self.second_look is None:
            return [_detections(one, sample) for one, sample in zip(found, samples, strict=True)]
        rescored = self.second_look.rescored(self._pictures(self.second_look, samples), found)
        return [
            dataclasses.replace(
                _detections(Found(f.boxes[a.order], a.scores, f.labels[a.order]), sample),
                first_scores=a.first_scores,
                second_scores=a.second_scores,
                squares=sample.frame.to_original_unclipped(a.squares),
            )
            for f, a, sample in zip(found, rescored, samples, strict=True)
        ]

    def heat_maps(self, samples: Sequence[Sample]) -> list[Tensor]:
        """Of each image (K, h', w') in [0, 1]: the sigmoid of its class maps, over the stored
        image. The mode of the model is restored.
        """
        with evaluating(self):
            maps = self.class_maps(samples)
        height, width = samples[0].image.shape[-2:]
        stride = self.head.stride
        return [
            over_image(own, (height, width), stride=stride, frame=sample.frame).sigmoid()
            for own, sample in zip(maps, samples, strict=True)
        ]

    def _pooled(self, maps: Tensor) -> Tensor:
        return pooled(maps, self.settings.pool, top_share=self.settings.top_share)

    def _boxes(self, samples: Sequence[Sample], maps: Tensor, component: Component) -> list[Tensor]:
        """Of each image (K, 4) in input pixels."""
        height, width = samples[0].image.shape[-2:]
        return [
            torch.stack(
                [
                    box_of_map(cells, (height, width), stride=self.head.stride, component=component)
                    for cells in of_image
                ]
            )
            for of_image in maps.detach().cpu()
        ]

    def _second_look_loss(
        self, look: SecondLook, samples: Sequence[Sample], maps: Tensor
    ) -> Tensor:
        """What is learnt from the region round the highest cell; of a boxed image, from its boxes.

        A config with a second look has one class. Boxed positives, remembered ones included, have
        one half of the loss and normal images the other. Positives without boxes have their share
        of a further half; where none has boxes they are one side, and do not outweigh the other.
        """
        boxes = self._boxes(samples, maps, "highest")
        scores = self._pooled(maps).detach().sigmoid().cpu()
        regions = [
            Regions(own, torch.zeros(len(own), dtype=torch.int64), own_scores)
            for own, own_scores in zip(boxes, scores, strict=True)
        ]
        targets = _as_labelled([_targets_of(sample) for sample in samples])
        return look.training_loss(self._pictures(look, samples), targets, regions)

    @staticmethod
    def _pictures(look: SecondLook, samples: Sequence[Sample]) -> list[Picture]:
        return [picture_of(sample, look.settings.source) for sample in samples]


def _scaled(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    height, width = (max(1, round(side * scale)) for side in images.shape[-2:])
    return functional.interpolate(
        images, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )


def _targets_of(sample: Sample) -> ImageTargets:
    targets = sample.targets
    if targets is None or targets.present is None:
        raise ValueError(
            f"{sample.record.file_name} was loaded without what is known of its classes; train a "
            "classifier on load_sample(..., training=True, target_classes=...)"
        )
    return targets


def _present(sample: Sample) -> Tensor:
    present = _targets_of(sample).present
    assert present is not None
    return present


def _as_labelled(targets: Sequence[ImageTargets]) -> list[ImageTargets]:
    """Targets of one class for the second look, to which a positive without a box is a labelled
    one. Their mean weighs half as much as they are a share of the positives.
    """
    shows = [bool((of.present == 1).any()) for of in targets if of.present is not None]
    has_label = [shown and not len(of.boxes) for shown, of in zip(shows, targets, strict=True)]
    weight = 0.5 * sum(has_label) / max(sum(shows), 1)
    return [
        dataclasses.replace(of, image_label=1, label_weight=weight) if is_one else of
        for of, is_one in zip(targets, has_label, strict=True)
    ]


def _by_score(found: Found) -> Found:
    """By falling score; of equal ones, the earlier class."""
    order = torch.argsort(found.scores, descending=True, stable=True)
    return Found(found.boxes[order], found.scores[order], found.labels[order])


def _detections(found: Found, sample: Sample) -> Detections:
    frame = sample.frame
    boxes = frame.to_original(found.boxes)
    is_there = (boxes[:, 2:] > boxes[:, :2]).all(dim=1, keepdim=True)
    whole = boxes.new_tensor([0.0, 0.0, frame.original_width, frame.original_height])
    boxes = torch.where(is_there, boxes, whole)
    return Detections(sample.record.image_id, boxes, found.scores, found.labels)
