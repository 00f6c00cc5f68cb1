"""How does a YAML file with overrides become a config, and a config the core's settings?

This is the only place (with the recipe and the engines) that reads config keys. An error names the
key or the file, what is legal, and the nearest known key.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from simfrcnn import settings
from simfrcnn.errors import ConfigError

BASE_KEY = "_BASE_"

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
_TIMM_BACKBONES = ("build_timm_backbone", "build_timm_fpn_backbone")
_STAGES = ("res2", "res3", "res4", "res5")


def load_config(
    cfg: Any,
    config_file: str | Path | None,
    overrides: Sequence[str] = (),
    *,
    overlay: Sequence[FileKey] = (),
) -> Any:
    """Merge a YAML file and KEY VALUE overrides into ``cfg`` and check it.

    Args:
        cfg: A tree with every key that the engine honours; it is changed and returned frozen.
        config_file: YAML, with ``_BASE_`` relative to itself; None takes the defaults.
        overrides: Alternating keys and values, as on the command line.
        overlay: Keys of another file that go over those of ``config_file``, and under the
            overrides (see :func:`read_keys`).

    Raises:
        ConfigError: A missing or malformed file, an unknown key (with the nearest known one), a
            value of another type, or a combination that :func:`check_config` refuses.
    """
    if config_file is not None:
        for path, tree in _read_with_bases(Path(config_file), ()):
            _merge(cfg, tree, str(path))
    for entry in overlay:
        _merge(cfg, _nested(entry.key, entry.value), str(entry.path))
    if len(overrides) % 2:
        raise ConfigError(
            f"overrides come as KEY VALUE pairs; found {len(overrides)} words, the last is "
            f"{overrides[-1]!r}"
        )
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        _merge(cfg, _nested(key, _value(text)), "the command line")
    check_config(cfg)
    cfg.freeze()
    return cfg


@dataclass(frozen=True)
class FileKey:
    """One key as a YAML file sets it: the file, the dotted key, the value."""

    path: Path
    key: str
    value: Any


def read_keys(config_file: Path) -> list[FileKey]:
    """Every key that a file and its ``_BASE_`` files set, bases first, whatever the keys are.

    For files that are no config of a model, such as a job's.

    Raises:
        ConfigError: A missing or malformed file.
    """
    return [
        FileKey(path, key, value)
        for path, tree in _read_with_bases(config_file, ())
        for key, value in _flattened(tree)
    ]


def set_keys(cfg: Any, defaults: Any) -> dict[str, Any]:
    """The keys in which a config differs from a tree of defaults, dotted, in plain types."""
    before = dict(_flattened(yaml.safe_load(defaults.dump())))
    after = _flattened(yaml.safe_load(cfg.dump()))
    return {key: value for key, value in after if key not in before or before[key] != value}


def changed_keys(
    path: Path, cfg: Any, *, defaults: Any = None, ignored: Collection[str] = ()
) -> list[str]:
    """What ``cfg`` sets otherwise than the resolved config in a file: key, value there, value here.

    Args:
        path: The file.
        cfg: The config of now.
        defaults: A tree of defaults: a key that the file lacks, being older, counts as left at its
            default.
        ignored: Keys that may differ.

    Raises:
        ConfigError: The file is missing or not a config.
    """
    recorded, after = dict(_flattened(_read_yaml(path))), _leaves(cfg)
    before = {**(_leaves(defaults) if defaults is not None else {}), **recorded}
    return [
        f"{key} was {before.get(key)}, is {after.get(key)}"
        for key in sorted({*recorded, *after} - set(ignored))
        if before.get(key) != after.get(key)
    ]


def check_config(cfg: Any) -> None:
    """Refuse values and combinations that cannot be honoured, naming the key and the remedy.

    Raises:
        ConfigError: See the message.
    """
    method_settings(cfg)
    input_settings(cfg)
    augmentation_settings(cfg)
    data_settings(cfg)
    replay_settings(cfg)
    evaluation_settings(cfg)
    pseudo_settings(cfg)
    _choice(cfg.SOLVER.OPTIMIZER, "SOLVER.OPTIMIZER", ("adam", "sgd"))
    _require(
        cfg.SEED >= 0,
        "SEED",
        cfg.SEED,
        "an integer >= 0: pairs, augmentation and resuming are functions of it",
    )
    _require(
        cfg.SOLVER.IMS_PER_BATCH >= 2 and cfg.SOLVER.IMS_PER_BATCH % 2 == 0,
        "SOLVER.IMS_PER_BATCH",
        cfg.SOLVER.IMS_PER_BATCH,
        "an even number >= 2 (twice the number of pairs)",
    )
    _check_numbers(cfg)
    _require(
        len(cfg.DATASETS.CLASSES) == cfg.MODEL.ROI_HEADS.NUM_CLASSES,
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
    if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu":
        raise ConfigError(
            "SOLVER.AMP.ENABLED is True but MODEL.DEVICE is cpu: mixed precision needs a GPU. Set "
            "SOLVER.AMP.ENABLED False or MODEL.DEVICE cuda."
        )


def method_settings(cfg: Any) -> settings.MethodSettings:
    """What differs from Faster R-CNN (``MODEL.SIMFRCNN``)."""
    node = cfg.MODEL.SIMFRCNN
    likelihood = node.TOP_LIKELIHOOD
    similarity = node.SIMILARITY
    prefix = "MODEL.SIMFRCNN"
    _at_least(likelihood.WEIGHT, f"{prefix}.TOP_LIKELIHOOD.WEIGHT", 0)
    _at_least(likelihood.TOP_K, f"{prefix}.TOP_LIKELIHOOD.TOP_K", 1)
    _check_similarity(cfg)
    return settings.MethodSettings(
        rpn_normals=_choice(
            node.RPN_NORMALS, f"{prefix}.RPN_NORMALS", get_args(settings.RpnNormals)
        ),
        top_likelihood=settings.TopLikelihoodSettings(
            weight=float(likelihood.WEIGHT), top_k=int(likelihood.TOP_K)
        ),
        similarity=settings.SimilaritySettings(
            kind=_choice(
                similarity.LOSS, f"{prefix}.SIMILARITY.LOSS", get_args(settings.SimilarityKind)
            ),
            weight=float(similarity.WEIGHT),
            margin=float(similarity.MARGIN),
            partners=_choice(
                similarity.PARTNERS, f"{prefix}.SIMILARITY.PARTNERS", get_args(settings.Partners)
            ),
            distance_margin=float(similarity.DISTANCE_MARGIN),
            normalise_vectors=bool(similarity.NORMALISE_VECTORS),
            same_kind_pairs=bool(similarity.SAME_KIND_PAIRS),
        ),
        roi_normal_sampling=_choice(
            node.ROI_NORMAL_SAMPLING,
            f"{prefix}.ROI_NORMAL_SAMPLING",
            get_args(settings.RoiNormalSampling),
        ),
    )


def input_settings(cfg: Any) -> settings.InputSettings:
    """How a stored image becomes the network's input (``INPUT.MAMMO``)."""
    node = cfg.INPUT.MAMMO
    size = tuple(node.SIZE)
    legal = len(size) == 2 and all(isinstance(side, int) and side >= 32 for side in size)
    _require(legal, "INPUT.MAMMO.SIZE", size, "(height, width) in pixels, each at least 32")
    return settings.InputSettings(
        size_px=(size[0], size[1]),
        crop_to_breast=bool(node.CROP_TO_BREAST),
        keep_aspect=bool(node.KEEP_ASPECT),
    )


