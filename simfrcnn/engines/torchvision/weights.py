"""How does ``MODEL.WEIGHTS`` get into a new model?

Files: ImageNet weights (a ``.pth`` of torchvision or a converted ``.pkl`` of Detectron2), or a
checkpoint of simfrcnn, from which the whole detector starts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from simfrcnn.engines.common.checkpoints import is_simfrcnn_checkpoint, read_torch_file
from simfrcnn.engines.common.weights import backbone_weights, read_imagenet_weights
from simfrcnn.engines.torchvision.model import load_weights

# Where the parts of a ResNet are in the model, and how torchvision's names begin there.
_PREFIXES = {"backbone.body.": "", "roi_heads.box_head.layer4.": "layer4."}


def load_initial_weights(model: nn.Module, weights: str) -> None:
    """Fill a new model from ``MODEL.WEIGHTS``; an empty name leaves it random.

    Every tensor of the backbone, and of the stage that serves as C4 head, is filled or the file
    refused.

    Raises:
        CheckpointError: Missing, damaged or unsafe file; one that leaves a backbone tensor
            unfilled; a checkpoint of another engine or architecture.
    """
    if not weights:
        return
    path = Path(weights).expanduser()
    if path.suffix != ".pkl" and is_simfrcnn_checkpoint(read_torch_file(path)):
        load_weights(model, path)
        return
    own = _tensors_of_the_resnet(model)
    filled = backbone_weights(read_imagenet_weights(path), own, path)
    with torch.no_grad():
        for name, value in filled.items():
            own[name].copy_(value)


def _tensors_of_the_resnet(model: nn.Module) -> dict[str, Tensor]:
    return {
        theirs + name.removeprefix(ours): tensor
        for name, tensor in model.state_dict().items()
        for ours, theirs in _PREFIXES.items()
        if name.startswith(ours)
    }
