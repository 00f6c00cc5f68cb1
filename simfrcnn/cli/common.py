"""What several verbs share: the engine and config arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from simfrcnn.errors import ConfigError

if TYPE_CHECKING:
    from simfrcnn.engines.contract import Engine


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """``--engine``."""
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "detectron2", "torchvision"),
        help="detection library; auto takes Detectron2 when it can be imported (default)",
    )


def add_config_file_argument(
    parser: argparse.ArgumentParser,
    *,
    required: bool = False,
    help: str = "a YAML file, or the name of a config of simfrcnn such as demo/sim (see `simfrcnn "
    "configs`)",
) -> None:
    """``--config-file``: a path or a name, which :func:`~simfrcnn.config.find_config` finds."""
    parser.add_argument("--config-file", required=required, metavar="FILE|NAME", help=help)


def add_config_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--config-file``, ``--dataset`` and KEY VALUE overrides."""
    add_config_file_argument(parser, required=required)
    add_dataset_argument(parser)
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to change, at the end of the line",
    )


def add_dataset_argument(parser: argparse.ArgumentParser) -> None:
    """``--dataset``."""
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a COCO file for a data set name of the config; may be given several times",
    )


def start_engine(name: str) -> Engine:
    """Load an engine and say in one line which it is."""
    from simfrcnn.engines.contract import load_engine

    engine = load_engine(name)
    print(f"engine: {engine.NAME}", flush=True)
    return engine


def config_from(engine: Engine, arguments: argparse.Namespace) -> Any:
    """The config of a verb with :func:`add_config_arguments`, checked and frozen."""
    from simfrcnn.config import load_config

    cfg = engine.default_cfg()
    cfg.DATASETS.FILES = tuple(arguments.dataset)
    load_config(cfg, arguments.config_file, arguments.opts)
    if arguments.dataset and tuple(cfg.DATASETS.FILES) != tuple(arguments.dataset):
        raise ConfigError("give data set files by --dataset or by DATASETS.FILES, not by both")
    return cfg


def make_missing_phantoms(cfg: Any) -> None:
    """Make the embedded phantom data sets that the config names and that are not there yet."""
    from simfrcnn.workflows import phantoms

    phantoms.make_missing_phantoms(cfg)
