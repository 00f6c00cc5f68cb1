"""Can the config of a whole-image classifier be honoured, and has nothing else been asked of it?"""

from __future__ import annotations

from typing import Any

from simfrcnn.config.extension import BEST_BY, add_simfrcnn_config
from simfrcnn.config.mapping import CLASSIFIER, is_classifier, settings_from
from simfrcnn.config.portable import portable_defaults
from simfrcnn.errors import ConfigError
from simfrcnn.registry import illegal
from simfrcnn.settings import ClassifierSettings
from simfrcnn.trees import leaves_of, value_of, without_tuples

OF_A_DETECTOR = (
    *("MODEL.PROPOSAL_GENERATOR", "MODEL.ANCHOR_GENERATOR", "MODEL.RPN", "MODEL.FPN"),
    *("MODEL.ROI_HEADS", "MODEL.ROI_BOX_HEAD", "MODEL.MASK_ON", "MODEL.ROI_MASK_HEAD"),
    "MODEL.SIMFRCNN",
)
"""Groups of keys that mean nothing to a classifier, but for :data:`_OF_BACKBONES`."""

_OF_BACKBONES = ("MODEL.SIMFRCNN.DEFORM_STAGES", "MODEL.SIMFRCNN.RES5_TRAINED_CONVS")
_ALSO = ("DATASETS.LABELS_PER_ITEM", "DATASETS.LABEL_BAGS", "TEST.DETECTIONS_PER_IMAGE")
_BACKBONES = ("build_resnet_backbone", "build_timm_backbone")
_OF_BOXES = ("finding/", "froc/")
_FEATURES = {"fpn": ["res3", "res4", "res5"]}


def check_classifier(cfg: Any) -> None:
    """Refuse what a classifier would not read, and its keys where there is none.

    Raises:
        ConfigError: Names the key and what is legal.
    """
    if not is_classifier(cfg):
        _require_defaults(cfg, ("MODEL.CLASSIFIER",), "which is no whole-image classifier")
        return
    _require_defaults(cfg, OF_A_DETECTOR, "which has no regions")
    _require_defaults(cfg, _ALSO, "which learns from the labels of all images in pairs")
    settings = settings_from(cfg, ClassifierSettings)
    if cfg.MODEL.BACKBONE.NAME not in _BACKBONES:
        raise illegal(
            "MODEL.BACKBONE.NAME",
            cfg.MODEL.BACKBONE.NAME,
            f"{' | '.join(_BACKBONES)} with MODEL.META_ARCHITECTURE {CLASSIFIER} (a pyramid is "
            "MODEL.CLASSIFIER.HEAD fpn)",
        )
    features, found = _FEATURES.get(settings.head, ["res5"]), cfg.MODEL.RESNETS.OUT_FEATURES
    if list(found) != features:
        raise illegal(
            "MODEL.RESNETS.OUT_FEATURES",
            list(found),
            f"{features} with MODEL.CLASSIFIER.HEAD {settings.head}",
        )
    _require_read(settings)
    if cfg.DATASETS.BATCHES != "pairs":
        raise illegal(
            "DATASETS.BATCHES",
            cfg.DATASETS.BATCHES,
            f"pairs with MODEL.META_ARCHITECTURE {CLASSIFIER}: from positive images alone it would "
            "learn to say yes",
        )
    if cfg.DATASETS.UNBOXED_VIEWS != "exclude":
        raise illegal(
            "DATASETS.UNBOXED_VIEWS",
            cfg.DATASETS.UNBOXED_VIEWS,
            f"exclude with MODEL.META_ARCHITECTURE {CLASSIFIER}: what is not known of an image is "
            "left out of its loss",
        )
    if cfg.TEST.BEST_BY.startswith(_OF_BOXES):
        raise illegal(
            "TEST.BEST_BY",
            cfg.TEST.BEST_BY,
            " | ".join(figure for figure in BEST_BY if not figure.startswith(_OF_BOXES))
            + f" with MODEL.META_ARCHITECTURE {CLASSIFIER}, which gives no boxes",
        )
    if cfg.MODEL.SECOND_LOOK.ENABLED and len(cfg.DATASETS.CLASSES) > 1:
        raise ConfigError(
            f"MODEL.SECOND_LOOK.ENABLED is True and DATASETS.CLASSES has "
            f"{len(cfg.DATASETS.CLASSES)} classes: the second look lets classes exclude each "
            f"other, and those of a {CLASSIFIER} do not; name one class, or switch it off"
        )


def _require_read(settings: ClassifierSettings) -> None:
    """Refuse numbers that the chosen head and pooling do not read."""
    plain = ClassifierSettings()
    for key, value, default, choice, own, readers in (
        ("HEAD_CHANNELS", settings.channels, plain.channels, "HEAD", settings.head, ("fpn", "psp")),
        ("TOP_SHARE", settings.top_share, plain.top_share, "POOL", settings.pool, ("top",)),
    ):
        if value != default and own not in readers:
            raise ConfigError(
                f"MODEL.CLASSIFIER.{key} is {value} but MODEL.CLASSIFIER.{choice} is {own}, which "
                f"does not read it; leave it at {default}, or set {choice} to "
                f"{' or '.join(readers)}"
            )


def _require_defaults(cfg: Any, groups: tuple[str, ...], why: str) -> None:
    defaults = portable_defaults()
    add_simfrcnn_config(defaults)
    for group in groups:
        for key, default in leaves_of({group: value_of(defaults, group)}):
            value = value_of(cfg, key)
            if key not in _OF_BACKBONES and without_tuples(value) != without_tuples(default):
                raise ConfigError(
                    f"{key} is {value!r} but MODEL.META_ARCHITECTURE is "
                    f"{cfg.MODEL.META_ARCHITECTURE}, {why}; leave it at {default!r}"
                )
