"""Judge saved detections against an annotation file: by case, breast, image, finding and lesion."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from simfrcnn.artifacts import read_detections
from simfrcnn.errors import OutputError
from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.evaluation.report import summary_lines
from simfrcnn.files import sha256_of
from simfrcnn.settings import CaseBy, EvaluationSettings, Pooling, UnknownImages

_DEFAULTS = EvaluationSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; defaults are those of :class:`EvaluationSettings`."""
    parser.add_argument(
        "--annotations", type=Path, required=True, metavar="FILE", help="COCO JSON of the test set"
    )
    parser.add_argument(
        "--detections",
        type=Path,
        required=True,
        metavar="FILE",
        help="COCO results list; <stem>.meta.json beside it says which images were run",
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
        "--no-images", action="store_true", help="no sheet of test images: pixels are not read"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and print its summary."""
    # Here, not above: reading images is not needed to show the help or to judge without pictures.
    from simfrcnn.data.coco import read_coco
    from simfrcnn.data.images import load_pixels

    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output} is a file; --output takes a folder for the report")
    annotated = read_coco(args.annotations, check_files=not args.no_images)
    detections = read_detections(
        args.detections,
        image_ids=[record.image_id for record in annotated.records],
        categories=annotated.categories,
    )
    report = evaluate(
        annotated.records,
        detections,
        settings_of(args),
        categories=annotated.categories,
        provenance={
            "annotations": args.annotations.name,
            "annotations_sha256": annotated.sha256,
            "detections": args.detections.name,
            "detections_sha256": sha256_of(args.detections),
        },
    )
    page = write_report(
        args.output,
        report,
        records=annotated.records,
        detections=detections,
        load_pixels=None if args.no_images else load_pixels,
    )
    print("\n".join(summary_lines(report)))
    for note in report.notes:
        print(f"note: {note}")
    print(f"report: {page}")
    return 0


def settings_of(args: argparse.Namespace) -> EvaluationSettings:
    """The settings that the options ask for."""
    return EvaluationSettings(
        target_classes=tuple(args.target_classes),
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
        pooling=args.pooling,
        case_by=args.case_by,
        unknown_images=args.unknown_images,
        count_repeats_as_false_positives=args.count_repeats,
        bootstrap_replicates=args.replicates,
        bootstrap_seed=args.seed,
    )
