"""The Detectron2 engine: importing it registers simFaster R-CNN's parts in Detectron2's registries.

A plain Detectron2 script needs three things: this import, ``add_simfrcnn_config(cfg)``, and a
``DefaultTrainer`` whose ``build_*`` methods return the functions of the same names from here.
"""

from simfrcnn.engines.contract import Deviation
from simfrcnn.engines.detectron2.compatibility import check_seams

check_seams()

from simfrcnn.engines.detectron2.checkpointer import Checkpointer  # noqa: E402
from simfrcnn.engines.detectron2.classifier import SimClassifier  # noqa: E402
from simfrcnn.engines.detectron2.data import (  # noqa: E402
    build_test_loader,
    build_train_loader,
    register_datasets,
)
from simfrcnn.engines.detectron2.evaluation import (  # noqa: E402
    SimfrcnnEvaluator,
    build_evaluator,
)
from simfrcnn.engines.detectron2.launching import launch_training  # noqa: E402
from simfrcnn.engines.detectron2.meta_arch import SimFasterRCNN  # noqa: E402
from simfrcnn.engines.detectron2.model import (  # noqa: E402
    NAME,
    build_model,
    default_cfg,
    detect,
    load_weights,
    training_losses,
)
from simfrcnn.engines.detectron2.roi_heads import (  # noqa: E402
    SimRes5ROIHeads,
    SimStandardROIHeads,
)
from simfrcnn.engines.detectron2.rpn import TopLikelihoodRPN  # noqa: E402
from simfrcnn.engines.detectron2.trainer import Trainer, train  # noqa: E402
from simfrcnn.engines.detectron2.weights import load_initial_weights  # noqa: E402
from simfrcnn.training.recipe import build_lr_scheduler, build_optimizer  # noqa: E402

DEVIATIONS: tuple[Deviation, ...] = ()
"""None: the config's keys are Detectron2's own."""

__all__ = [
    "DEVIATIONS",
    "NAME",
    "Checkpointer",
    "SimClassifier",
    "SimFasterRCNN",
    "SimRes5ROIHeads",
    "SimStandardROIHeads",
    "SimfrcnnEvaluator",
    "TopLikelihoodRPN",
    "Trainer",
    "build_evaluator",
    "build_lr_scheduler",
    "build_model",
    "build_optimizer",
    "build_test_loader",
    "build_train_loader",
    "default_cfg",
    "detect",
    "launch_training",
    "load_initial_weights",
    "load_weights",
    "register_datasets",
    "train",
    "training_losses",
]
