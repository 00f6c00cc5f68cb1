"""Can a config be honoured as a whole?

What a single setting may be stands with the setting (:mod:`simfrcnn.settings`); here are the other
keys, and what keys must not be together.
"""

from __future__ import annotations

import math
from typing import Any

from simfrcnn.config.classifier import check_classifier
from simfrcnn.config.extension import BEST_BY, FLIPS
from simfrcnn.config.mapping import (
    images_per_item,
    is_classifier,
    items_per_step,
    settings_from,
)
from simfrcnn.described import is_list_of
from simfrcnn.errors import ConfigError
from simfrcnn.registry import illegal
from simfrcnn.settings import CONFIGURED
from simfrcnn.trees import value_of

_POSITIVE = (
    "SOLVER.BASE_LR",
    "SOLVER.LOW_STAGES_LR_FACTOR",
    "SOLVER.MAX_ITER",
    "SOLVER.CHECKPOINT_PERIOD",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN",
    "MODEL.RPN.PRE_NMS_TOPK_TEST",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    "MODEL.RPN.POST_NMS_TOPK_TEST",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    "TEST.DETECTIONS_PER_IMAGE",
)
_NOT_NEGATIVE = (
    "SOLVER.MOMENTUM",
    "SOLVER.WEIGHT_DECAY",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.WARMUP_FACTOR",
    "SOLVER.GAMMA",
    "TEST.EVAL_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT",
)
_FRACTIONS = (
    "MODEL.RPN.POSITIVE_FRACTION",
    "MODEL.RPN.NMS_THRESH",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST",
)
LISTS_OF_NAMES = frozenset(
    [
        *(f"DATASETS.{name}" for name in ("TRAIN", "VAL", "TEST", "FILES")),
        *(f"DATASETS.{name}" for name in ("CLASSES", "TARGET_CLASSES")),
        *("EVAL.IGNORED_CLASSES", "EVAL.SUBGROUPS", "MODEL.SIMFRCNN.DEFORM_STAGES"),
        *("MODEL.RPN.IN_FEATURES", "MODEL.ROI_HEADS.IN_FEATURES", "MODEL.FPN.IN_FEATURES"),
        "MODEL.RESNETS.OUT_FEATURES",
    ]
)
"""They may be empty, which does not show what they hold."""
_TIMM_BACKBONES = ("build_timm_backbone", "build_timm_fpn_backbone")
_STAGES = ("res2", "res3", "res4", "res5")
_MASK_HEAD = "SimMaskHead"
_SUSPECTED = "suspected"  # the class of pseudo-boxes on normal images
_UNLABELLED = "MODEL.SIMFRCNN.LABELS.TEACHER.UNLABELLED_PER_ITEM"
_OF_ONE_LOSS = (
    ("MARGIN", "cosine", 0.0),
    ("DISTANCE_MARGIN", "contrastive", 1.0),
    ("NORMALISE_VECTORS", "contrastive", True),
    ("SAME_KIND_PAIRS", "contrastive", False),
)
"""Settings of ``MODEL.SIMFRCNN.SIMILARITY`` that one loss alone reads, and their defaults."""
_OF_LABELS = (("REGION", "target"), ("CLASS_WEIGHTS", "none"), ("CHOOSER", "detector"))
"""Choices of ``MODEL.SIMFRCNN.LABELS``, and their defaults; its numbers may wait for labels."""
_N_GROUPS = 32
"""Of a group normalisation, here as in Detectron2."""


