"""Config trees: the keys, their defaults, and how settings are read from them.

``portable_defaults`` (the Detectron2 keys that both engines honour), ``add_simfrcnn_config`` (our
own keys, on top of either tree), ``load_config`` (YAML and overrides, with errors that name the
key).
"""

from simfrcnn.config.checks import check_config
from simfrcnn.config.extension import BEST_BY, FLIPS, LAST_COUNTS, add_simfrcnn_config
from simfrcnn.config.loading import (
    MEANT_BEFORE,
    FileKey,
    Overrides,
    changed_keys,
    load_config,
    overridden_keys,
    read_keys,
    set_keys,
    stored_keys,
    with_further,
)
from simfrcnn.config.mapping import (
    CLASSIFIER,
    DETECTOR,
    augmentation_settings,
    classifier_settings,
    data_settings,
    evaluation_settings,
    grading_settings,
    images_per_item,
    input_settings,
    is_classifier,
    items_per_step,
    keys_without_effect,
    label_settings,
    method_settings,
    needs_native_pixels,
    pseudo_settings,
    replay_settings,
    second_look_settings,
    settings_from,
    teacher_settings,
)
from simfrcnn.config.portable import portable_defaults
from simfrcnn.config.shipped import find_config, name_of_config

__all__ = [
    "BEST_BY",
    "CLASSIFIER",
    "DETECTOR",
    "FLIPS",
    "LAST_COUNTS",
    "MEANT_BEFORE",
    "FileKey",
    "Overrides",
    "add_simfrcnn_config",
    "augmentation_settings",
    "changed_keys",
    "check_config",
    "classifier_settings",
    "data_settings",
    "evaluation_settings",
    "find_config",
    "grading_settings",
    "images_per_item",
    "input_settings",
    "is_classifier",
    "items_per_step",
    "keys_without_effect",
    "label_settings",
    "load_config",
    "method_settings",
    "name_of_config",
    "needs_native_pixels",
    "overridden_keys",
    "portable_defaults",
    "pseudo_settings",
    "read_keys",
    "replay_settings",
    "second_look_settings",
    "set_keys",
    "settings_from",
    "stored_keys",
    "teacher_settings",
    "with_further",
]