def augmentation_settings(cfg: Any) -> settings.AugmentationSettings:
    """Flip probabilities (``INPUT.MAMMO``)."""
    node = cfg.INPUT.MAMMO
    for key in ("HORIZONTAL_FLIP", "VERTICAL_FLIP"):
        _require(0 <= node[key] <= 1, f"INPUT.MAMMO.{key}", node[key], "a probability in [0, 1]")
    return settings.AugmentationSettings(float(node.HORIZONTAL_FLIP), float(node.VERTICAL_FLIP))


def data_settings(cfg: Any) -> settings.DataSettings:
    """Classes, and what enters training (``DATASETS``)."""
    node = cfg.DATASETS
    classes, targets = tuple(node.CLASSES), tuple(node.TARGET_CLASSES)
    _require(
        len(classes) > 0 and len(set(classes)) == len(classes),
        "DATASETS.CLASSES",
        classes,
        "at least one class name, each once",
    )
    _require(
        len(targets) > 0 and set(targets) <= set(classes),
        "DATASETS.TARGET_CLASSES",
        targets,
        f"one or more of DATASETS.CLASSES {classes}",
    )
    return settings.DataSettings(
        classes=classes,
        target_classes=targets,
        batch_kind=_choice(node.BATCHES, "DATASETS.BATCHES", get_args(settings.BatchKind)),
        unboxed_views=_choice(
            node.UNBOXED_VIEWS, "DATASETS.UNBOXED_VIEWS", get_args(settings.UnboxedViews)
        ),
    )


