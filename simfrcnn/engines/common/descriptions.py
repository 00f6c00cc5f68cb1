"""What does a checkpoint lack, and can the files beside it say it?

Files of schema 1 hold weights alone. Their run folder has ``config.yaml`` and
``operating_points.json``; these are taken from there, and the reader is given a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from simfrcnn import config
from simfrcnn.engines.common.cards import DETECTS_WITH
from simfrcnn.engines.common.checkpoints import read_checkpoint, state_sha256
from simfrcnn.engines.common.run_folder import CONFIG
from simfrcnn.engines.common.score_keys import keys_of_detection
from simfrcnn.errors import CheckpointError
from simfrcnn.evaluation import operating
from simfrcnn.evaluation.found_alike import DETECTED_WITH, found_otherwise
from simfrcnn.files import sha256_of


def read_described(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read a checkpoint, and what it does not say of itself from the files beside it.

    Operating points are taken only if they were chosen for these very weights: a run folder may
    hold several checkpoints.

    Returns:
        The entries, as of :func:`~simfrcnn.engines.common.checkpoints.read_checkpoint`; and a note
        for each thing that the file itself lacks.

    Raises:
        CheckpointError: As of ``read_checkpoint``; or ``config.yaml`` beside it is not a run's.
        ConfigError: ``config.yaml`` beside the file is malformed.
        ArtifactError: ``operating_points.json`` beside the file is damaged.
    """
    path = Path(path)
    content = read_checkpoint(path)
    notes: list[str] = []
    if content["config"] is None:
        _take_config(path, content, notes)
    if content["operating_points"] is None:
        _take_operating_points(path, content, notes)
    if content["card"] is None:
        notes.append(f"{path.name} was written by an earlier version and has no model card.")
    return content, tuple(notes)


def facts_of_model(cfg: Any, weights: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What a methods section says of a model, whichever way its detections are made.

    From which config, on what and from which seed it was trained, the file itself says: the config
    of a test may be another one, or lack sets that are not here. What it does not say is left out.
    Under which keys it detects, ``detected_with``, is that of ``cfg``: a score depends on them.

    Args:
        cfg: The model's config.
        weights: The checkpoint.
        content: Its entries, as of :func:`read_described` or ``read_checkpoint``.
    """
    card = content["card"] or {}
    text = content["config"]
    facts = {
        "checkpoint": weights.name,
        "model": f"{cfg.MODEL.META_ARCHITECTURE}, {cfg.MODEL.BACKBONE.NAME}",
        "config": card.get("config"),
        "config_sha256": None if text is None else config_sha256(text),
        "trained_on": [str(one["name"]) for one in card.get("trained_on", ())],
        "seed": card.get("seed"),
        DETECTED_WITH: keys_of_detection(cfg),
    }
    return {key: value for key, value in facts.items() if value not in (None, "", [])}


def config_sha256(text: str) -> str:
    """The hash of a resolved config, the same wherever its data, results and weights lie."""
    return hashlib.sha256(without_places(text).encode()).hexdigest()


def without_places(text: str) -> str:
    """A resolved config, as YAML, without the places of data, results and weights on a disk."""
    cfg = CfgNode.load_cfg(text)
    if "OUTPUT_DIR" in cfg:
        cfg.OUTPUT_DIR = "output"
    if "FILES" in cfg.get("DATASETS", {}):
        cfg.DATASETS.FILES = []
    if "WEIGHTS" in cfg.get("MODEL", {}):  # not emptied: frozen statistics need some
        cfg.MODEL.WEIGHTS = Path(cfg.MODEL.WEIGHTS).name
    if "BACKBONE_WEIGHTS" in cfg.get("MODEL", {}).get("SECOND_LOOK", {}):
        own = cfg.MODEL.SECOND_LOOK
        own.BACKBONE_WEIGHTS = Path(own.BACKBONE_WEIGHTS).name
    return str(cfg.dump())


def _take_config(path: Path, content: dict[str, Any], notes: list[str]) -> None:
    beside = path.with_name(CONFIG)
    if not beside.is_file():
        notes.append(f"{path.name} does not hold its config, and there is no {beside}.")
        return
    keys = {entry.key: entry.value for entry in config.read_keys(beside)}
    try:
        classes, targets = (keys[f"DATASETS.{name}"] for name in ("CLASSES", "TARGET_CLASSES"))
    except KeyError as error:
        raise CheckpointError(
            f"{path} does not hold its config, and {beside} lacks {error}: it is not the resolved "
            "config of a run"
        ) from error
    text = beside.read_text(encoding="utf-8")
    content.update(config=text, classes=list(classes), target_classes=list(targets))
    notes.append(f"{path.name} does not hold its config; that of {beside} is taken.")


def _take_operating_points(path: Path, content: dict[str, Any], notes: list[str]) -> None:
    if DETECTS_WITH in (content["card"] or {}):
        notes.append(
            f"{path.name} holds no operating points of its own. None are taken from beside it, as "
            "keys of detection were changed since its training."
        )
        return
    beside = path.with_name(operating.FILE_NAME)
    if not beside.is_file():
        notes.append(f"{path.name} holds no operating points: none was chosen on a validation set.")
        return
    chosen = operating.read_operating_points(beside)
    if chosen.checkpoint_sha256 not in {sha256_of(path), state_sha256(content["model"])}:
        notes.append(
            f"{path.name} holds no operating points, and those of {beside} were chosen for another "
            "checkpoint."
        )
        return
    text = content["config"]
    stored = () if text is None else config.stored_keys(path, text)
    own = {entry.key: entry.value for entry in stored}
    if keys := found_otherwise(chosen.detected_with, own):
        notes.append(
            f"{path.name} holds no operating points, and those of {beside} were chosen with other "
            f"values of {', '.join(keys)}."
        )
        return
    content["operating_points"] = operating.document_of(chosen)
    notes.append(f"{path.name} holds no operating points; those of {beside} are taken.")