def check_config(cfg: Any) -> None:
    """Refuse values and combinations that cannot be honoured, naming the key and the remedy.

    Raises:
        ConfigError: See the message.
    """
    for key in sorted(LISTS_OF_NAMES):
        _require(is_list_of(str, value_of(cfg, key)), key, value_of(cfg, key), "a list of texts")
    for kind in CONFIGURED:
        settings_from(cfg, kind)
    check_classifier(cfg)
    _check_size(cfg)
    _check_similarity(cfg)
    _check_replay(cfg)
    _check_groups(cfg)
    _check_second_look(cfg)
    _check_labels(cfg)
    _check_teacher(cfg)
    _check_masks(cfg)
    optimisers = ("adam", "sgd")
    if cfg.SOLVER.OPTIMIZER not in optimisers:
        raise illegal("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, " | ".join(optimisers), optimisers)
    if cfg.TEST.BEST_BY not in BEST_BY:
        raise illegal("TEST.BEST_BY", cfg.TEST.BEST_BY, " | ".join(BEST_BY), tuple(BEST_BY))
    _check_flips(cfg)
    _require(
        cfg.SEED >= 0,
        "SEED",
        cfg.SEED,
        "an integer >= 0: pairs, augmentation and resuming are functions of it",
    )
    _check_batch(cfg)
    _check_numbers(cfg)
    _require(
        is_classifier(cfg) or len(cfg.DATASETS.CLASSES) == cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        "MODEL.ROI_HEADS.NUM_CLASSES",
        cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        f"{len(cfg.DATASETS.CLASSES)}, as many as DATASETS.CLASSES {tuple(cfg.DATASETS.CLASSES)}",
    )
    _check_loader_keys(cfg)
    _check_backbone(cfg)
    if cfg.MODEL.RESNETS.NORM == "FrozenBN" and not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            "MODEL.RESNETS.NORM is FrozenBN but MODEL.WEIGHTS is empty: frozen statistics of a "
            "random network make nonsense. Give ImageNet weights (MODEL.WEIGHTS FILE), or train "
            "from scratch with MODEL.RESNETS.NORM GN and MODEL.BACKBONE.FREEZE_AT 0."
        )


def _check_flips(cfg: Any) -> None:
    flips = cfg.TEST.FLIPS
    if flips not in FLIPS:
        raise illegal("TEST.FLIPS", flips, " | ".join(FLIPS), tuple(FLIPS))
    if flips != "none" and (is_classifier(cfg) or cfg.MODEL.MASK_ON):
        what = "a whole-image classifier" if is_classifier(cfg) else "MODEL.MASK_ON"
        raise illegal("TEST.FLIPS", flips, f"none with {what}: only boxes are joined")


def _check_size(cfg: Any) -> None:
    size = tuple(cfg.INPUT.MAMMO.SIZE)
    legal = len(size) == 2 and min(size) >= 32
    _require(legal, "INPUT.MAMMO.SIZE", size, "(height, width) in pixels, each at least 32")


def _check_batch(cfg: Any) -> None:
    n_images, of_item = cfg.SOLVER.IMS_PER_BATCH, images_per_item(cfg)
    legal = "an even number >= 2 (twice the number of pairs)"
    if of_item > 2:
        n_labelled = cfg.DATASETS.LABELS_PER_ITEM
        legal = (
            f"a multiple of {of_item}: an item is two images and DATASETS.LABELS_PER_ITEM "
            f"{n_labelled} labelled"
        )
        if n_unlabelled := of_item - 2 - n_labelled:
            legal += f", and {_UNLABELLED} {n_unlabelled} unlabelled"
    is_whole = n_images >= of_item and n_images % of_item == 0
    _require(is_whole, "SOLVER.IMS_PER_BATCH", n_images, legal)


def _check_labels(cfg: Any) -> None:
    """Refuse what would look like a choice and be none, and what an off switch ignores."""
    node, prefix = cfg.MODEL.SIMFRCNN.LABELS, "MODEL.SIMFRCNN.LABELS"
    if not cfg.DATASETS.LABELS_PER_ITEM:
        if cfg.DATASETS.LABEL_BAGS != "image":
            raise ConfigError(
                f"DATASETS.LABEL_BAGS is {cfg.DATASETS.LABEL_BAGS} but DATASETS.LABELS_PER_ITEM is "
                "0, with which no label trains: set that to 1 or more, or the bags to image"
            )
        for key, plain in _OF_LABELS:
            if node[key] != plain:
                raise ConfigError(
                    f"{prefix}.{key} is {node[key]} but DATASETS.LABELS_PER_ITEM is 0, with which "
                    f"no label trains: set that to 1 or more, or leave the key at {plain}"
                )
        return
    if node.DECAY == 1 and node.START < 1:
        raise ConfigError(
            f"{prefix}.DECAY is 1 and .START {node.START}: the weight would never rise; lower "
            "DECAY, or set START to 1 and WEIGHT to what is meant"
        )
    classes = tuple(cfg.DATASETS.CLASSES)
    for key, plain in _OF_LABELS[:2]:
        if node[key] != plain and len(classes) == 1:
            raise ConfigError(
                f"{prefix}.{key} is {node[key]} but DATASETS.CLASSES has {classes[0]} alone, with "
                f"which it changes nothing; legal here is {plain}"
            )
    if node.REGION != "target" and _SUSPECTED in classes:
        raise ConfigError(
            f"{prefix}.REGION is {node.REGION} and DATASETS.CLASSES has {_SUSPECTED!r}: regions "
            "that are known to be harmless could be chosen; legal here is target"
        )
    if node.CHOOSER == "second_look" and not cfg.MODEL.SECOND_LOOK.ENABLED:
        raise ConfigError(
            f"{prefix}.CHOOSER is second_look but MODEL.SECOND_LOOK.ENABLED is False; enable it, "
            "or set the chooser to detector"
        )
    if node.CHOOSER == "second_look" and node.REGION != "target":
        raise ConfigError(
            f"{prefix}.REGION is {node.REGION} but .CHOOSER is second_look, which looks for "
            "targets alone; legal here is target"
        )