def replay_settings(cfg: Any) -> settings.ReplaySettings:
    """Which normal images come again (``DATASETS.REPLAY``)."""
    node, prefix = cfg.DATASETS.REPLAY, "DATASETS.REPLAY"
    _require(
        0 <= node.FRACTION < 1,
        f"{prefix}.FRACTION",
        node.FRACTION,
        "a number in [0, 1): with 1 no normal image but the hard ones would be seen again",
    )
    _require(0 < node.HARD_SHARE <= 1, f"{prefix}.HARD_SHARE", node.HARD_SHARE, "in (0, 1]")
    _at_least(node.PERIOD, f"{prefix}.PERIOD", 1)
    if node.FRACTION and cfg.DATASETS.BATCHES == "positives":
        raise ConfigError(
            f"{prefix}.FRACTION is {node.FRACTION} but DATASETS.BATCHES is positives, which has no "
            "normal image to replay; set the fraction to 0, or DATASETS.BATCHES to pairs"
        )
    return settings.ReplaySettings(
        fraction=float(node.FRACTION), hard_share=float(node.HARD_SHARE), period=int(node.PERIOD)
    )


def pseudo_settings(cfg: Any) -> settings.PseudoSettings:
    """Which detections become pseudo-boxes (``PSEUDO``)."""
    node = cfg.PSEUDO
    _require(
        0 < node.SCORE_THRESHOLD <= 1,
        "PSEUDO.SCORE_THRESHOLD",
        node.SCORE_THRESHOLD,
        "a score in (0, 1]",
    )
    _require(
        0 <= node.NMS_THRESHOLD <= 1, "PSEUDO.NMS_THRESHOLD", node.NMS_THRESHOLD, "an IoU in [0, 1]"
    )
    return settings.PseudoSettings(
        score_threshold=float(node.SCORE_THRESHOLD),
        nms_threshold=float(node.NMS_THRESHOLD),
        keep_unlabelled=bool(node.KEEP_UNLABELLED),
    )


def evaluation_settings(cfg: Any) -> settings.EvaluationSettings:
    """The rules of the report (``EVAL``, and the target classes)."""
    node = cfg.EVAL
    for key in (
        "SCORE_THRESHOLD",
        "IOU_THRESHOLD",
        "OPERATING_SENSITIVITY",
        "OPERATING_SPECIFICITY",
    ):
        _require(0 < node[key] <= 1, f"EVAL.{key}", node[key], "a number in (0, 1]")
    _require(
        0 <= node.PREVALENCE < 1,
        "EVAL.PREVALENCE",
        node.PREVALENCE,
        "a number in [0, 1), 0 where none is stated",
    )
    _at_least(node.BOOTSTRAP_REPLICATES, "EVAL.BOOTSTRAP_REPLICATES", 0)
    _require(
        not set(node.IGNORED_CLASSES) & set(cfg.DATASETS.TARGET_CLASSES),
        "EVAL.IGNORED_CLASSES",
        list(node.IGNORED_CLASSES),
        f"other classes than DATASETS.TARGET_CLASSES, {list(cfg.DATASETS.TARGET_CLASSES)}",
    )
    return settings.EvaluationSettings(
        target_classes=tuple(cfg.DATASETS.TARGET_CLASSES),
        score_threshold=float(node.SCORE_THRESHOLD),
        iou_threshold=float(node.IOU_THRESHOLD),
        pooling=_choice(node.POOLING, "EVAL.POOLING", get_args(settings.Pooling)),
        case_by=_choice(node.CASE_BY, "EVAL.CASE_BY", get_args(settings.CaseBy)),
        unknown_images=_choice(
            node.UNKNOWN_IMAGES, "EVAL.UNKNOWN_IMAGES", get_args(settings.UnknownImages)
        ),
        count_repeats_as_false_positives=bool(node.COUNT_REPEATS),
        ignored_classes=tuple(node.IGNORED_CLASSES),
        boxes_outside=_choice(
            node.BOXES_OUTSIDE, "EVAL.BOXES_OUTSIDE", get_args(settings.BoxesOutside)
        ),
        prevalence=float(node.PREVALENCE) or None,
        operating_sensitivity=float(node.OPERATING_SENSITIVITY),
        operating_specificity=float(node.OPERATING_SPECIFICITY),
        subgroups=tuple(node.SUBGROUPS),
        bootstrap_replicates=int(node.BOOTSTRAP_REPLICATES),
        bootstrap_seed=int(node.BOOTSTRAP_SEED),
    )


