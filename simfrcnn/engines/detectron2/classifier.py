"""Which classifier of whole images does this engine build, and how does Detectron2 call it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import Boxes, Instances
from torch import nn

from simfrcnn.engines.common.classifier import ClassifierParts, ImageClassifier, classifier_parts
from simfrcnn.engines.common.stages import adapt_stages
from simfrcnn.engines.detectron2.backbone import stages_of, statistics_freezer
from simfrcnn.engines.detectron2.meta_arch import NAME
from simfrcnn.errors import DataError
from simfrcnn.structures import OF_SECOND_LOOK, Detections, Sample


@META_ARCH_REGISTRY.register()
class SimClassifier(ImageClassifier):
    """The classifier on the dicts of :func:`simfrcnn.engines.detectron2.data.to_dicts`."""

    @configurable
    def __init__(self, *, backbone: nn.Module, parts: ClassifierParts) -> None:
        """Take the library's backbone and the parts that both engines share."""
        super().__init__(backbone, parts)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Build the parts.

        Raises:
            ConfigError: A key that this backbone cannot honour.
        """
        backbone = build_backbone(cfg)
        n_features = {name: each.channels for name, each in backbone.output_shape().items()}
        parts = classifier_parts(cfg, NAME, n_features)
        adapt_stages(cfg, stages_of(backbone, nn.Identity()), statistics_freezer(cfg))
        return {"backbone": backbone, "parts": parts}

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the ResNet by name (stem, res2 ... res5); empty for another backbone."""
        return stages_of(self.backbone, nn.Identity())

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training the losses of the contract, else ``instances`` in original pixels.

        Raises:
            DataError: An image that simfrcnn's loader did not make.
        """
        samples = [_sample_of(entry) for entry in batched_inputs]
        if self.training:
            return self.losses(samples)
        return [
            {"instances": _instances(found, sample)}
            for found, sample in zip(self.found_in(samples), samples, strict=True)
        ]


def _sample_of(entry: dict[str, Any]) -> Sample:
    if "sample" not in entry:
        raise DataError(
            f"{entry.get('file_name', 'an image')} comes without 'sample': a SimClassifier takes "
            "what simfrcnn's loader makes (simfrcnn.engines.detectron2.build_train_loader and "
            "build_test_loader, or simfrcnn.load(WEIGHTS) for a picture)"
        )
    sample: Sample = entry["sample"]
    return sample


def _instances(found: Detections, sample: Sample) -> Instances:
    """As Detectron2's models give them: classes from 0."""
    further: Sequence[tuple[str, Any]] = [(name, getattr(found, name)) for name in OF_SECOND_LOOK]
    return Instances(
        (sample.frame.original_height, sample.frame.original_width),
        pred_boxes=Boxes(found.boxes),
        scores=found.scores,
        pred_classes=found.labels - 1,
        **{name: scores for name, scores in further if scores is not None},
    )
