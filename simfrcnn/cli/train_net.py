"""Train a detector and test it once, or test a trained one (--eval-only).

Everything goes into OUTPUT_DIR: the resolved config, a manifest, checkpoints, metrics, TensorBoard
events, the operating points that were chosen on the validation set, and under inference/ the
detections and the report of every test set.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from simfrcnn.cli import common
from simfrcnn.data import catalog
from simfrcnn.engines.common import checkpoints
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ConfigError
from simfrcnn.training import recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    common.add_engine_argument(parser)
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="no training: test MODEL.WEIGHTS if it is given on this line, else the best "
        "checkpoint of OUTPUT_DIR, else its last",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint of OUTPUT_DIR, if any"
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        help="processes on this machine (Detectron2; with MODEL.DEVICE cpu, CPU processes). The "
        "torchvision engine is started by torchrun instead",
    )
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="auto", help="as in Detectron2's launch")
    common.add_config_arguments(parser)


@catalog.reading_once()
def run(arguments: argparse.Namespace) -> int:
    """Train and test, or test."""
    engine = common.start_engine(arguments.engine)
    cfg = common.config_from(engine, arguments)
    check_device(cfg)
    if _is_main_process(arguments):
        # Imported late: matplotlib and the metrics are of no use to the other processes.
        from simfrcnn.workflows.testing import check_rules, judge_model

        # The other processes wait for this one when they join the group.
        common.make_missing_phantoms(cfg)
        recipe.check_patients_stay_apart(cfg)
        check_rules(cfg)
    if not arguments.eval_only:
        _train(engine, cfg, arguments)
    if _is_main_process(arguments):
        judge_model(engine, cfg, _weights_to_test(cfg, arguments))
    return 0


def _train(engine: Engine, cfg: Any, arguments: argparse.Namespace) -> None:
    if arguments.num_gpus * arguments.num_machines == 1:
        engine.train(cfg, resume=arguments.resume)
        return
    launch = getattr(engine, "launch_training", None)
    if launch is None:
        raise ConfigError(
            f"--num-gpus and --num-machines are not for the engine {engine.NAME}: start it with "
            "torchrun --nproc-per-node N tools/train_net.py --engine torchvision ..."
        )
    launch(
        cfg,
        resume=arguments.resume,
        num_gpus=arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
    )


def _weights_to_test(cfg: Any, arguments: argparse.Namespace) -> Path:
    if arguments.eval_only and "MODEL.WEIGHTS" in arguments.opts[::2]:
        return Path(cfg.MODEL.WEIGHTS)
    folder = Path(cfg.OUTPUT_DIR)
    best = folder / checkpoints.BEST
    return best if best.exists() else folder / checkpoints.LAST


def _is_main_process(arguments: argparse.Namespace) -> bool:
    """False on all but the first machine, and in all but the first process of torchrun."""
    return arguments.machine_rank == 0 and os.environ.get("RANK", "0") == "0"
