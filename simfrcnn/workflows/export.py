"""How is a model given away as one file, and what does such a file say of itself?"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simfrcnn import config as configs
from simfrcnn.engines.common.cards import (
    DETECTS_WITH,
    FIGURES_HOLD,
    UNTESTED,
    input_of,
    limit_of_input,
    lines_of,
)
from simfrcnn.engines.common.checkpoints import (
    SAFETENSORS,
    SECOND_LOOK,
    Identity,
    state_sha256,
    weights_sha256,
    write_checkpoint,
)
from simfrcnn.engines.common.descriptions import read_described, without_places
from simfrcnn.engines.common.score_keys import other_scores, require_detection_keys
from simfrcnn.engines.common.stored_weights import Precision, restored, stored
from simfrcnn.engines.contract import load_engine
from simfrcnn.errors import CheckpointError, ConfigError, OutputError
from simfrcnn.evaluation import operating
from simfrcnn.workflows.training import resolved_config
from simfrcnn.zoo import find_model

logger = logging.getLogger("simfrcnn")

_ROUNDED = (
    "The weights are rounded to {}. Scores differ from those on which the operating points and "
    "figures were taken: test this file, and choose points again, before a threshold is relied on."
)
ROUNDED: Mapping[Precision, str] = {
    "half": _ROUNDED.format("half precision"),
    "int8": _ROUNDED.format("8 bits"),
}
"""What a card says of weights that are stored in fewer bits."""
_BEFORE = "Of the model before"
_OF_FIGURES = re.compile(r"\b(figures?|operating points?)\b", re.IGNORECASE)
SUFFIXES = (".pth", SAFETENSORS)
_FIGURES = ("figures", "validation_in_training")
_SAID_OF_THE_FILE = ("engine", "classes", "target_classes")


def export_model(
    weights: str | Path,
    output: str | Path,
    *,
    precision: Precision = "float32",
    name: str | None = None,
    licence: str | None = None,
    limits: Sequence[str] = (),
    config: str | Path | None = None,
    overrides: configs.Overrides = (),
) -> Path:
    """Write a file for inference: weights, config, operating points and card, no optimiser.

    Every command and ``simfrcnn.load`` read it as they read a checkpoint of a training. It can
    start a training, but not go on with one. Places on this disk are taken out of its config.

    Args:
        weights: A checkpoint, or the name of a model that comes with simfrcnn. One of an earlier
            version is completed by the files beside it.
        output: A new file, ``.pth`` or ``.safetensors``.
        precision: How weights are stored: ``half``, half the size, or ``int8``, a quarter. They are
            read as float32 again. Statistics of norm layers and biases stay as they are.
        name: For the card; None keeps its name.
        licence: For the card; None keeps what it says.
        limits: Further limits of use, for the card.
        config: Of weights that do not know theirs.
        overrides: Keys by which the model is to detect from now on, such as ``{"TEST.FLIPS":
            "all"}``; or keys and values in turn. Operating points and figures are left out then:
            they are of other scores.

    Raises:
        CheckpointError: The weights cannot be read, or their config is nowhere to be found.
        ConfigError: An override is no key of detection, or its value is not legal.
        OutputError: ``output`` is there already, or cannot be written.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint
        >>> folder = Path(tempfile.mkdtemp())
        >>> description = Description("DATASETS: {}", ("malignant",), ("malignant",), {"name": "a"})
        >>> identity = Identity("torchvision", {})
        >>> save_checkpoint(folder / "a.pth", nn.Linear(2, 2), identity, {"step": 9}, description)
        >>> path = export_model(folder / "a.pth", folder / "b.pth", name="given away")
        >>> about = describe_model(path)
        >>> about.card["name"], about.steps_to_resume_from
        ('given away', None)
    """
    weights, output = find_model(weights), Path(output)
    if output.exists():
        raise OutputError(f"{output} is there already; give another file")
    if output.suffix not in SUFFIXES:
        raise OutputError(
            f"{output}: a model is written as {' or '.join(SUFFIXES)}; give such a name"
        )
    content, notes = read_described(weights)
    if config is not None and overrides:
        raise ConfigError(
            "give another config or keys to change, not both: points and figures are of the one "
            "that the weights hold"
        )
    if config is not None:
        content |= _described_by(content["engine"], config)
    elif content["config"] is None:
        raise CheckpointError(
            f"{weights} does not hold its config, and no config.yaml lies beside it: give it by "
            "--config-file"
        )
    for note in notes:
        logger.info(note)
    if overrides:
        content |= _detecting_with(overrides, content, weights)
    state, card = content["model"], dict(content["card"] or {"name": weights.stem})
    rounded = [ROUNDED[precision]] if precision in ROUNDED else []
    if DETECTS_WITH in card:  # there are no such figures
        rounded = [_rounding_alone(one) for one in rounded]
    card["limits"] = [*card.get("limits", []), *limits, *rounded]
    state = stored(state, precision)
    card |= {key: said for key, said in (("name", name), ("licence", licence)) if said is not None}
    points = content["operating_points"]
    if points is not None:  # they name the weights that they belong to
        points = {**points, "checkpoint_sha256": state_sha256(restored(state))}
    write_checkpoint(
        output,
        {
            **content,
            "model": state,
            "training": None,
            "config": without_places(content["config"]),
            "operating_points": points,
            "card": {**card, "exported_from": weights_sha256(weights)},
        },
    )
    return output


@dataclass(frozen=True)
class ModelFacts:
    """What a checkpoint says of itself.

    Attributes:
        path: The file.
        schema: Of the file; 1 is of earlier versions.
        kind: What the model is, such as ``detector with a mask head (SimFasterRCNN)``.
        engine: The detection library it was trained with.
        weights_sha256: What detections of this model name as ``checkpoint_sha256``.
        n_parameters: Numbers in the weights, buffers included.
        steps_to_resume_from: After how many steps a training can go on from it; None if it cannot.
        classes: Found by the model.
        target_classes: Of these, what counts as positive.
        operating_points: The document, or None.
        card: Empty in files of earlier versions.
        config: Resolved, as YAML; None if it is nowhere to be found.
        notes: What the file itself lacks.
    """

    path: Path
    schema: int
    kind: str
    engine: str
    weights_sha256: str
    n_parameters: int
    steps_to_resume_from: int | None
    classes: tuple[str, ...]
    target_classes: tuple[str, ...]
    operating_points: Mapping[str, Any] | None
    card: Mapping[str, Any]
    config: str | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """In JSON types."""
        return {**asdict(self), "path": str(self.path)}

    def lines(self) -> list[str]:
        """For a terminal: the card, the operating points, and what the file is."""
        resumable = (
            "weights only: a training can start from it, not go on"
            if self.steps_to_resume_from is None
            else f"a training can go on from it after step {self.steps_to_resume_from}; it holds "
            "that training's state, with a second look also squares of training images: hand on "
            "what `simfrcnn export` writes"
        )
        card = self.card or {"name": self.path.name}
        return [
            *lines_of({k: v for k, v in card.items() if k not in _SAID_OF_THE_FILE}),
            "",
            "## Operating points, by case",
            *(self._lines_on_points() or ["none"]),
            "",
            "## File",
            f"{self.path}: schema {self.schema}, engine {self.engine}, "
            f"{self.n_parameters:,} numbers",
            f"model: {self.kind}",
            f"classes: {', '.join(self.classes) or 'not stated'}; positive: "
            f"{', '.join(self.target_classes) or 'not stated'}",
            resumable,
            f"weights: sha256 {self.weights_sha256}",
            *(f"note: {note}" for note in self.notes),
        ]

    def _lines_on_points(self) -> list[str]:
        if self.operating_points is None:
            return []
        chosen = operating.points_from(dict(self.operating_points), source=self.path)
        return operating.lines_on(chosen)


def describe_model(weights: str | Path) -> ModelFacts:
    """Read what a checkpoint says of itself; one of an earlier version, by the files beside it.

    Raises:
        CheckpointError: Missing, damaged, or not a checkpoint of simfrcnn.
    """
    path = find_model(weights)
    content, notes = read_described(path)
    training = content["training"] or {}
    steps = training.get("step") if "optimizer" in training else None
    return ModelFacts(
        path=path,
        schema=content["schema"],
        kind=_kind_of(content),
        engine=content["engine"],
        weights_sha256=weights_sha256(path),
        n_parameters=sum(tensor.numel() for tensor in content["model"].values()),
        steps_to_resume_from=steps,
        classes=tuple(content["classes"] or ()),
        target_classes=tuple(content["target_classes"] or ()),
        operating_points=content["operating_points"],
        card=content["card"] or {},
        config=content["config"],
        notes=notes,
    )


def _kind_of(content: Mapping[str, Any]) -> str:
    """What the model in a file is, in words; a file of an earlier version may not say it."""
    architecture = Identity.in_file(content).architecture
    name = architecture.get("MODEL.META_ARCHITECTURE")
    if name is None:
        return "not stated"
    parts = {
        "a mask head": architecture["MODEL.MASK_ON"] == "True",
        "a second look": any(tensor.startswith(SECOND_LOOK) for tensor in content["model"]),
    }
    further = " and ".join(part for part, is_there in parts.items() if is_there)
    kind = "whole-image classifier" if name == configs.CLASSIFIER else "detector"
    return f"{kind}{f' with {further}' if further else ''} ({name})"


def _detecting_with(
    overrides: configs.Overrides, content: Mapping[str, Any], weights: Path
) -> dict[str, Any]:
    """Config, points and card of a model that detects otherwise than the training tested it."""
    defaults = load_engine(content["engine"]).default_cfg()
    stored = configs.stored_keys(weights, content["config"])
    own = configs.load_config(defaults.clone(), None, overlay=stored)
    require_detection_keys(configs.overridden_keys(overrides), own)
    cfg = configs.load_config(defaults.clone(), None, overrides, overlay=stored)
    changed = other_scores(cfg, content["config"], defaults)
    if not changed:
        return {}
    logger.info(f"operating points and figures are left out (changed: {', '.join(changed)})")
    whole = content["card"] or {"name": weights.stem}
    card = {key: value for key, value in whole.items() if key not in _FIGURES}
    before, after = limit_of_input(own), limit_of_input(cfg)
    return {
        "config": cfg.dump(),
        "operating_points": None,
        "card": {
            **card,
            DETECTS_WITH: _since_training(card.get(DETECTS_WITH, {}), changed),
            "input": input_of(cfg),
            "figures": [],
            "limits": [
                after if limit == before else _of_other_scores(limit, sorted(changed))
                for limit in card.get("limits", [])
            ],
        },
    }


def _of_other_scores(limit: str, changed: Sequence[str]) -> str:
    """A limit of use, once keys are changed and figures and points are left out."""
    if limit == FIGURES_HOLD:
        return UNTESTED
    if limit in ROUNDED.values():
        return _rounding_alone(limit)
    if not _OF_FIGURES.search(limit) or limit.startswith(_BEFORE):
        return limit
    verb = "was" if len(changed) == 1 else "were"
    return f"{_BEFORE} {' and '.join(changed)} {verb} changed: {limit}"


def _rounding_alone(limit: str) -> str:
    return limit.partition(" Scores")[0]


def _since_training(
    earlier: Mapping[str, Mapping[str, Any]], changed: Mapping[str, tuple[Any, Any]]
) -> dict[str, dict[str, Any]]:
    """Of each key that has another value than in the training: the value now, and the trained."""
    keys = {key: dict(values) for key, values in earlier.items()}
    for key, (here, there) in changed.items():
        trained = keys[key]["trained"] if key in keys else there
        keys[key] = {"now": here, "trained": trained}
    return {key: values for key, values in keys.items() if values["now"] != values["trained"]}


def _described_by(engine: str, config: str | Path) -> dict[str, Any]:
    cfg = resolved_config(load_engine(engine), config)
    return {
        "config": cfg.dump(),
        "classes": list(cfg.DATASETS.CLASSES),
        "target_classes": list(cfg.DATASETS.TARGET_CLASSES),
    }
