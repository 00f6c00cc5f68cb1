"""Which keys does simfrcnn add?

The nodes are made with ``type(cfg)()``: the same function extends Detectron2's tree and fvcore's,
and imports neither.
"""

from __future__ import annotations

from typing import Any


def add_simfrcnn_config(cfg: Any) -> None:
    """Add simfrcnn's keys and their defaults to a config tree, in place.

    Args:
        cfg: ``detectron2.config.get_cfg()`` or :func:`~simfrcnn.config.portable.portable_defaults`.
    """
    new_node = type(cfg)

    # -- the method (thesis sections 5.3-5.4) --------------------------------------------------
    cfg.MODEL.SIMFRCNN = new_node()
    # Loss of normal images in the RPN: top_likelihood | ordinary (the baseline) | none.
    cfg.MODEL.SIMFRCNN.RPN_NORMALS = "top_likelihood"
    cfg.MODEL.SIMFRCNN.TOP_LIKELIHOOD = new_node()
    cfg.MODEL.SIMFRCNN.TOP_LIKELIHOOD.WEIGHT = 1.0  # lambda2
    cfg.MODEL.SIMFRCNN.TOP_LIKELIHOOD.TOP_K = 256
    # ROI batch of a normal image: top (its most likely proposals) | random (as libraries do).
    cfg.MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING = "top"
    cfg.MODEL.SIMFRCNN.SIMILARITY = new_node()
    cfg.MODEL.SIMFRCNN.SIMILARITY.LOSS = "cosine"  # cosine | contrastive | none
    cfg.MODEL.SIMFRCNN.SIMILARITY.WEIGHT = 1.0  # lambda4
    cfg.MODEL.SIMFRCNN.SIMILARITY.MARGIN = 0.0
    # Which proposals of the normal partner: suspected (highest objectness) | hardest (highest
    # malignant score) | random | all (every foreground region with every proposal).
    cfg.MODEL.SIMFRCNN.SIMILARITY.PARTNERS = "suspected"
    # For contrastive alone: the distance that two kinds should keep, whether vectors are divided by
    # their length, and whether regions of one kind of two pairs are drawn together.
    cfg.MODEL.SIMFRCNN.SIMILARITY.DISTANCE_MARGIN = 1.0
    cfg.MODEL.SIMFRCNN.SIMILARITY.NORMALISE_VECTORS = True
    cfg.MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS = False

    # -- the network -----------------------------------------------------------------------------
    cfg.MODEL.TIMM = new_node()
    # With MODEL.BACKBONE.NAME build_timm_backbone or build_timm_fpn_backbone: timm's model name.
    cfg.MODEL.TIMM.NAME = ""
    # Stages (res2..res5) whose 3x3 convolutions are deformable, such as (res3, res4, res5).
    cfg.MODEL.SIMFRCNN.DEFORM_STAGES = ()
    # Convolutions of res5 (conv5) that are trained, counted from its end; -1 trains all.
    cfg.MODEL.SIMFRCNN.RES5_TRAINED_CONVS = -1

    # -- input -----------------------------------------------------------------------------------
    cfg.INPUT = cfg.get("INPUT", new_node())
    cfg.INPUT.MAMMO = new_node()
    cfg.INPUT.MAMMO.SIZE = (512, 512)  # height, width of the network's input in pixels
    cfg.INPUT.MAMMO.CROP_TO_BREAST = True
    cfg.INPUT.MAMMO.KEEP_ASPECT = True  # one scale factor and padding; False stretches
    cfg.INPUT.MAMMO.HORIZONTAL_FLIP = 0.5  # probabilities, training only
    cfg.INPUT.MAMMO.VERTICAL_FLIP = 0.5

    # -- data ------------------------------------------------------------------------------------
    cfg.DATASETS.VAL = ()  # chooses the best checkpoint; TEST is read once, at the end
    cfg.DATASETS.FILES = ()  # "NAME=path/to/coco.json" entries
    cfg.DATASETS.CLASSES = ("malignant",)  # foreground classes, in the order of their labels
    cfg.DATASETS.TARGET_CLASSES = ("malignant",)  # what makes an image positive, and is evaluated
    # One item of a batch: pairs (one positive, one normal image) | positives (two positives).
    cfg.DATASETS.BATCHES = "pairs"
    # Hard-normal replay: the fraction of pairs whose normal image is one of the hard ones, 0 for
    # none; which share of those seen is hard, by the model's highest score there; and the steps
    # after which they are ranked anew.
    cfg.DATASETS.REPLAY = new_node()
    cfg.DATASETS.REPLAY.FRACTION = 0.0
    cfg.DATASETS.REPLAY.HARD_SHARE = 0.25
    cfg.DATASETS.REPLAY.PERIOD = 50
    # Views without boxes of patients who have cancer: exclude | normal (as the thesis does).
    cfg.DATASETS.UNBOXED_VIEWS = "exclude"

    # -- recipe ----------------------------------------------------------------------------------
    cfg.SOLVER.OPTIMIZER = "adam"  # adam | sgd
    # Factor on the learning rate of the stem, res2 and res3 (conv1 to conv3).
    cfg.SOLVER.LOW_STAGES_LR_FACTOR = 1.0

    # -- pseudo-boxes of weakFaster R-CNN --------------------------------------------------------
    cfg.PSEUDO = new_node()
    cfg.PSEUDO.SCORE_THRESHOLD = 0.8  # on saved detections, not those of the detector
    cfg.PSEUDO.NMS_THRESHOLD = 0.3
    cfg.PSEUDO.KEEP_UNLABELLED = False  # keep normal images that get no box in the new file

    # -- evaluation ------------------------------------------------------------------------------
    cfg.EVAL = new_node()
    cfg.EVAL.SCORE_THRESHOLD = 0.5  # accuracy, sensitivity and specificity only
    cfg.EVAL.IOU_THRESHOLD = 0.5
    cfg.EVAL.POOLING = "max"  # images -> breast and case: max | mean | noisy_or
    cfg.EVAL.CASE_BY = "exam"  # exam | patient
    cfg.EVAL.UNKNOWN_IMAGES = "exclude"  # exclude | normal (as the thesis does)
    cfg.EVAL.COUNT_REPEATS = False  # a second hit on a found lesion counts as a false positive
    cfg.EVAL.IGNORED_CLASSES = []  # boxes that are neither to be found nor wrong to find
    cfg.EVAL.BOXES_OUTSIDE = "refuse"  # detections beyond the image: refuse | clip
    cfg.EVAL.PREVALENCE = 0.0  # of cancer among cases, for predictive values; 0: none is stated
    # Operating points are chosen on DATASETS.VAL: by Youden, by sensitivity and by specificity.
    cfg.EVAL.OPERATING_SENSITIVITY = 0.9
    cfg.EVAL.OPERATING_SPECIFICITY = 0.9
    cfg.EVAL.SUBGROUPS = []  # keys of records, with edges where they are numbers: "age:50,70"
    cfg.EVAL.BOOTSTRAP_REPLICATES = 2000
    cfg.EVAL.BOOTSTRAP_SEED = 0