def _check_similarity(cfg: Any) -> None:
    node, prefix = cfg.MODEL.SIMFRCNN.SIMILARITY, "MODEL.SIMFRCNN.SIMILARITY"
    _at_least(node.WEIGHT, f"{prefix}.WEIGHT", 0)
    _require(-1 <= node.MARGIN < 1, f"{prefix}.MARGIN", node.MARGIN, "a cosine in [-1, 1)")
    largest = 2.0 if node.NORMALISE_VECTORS else math.inf
    _require(
        0 < node.DISTANCE_MARGIN <= largest,
        f"{prefix}.DISTANCE_MARGIN",
        node.DISTANCE_MARGIN,
        "a distance above 0, and at most 2 between vectors of length 1",
    )
    of_the_other = {
        "contrastive": {"MARGIN": 0.0},
        "cosine": {"DISTANCE_MARGIN": 1.0, "NORMALISE_VECTORS": True, "SAME_KIND_PAIRS": False},
    }
    for name, default in of_the_other.get(node.LOSS, {}).items():
        if node[name] != default:
            raise ConfigError(
                f"{prefix}.{name} is {node[name]} but {prefix}.LOSS is {node.LOSS}, which has no "
                f"such setting; leave it at {default}"
            )
    if node.SAME_KIND_PAIRS:
        key = f"{prefix}.SAME_KIND_PAIRS"
        if cfg.SOLVER.IMS_PER_BATCH < 4:
            raise ConfigError(
                f"{key} is True but SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}: with one "
                "pair a step there is no second image of a kind; legal is 4 or more"
            )


def _check_numbers(cfg: Any) -> None:
    """Refuse numbers that a library would choke on late, or take without a word."""
    for key in _POSITIVE:
        value = _get(cfg, key)
        _require(0 < value < math.inf, key, value, "a number above 0")
    for key in _NOT_NEGATIVE:
        value = _get(cfg, key)
        _require(0 <= value < math.inf, key, value, "0 or more")
    for key in _FRACTIONS:
        _require(0 <= _get(cfg, key) <= 1, key, _get(cfg, key), "a number in [0, 1]")
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        value = _get(cfg, key)
        legal = len(value) == 3 and all(isinstance(each, (int, float)) for each in value)
        _require(legal, key, value, "three numbers, one per channel")
    _require(min(cfg.MODEL.PIXEL_STD) > 0, "MODEL.PIXEL_STD", cfg.MODEL.PIXEL_STD, "above 0")
    steps = cfg.SOLVER.STEPS
    legal = all(isinstance(step, int) and step >= 0 for step in steps)
    _require(legal, "SOLVER.STEPS", steps, "a list of step numbers, each 0 or more")
    for key in ("SIZES", "ASPECT_RATIOS"):
        value = cfg.MODEL.ANCHOR_GENERATOR[key]
        legal = len(value) > 0 and all(isinstance(level, (list, tuple)) for level in value)
        _require(legal, f"MODEL.ANCHOR_GENERATOR.{key}", value, "a list of lists, one per level")


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
    is_pyramid = "fpn" in cfg.MODEL.BACKBONE.NAME
    return frozen if is_pyramid else tuple(stage for stage in frozen if stage != "res5")


def _check_loader_keys(cfg: Any) -> None:
    reasons = {
        "FILTER_EMPTY_ANNOTATIONS": "it would drop the normal images",
        "ASPECT_RATIO_GROUPING": "it would break the pairs",
    }
    for key, reason in reasons.items():
        if cfg.DATALOADER[key]:
            raise ConfigError(f"DATALOADER.{key} is True: {reason}. Set it to False.")


