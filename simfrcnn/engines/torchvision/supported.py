"""Which configs can torchvision's models honour?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simfrcnn import config
from simfrcnn.engines.common import timm_backbones
from simfrcnn.engines.torchvision import backbone as backbones
from simfrcnn.errors import ConfigError
from simfrcnn.trees import value_of

NAME = "torchvision"
C4, FPN = "SimRes5ROIHeads", "SimStandardROIHeads"
_SMOOTH_L1_BETA = 1 / 9
_STAGES = ["res2", "res3", "res4", "res5"]
_FREEZABLE = (0, 1, 2, 3, 4, 5)
# What each of the two heads needs the other keys to be.
_LEGAL_WITH_HEADS: dict[str, dict[str, tuple[Any, ...]]] = {
    C4: {
        "MODEL.BACKBONE.NAME": ("build_resnet_backbone", timm_backbones.C4_NAME),
        "MODEL.RESNETS.OUT_FEATURES": (["res4"],),
        "MODEL.RPN.IN_FEATURES": (["res4"],),
        "MODEL.ROI_HEADS.IN_FEATURES": (["res4"],),
        "MODEL.ROI_BOX_HEAD.NAME": ("",),
    },
    FPN: {
        "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone", timm_backbones.FPN_NAME),
        "MODEL.RESNETS.OUT_FEATURES": (_STAGES,),
        "MODEL.FPN.IN_FEATURES": (_STAGES,),
        "MODEL.FPN.NORM": ("", "BN", "GN"),
        "MODEL.RPN.IN_FEATURES": (["p2", "p3", "p4", "p5", "p6"],),
        "MODEL.ROI_HEADS.IN_FEATURES": (["p2", "p3", "p4", "p5"],),
        "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    },
}
_LEGAL: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": (config.DETECTOR, config.CLASSIFIER),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("TopLikelihoodRPN",),
    "MODEL.ROI_HEADS.NAME": (C4, FPN),
    "MODEL.BACKBONE.FREEZE_AT": _FREEZABLE,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
}
# Of torchvision's own ResNets; timm's models are checked where they are built.
_LEGAL_RESNETS: dict[str, tuple[Any, ...]] = {
    "MODEL.BACKBONE.FREEZE_AT": _FREEZABLE,
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.RESNETS.NORM": tuple(backbones.NORMS),
}


def check_supported(cfg: Any) -> None:
    """Refuse what this engine cannot honour.

    Raises:
        ConfigError: Names the key, its value and what is legal.
    """
    for key, legal in _LEGAL.items():
        _require_one_of(cfg, key, legal)
    for key, legal in _LEGAL_WITH_HEADS[cfg.MODEL.ROI_HEADS.NAME].items():
        _require_one_of(cfg, key, legal, f" with {cfg.MODEL.ROI_HEADS.NAME}")
    for key in ("MODEL.RPN.SMOOTH_L1_BETA", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA"):
        if abs(value_of(cfg, key) - _SMOOTH_L1_BETA) > 1e-6:
            raise _refusal(cfg, key, "1/9 (0.1111111), which torchvision has fixed")
    if not timm_backbones.is_timm(cfg):
        check_resnet(cfg)
    _require_length(cfg, "MODEL.RPN.IOU_THRESHOLDS", (2,))
    _require_length(cfg, "MODEL.ROI_HEADS.IOU_THRESHOLDS", (1,))
    if cfg.MODEL.MASK_ON:
        _require_one_of(cfg, "MODEL.ROI_MASK_HEAD.NORM", ("", "GN"))
        _require_one_of(cfg, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", ("ROIAlignV2", "ROIAlign"))
    n_levels = len(cfg.MODEL.RPN.IN_FEATURES)
    for key in ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"):
        _require_length(cfg, key, (1, n_levels))
    _require_one_head_for_all_levels(cfg, n_levels)
    if cfg.MODEL.ROI_HEADS.NAME == FPN and cfg.MODEL.ROI_BOX_HEAD.NUM_FC < 1:
        raise _refusal(cfg, "MODEL.ROI_BOX_HEAD.NUM_FC", f"at least 1 with {FPN}")


def check_resnet(cfg: Any) -> None:
    """Refuse a ResNet that torchvision does not have.

    Raises:
        ConfigError: Names the key, its value and what is legal.
    """
    for key, legal in _LEGAL_RESNETS.items():
        _require_one_of(cfg, key, legal)
    depth = cfg.MODEL.RESNETS.DEPTH
    _require_one_of(
        cfg,
        "MODEL.RESNETS.RES2_OUT_CHANNELS",
        (64,) if depth in (18, 34) else (256,),
        f" with MODEL.RESNETS.DEPTH {depth}",
    )


def per_level(values: Sequence[Any], n_levels: int) -> list[Any]:
    """One entry serves all levels, as in Detectron2."""
    return list(values) * n_levels if len(values) == 1 else list(values)


def _require_one_of(cfg: Any, key: str, legal: Sequence[Any], condition: str = "") -> None:
    value = value_of(cfg, key)
    value = list(value) if isinstance(value, (list, tuple)) else value
    if value not in legal:
        raise _refusal(cfg, key, " | ".join(map(repr, legal)) + condition)


def _require_length(cfg: Any, key: str, legal: Sequence[int]) -> None:
    if len(value_of(cfg, key)) not in legal:
        raise _refusal(cfg, key, f"a list of {' or '.join(map(str, sorted(set(legal))))}")


def _require_one_head_for_all_levels(cfg: Any, n_levels: int) -> None:
    node = cfg.MODEL.ANCHOR_GENERATOR
    sizes, ratios = per_level(node.SIZES, n_levels), per_level(node.ASPECT_RATIOS, n_levels)
    n_anchors = {len(s) * len(r) for s, r in zip(sizes, ratios, strict=True)}
    if len(n_anchors) > 1:
        legal = "as many anchors per location (SIZES x ASPECT_RATIOS) on every level"
        raise _refusal(cfg, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", legal)


def _refusal(cfg: Any, key: str, legal: str) -> ConfigError:
    return ConfigError(f"{key} is {value_of(cfg, key)!r}; the engine {NAME} takes {legal}")
