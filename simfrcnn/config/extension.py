"""Which keys does simfrcnn add?

The nodes are made with ``type(cfg)()``: the same function extends Detectron2's tree and fvcore's,
and imports neither.
"""

from __future__ import annotations

from typing import Any

from simfrcnn.config.mapping import add_described_keys

LAST_COUNTS = "last"
BEST_BY = {
    "case/auc": "case AUC",
    "breast/auc": "breast AUC",
    "image/auc": "image AUC",
    "finding/ap50": "AP50",
    "froc/centre/all/sensitivity_at_1": "sensitivity at 1 false positive an image",
    LAST_COUNTS: "",
}
"""Legal for ``TEST.BEST_BY``: figures of a report, as people call them; and the last checkpoint."""

FLIPS = {
    "none": ((False, False),),
    "horizontal": ((False, False), (True, False)),
    "all": ((False, False), (True, False), (False, True), (True, True)),
}
"""Legal for ``TEST.FLIPS``: how an image is looked at, mirrored left/right, mirrored up/down."""


def add_simfrcnn_config(cfg: Any) -> None:
    """Add simfrcnn's keys and their defaults to a config tree, in place.

    Those of the settings stand in :mod:`simfrcnn.settings`, with what they mean.

    Args:
        cfg: ``detectron2.config.get_cfg()`` or :func:`~simfrcnn.config.portable.portable_defaults`.
    """
    add_described_keys(cfg)

    # -- the network -----------------------------------------------------------------------------
    cfg.MODEL.TIMM = type(cfg)()
    # With MODEL.BACKBONE.NAME build_timm_backbone or build_timm_fpn_backbone: timm's model name.
    cfg.MODEL.TIMM.NAME = ""
    # Stages (res2..res5) whose 3x3 convolutions are deformable, such as (res3, res4, res5).
    cfg.MODEL.SIMFRCNN.DEFORM_STAGES = ()
    # Convolutions of res5 (conv5) that are trained, counted from its end; -1 trains all.
    cfg.MODEL.SIMFRCNN.RES5_TRAINED_CONVS = -1

    # -- data ------------------------------------------------------------------------------------
    cfg.DATASETS.VAL = ()  # chooses the best checkpoint and the operating points; TEST is read once
    cfg.DATASETS.FILES = ()  # "NAME=path/to/coco.json" entries

    # -- recipe ----------------------------------------------------------------------------------
    cfg.SOLVER.OPTIMIZER = "adam"  # adam | sgd
    # Factor on the learning rate of the stem, res2 and res3 (conv1 to conv3).
    cfg.SOLVER.LOW_STAGES_LR_FACTOR = 1.0
    # On a CPU with units for bfloat16 train in it, on another in float32; nothing on a GPU.
    # SOLVER.AMP.ENABLED asks for mixed precision on both, and warns where a CPU lacks the units.
    cfg.SOLVER.AMP.AUTO_ON_CPU = False
    # Detect in mixed precision: faster, with scores that are rounded and depend on the machine.
    cfg.TEST.AMP = type(cfg)()
    cfg.TEST.AMP.ENABLED = False
    # Detect in each image and its mirror images, and join the boxes: none | horizontal | all.
    cfg.TEST.FLIPS = "none"
    # By which figure on VAL the best checkpoint is chosen; with "last", the last one counts.
    cfg.TEST.BEST_BY = "case/auc"
