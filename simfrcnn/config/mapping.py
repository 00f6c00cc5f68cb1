"""Which config keys do the settings have, and how are settings read from a config?

Both follow from what :mod:`simfrcnn.settings` says of each field.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from simfrcnn import settings
from simfrcnn.described import Description, JobStep, descriptions
from simfrcnn.input_settings import ALL_GREYS
from simfrcnn.trees import value_of

S = TypeVar("S")

DETECTOR, CLASSIFIER = "SimFasterRCNN", "SimClassifier"
"""Values of ``MODEL.META_ARCHITECTURE``."""


def add_described_keys(cfg: Any) -> None:
    """Add the key of every setting with its default to a config tree, in place."""
    for each in _with_keys():
        *groups, leaf = str(each.key).split(".")
        node = cfg
        for group in groups:
            if group not in node:
                node[group] = type(cfg)()
            node = node[group]
        if leaf not in node:  # Detectron2 has none of them; two settings may share one
            node[leaf] = each.unset if each.default is None else each.default


def settings_from(cfg: Any, kind: type[S]) -> S:
    """The settings of a class, nested ones too, as a config has them.

    Raises:
        ConfigError: A value that is not legal; names the key.
    """
    values: dict[str, Any] = {
        field.name: settings_from(cfg, type(field.default))
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if dataclasses.is_dataclass(field.default)
    }
    for each in descriptions(kind):
        if each.key is not None:
            values[each.name] = _as_setting(value_of(cfg, each.key), each)
    return kind(**values)


def keys_without_effect(step: JobStep) -> tuple[str, ...]:
    """The keys of settings whose change leaves the result of a job's step as it is."""
    return tuple(str(each.key) for each in _with_keys() if step not in each.steps)


def method_settings(cfg: Any) -> settings.MethodSettings:
    """What differs from Faster R-CNN (``MODEL.SIMFRCNN``)."""
    return settings_from(cfg, settings.MethodSettings)


def second_look_settings(cfg: Any) -> settings.SecondLookSettings:
    """Whether and how suspicious regions are looked at again (``MODEL.SECOND_LOOK``)."""
    return settings_from(cfg, settings.SecondLookSettings)


def grading_settings(cfg: Any) -> settings.GradingSettings:
    """How much more a benign normal image teaches (``MODEL.SIMFRCNN.BENIGN_WEIGHT``)."""
    return settings_from(cfg, settings.GradingSettings)


def label_settings(cfg: Any) -> settings.LabelSettings:
    """How images with a label and no box teach (``MODEL.SIMFRCNN.LABELS``)."""
    return settings_from(cfg, settings.LabelSettings)


def teacher_settings(cfg: Any) -> settings.TeacherSettings:
    """Whether and how a teacher boxes labelled images (``MODEL.SIMFRCNN.LABELS.TEACHER``)."""
    return settings_from(cfg, settings.TeacherSettings)


def classifier_settings(cfg: Any) -> settings.ClassifierSettings:
    """How a whole-image classifier makes and pools class maps (``MODEL.CLASSIFIER``)."""
    return settings_from(cfg, settings.ClassifierSettings)


def is_classifier(cfg: Any) -> bool:
    """Whether a config is of a whole-image classifier, not of a detector."""
    return bool(cfg.MODEL.META_ARCHITECTURE == CLASSIFIER)


def images_per_item(cfg: Any) -> int:
    """The images of one item of a batch: two, the labelled ones, of which a bag counts as one, and
    those of which nothing is known.
    """
    n_unlabelled = teacher_settings(cfg).unlabelled_per_item
    return 2 + int(cfg.DATASETS.LABELS_PER_ITEM) + n_unlabelled


def items_per_step(cfg: Any) -> int:
    """The items of a step, all processes together."""
    return int(cfg.SOLVER.IMS_PER_BATCH) // images_per_item(cfg)


def needs_native_pixels(cfg: Any) -> bool:
    """Whether the model of a config cuts regions from the stored image, not from its input."""
    look = second_look_settings(cfg)
    return bool(look.enabled) and look.source == "native"


def input_settings(cfg: Any) -> settings.InputSettings:
    """How a stored image becomes the network's input (``INPUT.MAMMO``)."""
    found = settings_from(cfg, settings.WindowedInputSettings)
    return found.unwindowed() if found.window == ALL_GREYS else found


def augmentation_settings(cfg: Any) -> settings.AugmentationSettings:
    """Flip probabilities (``INPUT.MAMMO``)."""
    return settings_from(cfg, settings.AugmentationSettings)


def data_settings(cfg: Any) -> settings.DataSettings:
    """Classes, and what enters training (``DATASETS``)."""
    return settings_from(cfg, settings.DataSettings)


def replay_settings(cfg: Any) -> settings.ReplaySettings:
    """Which normal images come again (``DATASETS.REPLAY``)."""
    return settings_from(cfg, settings.ReplaySettings)


def pseudo_settings(cfg: Any) -> settings.PseudoSettings:
    """Which detections become pseudo-boxes (``PSEUDO``)."""
    return settings_from(cfg, settings.PseudoSettings)


def evaluation_settings(cfg: Any) -> settings.EvaluationSettings:
    """The rules of the report (``EVAL``, and the target classes)."""
    return settings_from(cfg, settings.EvaluationSettings)


def _with_keys() -> list[Description]:
    return [each for kind in settings.CONFIGURED for each in descriptions(kind) if each.key]


def _as_setting(value: Any, description: Description) -> Any:
    """In the type of the default; a config knows no None."""
    default = description.default
    if default is None:
        return None if value == description.unset else value
    return type(default)(value)
