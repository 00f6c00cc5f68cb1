"""What several verbs share: the engine and config arguments, and the embedded phantoms."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simfrcnn.cli import make_phantoms
from simfrcnn.config import load_config
from simfrcnn.data import catalog
from simfrcnn.engines.contract import ENGINES, Engine, load_engine
from simfrcnn.errors import ConfigError
from simfrcnn.parallel import available_cores
from simfrcnn.phantom.generate import MANIFEST
from simfrcnn.phantom.presets import PRESETS

_PHANTOM_FOLDERS = frozenset(f"phantom_{preset}" for preset in PRESETS)


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


def make_missing_phantoms(cfg: Any) -> None:
    """Make the embedded phantom data sets that the config names and that are not there yet."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    for folder in _missing_phantom_folders(names, files):
        print(f"making the embedded data set {folder.name} in {folder}", flush=True)
        make_phantoms.run(
            argparse.Namespace(
                preset=folder.name.removeprefix("phantom_"),
                out=folder,
                seed=0,
                workers=available_cores(),
                overwrite=False,
            )
        )


def _missing_phantom_folders(names: Sequence[str], files: dict[str, str]) -> list[Path]:
    folders = {
        catalog.datasets_root() / name.partition("/")[0]
        for name in names
        if name not in files and name.partition("/")[0] in _PHANTOM_FOLDERS
    }
    return sorted(folder for folder in folders if not (folder / MANIFEST).exists())
