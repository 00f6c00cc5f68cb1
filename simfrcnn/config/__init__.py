"""Config trees: the keys, their defaults, and how settings are read from them.

``portable_defaults`` (the Detectron2 keys that both engines honour), ``add_simfrcnn_config`` (our
own keys, on top of either tree), ``load_config`` (YAML and overrides, with errors that name the
key).
"""

from simfrcnn.config.extension import add_simfrcnn_config
from simfrcnn.config.loading import (
    FileKey,
    augmentation_settings,
    changed_keys,
    check_config,
    data_settings,
    evaluation_settings,
    input_settings,
    load_config,
    method_settings,
    pseudo_settings,
    read_keys,
    replay_settings,
    set_keys,
)
from simfrcnn.config.portable import portable_defaults

__all__ = [
    "FileKey",
    "add_simfrcnn_config",
    "augmentation_settings",
    "changed_keys",
    "check_config",
    "data_settings",
    "evaluation_settings",
    "input_settings",
    "load_config",
    "method_settings",
    "portable_defaults",
    "pseudo_settings",
    "read_keys",
    "replay_settings",
    "set_keys",
]
