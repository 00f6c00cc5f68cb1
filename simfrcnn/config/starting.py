"""What does a config of one's own look like that begins with one of simfrcnn?

It inherits everything and says in comments which keys are changed most often, with their values and
what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from simfrcnn.config.extension import add_simfrcnn_config
from simfrcnn.config.loading import load_config, read_keys
from simfrcnn.config.portable import portable_defaults
from simfrcnn.config.shipped import FOLDER, SCHEME, find_config, first_sentence, named_in
from simfrcnn.config.stages import STAGES, names_stages, read_stages
from simfrcnn.described import descriptions
from simfrcnn.settings import CONFIGURED
from simfrcnn.trees import value_of

Verb = Literal["train-net", "weak", "ladder"]

_DESCRIBED: Mapping[str, str] = {
    each.key: each.help for kind in CONFIGURED for each in descriptions(kind) if each.key
}
_COMMON: Mapping[str, str] = {
    "DATASETS.TRAIN": "data sets to learn from: names, or those of --dataset NAME=FILE",
    "DATASETS.VAL": "chooses the best checkpoint and the operating points",
    "DATASETS.TEST": "is judged once, at the end",
    "DATASETS.FILES": "COCO files of data sets, as in [mammograms/train=/data/train.json]",
    "MODEL.DEVICE": "cuda or cpu",
    "MODEL.WEIGHTS": "weights to begin with; '' trains from scratch",
    **{f"INPUT.MAMMO.{key}": "" for key in ("SIZE", "CROP_TO_BREAST", "KEEP_ASPECT")},
    "SOLVER.IMS_PER_BATCH": "images a step: two a pair, and those of LABELS_PER_ITEM",
    "SOLVER.BASE_LR": "learning rate",
    "SOLVER.MAX_ITER": "steps",
    "SOLVER.STEPS": "after which the learning rate falls",
    "SOLVER.CHECKPOINT_PERIOD": "steps between two checkpoints",
    "TEST.EVAL_PERIOD": "steps between two validations; 0: at the end alone",
    "TEST.BEST_BY": "figure on VAL that chooses the best checkpoint; last: the last one counts",
    "DATALOADER.NUM_WORKERS": "processes that read images",
    "SEED": "of everything that is random",
    "DATASETS.REPLAY.FRACTION": "",
    **{f"PSEUDO.{key}": "" for key in ("SCORE_THRESHOLD", "NMS_THRESHOLD")},
    **{f"EVAL.{key}": "" for key in ("POOLING", "CASE_BY", "UNKNOWN_IMAGES")},
    **{f"EVAL.{key}": "" for key in ("PREVALENCE", "SUBGROUPS", "BOOTSTRAP_REPLICATES")},
}
"""Keys that are often changed, and what they mean where no setting describes them."""


def verb_of(path: Path) -> Verb:
    """Which verb takes a YAML file of simfrcnn."""
    if any(entry.key.partition(".")[0] == "RUNGS" for entry in read_keys(path)):
        return "ladder"
    return "weak" if names_stages(path) else "train-net"


def starting_config(name: str, output: Path) -> str:
    """The text of a config that inherits from one of simfrcnn.

    Args:
        name: Of a config of simfrcnn.
        output: Where it is to lie: the folder of the run is named after it.

    Raises:
        ConfigError: There is no such config; names the nearest.
    """
    path = find_config(name if name.startswith(SCHEME) else f"{SCHEME}{name}")
    name = path.relative_to(FOLDER).with_suffix("").as_posix()
    verb = verb_of(path)
    option = "--config" if verb == "ladder" else "--config-file"
    result = f" --output output/{output.stem}" if verb == "ladder" else ""
    lines = [
        f"# From {name} of simfrcnn. {first_sentence(path)}",
        f"#   simfrcnn {verb} {option} {output.name}{result}",
    ]
    if verb == "ladder":
        return "\n".join([*lines, _own_ladder(path)])
    lines += [
        "# What is not set here is as there. Take the # away from a line below to change it.",
        f"_BASE_: {SCHEME}{name}",
        f"OUTPUT_DIR: {_in_yaml(f'output/{output.stem}')}",
        "",
    ]
    configs = _resolved(path)
    return "\n".join([*lines, *map(_commented, _shared(configs).items()), ""])


def _own_ladder(path: Path) -> str:
    """A copy of a ladder file, which inherits nothing, that finds its configs from anywhere."""

    def elsewhere(found: re.Match[str]) -> str:
        named = named_in(found[2], path).relative_to(FOLDER).with_suffix("")
        return f"{found[1]}{SCHEME}{named.as_posix()}"

    text = path.read_text(encoding="utf-8")
    body = text[re.search(r"^[^#\n]", text, re.MULTILINE).start() :]  # type: ignore[union-attr]
    return re.sub(r"^(\s*CONFIG: *)(\S+)", elsewhere, body, flags=re.MULTILINE)


def _resolved(path: Path) -> Sequence[Any]:
    """The config of a training, or of both trainings of a job."""
    if not names_stages(path):
        return [load_config(_tree(), path)]
    job = read_stages(path)
    return [job.config_of(stage, _tree()) for stage in STAGES]


def _tree() -> Any:
    cfg = portable_defaults()
    add_simfrcnn_config(cfg)
    return cfg


def _shared(configs: Sequence[Any]) -> dict[str, Any]:
    """The common keys that have one value in all configs."""
    first, *others = configs
    return {
        key: value_of(first, key)
        for key in _COMMON
        if all(value_of(other, key) == value_of(first, key) for other in others)
        and (others or not key.startswith("PSEUDO."))
    }


def _commented(entry: tuple[str, Any]) -> str:
    key, value = entry
    return f"# {key}: {_in_yaml(value)}  # {_COMMON[key] or _DESCRIBED[key]}"


def _in_yaml(value: Any) -> str:
    """On one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump([plain], default_flow_style=True, width=10**6, allow_unicode=True)
    return str(text).strip()[1:-1]
