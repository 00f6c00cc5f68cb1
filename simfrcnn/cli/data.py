"""Check a data set before it trains or tests, or show what is in it.

``data check`` lists everything that would spoil a training or an evaluation, in one table; exit
code 1 says that a defect is an error. ``data show`` draws contact sheets and suggests anchors, mean
and deviation as a YAML fragment for ``_BASE_``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simfrcnn.cli import common
from simfrcnn.errors import ConfigError
from simfrcnn.settings import InputSettings

DEFAULT_SIZE = InputSettings().size_px[0]
_LEAST_SIZE = 32
_WIDTH = 140
"""Columns of the table where the output is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two verbs and their options."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = verbs.add_parser("check", help="list what would spoil a training or an evaluation")
    check.add_argument(
        "targets",
        nargs="+",
        metavar="PATH|NAME",
        help="a folder of COCO files, a COCO file, or a name such as mias/train",
    )
    _add_input(check)
    check.add_argument(
        "--smallest-anchor",
        type=float,
        default=16,
        metavar="PX",
        help="side of the smallest anchor of the config, in input pixels (default: 16)",
    )
    check.add_argument(
        "--no-pixels",
        action="store_true",
        help="check what the annotation files say alone; no image is read",
    )
    check.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything found to FILE too"
    )
    check.set_defaults(act=_check)
    show = verbs.add_parser("show", help="contact sheets, histograms, and a fragment for configs")
    show.add_argument(
        "target",
        metavar="PATH|NAME",
        help="the training set: a COCO file, a name such as mias/train, or a folder with "
        "train.json",
    )
    _add_input(show)
    show.add_argument("--output", type=Path, required=True, metavar="DIR")
    show.add_argument(
        "--images", type=int, default=40, metavar="N", help="most on a sheet (default: 40)"
    )
    show.add_argument("--overwrite", action="store_true", help="replace what is in DIR")
    show.set_defaults(act=_show)


def run(arguments: argparse.Namespace) -> int:
    """Check or show."""
    return int(arguments.act(arguments))


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        nargs="+",
        type=int,
        metavar="PX",
        help="input of the network: one side, or height and width (default: what the pictures "
        f"were prepared for, else {DEFAULT_SIZE})",
    )
    parser.add_argument(
        "--whole-image",
        action="store_true",
        help="the input is the whole image, not the breast (CROP_TO_BREAST False)",
    )
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="the input is stretched to its size, not padded (KEEP_ASPECT False)",
    )
    parser.add_argument(
        "--target-classes",
        default="malignant",
        metavar="A,B",
        help="classes whose boxes make an image positive (default: malignant)",
    )
    common.add_dataset_argument(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core, at most 8)"
    )


def _check(arguments: argparse.Namespace) -> int:
    shared = _shared(arguments)
    from simfrcnn.data.inspect.checks.table import table
    from simfrcnn.workflows.inspect import check_data

    checked = check_data(
        arguments.targets,
        smallest_anchor_px=arguments.smallest_anchor,
        read_pixels=not arguments.no_pixels,
        json=arguments.json,
        **shared,
    )
    print("\n".join(checked.tallies))
    if checked.defects:
        print(f"\n{table(checked.defects, shutil.get_terminal_size((_WIDTH, 0)).columns)}\n")
    print(checked.verdict)
    return int(checked.has_errors)


def _show(arguments: argparse.Namespace) -> int:
    shared = _shared(arguments)
    from simfrcnn.workflows.inspect import show_data

    lines = show_data(
        arguments.target,
        arguments.output,
        n_images=arguments.images,
        overwrite=arguments.overwrite,
        **shared,
    )
    print("\n".join(lines))
    return 0


def _shared(arguments: argparse.Namespace) -> dict[str, Any]:
    """What both workflows take; no input is asked for where no option says one."""
    classes = tuple(filter(None, map(str.strip, arguments.target_classes.split(","))))
    if not classes:
        raise ConfigError("--target-classes is empty: give one or more class names, such as mass")
    is_asked = arguments.size or arguments.whole_image or arguments.stretch
    asked = InputSettings(
        size_px=_size(arguments.size or [DEFAULT_SIZE]),
        crop_to_breast=not arguments.whole_image,
        keep_aspect=not arguments.stretch,
    )
    return {
        "datasets": arguments.dataset,
        "asked": asked if is_asked else None,
        "target_classes": classes,
        "n_workers": arguments.workers,
    }


def _size(sides: Sequence[int]) -> tuple[int, int]:
    if len(sides) > 2 or min(sides) < _LEAST_SIZE:
        raise ConfigError(
            f"--size {' '.join(map(str, sides))}: give one side, or height and width, each at "
            f"least {_LEAST_SIZE} pixels"
        )
    return sides[0], sides[-1]
