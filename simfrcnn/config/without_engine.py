"""What does a model's config say, where no engine is asked?

For commands that prepare data: they need some keys of the config, and no detection library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simfrcnn.config.extension import add_simfrcnn_config
from simfrcnn.config.loading import read_keys, set_value
from simfrcnn.config.portable import portable_defaults
from simfrcnn.config.shipped import find_config
from simfrcnn.config.starting import verb_of
from simfrcnn.errors import ConfigError
from simfrcnn.trees import leaves_of

_OURS = ("INPUT.MAMMO.", "EVAL.", "PSEUDO.")
"""Nodes of which each key is known without an engine."""
_SETS_OF_DETECTRON2 = ("DATASETS.PROPOSAL_", "DATASETS.PRECOMPUTED_")


def load_without_engine(config_file: str | Path | None) -> Any:
    """The keys of a model's config that are the same on every engine; not checked as a whole.

    Args:
        config_file: A file, or the name of a config of simfrcnn; None takes the defaults.

    Returns:
        A tree for :func:`~simfrcnn.config.data_settings` and its like. Keys of Detectron2 that
        simfrcnn does not know are left out.

    Raises:
        ConfigError: A missing or malformed file, that of a ladder or of a job of two trainings, an
            unknown key among data sets, input and evaluation, or a value of another type.
    """
    cfg = portable_defaults()
    add_simfrcnn_config(cfg)
    if config_file is None:
        return cfg
    path = find_config(config_file)
    entries = read_keys(path)
    verb = verb_of(path)
    if verb != "train-net":
        named = ("CONFIG",) if verb == "ladder" else ("STAGE1", "STAGE2")
        models = [str(entry.value) for entry in entries if entry.key in named]
        what = "a ladder" if verb == "ladder" else "a job of two trainings"
        raise ConfigError(
            f"{config_file} is {what}, and no config of a model; give that of its model "
            f"({', '.join(models)}), with the data sets that count"
        )
    known = {key for key, _ in leaves_of(cfg)}
    for entry in entries:
        if entry.key in known or _must_be_known(entry.key):
            set_value(cfg, entry.key, entry.value, str(entry.path))
    return cfg


def _must_be_known(key: str) -> bool:
    return key.startswith((*_OURS, "DATASETS.")) and not key.startswith(_SETS_OF_DETECTRON2)
