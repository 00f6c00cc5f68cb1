"""What of Detectron2 do we lean on, and which config keys can this engine honour?

Detectron2 still calls itself 0.6 years after its release 0.6, so the version says nothing: the
seams are checked one by one when the engine is imported. Supported are the release v0.6 and the
main branch (commit 02b5c4e).
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from simfrcnn.config import CLASSIFIER, DETECTOR, add_simfrcnn_config, portable_defaults
from simfrcnn.config.classifier import OF_A_DETECTOR
from simfrcnn.errors import ConfigError, EngineError
from simfrcnn.trees import leaves_of, value_of

SEAMS: dict[str, tuple[str, ...]] = {
    "modeling.proposal_generator.rpn:RPN.forward": ("self", "images", "features", "gt_instances"),
    "modeling.proposal_generator.rpn:RPN.from_config": ("cfg", "input_shape"),
    "modeling.proposal_generator.rpn:RPN.label_and_sample_anchors": (
        "self",
        "anchors",
        "gt_instances",
    ),
    "modeling.proposal_generator.rpn:RPN.losses": (
        "self",
        "anchors",
        "pred_objectness_logits",
        "gt_labels",
        "pred_anchor_deltas",
        "gt_boxes",
    ),
    "modeling.roi_heads.roi_heads:ROIHeads.label_and_sample_proposals": (
        "self",
        "proposals",
        "targets",
    ),
    "modeling.roi_heads.roi_heads:Res5ROIHeads.forward": (
        "self",
        "images",
        "features",
        "proposals",
        "targets",
    ),
    "modeling.roi_heads.roi_heads:Res5ROIHeads.from_config": ("cfg", "input_shape"),
    "modeling.roi_heads.roi_heads:Res5ROIHeads._build_res5_block": ("cfg",),
    "modeling.roi_heads.roi_heads:StandardROIHeads.forward": (
        "self",
        "images",
        "features",
        "proposals",
        "targets",
    ),
    "modeling.roi_heads.roi_heads:StandardROIHeads._init_box_head": ("cfg", "input_shape"),
    "modeling.roi_heads.fast_rcnn:FastRCNNOutputLayers.from_config": ("cfg", "input_shape"),
    "modeling.roi_heads.fast_rcnn:FastRCNNOutputLayers.forward": ("self", "x"),
    "modeling.roi_heads.fast_rcnn:FastRCNNOutputLayers.losses": (
        "self",
        "predictions",
        "proposals",
    ),
    "modeling.roi_heads.fast_rcnn:FastRCNNOutputLayers.predict_boxes_for_gt_classes": (
        "self",
        "predictions",
        "proposals",
    ),
    "modeling.meta_arch.rcnn:GeneralizedRCNN.from_config": ("cfg",),
    "modeling.meta_arch.rcnn:GeneralizedRCNN.forward": ("self", "batched_inputs"),
    "modeling.meta_arch.rcnn:GeneralizedRCNN.preprocess_image": ("self", "batched_inputs"),
    "modeling.meta_arch.rcnn:GeneralizedRCNN.visualize_training": (
        "self",
        "batched_inputs",
        "proposals",
    ),
    "modeling.meta_arch.rcnn:GeneralizedRCNN.inference": (
        "self",
        "batched_inputs",
        "detected_instances",
        "do_postprocess",
    ),
    "modeling.meta_arch.rcnn:GeneralizedRCNN._postprocess": (
        "instances",
        "batched_inputs",
        "image_sizes",
    ),
    "modeling.backbone.resnet:ResNet.make_stage": (
        "block_class",
        "num_blocks",
        "in_channels",
        "out_channels",
        "kwargs",
    ),
    "layers:FrozenBatchNorm2d.convert_frozen_batchnorm": ("module",),
    "checkpoint.c2_model_loading:convert_basic_c2_names": ("original_keys",),
    "engine.defaults:create_ddp_model": ("model", "fp16_compression", "kwargs"),
    "engine.defaults:DefaultTrainer.__init__": ("self", "cfg"),
    "engine.defaults:DefaultTrainer.build_hooks": ("self",),
    "engine.defaults:DefaultTrainer.resume_or_load": ("self", "resume"),
    "engine.defaults:DefaultTrainer.run_step": ("self",),
    "engine.defaults:DefaultTrainer.test": ("cfg", "model", "evaluators"),
}
"""Where we call or override Detectron2, as ``module:name``, and the parameters that we count on."""

_REPLACED = ("SOLVER", "INPUT", "DATASETS", "DATALOADER", "TEST")
"""Groups of keys whose reader in Detectron2 (solver, mapper, loader, tester) ours stands in for."""

_OF_OTHER_HEADS = ("MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS")
_REGISTRIES = {
    "MODEL.META_ARCHITECTURE": "modeling:META_ARCH_REGISTRY",
    "MODEL.BACKBONE.NAME": "modeling:BACKBONE_REGISTRY",
    "MODEL.PROPOSAL_GENERATOR.NAME": "modeling:PROPOSAL_GENERATOR_REGISTRY",
    "MODEL.ROI_HEADS.NAME": "modeling:ROI_HEADS_REGISTRY",
}


def check_seams() -> None:
    """Refuse a Detectron2 whose functions are not those that this engine overrides and calls.

    Raises:
        EngineError: Names the first function that is missing or takes other parameters.
    """
    for seam, expected in SEAMS.items():
        importlib.import_module(
            f"detectron2.{seam.partition(':')[0]}"
        )  # what fails here is passed on as it is
        try:
            found = tuple(inspect.signature(_find(seam)).parameters)
        except AttributeError:
            raise _unsupported(seam, "is missing") from None
        if found != expected:
            raise _unsupported(seam, f"takes {found}; simfrcnn counts on {expected}")


def check_supported(cfg: Any) -> None:
    """Refuse a config that asks for what this engine would not do.

    Raises:
        ConfigError: Names the key, what is legal, and what to do.
    """
    for key, registry in _REGISTRIES.items():
        value, known = value_of(cfg, key), _find(registry)
        if value not in known:
            legal = sorted(name for name, _ in known)
            raise ConfigError(f"{key} is {value!r}, which Detectron2 does not know; it has {legal}")
    if cfg.MODEL.META_ARCHITECTURE not in (DETECTOR, CLASSIFIER):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}, which has none of the "
            "losses of MODEL.SIMFRCNN; legal is SimFasterRCNN (the baseline too: set "
            "MODEL.SIMFRCNN.RPN_NORMALS ordinary, ROI_NORMAL_SAMPLING random, SIMILARITY.LOSS "
            f"none), or {CLASSIFIER} for whole images"
        )
    if cfg.MODEL.META_ARCHITECTURE == CLASSIFIER:
        _require_nothing_of_a_detector(cfg)
    ignored = _ignored_keys(cfg)
    if ignored:
        raise ConfigError(
            f"{', '.join(ignored)}: set, but not read by simfrcnn's recipe, which stands in for "
            "Detectron2's solver, mapper and loader; leave them at their defaults"
        )


def _require_nothing_of_a_detector(cfg: Any) -> None:
    """What the portable keys have not shown already: Detectron2 has more of them."""
    from detectron2.config import get_cfg

    defaults = get_cfg()
    for group in (*OF_A_DETECTOR, *_OF_OTHER_HEADS):
        if group == "MODEL.SIMFRCNN":  # ours, and judged when the config was loaded
            continue
        for key, default in leaves_of({group: value_of(defaults, group)}):
            if value_of(cfg, key) != default:
                raise ConfigError(
                    f"{key} is {value_of(cfg, key)!r} but MODEL.META_ARCHITECTURE is {CLASSIFIER}, "
                    f"which has no regions; leave it at {default!r}"
                )


def _ignored_keys(cfg: Any) -> list[str]:
    """Keys of Detectron2 that were changed and that nobody would read."""
    from detectron2.config import get_cfg

    defaults, ours = get_cfg(), portable_defaults()
    add_simfrcnn_config(ours)
    read = {key for key, _ in leaves_of(ours)}
    return [
        key
        for group in _REPLACED
        for key, default in leaves_of(defaults[group], f"{group}.")
        if key not in read and value_of(cfg, key) != default
    ]


def _find(seam: str) -> Any:
    module, _, path = seam.partition(":")
    found = importlib.import_module(f"detectron2.{module}")
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _unsupported(seam: str, problem: str) -> EngineError:
    import detectron2

    return EngineError(
        f"this Detectron2 ({detectron2.__file__}) is not supported: detectron2.{seam} {problem}. "
        "Use the release v0.6 or the main branch (tested: commit 02b5c4e)"
    )
