"""What does a model's config say, where no engine is asked?

For commands that prepare data: they need some keys of the config, and no detection library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simfrcnn.config.extension import add_simfrcnn_config
from simfrcnn.config.loading import FileKey, read_keys, set_value
from simfrcnn.config.portable import portable_defaults
from simfrcnn.config.shipped import find_config, named_in
from simfrcnn.config.stages import STAGES
from simfrcnn.config.starting import verb_of
from simfrcnn.errors import ConfigError
from simfrcnn.trees import leaves_of

_OF_DETECTRON2 = (
    *("MODEL.", "SOLVER.", "DATALOADER.", "TEST.", "GLOBAL.", "DATASETS.PROPOSAL_"),
    *("DATASETS.PRECOMPUTED_", "INPUT.MIN_SIZE_", "INPUT.MAX_SIZE_", "INPUT.CROP."),
    *("INPUT.RANDOM_FLIP", "INPUT.FORMAT", "INPUT.MASK_FORMAT"),
    *("CUDNN_BENCHMARK", "FLOAT32_PRECISION", "VIS_PERIOD"),
)
"""How keys begin that may be Detectron2's alone: an engine will say whether they are."""


def load_without_engine(config_file: str | Path | None) -> Any:
    """The keys of a model's config that are the same on every engine; not checked as a whole.

    Args:
        config_file: A file, or the name of a config of simfrcnn; None takes the defaults.

    Returns:
        A tree for :func:`~simfrcnn.config.data_settings` and its like. Keys of Detectron2 that
        simfrcnn does not know are left out.

    Raises:
        ConfigError: A missing or malformed file, that of a ladder or of a job of two trainings, an
            unknown key that cannot be Detectron2's, or a value of another type.
    """
    cfg = portable_defaults()
    add_simfrcnn_config(cfg)
    if config_file is None:
        return cfg
    path = find_config(config_file)
    entries = read_keys(path)
    _require_model(config_file, path, entries)
    known = {key for key, _ in leaves_of(cfg)}
    for entry in entries:
        if entry.key in known or not entry.key.startswith(_OF_DETECTRON2):
            set_value(cfg, entry.key, entry.value, str(entry.path))
    return cfg


def _require_model(given: str | Path, path: Path, entries: Sequence[FileKey]) -> None:
    verb = verb_of(path)
    if verb == "train-net":
        return
    named = [
        named_in(str(entry.value), entry.path)
        for entry in entries
        if entry.key in STAGES or entry.key.rpartition(".")[2] == "CONFIG"
    ]
    models = dict.fromkeys(str(each) for each in named if verb_of(each) == "train-net")
    what = "a ladder" if verb == "ladder" else "a job of two trainings"
    raise ConfigError(
        f"{given} is {what}, and no config of a model; give the config of one of its models: "
        f"{', '.join(models)}"
    )
