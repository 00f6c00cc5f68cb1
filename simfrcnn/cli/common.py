"""What several verbs share: the engine and config arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from simfrcnn.config import load_config
from simfrcnn.engines.contract import ENGINES, Engine, load_engine
from simfrcnn.errors import ConfigError
from simfrcnn.workflows.phantoms import make_missing_phantoms

__all__ = [
    "add_config_arguments",
    "add_engine_argument",
    "config_from",
    "make_missing_phantoms",
    "start_engine",
]


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """``--engine``."""
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", *ENGINES),
        help="detection library; auto takes Detectron2 when it can be imported (default)",
    )


def add_config_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--config-file``, ``--dataset`` and KEY VALUE overrides."""
    parser.add_argument("--config-file", required=required, metavar="FILE", type=Path)
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a COCO file for a data set name of the config; may be given several times",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to change, at the end of the line",
    )


def start_engine(name: str) -> Engine:
    """Load an engine and say in one line which it is."""
    engine = load_engine(name)
    print(f"engine: {engine.NAME}", flush=True)
    return engine


def config_from(engine: Engine, arguments: argparse.Namespace) -> Any:
    """The config of a verb with :func:`add_config_arguments`, checked and frozen."""
    cfg = engine.default_cfg()
    cfg.DATASETS.FILES = tuple(arguments.dataset)
    load_config(cfg, arguments.config_file, arguments.opts)
    if arguments.dataset and tuple(cfg.DATASETS.FILES) != tuple(arguments.dataset):
        raise ConfigError("give data set files by --dataset or by DATASETS.FILES, not by both")
    return cfg