def _check_teacher(cfg: Any) -> None:
    """Refuse a teacher that would have nothing to teach by, or would never teach."""
    node, prefix = cfg.MODEL.SIMFRCNN.LABELS.TEACHER, "MODEL.SIMFRCNN.LABELS.TEACHER"
    if not node.ENABLED:
        if node.UNLABELLED_PER_ITEM:
            raise ConfigError(
                f"{_UNLABELLED} is {node.UNLABELLED_PER_ITEM} but {prefix}.ENABLED is False: only "
                "the teacher has a use for such images; enable it, or set the number to 0"
            )
        return
    if node.UNLABELLED_PER_ITEM and len(cfg.DATASETS.TARGET_CLASSES) > 1:
        raise ConfigError(
            f"{_UNLABELLED} is {node.UNLABELLED_PER_ITEM} but DATASETS.TARGET_CLASSES has "
            f"{len(cfg.DATASETS.TARGET_CLASSES)} classes: beside a box of one, another may hide in "
            "an image of which nothing is known; name one target, or set the number to 0"
        )
    if not cfg.DATASETS.LABELS_PER_ITEM:
        raise ConfigError(
            f"{prefix}.ENABLED is True but DATASETS.LABELS_PER_ITEM is 0: the teacher boxes "
            "labelled images, and none is trained; set it to 1 or more, or switch the teacher off"
        )
    if cfg.MODEL.SECOND_LOOK.ENABLED:
        raise ConfigError(
            f"{prefix}.ENABLED and MODEL.SECOND_LOOK.ENABLED are True: the teacher has no second "
            "look at what it boxes; switch one of them off"
        )
    if node.START >= cfg.SOLVER.MAX_ITER:
        raise ConfigError(
            f"{prefix}.START is {node.START} but SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}: the "
            "teacher would never teach; legal is less than that"
        )


def _check_masks(cfg: Any) -> None:
    """Refuse a mask head that does not know findings without an outline, or keys nobody reads."""
    if not cfg.MODEL.MASK_ON:
        return
    node, prefix = cfg.MODEL.ROI_MASK_HEAD, "MODEL.ROI_MASK_HEAD"
    _require(node.NAME == _MASK_HEAD, f"{prefix}.NAME", node.NAME, _MASK_HEAD)
    for key, least in (("NUM_CONV", 0), ("CONV_DIM", 1), ("POOLER_RESOLUTION", 1)):
        legal = f"a whole number, at least {least}"
        is_legal = isinstance(node[key], int) and node[key] >= least
        _require(is_legal, f"{prefix}.{key}", node[key], legal)
    if node.NUM_CONV:
        _require_groups(node.NORM, f"{prefix}.CONV_DIM", node.CONV_DIM)
    if cfg.MODEL.ROI_HEADS.NAME != "SimRes5ROIHeads":
        return
    for key, default in (("POOLER_RESOLUTION", 14), ("POOLER_SAMPLING_RATIO", 0)):
        if node[key] != default:
            raise ConfigError(
                f"{prefix}.{key} is {node[key]} but MODEL.ROI_HEADS.NAME is SimRes5ROIHeads, whose "
                f"mask head sees the regions of the box head; leave it at {default}"
            )


def _check_groups(cfg: Any) -> None:
    name, head = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.ROI_BOX_HEAD
    if "fpn" in name:
        _require_groups(cfg.MODEL.FPN.NORM, "MODEL.FPN.OUT_CHANNELS", cfg.MODEL.FPN.OUT_CHANNELS)
    if "resnet" in name:
        key, node = "MODEL.RESNETS.RES2_OUT_CHANNELS", cfg.MODEL.RESNETS
        _require_groups(node.NORM, key, node.RES2_OUT_CHANNELS)
    if "NORM" in head and head.NUM_CONV:  # keys of Detectron2
        _require_groups(head.NORM, "MODEL.ROI_BOX_HEAD.CONV_DIM", head.CONV_DIM)


