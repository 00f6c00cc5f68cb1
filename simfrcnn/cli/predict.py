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
from pathlib import Path

from simfrcnn.cli.common import add_set
from simfrcnn.cli.options import add_options, given_options, given_settings, options_if_given
from simfrcnn.errors import ConfigError
from simfrcnn.workflows.identities import PrivacyOptions
from simfrcnn.workflows.launched import ShardOptions, predict_as_jobs
from simfrcnn.workflows.predict_job import JobOptions, predict_folder
from simfrcnn.workflows.prediction_shards import merge

DONE_WITH_FAILURES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb; those of the judging come from :class:`JobOptions`."""
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
    add_options(parser, JobOptions)
    parser.add_argument(
        "--merge",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="put the outputs of all shards together into --output; nothing is judged",
    )
    add_options(parser, PrivacyOptions)
    add_options(parser, ShardOptions)
    add_set(parser, "a config key to change, such as MODEL.DEVICE cpu; may be given several times")


def run(arguments: argparse.Namespace) -> int:
    """Judge a folder, or merge shards, and print what came of it."""
    options = given_settings(arguments, JobOptions())
    launcher = options_if_given(arguments, ShardOptions)
    if arguments.merge:
        if given := _given_for_judging(arguments):
            raise ConfigError(f"--merge judges nothing: leave out {', '.join(given)}")
        summary = merge(arguments.merge, arguments.output)
    else:
        if arguments.folder is None or arguments.weights is None:
            raise ConfigError("give a folder of images and --weights, or --merge and folders")
        what = (arguments.folder, arguments.weights, arguments.output, options)
        privacy = given_settings(arguments, PrivacyOptions())
        if launcher is None:
            summary = predict_folder(*what, privacy, overrides=arguments.set)
        else:
            summary = predict_as_jobs(*what, privacy, launcher, overrides=arguments.set)
    print("\n".join(summary.lines()))
    return 0 if summary.is_complete(options.skip_unreadable) else DONE_WITH_FAILURES


def _given_for_judging(arguments: argparse.Namespace) -> list[str]:
    """What was given that says what is judged and how, as it is written."""
    given = {"images": arguments.folder, "--weights": arguments.weights, "--set": arguments.set}
    options = given_options(arguments, JobOptions, PrivacyOptions, ShardOptions)
    options.pop("skip_unreadable", None)  # the exit code of a merge hangs on it, too
    given |= {f"--{name.replace('_', '-')}": True for name in options}
    return [word for word, value in given.items() if value]
