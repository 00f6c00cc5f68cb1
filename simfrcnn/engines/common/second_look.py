"""How is the second look of a config built, and where do the weights of its network come from?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simfrcnn import config
from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.common.weights import backbone_weights
from simfrcnn.second_look import SecondLook
from simfrcnn.second_look.network import Judge, small_judge

_COLOURS = 3


def build_second_look(cfg: Any) -> SecondLook | None:
    """The second look of ``MODEL.SECOND_LOOK`` with random weights; None if it is off.

    Build it after everything else of a model: the others then have the weights that they would have
    without it.

    Raises:
        ConfigError: timm is missing, or does not know the model.
    """
    settings = config.second_look_settings(cfg)
    if not settings.enabled:
        return None
    data = config.data_settings(cfg)
    n_classes = len(data.classes)
    judge = _timm_judge(cfg, n_classes) if settings.backbone else small_judge(n_classes)
    similarity = config.method_settings(cfg).similarity
    return SecondLook(
        settings,
        judge,
        target_labels=[data.classes.index(name) + 1 for name in data.target_classes],
        similarity=dataclasses.replace(similarity, kind=settings.similarity),
    )


def fill_second_look(model: nn.Module) -> None:
    """Fill the network of a new model's second look from ``BACKBONE_WEIGHTS``, if there are any.

    Raises:
        CheckpointError: Missing, damaged or unsafe file, or one that leaves a tensor unfilled.
    """
    second_look = getattr(model, "second_look", None)
    if second_look is None or not second_look.settings.backbone_weights:
        return
    path = Path(second_look.settings.backbone_weights).expanduser()
    own = second_look.judge.body.state_dict()
    weights = timm_backbones.read_timm_weights(path)
    with torch.no_grad():
        for name, value in backbone_weights(
            weights, own, path, "MODEL.SECOND_LOOK.BACKBONE"
        ).items():
            own[name].copy_(value)


def _timm_judge(cfg: Any, n_classes: int) -> Judge:
    settings = config.second_look_settings(cfg)
    body: Any = timm_backbones.create_model(
        settings.backbone, "MODEL.SECOND_LOOK.BACKBONE", num_classes=0
    )
    with torch.no_grad():
        side = settings.size
        n_features = body.eval()(torch.zeros(1, _COLOURS, side, side)).shape[1]
    body.train()
    if settings.backbone_weights:
        body = timm_backbones.freeze_statistics(body)
    return Judge(body, n_features=n_features, n_channels=_COLOURS, n_classes=n_classes)
