"""Judge saved detections against an annotation file: by case, breast, image, finding and lesion."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from simfrcnn.artifacts import DetectionFile, read_detections
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.evaluation import evaluate, operating, write_report
from simfrcnn.evaluation.reporting.gallery import EXAMS_PER_GROUP
from simfrcnn.evaluation.reporting.report import summary_lines
from simfrcnn.evaluation.results import Report
from simfrcnn.files import sha256_of
from simfrcnn.settings import BoxesOutside, CaseBy, EvaluationSettings, Pooling, UnknownImages

if TYPE_CHECKING:
    from simfrcnn.data.coco import AnnotatedSet

_DEFAULTS = EvaluationSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; defaults are those of :class:`EvaluationSettings`."""
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
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for the report"
    )
    parser.add_argument(
        "--target-classes",
        nargs="+",
        default=list(_DEFAULTS.target_classes),
        metavar="NAME",
        help="classes that make an image positive (default: malignant)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=_DEFAULTS.score_threshold,
        metavar="S",
        help="positive from this score on, for ACC, SEN and SPE (default: %(default)s)",
    )
    parser.add_argument(
        "--iou-threshold",
        type=float,
        default=_DEFAULTS.iou_threshold,
        metavar="IOU",
        help="IoU of the average precision (default: %(default)s)",
    )
    parser.add_argument(
        "--pooling",
        choices=get_args(Pooling),
        default=_DEFAULTS.pooling,
        help="how the score of a breast or case comes from its images (default: %(default)s)",
    )
    parser.add_argument(
        "--case-by",
        choices=get_args(CaseBy),
        default=_DEFAULTS.case_by,
        help="what one case is (default: %(default)s)",
    )
    parser.add_argument(
        "--unknown-images",
        choices=get_args(UnknownImages),
        default=_DEFAULTS.unknown_images,
        help="what images of unknown truth count as (default: %(default)s)",
    )
    parser.add_argument(
        "--count-repeats",
        action="store_true",
        help="FROC: a second detection of a finding is a false positive",
    )
    parser.add_argument(
        "--ignored-classes",
        nargs="+",
        default=list(_DEFAULTS.ignored_classes),
        metavar="NAME",
        help="classes whose boxes are neither to be found nor wrong to find (default: none)",
    )
    parser.add_argument(
        "--boxes-outside",
        choices=get_args(BoxesOutside),
        default=_DEFAULTS.boxes_outside,
        help="what becomes of detections beyond the image (default: %(default)s)",
    )
    parser.add_argument(
        "--prevalence",
        type=float,
        default=_DEFAULTS.prevalence,
        metavar="P",
        help="of cancer among cases where the model is to be used, for predictive values "
        "(default: none, and no predictive values)",
    )
    parser.add_argument(
        "--subgroup",
        action="append",
        default=[],
        metavar="KEY[:EDGES]",
        help="also judge the parts of the test set by this key of the records, such as density or, "
        "for numbers, age:50,70; may be given several times",
    )
    _add_operating_arguments(parser)
    parser.add_argument(
        "--replicates",
        type=int,
        default=_DEFAULTS.bootstrap_replicates,
        metavar="N",
        help="bootstrap resamplings; 0 gives no intervals (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=_DEFAULTS.bootstrap_seed,
        metavar="N",
        help="seed of the resampling (default: %(default)s)",
    )
    parser.add_argument(
        "--no-images",
        action="store_true",
        help="pixels are not read, and image files may be missing: the exams are shown as boxes in "
        "empty frames",
    )
    parser.add_argument(
        "--gallery",
        type=int,
        default=EXAMS_PER_GROUP,
        metavar="N",
        help="exams shown for each reason: worst false positives, missed lesions, found ones "
        "(default: %(default)s)",
    )


