"""What several verbs share: the engine and config arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

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
    add_overrides(parser, "config keys to change, at the end of the line")


def add_overrides(parser: argparse.ArgumentParser, help: str) -> None:
    """KEY VALUE words, at the end of the line."""
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help=help)


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


def add_set(parser: argparse.ArgumentParser, help: str) -> None:
    """``--set KEY VALUE``, as often as wanted: keys and values in turn."""
    words: Any = {"nargs": 2, "metavar": ("KEY", "VALUE"), "help": help}
    parser.add_argument("--set", action="extend", default=[], **words)
