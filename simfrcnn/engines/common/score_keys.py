"""Will a model give the scores under a config that it gives under its own?

A checkpoint holds the config of its training. Where it is run under another one, shapes of weights
and what the network is are compared strictly (see :class:`.checkpoints.Identity`). Other keys fit
any weights and still change what is found and scored: they are compared here, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from simfrcnn import config
from simfrcnn.config.classifier import OF_A_DETECTOR
from simfrcnn.evaluation import operating
from simfrcnn.evaluation.found_alike import changes_no_score, found_otherwise
from simfrcnn.registry import illegal
from simfrcnn.trees import leaves_of, value_of, without_tuples

logger = logging.getLogger("simfrcnn")

OF_SCORES = (
    *(f"INPUT.MAMMO.{name}" for name in ("SIZE", "CROP_TO_BREAST", "KEEP_ASPECT", "WINDOW")),
    *(f"MODEL.RPN.{name}" for name in ("PRE_NMS_TOPK_TEST", "POST_NMS_TOPK_TEST", "NMS_THRESH")),
    *(f"MODEL.ROI_HEADS.{name}" for name in ("SCORE_THRESH_TEST", "NMS_THRESH_TEST")),
    *("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "TEST.DETECTIONS_PER_IMAGE"),
    "TEST.FLIPS",
    *("TEST.AMP.ENABLED", "DATASETS.TARGET_CLASSES", "EVAL.SCORE_THRESHOLD", "EVAL.POOLING"),
)
"""Keys that change detections, their scores, or what these mean for a case."""
OF_LOOKS = tuple(
    f"MODEL.SECOND_LOOK.{name}"
    for name in ("CONTEXT", "MIN_MM", "SIZE", "DETECTIONS_PER_IMAGE", "FIRST_EXPONENT", "SOURCE")
)
"""The same where a second look is on, in both."""
_OF_MEANING = ("DATASETS.", "EVAL.")
"""Keys that begin so leave detections as they are: they change what these mean for a case."""
_SWITCH = "MODEL.SECOND_LOOK.ENABLED"
OF_MODEL = "the operating points of the model"
"""Where points are from that a checkpoint holds, for messages."""


def other_scores(cfg: Any, own_config: str, default_cfg: Any) -> dict[str, tuple[Any, Any]]:
    """The keys by which a model scores otherwise than under its own config.

    Args:
        cfg: The config that it is run under.
        own_config: That of its training, as YAML. A key that it lacks had the value that an
            earlier version meant, or has its default.
        default_cfg: Of the engine.

    Returns:
        Key -> value of ``cfg``, and that of the model's own config.
    """
    stored = {**config.MEANT_BEFORE, **dict(leaves_of(CfgNode.load_cfg(own_config)))}

    def own(key: str) -> Any:
        return stored[key] if key in stored else value_of(default_cfg, key)

    keys = OF_SCORES + (OF_LOOKS if value_of(cfg, _SWITCH) and own(_SWITCH) else ())
    unread = OF_A_DETECTOR if config.is_classifier(cfg) else ()
    pairs = {
        key: (without_tuples(value_of(cfg, key)), without_tuples(own(key)))
        for key in keys
        if not key.startswith(unread)
    }
    return {key: (here, there) for key, (here, there) in pairs.items() if here != there}


def keys_of_other_detections(cfg: Any, own_config: str | None, default_cfg: Any) -> list[str]:
    """Those keys of :func:`other_scores` that change what is found, and not what it means."""
    if own_config is None:
        return []
    keys = other_scores(cfg, own_config, default_cfg)
    return [key for key in keys if not key.startswith(_OF_MEANING)]


def keys_of_detection(cfg: Any) -> dict[str, Any]:
    """All keys that change what a model finds and scores, with their values in JSON types.

    All but ``TEST.AMP``: results state a mixed precision, and it changes only the last digits.
    """
    looks = OF_LOOKS if value_of(cfg, _SWITCH) else ()
    unread = (*_OF_MEANING, "TEST.AMP.", *(OF_A_DETECTOR if config.is_classifier(cfg) else ()))
    keys = [key for key in (*OF_SCORES, *looks) if not key.startswith(unread)]
    return {key: without_tuples(value_of(cfg, key)) for key in keys}


def keys_changed_since_points(
    cfg: Any, content: Mapping[str, Any], default_cfg: Any
) -> tuple[str, ...]:
    """The keys of detection by which the operating points of a model do not hold under a config.

    Points that do not state their keys (of an earlier version) were chosen under those of the
    model's own config.

    Args:
        cfg: The config that the model is run under.
        content: The entries of its checkpoint, as of ``read_described``.
        default_cfg: Of the engine.

    Raises:
        ArtifactError: The points are damaged.
    """
    here = keys_of_detection(cfg)
    document = content["operating_points"]
    if document is None:
        return ()
    stated = operating.points_from(document, source=Path(OF_MODEL)).detected_with
    if stated is None:
        changed = set(keys_of_other_detections(cfg, content["config"], default_cfg))
    else:
        changed = set(found_otherwise(stated, here))
    n_classes = len(cfg.DATASETS.CLASSES)
    return tuple(k for k in here if k in changed and not changes_no_score(k, here, n_classes))


def require_detection_keys(keys: Sequence[str], cfg: Any) -> None:
    """Refuse keys that do not merely change how a trained model detects.

    Args:
        keys: Of a config.
        cfg: That of the model.

    Raises:
        ConfigError: Names the key, and those that are legal.
    """
    unread = (*_OF_MEANING, *(OF_A_DETECTOR if config.is_classifier(cfg) else ()))
    if config.is_classifier(cfg) or cfg.MODEL.MASK_ON:
        unread += ("TEST.FLIPS",)
    if config.is_classifier(cfg):
        unread += ("TEST.DETECTIONS_PER_IMAGE",)
    of_look = OF_LOOKS if value_of(cfg, _SWITCH) else ()
    legal = [key for key in (*OF_SCORES, *of_look) if not key.startswith(unread)]
    for key in keys:
        if key not in legal:
            raise illegal("a key to change", key, f"one of detection: {', '.join(legal)}", legal)


def warn_of_other_scores(
    cfg: Any, own_config: str | None, default_cfg: Any, weights: Path | str
) -> None:
    """Log a warning for each key of :func:`other_scores`; without an own config nothing is known.

    Args:
        cfg: The config that the model is run under.
        own_config: That of its training; None where the checkpoint has none.
        default_cfg: Of the engine.
        weights: The checkpoint, for the message.
    """
    if own_config is None:
        return
    for key, (here, there) in other_scores(cfg, own_config, default_cfg).items():
        logger.warning(
            f"{key} is {here} here, and {there} in the config that {weights} holds: scores are "
            f"others than those under its own config. To judge it as it is, set {key} to {there}; "
            "simfrcnn.load and predict do so where they are given no other value"
        )
