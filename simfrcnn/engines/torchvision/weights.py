"""How does ``MODEL.WEIGHTS`` get into a new model?

Files: ImageNet weights (a ``.pth`` of torchvision or a converted ``.pkl`` of Detectron2), or a
checkpoint of simfrcnn, from which the whole detector starts.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from simfrcnn.engines.common.second_look import fill_second_look
from simfrcnn.engines.common.timm_backbones import TimmBody, read_timm_weights
from simfrcnn.engines.common.weights import (
    fill_new_model,
    read_imagenet_weights,
    tensors_by_file_name,
)
from simfrcnn.engines.torchvision.building import load_weights

# Where the parts of a backbone are in the model, and how torchvision's or timm's names begin there.
_PREFIXES = {
    "backbone.body.net.model.": "",
    "backbone.body.": "",
    "roi_heads.box_head.layer4.": "layer4.",
}


def load_initial_weights(model: nn.Module, weights: str) -> None:
    """Fill a new model from ``MODEL.WEIGHTS``; an empty name leaves it random.

    Raises:
        CheckpointError: See :func:`simfrcnn.engines.common.weights.fill_new_model`.
    """
    fill_second_look(model)
    identity: Any = model.identity
    is_timm = any(isinstance(part, TimmBody) for part in model.modules())
    fill_new_model(
        weights,
        identity=identity,
        load_detector=partial(load_weights, model),
        backbone=tensors_by_file_name(model, _PREFIXES),
        read=read_timm_weights if is_timm else read_imagenet_weights,
        architecture_key="MODEL.TIMM.NAME" if is_timm else "MODEL.RESNETS.DEPTH",
    )
