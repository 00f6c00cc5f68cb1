"""A tiny model with random weights, as a checkpoint that carries all it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint
from support.examples import engine_named, seeded_model, smoke_config

_CHEAP = (
    *("INPUT.MAMMO.SIZE", "[64, 64]", "MODEL.RPN.POST_NMS_TOPK_TEST", 4),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 3),
)


def write_untrained(
    path: Path, *overrides: Any, engine: str = "torchvision", **points: Any
) -> Path:
    """Write a checkpoint of the smoke config; it finds a few boxes anywhere.

    Args:
        path: The file.
        overrides: Config keys and values.
        engine: The detection library.
        points: Operating points by key (``case__youden=0.5`` is ``case/youden``).
    """
    used = engine_named(engine)
    cfg = smoke_config(used, "fpn", *_CHEAP, *overrides)
    document = None
    if points:
        document = operating_points({name.replace("__", "/"): at for name, at in points.items()})
    described = Description.of(cfg, {})
    described = Description(
        described.config, described.classes, described.target_classes, {}, document
    )
    identity = Identity.of(used.NAME, cfg)
    save_checkpoint(path, seeded_model(used, cfg), identity, description=described)
    return path


def operating_points(thresholds: dict[str, float], **settings: Any) -> dict[str, Any]:
    """The document of operating points of given thresholds, by ``level/rule``."""
    return {
        "kind": "simfrcnn-operating-points",
        "schema_version": 1,
        "points": [
            {
                "level": key.partition("/")[0],
                "rule": key.partition("/")[2],
                "score_threshold": threshold,
                "target": None,
                "chosen_on": "phantom/val",
                "sensitivity": 0.9,
                "specificity": 0.8,
            }
            for key, threshold in thresholds.items()
        ],
        "missing": {"case/specificity": "too few normal cases"},
        "settings": {
            "target_classes": ["malignant"],
            "pooling": "max",
            "case_by": "exam",
            "unknown_images": "exclude",
            "operating_sensitivity": 0.9,
            "operating_specificity": 0.9,
            **settings,
        },
        "chosen_on": [{"name": "phantom/val", "annotations_sha256": None}],
        "checkpoint_sha256": None,
    }
