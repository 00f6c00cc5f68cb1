"""Which Detectron2 keys does every engine honour, and what are their defaults?

The tree holds the Detectron2 keys that a shipped config sets, with Detectron2's own defaults and
types (a test holds them equal, key by key, when Detectron2 is there). On another engine a key
outside this tree is an error: nothing is accepted and then ignored.
"""

from __future__ import annotations

from fvcore.common.config import CfgNode


def portable_defaults() -> CfgNode:
    """A fresh tree of the portable keys with Detectron2's defaults; ours are not in it yet."""
    cfg = CfgNode()
    cfg.VERSION = 2
    cfg.OUTPUT_DIR = "./output"
    cfg.SEED = -1
    cfg.MODEL = _model()
    cfg.DATASETS = CfgNode({"TRAIN": (), "TEST": ()})
    cfg.DATALOADER = CfgNode(
        {"NUM_WORKERS": 4, "FILTER_EMPTY_ANNOTATIONS": True, "ASPECT_RATIO_GROUPING": True}
    )
    cfg.SOLVER = _solver()
    cfg.TEST = CfgNode({"EVAL_PERIOD": 0, "DETECTIONS_PER_IMAGE": 100})
    return cfg


def _model() -> CfgNode:
    model = CfgNode()
    model.META_ARCHITECTURE = "GeneralizedRCNN"
    model.DEVICE = "cuda"
    model.WEIGHTS = ""
    model.MASK_ON = False
    model.PIXEL_MEAN = [103.530, 116.280, 123.675]
    model.PIXEL_STD = [1.0, 1.0, 1.0]
    model.BACKBONE = CfgNode({"NAME": "build_resnet_backbone", "FREEZE_AT": 2})
    model.RESNETS = CfgNode(
        {
            "DEPTH": 50,
            "OUT_FEATURES": ["res4"],
            "NORM": "FrozenBN",
            "STRIDE_IN_1X1": True,
            "RES2_OUT_CHANNELS": 256,
        }
    )
    model.FPN = CfgNode({"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": ""})
    model.ANCHOR_GENERATOR = CfgNode(
        {"SIZES": [[32, 64, 128, 256, 512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]}
    )
    model.PROPOSAL_GENERATOR = CfgNode({"NAME": "RPN"})
    model.RPN = CfgNode(
        {
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.3, 0.7],
            "BATCH_SIZE_PER_IMAGE": 256,
            "POSITIVE_FRACTION": 0.5,
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "SMOOTH_L1_BETA": 0.0,
            "PRE_NMS_TOPK_TRAIN": 12000,
            "PRE_NMS_TOPK_TEST": 6000,
            "POST_NMS_TOPK_TRAIN": 2000,
            "POST_NMS_TOPK_TEST": 1000,
            "NMS_THRESH": 0.7,
        }
    )
    model.ROI_HEADS = CfgNode(
        {
            "NAME": "Res5ROIHeads",
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.5],
            "BATCH_SIZE_PER_IMAGE": 512,
            "POSITIVE_FRACTION": 0.25,
            "SCORE_THRESH_TEST": 0.05,
            "NMS_THRESH_TEST": 0.5,
        }
    )
    model.ROI_BOX_HEAD = CfgNode(
        {
            "NAME": "",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "SMOOTH_L1_BETA": 0.0,
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
            "NUM_FC": 0,
            "FC_DIM": 1024,
        }
    )
    model.ROI_MASK_HEAD = CfgNode(
        {
            "NAME": "MaskRCNNConvUpsampleHead",
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "NUM_CONV": 0,
            "CONV_DIM": 256,
            "NORM": "",
            "CLS_AGNOSTIC_MASK": False,
            "POOLER_TYPE": "ROIAlignV2",
        }
    )
    return model


def _solver() -> CfgNode:
    return CfgNode(
        {
            "IMS_PER_BATCH": 16,
            "BASE_LR": 0.001,
            "MAX_ITER": 40000,
            "STEPS": (30000,),
            "GAMMA": 0.1,
            "MOMENTUM": 0.9,
            "WARMUP_ITERS": 1000,
            "WARMUP_FACTOR": 1.0 / 1000,
            "WEIGHT_DECAY": 0.0001,
            "CHECKPOINT_PERIOD": 5000,
            "AMP": {"ENABLED": False},
        }
    )
