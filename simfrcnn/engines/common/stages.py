"""Which part of a ResNet is which stage, and what do the keys that name stages do to it?

Stages go by Detectron2's names: ``stem`` (conv1), ``res2`` (conv2_x) ... ``res5`` (conv5_x, in a C4
detector the box head). A backbone that is no ResNet has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from simfrcnn.engines.common.deformable import make_deformable
from simfrcnn.errors import ConfigError

STEM = "stem"
LAYERS = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}
"""torchvision's and timm's names of the stages -> Detectron2's."""

_STEM_PARTS = ("conv1", "bn1", "act1", "maxpool")
_LAYER_OF_BLOCK = re.compile(r"(?:conv|bn)(\d+)")
_SHORTCUTS = ("shortcut", "downsample")


def stages_by_layer(body: nn.Module, res5: nn.Module | None = None) -> dict[str, nn.Module]:
    """The stages of a ResNet with torchvision's or timm's names; empty if it has no such names.

    Args:
        body: Holds ``conv1``, ``bn1``, ``layer1`` ...
        res5: The stage that serves as box head, if it is not in the body.
    """
    parts = dict(body.named_children())
    if "layer1" not in parts:
        return {}
    stem = nn.ModuleList([parts[name] for name in _STEM_PARTS if name in parts])
    stages = {name: parts[layer] for layer, name in LAYERS.items() if layer in parts}
    return {STEM: stem, **stages, **({"res5": res5} if res5 is not None else {})}


def freeze_layers(
    body: nn.Module, freeze_at: int, freeze_statistics: Callable[[nn.Module], nn.Module]
) -> None:
    """Freeze as Detectron2 does: 1 the stem, 2 the stem and res2, and so on; 0 nothing.

    Parameters are not trained, and batch normalisation keeps its statistics for good.

    Args:
        body: A ResNet with torchvision's or timm's names.
        freeze_at: ``MODEL.BACKBONE.FREEZE_AT``; stages that the body lacks are passed over.
        freeze_statistics: Returns a module whose batch normalisation has frozen statistics.
    """
    names = (*_STEM_PARTS, *list(LAYERS)[: max(freeze_at - 1, 0)]) if freeze_at >= 1 else ()
    for name in names:
        if name in dict(body.named_children()):
            _freeze(body, name, freeze_statistics)


def adapt_stages(
    cfg: Any,
    stages: Mapping[str, nn.Module],
    freeze_statistics: Callable[[nn.Module], nn.Module],
) -> None:
    """Do what the keys that name stages ask: deformable convolutions, a partly frozen res5.

    Args:
        cfg: The config.
        stages: Of the model, by name; changed in place.
        freeze_statistics: As for :func:`freeze_layers`.

    Raises:
        ConfigError: A key asks for a stage that this backbone does not have, or for convolutions
            that the stage does not have.
    """
    method = cfg.MODEL.SIMFRCNN
    needed = {
        "MODEL.SIMFRCNN.DEFORM_STAGES": tuple(method.DEFORM_STAGES),
        "MODEL.SIMFRCNN.RES5_TRAINED_CONVS": ("res5",) * (method.RES5_TRAINED_CONVS >= 0),
        "SOLVER.LOW_STAGES_LR_FACTOR": ("res3",) * (cfg.SOLVER.LOW_STAGES_LR_FACTOR != 1),
    }
    for key, names in needed.items():
        missing = [name for name in names if name not in stages]
        if missing:
            backbone = f"{cfg.MODEL.BACKBONE.NAME} {cfg.MODEL.TIMM.NAME}".strip()
            found = ", ".join(stages) or "no stages, not being a ResNet"
            raise ConfigError(
                f"{key} needs {', '.join(missing)}; the backbone {backbone} has {found}. Leave the "
                "key at its default or take a ResNet"
            )
    for name in method.DEFORM_STAGES:
        make_deformable(stages[name], name)
    if method.RES5_TRAINED_CONVS >= 0:
        train_last_convolutions(stages["res5"], method.RES5_TRAINED_CONVS, freeze_statistics)


def train_last_convolutions(
    stage: nn.Module, n_trained: int, freeze_statistics: Callable[[nn.Module], nn.Module]
) -> None:
    """Freeze a stage but for its last convolutions, in place.

    Convolutions are counted from the end of the stage: conv3, conv2, conv1 of the last block, then
    its shortcut, if it has one, then the block before. A norm layer goes with its convolution, and
    what else a block has (squeeze and excitation) with the block's last one.

    Args:
        stage: A sequence of blocks of a ResNet.
        n_trained: How many stay trained.
        freeze_statistics: As for :func:`freeze_layers`.

    Raises:
        ConfigError: The stage has fewer convolutions, or blocks of another kind.
    """
    convolutions = [of_block for block in stage.children() for of_block in _convolutions(block)]
    n_frozen = len(convolutions) - n_trained
    if n_frozen < 0:
        raise ConfigError(
            f"MODEL.SIMFRCNN.RES5_TRAINED_CONVS is {n_trained}, but res5 has {len(convolutions)} "
            "convolutions; -1 trains all"
        )
    for parts in convolutions[:n_frozen]:
        for block, name in parts:
            _freeze(block, name, freeze_statistics)


def _convolutions(block: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """The convolutions of a block in order, each as the (block, child) that are trained with it."""
    names = [name for name, child in block.named_children() if child.state_dict()]
    numbers = {
        int(match[1])
        for name in names
        if (match := _LAYER_OF_BLOCK.fullmatch(name)) and name.startswith("conv")
    }
    last = max(numbers, default=0)
    plain = all(hasattr(getattr(block, f"conv{n}", None), "weight") for n in range(1, last + 1))
    if last == 0 or not plain:
        raise ConfigError(
            "MODEL.SIMFRCNN.RES5_TRAINED_CONVS counts the convolutions conv1, conv2 ... of a "
            f"block, which a {type(block).__name__} does not have; leave it at -1"
        )
    parts: dict[int, list[tuple[nn.Module, str]]] = {}
    for name in names:
        match = _LAYER_OF_BLOCK.fullmatch(name)
        number = int(match[1]) if match else 0 if name in _SHORTCUTS else last
        parts.setdefault(number, []).append((block, name))
    return [parts[number] for number in sorted(parts)]


def _freeze(
    parent: nn.Module, name: str, freeze_statistics: Callable[[nn.Module], nn.Module]
) -> None:
    child = getattr(parent, name)
    child.requires_grad_(False)
    setattr(parent, name, freeze_statistics(child))
