"""Check a data set before it trains or tests, or show what is in it.

``data check`` lists everything that would spoil a training or an evaluation, in one table; exit
code 1 says that a defect is an error. ``data show`` draws contact sheets and suggests anchors, mean
and deviation as a YAML fragment for ``_BASE_``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.described import made
from simfrcnn.workflows.inspect import AskedInput, InspectionOptions, check_data, show_data

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
    _add_shared(check)
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
    _add_shared(show)
    show.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder")
    show.add_argument(
        "--images", type=int, default=40, metavar="N", help="most on a sheet (default: 40)"
    )
    show.add_argument("--overwrite", action="store_true", help="replace what is in DIR")
    show.set_defaults(act=_show)


def run(arguments: argparse.Namespace) -> int:
    """Check or show."""
    return int(arguments.act(arguments))


def _add_shared(parser: argparse.ArgumentParser) -> None:
    add_options(parser, AskedInput)
    add_options(parser, InspectionOptions)


def _given(arguments: argparse.Namespace) -> tuple[AskedInput, InspectionOptions]:
    given = given_options(arguments, AskedInput, InspectionOptions)
    return made(AskedInput, given), made(InspectionOptions, given)


def _check(arguments: argparse.Namespace) -> int:
    import shutil

    from simfrcnn.data import catalog
    from simfrcnn.data.inspect.checks.model import Severity
    from simfrcnn.data.inspect.checks.reading import annotation_files, read_sets
    from simfrcnn.data.inspect.checks.table import document, table, verdict
    from simfrcnn.files import require_writable_file, write_json

    asked, options = _given(arguments)
    if arguments.json:
        require_writable_file(arguments.json)
    files = catalog.parse_files(options.dataset)
    sets = read_sets([path for t in arguments.targets for path in annotation_files(t, files)])
    for checked in sets:
        lines = checked.tally(options.target_classes).lines()
        print("\n".join((f"{checked.name}:", *lines)), flush=True)
    defects, collection, settings = check_data(
        sets,
        asked,
        options.target_classes,
        smallest_anchor_px=arguments.smallest_anchor,
        read_pixels=not arguments.no_pixels,
        n_workers=options.workers,
    )
    if arguments.json:
        write_json(arguments.json, document(defects, collection, settings))
    if defects:
        print(f"\n{table(defects, shutil.get_terminal_size((_WIDTH, 0)).columns)}\n")
    print(verdict(defects, collection))
    return int(any(defect.severity is Severity.ERROR for defect in defects))


def _show(arguments: argparse.Namespace) -> int:
    from simfrcnn.data import catalog

    asked, options = _given(arguments)
    lines = show_data(
        arguments.target,
        catalog.parse_files(options.dataset),
        arguments.output,
        asked,
        options.target_classes,
        n_images=arguments.images,
        overwrite=arguments.overwrite,
        n_workers=options.workers,
    )
    print("\n".join(lines))
    return 0