def _require_groups(norm: str, key: str, n_channels: int) -> None:
    is_divisible = norm != "GN" or n_channels % _N_GROUPS == 0
    legal = f"a multiple of {_N_GROUPS} with NORM GN, which has as many groups"
    _require(is_divisible, key, n_channels, legal)


def _check_replay(cfg: Any) -> None:
    if cfg.DATASETS.REPLAY.FRACTION and cfg.DATASETS.BATCHES == "positives":
        raise ConfigError(
            f"DATASETS.REPLAY.FRACTION is {cfg.DATASETS.REPLAY.FRACTION} but DATASETS.BATCHES is "
            "positives, which has no normal image to replay; set the fraction to 0, or "
            "DATASETS.BATCHES to pairs"
        )


def _check_second_look(cfg: Any) -> None:
    node = cfg.MODEL.SECOND_LOOK
    if node.ENABLED and cfg.DATASETS.BATCHES == "positives":
        raise ConfigError(
            "MODEL.SECOND_LOOK.ENABLED is True but DATASETS.BATCHES is positives: the second look "
            "learns from what is suspected in normal images, and there are none; set "
            "DATASETS.BATCHES to pairs, or MODEL.SECOND_LOOK.ENABLED to False"
        )
    _require(
        node.BATCH_SIZE % 2 == 0,
        "MODEL.SECOND_LOOK.BATCH_SIZE",
        node.BATCH_SIZE,
        "an even number: half of the squares are of positive images",
    )
    if node.BACKBONE_WEIGHTS and not node.BACKBONE:
        raise ConfigError(
            f"MODEL.SECOND_LOOK.BACKBONE_WEIGHTS is {node.BACKBONE_WEIGHTS!r} but "
            "MODEL.SECOND_LOOK.BACKBONE is '', whose network has no such weights; name a model of "
            "timm, or leave the weights empty"
        )


def _similarity_losses(cfg: Any) -> dict[str, str]:
    """By key, the similarity losses that are on: of the detector, and of the second look."""
    losses = {"MODEL.SIMFRCNN.SIMILARITY.LOSS": cfg.MODEL.SIMFRCNN.SIMILARITY.LOSS}
    if cfg.MODEL.SECOND_LOOK.ENABLED:
        losses["MODEL.SECOND_LOOK.SIMILARITY"] = cfg.MODEL.SECOND_LOOK.SIMILARITY
    return {key: loss for key, loss in losses.items() if loss != "none"}


def _check_similarity(cfg: Any) -> None:
    """Refuse settings of the other loss, and what cannot be drawn or reached."""
    node, prefix = cfg.MODEL.SIMFRCNN.SIMILARITY, "MODEL.SIMFRCNN.SIMILARITY"
    _require(
        not node.NORMALISE_VECTORS or node.DISTANCE_MARGIN <= 2,
        f"{prefix}.DISTANCE_MARGIN",
        node.DISTANCE_MARGIN,
        "a distance above 0, and at most 2 between vectors of length 1",
    )
    losses = _similarity_losses(cfg)
    for name, loss, default in _OF_ONE_LOSS:
        if losses and loss not in losses.values() and node[name] != default:
            named = " and ".join(f"{key} is {value}" for key, value in losses.items())
            raise ConfigError(
                f"{prefix}.{name} is {node[name]} but {named}, which has no such setting; leave it "
                f"at {default}"
            )
    if node.SAME_KIND_PAIRS:
        key = f"{prefix}.SAME_KIND_PAIRS"
        if cosine := [name for name, loss in losses.items() if loss == "cosine"]:
            raise ConfigError(
                f"{key} is True but {cosine[0]} is cosine, which would get contrastive costs on "
                "top; set both losses to contrastive, one of them to none, or the pairs to False"
            )
        if items_per_step(cfg) < 2:
            raise ConfigError(
                f"{key} is True but SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}: with one "
                "pair a step there is no second image of a kind; legal is "
                f"{2 * images_per_item(cfg)} or more"
            )