def _add_operating_arguments(parser: argparse.ArgumentParser) -> None:
    points = parser.add_mutually_exclusive_group()
    points.add_argument(
        "--operating-points",
        type=Path,
        metavar="FILE",
        help="apply the operating points of this file, which were chosen on a validation set",
    )
    points.add_argument(
        "--choose-operating-points",
        type=Path,
        metavar="FILE",
        help="this is the validation set: choose operating points on it and write them",
    )
    for name, asked in (
        ("sensitivity", _DEFAULTS.operating_sensitivity),
        ("specificity", _DEFAULTS.operating_specificity),
    ):
        parser.add_argument(
            f"--operating-{name}",
            type=float,
            metavar=name[:4].upper(),
            help=f"{name} that is asked of the operating point by {name} (default: that of "
            f"--operating-points, else {asked:g})",
        )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and print its summary; of several models, also compare them."""
    if len(args.detections) > 1 or args.names or args.primary:
        if args.operating_points or args.choose_operating_points:
            raise ConfigError(
                "operating points belong to one model: judge each of the --detections by itself "
                "with them, and compare without"
            )
        from simfrcnn.cli import comparing

        return comparing.run(args, settings_of(args))
    # Here, not above: reading images is not needed to show the help or to judge without pictures.
    from simfrcnn.data.coco import read_coco
    from simfrcnn.images.hanging import hung_pictures

    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output} is a file; --output takes a folder for the report")
    if args.choose_operating_points and args.choose_operating_points.is_dir():
        raise OutputError(
            f"{args.choose_operating_points} is a folder; --choose-operating-points takes the file "
            "to write"
        )
    annotated = read_coco(args.annotations, check_files=not args.no_images)
    detections = read_detections(
        args.detections[0],
        records=annotated.records,
        categories=annotated.categories,
    )
    report = _judge(args, annotated, detections)
    page = write_report(
        args.output,
        report,
        records=annotated.records,
        detections=detections,
        load_pictures=None if args.no_images else hung_pictures,
        n_gallery=args.gallery,
    )
    print("\n".join(summary_lines(report)))
    for note in report.notes:
        print(f"note: {note}")
    print(f"report: {page}")
    if args.choose_operating_points:
        _choose(report, args)
    return 0


def _judge(args: argparse.Namespace, annotated: AnnotatedSet, detections: DetectionFile) -> Report:
    settings = settings_of(args)
    applied = operating.Applied()
    if args.operating_points:
        chosen = operating.read_operating_points(args.operating_points)
        settings = _as_asked_of(chosen, settings, args)
        applied = operating.apply_to(chosen, detections, settings, annotated.sha256)
    (path,) = args.detections
    return evaluate(
        annotated.records,
        detections,
        settings,
        categories=annotated.categories,
        operating_points=applied.points,
        notes=applied.notes,
        provenance={
            "annotations": args.annotations.name,
            "annotations_sha256": annotated.sha256,
            "detections": path.name,
            "detections_sha256": sha256_of(path),
            **applied.provenance,
        },
    )


def _choose(report: Report, args: argparse.Namespace) -> None:
    chosen = operating.choose_operating_points({args.annotations.name: report})
    operating.write_operating_points(args.choose_operating_points, chosen)
    print("\n".join(operating.lines_on(chosen)))
    print(f"operating points: {args.choose_operating_points}")


def _as_asked_of(
    chosen: operating.ChosenPoints, settings: EvaluationSettings, args: argparse.Namespace
) -> EvaluationSettings:
    """The targets that the points were chosen for, where the command line says none."""
    names = ("operating_sensitivity", "operating_specificity")
    targets = {name: chosen.settings[name] for name in names if getattr(args, name) is None}
    return replace(settings, **targets)


def settings_of(args: argparse.Namespace) -> EvaluationSettings:
    """The settings that the options ask for."""
    targets = {
        name: getattr(args, name)
        for name in ("operating_sensitivity", "operating_specificity")
        if getattr(args, name) is not None
    }
    return EvaluationSettings(
        target_classes=tuple(args.target_classes),
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
        pooling=args.pooling,
        case_by=args.case_by,
        unknown_images=args.unknown_images,
        count_repeats_as_false_positives=args.count_repeats,
        ignored_classes=tuple(args.ignored_classes),
        boxes_outside=args.boxes_outside,
        prevalence=args.prevalence,
        subgroups=tuple(args.subgroup),
        **targets,
        bootstrap_replicates=args.replicates,
        bootstrap_seed=args.seed,
    )