def _read_with_bases(path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases as (path, tree), bases first: an error can name the right file."""
    resolved = path.expanduser()
    if resolved in seen:
        raise ConfigError(f"{path}: {BASE_KEY} leads back to this file")
    tree = _read_yaml(resolved)
    bases = tree.pop(BASE_KEY, [])
    trees: list[tuple[Path, dict[str, Any]]] = []
    for base in [bases] if isinstance(bases, str) else bases:
        base_path = Path(os.path.normpath(resolved.parent / Path(base).expanduser()))
        trees.extend(_read_with_bases(base_path, (*seen, resolved)))
    return [*trees, (resolved, tree)]


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not plain YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"config file {path} must hold a mapping of keys, not {type(tree).__name__}"
        )
    return tree


def _merge(cfg: Any, tree: dict[str, Any], where: str) -> None:
    for key, value in _flattened(tree):
        _set(cfg, key, value, where)


def _flattened(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        leaves += _flattened(value, f"{dotted}.") if isinstance(value, dict) else [(dotted, value)]
    return leaves


def _leaves(cfg: Any) -> dict[str, Any]:
    """All keys of a config with their values, as a file would give them back."""
    return dict(_flattened(yaml.safe_load(cfg.dump())))


def _get(cfg: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        cfg = cfg[part]
    return cfg


def _nested(key: str, value: Any) -> dict[str, Any]:
    tree: Any = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return dict(tree)


def _value(text: str) -> Any:
    """A command-line word as YAML reads it, with Python tuples such as (512,512) as well."""
    if text.startswith("(") and text.endswith(")"):
        text = f"[{text[1:-1].rstrip(',')}]"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _set(cfg: Any, dotted: str, value: Any, where: str) -> None:
    node, parts = cfg, dotted.split(".")
    for depth, part in enumerate(parts[:-1]):
        if part not in node or not isinstance(node[part], dict):
            raise _unknown(cfg, ".".join(parts[: depth + 1]), dotted, where)
        node = node[part]
    if parts[-1] not in node:
        raise _unknown(cfg, dotted, dotted, where)
    old = node[parts[-1]]
    if isinstance(old, dict):
        raise ConfigError(f"{dotted} in {where} is a group of keys; set one of {sorted(old)}")
    node[parts[-1]] = _converted(value, old, dotted, where)


def _converted(value: Any, old: Any, key: str, where: str) -> Any:
    """Take the value if it is of the default's kind: int for float, list for tuple, and back."""
    if value is None and isinstance(old, str):
        return ""
    if isinstance(old, str) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(old, bool) or isinstance(value, bool):
        legal = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, float):
        value, legal = _as_float(value)
    elif isinstance(old, (tuple, list)):
        if isinstance(value, str):
            value = (value,)
        legal = isinstance(value, (tuple, list))
        value = type(old)(value) if legal else value
    else:
        legal = isinstance(value, type(old))
    if not legal:
        raise ConfigError(
            f"{key} in {where} is {value!r} ({type(value).__name__}); legal is a "
            f"{type(old).__name__}, such as {old!r}"
        )
    return value


def _as_float(value: Any) -> tuple[Any, bool]:
    """YAML reads 1e-4 as text; a number is meant."""
    try:
        return float(value), not isinstance(value, (list, tuple, dict)) and value is not None
    except (TypeError, ValueError):
        return value, False


def _unknown(cfg: Any, found: str, dotted: str, where: str) -> ConfigError:
    known = [key for key, _ in _flattened(cfg)]
    near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
    leaf = dotted.rsplit(".", 1)[-1]
    near = near or [key for key in known if key.rsplit(".", 1)[-1] == leaf][:1]
    hint = f" Did you mean {near[0]}?" if near else ""
    return ConfigError(f"unknown config key {found} in {where}.{hint}")


def _choice(value: Any, key: str, legal: tuple[str, ...]) -> Any:
    _require(value in legal, key, value, " | ".join(legal))
    return value


def _at_least(value: float, key: str, smallest: float) -> None:
    _require(value >= smallest, key, value, f"at least {smallest}")


def _require(fulfilled: bool, key: str, value: Any, legal: str) -> None:
    if not fulfilled:
        raise ConfigError(f"{key} is {value!r}; legal is {legal}")
