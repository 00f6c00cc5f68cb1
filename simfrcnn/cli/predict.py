"""Find suspicious regions in a folder of mammograms: a JSON per exam, and overlay pictures.

One exam in, one result out: every detection that the config keeps, the score of each image and of
the exam, the call at the model's operating point, and what was left out and why. A run that was
killed goes on when the same command is given again. Exams and images have pseudonyms (keyed
hashes); a private id map outside the output says which files they are, and --keep-identifiers
writes Study Instance UIDs and paths below the folder instead.

Exit code: 0; 3 where something could not be judged (see failures.csv in the output); 2 where
nothing was begun.

Not a medical device: the output is for research and must not guide the care of a patient.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from simfrcnn.cli import identifiers
from simfrcnn.data.exams import Selection
from simfrcnn.detector import Detector, load
from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.dicom_out.saving import kinds_of, require_identifiers
from simfrcnn.errors import ConfigError
from simfrcnn.wording import counted
from simfrcnn.workflows.predict import PredictionOptions, Summary, merge, predict, shard_of
from simfrcnn.workflows.prediction_folder import FAILURES

DONE_WITH_FAILURES = 3
_N_REASONS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help="DICOM, PNG, PGM, TIFF or JPEG files, in sub-folders too; or a single file",
    )
    parser.add_argument(
        "--weights", help="a checkpoint of simfrcnn, or the name of a model that comes with it"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="a new or empty folder outside the input, or that of a run to go on with",
    )
    parser.add_argument("--config-file", type=Path, help="a config in place of that of the weights")
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:N; auto (default) takes that of the config, or the CPU without a GPU",
    )
    parser.add_argument(
        "--operating-point",
        metavar="LEVEL/RULE",
        help="what decides whether an exam is positive: case/youden (default, where the model has "
        "it), case/sensitivity, case/specificity, breast/..., or a score threshold",
    )
    parser.add_argument(
        "--pictures",
        default="all",
        choices=("none", "findings", "all"),
        help="draw no image, those with a box to draw, or all (default)",
    )
    parser.add_argument(
        "--dicom",
        default="",
        metavar="KINDS",
        help="write DICOM results too: sr, gsps, cad-sr, sc, joined by commas (docs/"
        "dicom_conformance.md); asks for --keep-identifiers",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=None,
        help="smallest score of a box that is drawn or written as DICOM (default: "
        "EVAL.SCORE_THRESHOLD)",
    )
    parser.add_argument(
        "--all-views",
        action="store_true",
        help="judge what is not a screening view too: scouts, magnifications, specimens ...",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="exit with 0 although files could not be read; they are listed in any case",
    )
    parser.add_argument(
        "--allow-for-processing",
        action="store_true",
        help="read raw (FOR PROCESSING) images too, although no display would show them so",
    )
    parser.add_argument(
        "--any-modality",
        action="store_true",
        help="read DICOM files of other modalities too",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="judge only the studies of shard I of N, from 1; --merge puts the outputs together",
    )
    parser.add_argument(
        "--merge",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="put the outputs of all shards together into --output; nothing is judged",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that decode files (default: one for each core, at most 8; 0: none)",
    )
    identifiers.add_arguments(parser)
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a config key to change, such as MODEL.DEVICE cpu; may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    """Judge a folder, or merge shards, and print what came of it."""
    if arguments.merge:
        if arguments.folder is not None:
            raise ConfigError("--merge judges nothing: leave out the folder of images")
        summary = merge(arguments.merge, arguments.output)
    else:
        if arguments.folder is None or arguments.weights is None:
            raise ConfigError("give a folder of images and --weights, or --merge and folders")
        summary = _predict(arguments)
    print("\n".join(_lines(summary)))
    return DONE_WITH_FAILURES if _is_incomplete(summary, arguments.skip_unreadable) else 0


def _predict(arguments: argparse.Namespace) -> Summary:
    require_identifiers(kinds_of(arguments.dicom), are_kept=bool(arguments.keep_identifiers))
    names = identifiers.identities(arguments, "predict", arguments.output)
    detector = load(
        arguments.weights,
        device=arguments.device,
        config_file=arguments.config_file,
        overrides=[word for pair in arguments.set for word in pair],
        operating_point=arguments.operating_point,
    )
    print(f"engine: {detector.engine.NAME}", flush=True)
    summary = predict(
        detector,
        arguments.folder,
        arguments.output,
        _options(arguments, detector),
        pseudonyms=None if names is None else names.pseudonyms,
        id_map=None if names is None else names.id_map,
    )
    if names is not None:
        print(f"what the pseudonyms stand for, for your eyes only: {names.id_map}")
    return summary


def _options(arguments: argparse.Namespace, detector: Detector) -> PredictionOptions:
    threshold = arguments.score_threshold
    return PredictionOptions(
        selection=Selection(
            DicomOptions(arguments.allow_for_processing, arguments.any_modality),
            arguments.all_views,
        ),
        pictures=arguments.pictures,
        score_threshold=detector.cfg.EVAL.SCORE_THRESHOLD if threshold is None else threshold,
        shard=shard_of(arguments.shard),
        workers=arguments.workers,
        dicom=kinds_of(arguments.dicom),
    )


def _is_incomplete(summary: Summary, skips_unreadable: bool) -> bool:
    tally = summary.tally
    return tally.n_images == 0 or (bool(tally.failures) and not skips_unreadable)


def _lines(summary: Summary) -> Iterator[str]:
    tally = summary.tally
    if summary.n_own_pictures:
        passed_over = "[picture|pictures] that simfrcnn drew [was|were] passed over"
        yield counted(summary.n_own_pictures, passed_over)
    if summary.n_done_before:
        yield f"gone on with: {counted(summary.n_done_before, '[exam was|exams were]')} done before"
    for what, n in sorted(tally.left_out.items()):
        yield f"left out, {what}: {counted(n, '[file|files]')}"
    if tally.failures:
        yield f"failures ({FAILURES} lists them):"
        for (what, why), n in tally.failures.most_common(_N_REASONS):
            yield f"  {n} x {what}: {why}"
        if len(tally.failures) > _N_REASONS:
            yield f"  and {counted(len(tally.failures) - _N_REASONS, 'other [reason|reasons]')}"
    if tally.n_called:
        yield f"called positive: {tally.n_positive} of {counted(tally.n_called, '[exam|exams]')}"
    images = counted(tally.n_images, "[image|images]")
    yield f"{images} of {counted(tally.n_exams, '[exam|exams]')} in {summary.output}"
