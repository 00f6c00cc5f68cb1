"""How does ``MODEL.WEIGHTS`` get into a new model?

Files: ImageNet weights (a ``.pth`` of torchvision or a converted ``.pkl`` of Detectron2), or a
checkpoint of simfrcnn, from which the whole detector starts.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from simfrcnn.engines.common.weights import fill_new_model
from simfrcnn.engines.torchvision.model import load_weights

# Where the parts of a ResNet are in the model, and how torchvision's names begin there.
_PREFIXES = {"backbone.body.": "", "roi_heads.box_head.layer4.": "layer4."}


def load_initial_weights(model: nn.Module, weights: str) -> None:
    """Fill a new model from ``MODEL.WEIGHTS``; an empty name leaves it random.

    Raises:
        CheckpointError: See :func:`simfrcnn.engines.common.weights.fill_new_model`.
    """
    fill_new_model(
        weights,
        load_detector=partial(load_weights, model),
        backbone=_tensors_of_the_resnet(model),
    )


def _tensors_of_the_resnet(model: nn.Module) -> dict[str, Tensor]:
    return {
        theirs + name.removeprefix(ours): tensor
        for name, tensor in model.state_dict().items()
        for ours, theirs in _PREFIXES.items()
        if name.startswith(ours)
    }
