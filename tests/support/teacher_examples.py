"""Models with an averaged teacher that finds what a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn.structures import Detections, Sample
from support.examples import seeded_model, smoke_config
from support.labelled_examples import LABELS_ON

NODE = "MODEL.SIMFRCNN.LABELS.TEACHER."
ON = (*LABELS_ON, f"{NODE}ENABLED", True, f"{NODE}START", 0, f"{NODE}FIXED", 0)
BoxesOf = Callable[..., tuple[Tensor, Tensor, Tensor]]
KEY, LABEL_KEY = "loss_teacher", "loss_label"


def box_of(sample: Sample) -> Tensor:
    """Where the bright square of a sample lies."""
    return torch.tensor([sample.record.findings[0].box])


def finds(boxes_of: BoxesOf) -> Any:
    """A stand-in for detection: what it finds is a function of an image and of the side on which
    its square lies.
    """

    def detect(network: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
        assert not network.training
        found = []
        for sample in samples:
            is_turned = sample.frame.scale_x < 0
            boxes, scores, labels = boxes_of(sample, is_turned)
            found.append(Detections(sample.record.image_id, boxes, scores, labels))
        return found

    return detect


def the_square(
    sample: Sample, _is_turned: bool = False, score: float = 0.9, label: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one detection, on the square: boxes, scores and labels."""
    return box_of(sample), torch.tensor([score]), torch.tensor([label])


def following(model: Any) -> Any:
    """The model, at the first step of its training."""
    model.teacher.follow(model, 0)
    return model


def taught_model(
    engine: Any, heads: str = "fpn", boxes_of: BoxesOf = the_square, *words: Any
) -> Any:
    """A model whose teacher finds what a test says."""
    model = following(seeded_model(engine, smoke_config(engine, heads, *ON, *words)))
    model.teacher._detect = finds(boxes_of)
    return model


def losses_of(engine: Any, model: Any, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Of one step, always with the same draws."""
    torch.manual_seed(1)
    losses: dict[str, Tensor] = engine.training_losses(model, samples)
    return losses