def _check_numbers(cfg: Any) -> None:
    """Refuse numbers that a library would choke on late, or take without a word."""
    for key in _POSITIVE:
        value = value_of(cfg, key)
        _require(0 < value < math.inf, key, value, "a number above 0")
    for key in _NOT_NEGATIVE:
        value = value_of(cfg, key)
        _require(0 <= value < math.inf, key, value, "0 or more")
    for key in _FRACTIONS:
        _require(0 <= value_of(cfg, key) <= 1, key, value_of(cfg, key), "a number in [0, 1]")
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        value = value_of(cfg, key)
        legal = len(value) == 3 and is_list_of(float, value)
        _require(legal, key, value, "three finite numbers, one per channel")
    _require(min(cfg.MODEL.PIXEL_STD) > 0, "MODEL.PIXEL_STD", cfg.MODEL.PIXEL_STD, "above 0")
    steps = cfg.SOLVER.STEPS
    legal = is_list_of(int, steps) and all(step >= 0 for step in steps)
    _require(legal, "SOLVER.STEPS", steps, "a list of step numbers, each 0 or more")
    for key in ("SIZES", "ASPECT_RATIOS"):
        value = cfg.MODEL.ANCHOR_GENERATOR[key]
        legal = len(value) > 0 and all(is_list_of(float, level) for level in value)
        legal = legal and all(level and min(level) > 0 for level in value)
        of_levels = "a list of lists, one per level, of finite numbers above 0"
        _require(legal, f"MODEL.ANCHOR_GENERATOR.{key}", value, of_levels)
    for key in ("MODEL.RPN.IOU_THRESHOLDS", "MODEL.ROI_HEADS.IOU_THRESHOLDS"):
        value = value_of(cfg, key)
        legal = len(value) > 0 and is_list_of(float, value)
        legal = legal and all(0 <= each <= 1 for each in value) and list(value) == sorted(value)
        _require(legal, key, value, "numbers in [0, 1], in rising order")


def _check_backbone(cfg: Any) -> None:
    """Refuse what no backbone of either engine can be; the rest is known when it is built."""
    name, timm_name = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME
    is_timm = name in _TIMM_BACKBONES
    _require(
        bool(timm_name) == is_timm,
        "MODEL.TIMM.NAME",
        timm_name,
        f"the name of a timm model, such as seresnet101, with MODEL.BACKBONE.NAME {name}"
        if is_timm
        else f"'' unless MODEL.BACKBONE.NAME is {' or '.join(_TIMM_BACKBONES)}",
    )
    stages = tuple(cfg.MODEL.SIMFRCNN.DEFORM_STAGES)
    _require(
        list(stages) == [stage for stage in _STAGES if stage in stages],
        "MODEL.SIMFRCNN.DEFORM_STAGES",
        stages,
        f"some of {', '.join(_STAGES)}, each once and in this order",
    )
    n_convs = cfg.MODEL.SIMFRCNN.RES5_TRAINED_CONVS
    _require(
        n_convs >= -1,
        "MODEL.SIMFRCNN.RES5_TRAINED_CONVS",
        n_convs,
        "-1 (all), or the number of convolutions at the end of res5 that are trained",
    )
    frozen = _frozen_stages(cfg)
    _require(
        n_convs == -1 or "res5" not in frozen,
        "MODEL.SIMFRCNN.RES5_TRAINED_CONVS",
        n_convs,
        f"-1, since MODEL.BACKBONE.FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT} freezes all of res5",
    )
    trained = [s for s in _STAGES if s not in frozen and not (s == "res5" and n_convs >= 0)]
    _require(
        set(stages) <= set(trained),
        "MODEL.SIMFRCNN.DEFORM_STAGES",
        stages,
        f"some of {', '.join(trained)}, the stages that MODEL.BACKBONE.FREEZE_AT and "
        "MODEL.SIMFRCNN.RES5_TRAINED_CONVS leave wholly trained: frozen offsets would stay 0",
    )


def _frozen_stages(cfg: Any) -> tuple[str, ...]:
    """The stages that ``FREEZE_AT`` freezes; in a C4 detector res5 is the box head's and is not."""
    frozen = _STAGES[: max(cfg.MODEL.BACKBONE.FREEZE_AT - 1, 0)]
    is_whole = "fpn" in cfg.MODEL.BACKBONE.NAME or is_classifier(cfg)
    return frozen if is_whole else tuple(stage for stage in frozen if stage != "res5")


def _check_loader_keys(cfg: Any) -> None:
    reasons = {
        "FILTER_EMPTY_ANNOTATIONS": "it would drop the normal images",
        "ASPECT_RATIO_GROUPING": "it would break the pairs",
    }
    for key, reason in reasons.items():
        if cfg.DATALOADER[key]:
            raise ConfigError(f"DATALOADER.{key} is True: {reason}. Set it to False.")


def _require(fulfilled: bool, key: str, value: Any, legal: str) -> None:
    if not fulfilled:
        raise illegal(key, value, legal)
