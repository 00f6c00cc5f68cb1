"""Judge saved detections against an annotation file: by case, breast, image, finding and lesion.

Given --detections several times, the models are judged on the same cases and compared: a report for
each of them in a folder of its own, and the comparison beside these folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simfrcnn.cli.options import add_options, given_settings, options_if_given
from simfrcnn.errors import ConfigError
from simfrcnn.settings import EvaluationSettings
from simfrcnn.workflows.gallery import GalleryOptions
from simfrcnn.workflows.readers import ReaderOptions

if TYPE_CHECKING:
    from simfrcnn.evaluation.results import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb; those of the rules come from :class:`EvaluationSettings`."""
    parser.add_argument(
        "--annotations", type=Path, required=True, metavar="FILE", help="COCO JSON of the test set"
    )
    parser.add_argument(
        "--detections",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="COCO results list; <stem>.meta.json beside it says which images were run. Given "
        "several times, the models are compared on the same cases",
    )
    parser.add_argument(
        "--names",
        metavar="A,B",
        help="names of the models, in the order of several --detections",
    )
    parser.add_argument(
        "--primary",
        metavar="METRIC",
        help="what several models are ranked by (default: case/auc); name it before you look",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the report")
    add_options(parser, EvaluationSettings)
    add_options(parser, ReaderOptions)
    parser.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="the largest difference that does not matter, stated before the results are seen: "
        "also say what is shown to be non-inferior or equivalent, of models or against readers",
    )
    points = parser.add_mutually_exclusive_group()
    points.add_argument(
        "--operating-points",
        type=Path,
        metavar="FILE",
        help="apply the operating points of this file, which were chosen on a validation set; its "
        "sensitivity and specificity are then the defaults",
    )
    points.add_argument(
        "--choose-operating-points",
        type=Path,
        metavar="FILE",
        help="this is the validation set: choose operating points on it and write them",
    )
    add_options(parser, GalleryOptions)


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and print its summary; of several models, also compare them."""
    readers = options_if_given(args, ReaderOptions)
    if len(args.detections) > 1 or args.names or args.primary:
        if readers:
            raise ConfigError("--readers takes one model: give --detections once")
        return _compare(args)
    if args.margin is not None and not readers:
        raise ConfigError("--margin is for a difference: give several --detections, or --readers")
    from simfrcnn.evaluation import operating
    from simfrcnn.evaluation.margins import require_margin
    from simfrcnn.evaluation.readers.readings import read_readings
    from simfrcnn.evaluation.reporting.report import summary_lines
    from simfrcnn.workflows.evaluate import evaluate, points_of, settings_for

    if readers and readers.readers:
        require_margin(args.margin)
        read_readings(readers.readers, readers.recall_from)  # wrong rows are named before the work
    points = points_of(args.operating_points)
    report = evaluate(
        args.annotations,
        args.detections[0],
        output=args.output,
        settings=given_settings(args, settings_for(points)),
        operating_points=points,
        choose_operating_points=args.choose_operating_points,
        **given_settings(args, GalleryOptions()).keywords,
    )
    _print(summary_lines(report), report.notes, f"report: {args.output / 'report.html'}")
    if readers:
        _judge_readers(report, readers, args.output, args.margin)
    if args.choose_operating_points:
        chosen = operating.read_operating_points(args.choose_operating_points)
        print("\n".join(operating.lines_on(chosen)))
        print(f"operating points: {args.choose_operating_points}")
    return 0


def _judge_readers(
    report: Report, readers: ReaderOptions, output: Path, margin: float | None
) -> None:
    from simfrcnn.evaluation.readers import PAGE
    from simfrcnn.evaluation.reporting.reader_report import notes_on_files, summary_lines
    from simfrcnn.workflows.readers import judge_readers

    study = judge_readers(report, readers, output=output, margin=margin)
    _print(summary_lines(study), notes_on_files(), f"readers: {output / PAGE}")


def _compare(args: argparse.Namespace) -> int:
    if args.operating_points or args.choose_operating_points:
        raise ConfigError(
            "operating points belong to one model: judge each of the --detections by itself "
            "with them, and compare without"
        )
    from simfrcnn.evaluation.reporting.comparison_report import PAGE, summary_lines
    from simfrcnn.workflows.compare import compare, names_of

    names = names_of(args.names, args.detections)

    report = compare(
        args.annotations,
        dict(zip(names, args.detections, strict=True)),
        output=args.output,
        settings=given_settings(args, EvaluationSettings()),
        primary=args.primary,
        margin=args.margin,
        **given_settings(args, GalleryOptions()).keywords,
    )
    _print(summary_lines(report), report.notes, f"comparison: {args.output / PAGE}")
    return 0


def _print(summary: Sequence[str], notes: Sequence[str], place: str) -> None:
    print("\n".join(summary))
    for note in notes:
        print(f"note: {note}")
    print(place)
