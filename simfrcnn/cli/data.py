"""Check a data set before it trains or tests, or show what is in it.

``data check`` lists everything that would spoil a training or an evaluation, in one table; exit
code 1 says that a defect is an error. ``data show`` draws contact sheets and suggests anchors, mean
and deviation as a YAML fragment for ``_BASE_``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from simfrcnn.cli.options import names_in
from simfrcnn.data import catalog
from simfrcnn.data.coco import read_coco
from simfrcnn.data.inspect.checks.model import CheckSettings, Severity
from simfrcnn.data.inspect.checks.reading import annotation_files, collect, read_sets
from simfrcnn.data.inspect.checks.registry import run_checks
from simfrcnn.data.inspect.checks.table import document, table, verdict
from simfrcnn.data.inspect.overview.anchors import (
    MATCH_IOU,
    N_LEVELS,
    coverage,
    suggest_c4,
    suggest_fpn,
)
from simfrcnn.data.inspect.overview.fragment import fragment
from simfrcnn.data.inspect.overview.histograms import draw_histograms
from simfrcnn.data.inspect.overview.sheets import draw_all, evenly, sheet
from simfrcnn.data.inspect.overview.statistics import measure_inputs
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.files import as_utf8, write_files, write_json
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings

DEFAULT_SIZE = 512
BOXED_SHEET, UNBOXED_SHEET, LESION_SHEET = "boxed.png", "unboxed.png", "lesions.png"
HISTOGRAMS = "histograms.png"
C4_FRAGMENT, FPN_FRAGMENT = "data_c4.yaml", "data_fpn.yaml"
OUTPUTS = (
    *(BOXED_SHEET, UNBOXED_SHEET, LESION_SHEET),
    *(HISTOGRAMS, C4_FRAGMENT, FPN_FRAGMENT),
)
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
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a COCO file for a name; may be given several times",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core, at most 8)"
    )


def _check(arguments: argparse.Namespace) -> int:
    if arguments.smallest_anchor <= 0:
        raise ConfigError(f"--smallest-anchor is {arguments.smallest_anchor:g}: give pixels, > 0")
    classes = _target_classes(arguments)
    files = catalog.parse_files(arguments.dataset)
    paths = [path for target in arguments.targets for path in annotation_files(target, files)]
    sets = read_sets(paths)
    settings = CheckSettings(
        input=_input_settings(arguments, [r for s in sets for r in s.annotated.records]),
        smallest_anchor_px=arguments.smallest_anchor,
        target_classes=classes,
    )
    for checked in sets:
        print("\n".join((f"{checked.name}:", *checked.tally(classes).lines())), flush=True)
    collection = collect(
        sets,
        settings.input,
        read_pixels=not arguments.no_pixels,
        n_workers=arguments.workers,
    )
    defects = run_checks(collection, settings)
    if arguments.json:
        write_json(arguments.json, document(defects, collection, settings))
    if defects:
        print()
        print(table(defects, shutil.get_terminal_size((_WIDTH, 0)).columns))
        print()
    print(verdict(defects, collection))
    return int(any(defect.severity is Severity.ERROR for defect in defects))


def _show(arguments: argparse.Namespace) -> int:
    folder, classes = arguments.output, _target_classes(arguments)
    if arguments.images < 1:
        raise ConfigError(f"--images is {arguments.images}: give 1 or more")
    _require_free(folder, overwrite=arguments.overwrite)
    path = _training_file(arguments.target, catalog.parse_files(arguments.dataset))
    annotated = read_coco(path)
    settings = _input_settings(arguments, annotated.records)
    statistics = measure_inputs(annotated.records, settings, classes, n_workers=arguments.workers)
    c4, fpn = suggest_c4(statistics.sides_px), suggest_fpn(statistics.sides_px)
    others = [name for name in annotated.categories.values() if name not in classes]
    sheets = _sheets(annotated.records, settings, (*classes, *others), arguments)
    title = f"{path.parent.name}/{path.stem} at {settings.size_px[0]} x {settings.size_px[1]}"
    fragments = {
        name: fragment(statistics, anchors, settings, f"{title}, for {kind}", annotated.sha256)
        for name, anchors, kind in (
            (C4_FRAGMENT, c4, "a C4 detector"),
            (FPN_FRAGMENT, fpn, f"a pyramid of {N_LEVELS} levels"),
        )
    }
    write_files(
        folder,
        {
            **sheets,
            HISTOGRAMS: draw_histograms(statistics, c4, fpn),
            **{name: as_utf8(text) for name, text in fragments.items()},
        },
    )
    print(f"{title}: {statistics.n_images} training images, {len(statistics.sides_px)} boxes")
    print(f"grey values: mean {statistics.mean:.1f}, deviation {statistics.std:.1f}")
    for name, anchors in (("C4", c4), ("pyramid", fpn)):
        fit = coverage(statistics.sides_px, anchors)
        print(
            f"anchors for {name}: sizes {', '.join(map(str, anchors.all_sizes))}, aspect ratios "
            f"{', '.join(f'{ratio:g}' for ratio in anchors.ratios)}; best IoU {fit.mean_iou:.2f} "
            f"in the mean, at least {MATCH_IOU:g} for {fit.matched_share:.0%} of the boxes"
        )
    print(f"wrote {', '.join([*sheets, HISTOGRAMS, *fragments])} -> {folder}")
    return 0


def _require_free(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder as --output")
    taken = sorted(name for name in OUTPUTS if (folder / name).exists())
    if taken and not overwrite:
        raise OutputError(
            f"{folder} holds {', '.join(taken)} already; give another --output, or --overwrite"
        )


def _training_file(target: str, files: Mapping[str, str]) -> Path:
    """The one file of the target; of a folder, its train.json."""
    found = annotation_files(target, files)
    if len(found) == 1:
        return found[0]
    train = [path for path in found if path.stem == "train"]
    if not train:
        raise DataError(
            f"{target} holds {', '.join(path.name for path in found)}: give the file of the "
            "training set; anchors and mean are taken from nothing else"
        )
    return train[0]


def _sheets(
    records: Sequence[ImageRecord],
    settings: InputSettings,
    categories: tuple[str, ...],
    arguments: argparse.Namespace,
) -> dict[str, bytes]:
    """The pictures by file name: images with and without boxes, and lesions close up."""
    boxed = evenly([record for record in records if record.findings], arguments.images)
    others = evenly([record for record in records if not record.findings], arguments.images)
    drawn = draw_all([*boxed, *others], settings, categories, n_workers=arguments.workers)
    with_boxes, without = drawn[: len(boxed)], drawn[len(boxed) :]
    close_ups = [close_up for each in with_boxes for close_up in each.close_ups]
    sheets = {
        BOXED_SHEET: sheet([each.tile for each in with_boxes], categories),
        LESION_SHEET: sheet(close_ups),
    }
    return sheets | ({UNBOXED_SHEET: sheet([each.tile for each in without])} if without else {})


def _target_classes(arguments: argparse.Namespace) -> tuple[str, ...]:
    classes = names_in(arguments.target_classes)
    if not classes:
        raise ConfigError("--target-classes is empty: give one or more class names, such as mass")
    return classes


def _input_settings(arguments: argparse.Namespace, records: Sequence[ImageRecord]) -> InputSettings:
    """As asked for; where nothing is, as the pictures were prepared (but for some whole ones)."""
    asked = InputSettings(
        size_px=_size(arguments.size or [DEFAULT_SIZE]),
        crop_to_breast=not arguments.whole_image,
        keep_aspect=not arguments.stretch,
    )
    made_for = next((p.as_input for r in records if (p := r.prepared) and p.as_input), None)
    is_asked = arguments.size or arguments.whole_image or arguments.stretch
    return made_for if made_for and not is_asked else asked


def _size(sides: Sequence[int]) -> tuple[int, int]:
    if len(sides) > 2 or min(sides) < _LEAST_SIZE:
        raise ConfigError(
            f"--size {' '.join(map(str, sides))}: give one side, or height and width, each at "
            f"least {_LEAST_SIZE} pixels"
        )
    return sides[0], sides[-1]
