"""The console command ``simfrcnn`` and the scripts in ``tools/``: the same verbs, run the same way.

An error that the user can act on is one line on standard error and exit code 2, without a
traceback; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from simfrcnn.errors import SimFrcnnError
from simfrcnn.version import __version__

_PLATFORM = sys.platform
_NOT_WINDOWS = (
    "simfrcnn runs on Linux and macOS, not on Windows; there it runs in the Windows Subsystem for "
    "Linux (WSL)"
)
VERBS = {
    "train-net": "Train a detector and test it once, or test a trained one (--eval-only).",
    "pseudo-label": "Make boxes of what a detector finds, between two trainings.",
    "weak": "Train weakFaster R-CNN as one job: stage 1, pseudo-labels, stage 2, test.",
    "ladder": (
        "Train variants of a model with several seeds side by side, and compare them on the same "
        "cases."
    ),
    "evaluate": (
        "Judge saved detections against an annotation file: by case, breast, image, finding and "
        "lesion."
    ),
    "combine": (
        "Combine several models' detections of the same images, or one model's with patients' "
        "facts."
    ),
    "predict": (
        "Find suspicious regions in a folder of mammograms: a JSON per exam, and overlay pictures."
    ),
    "node": (
        "Run a DICOM node: mammograms come in, results go to a PACS, nothing is lost by a kill."
    ),
    "pull": "Judge the mammograms of a DICOMweb archive and send the results, each study once.",
    "serve": "Serve a web page and REST on which studies are judged and looked at.",
    "prepare-data": (
        "Prepare a data set: its own files -> COCO annotation files, split by patient."
    ),
    "prepare-patches": (
        "Cut patches at a detector's scale out of a data set, to train a classifier or a backbone "
        "on."
    ),
    "weaken": (
        "Take the boxes of all but a few patients out of a data set; labels stay in their place."
    ),
    "data": "Check a data set before it trains or tests, or show what is in it.",
    "whois": "Say which patient, study or file a pseudonym stands for (from the private id map).",
    "configs": "List the configs that come with simfrcnn, which --config-file takes by name.",
    "new-config": (
        "Write a config of your own that begins with one of simfrcnn, ready to be changed."
    ),
    "export": "Write a model as one file for inference, without what only a training needs.",
    "show": "Show what a model file says of itself: its card, operating points, and what it lacks.",
    "card": "Write a model card (Markdown) from what travels in a model file.",
    "models": (
        "List the models that come with simfrcnn, and what its configs train: data, licence, "
        "figures."
    ),
    "make-phantoms": "Write a data set of synthetic mammograms (DICOM and COCO files).",
}
"""Every verb with the first line of its module's docstring, which a test compares.

They stand here too, so that ``simfrcnn --help`` imports no verb. The module of ``make-phantoms`` is
``simfrcnn.cli.make_phantoms``: it has ``add_arguments`` and ``run``.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``simfrcnn VERB ...`` and return the exit code."""
    if _is_refused_here():
        return 2
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="simfrcnn",
        description="Breast cancer detection in mammograms. For research; not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"simfrcnn {__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, summary in VERBS.items():
        subparser = subparsers.add_parser(
            verb, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if verb == chosen:
            try:
                _add_verb(subparser, _module(verb))
            except KeyboardInterrupt:  # the libraries take seconds to load
                return _interrupted()
    return _run(parser.parse_args(words), words)


def run_tool(verb: str) -> NoReturn:
    """What ``tools/<verb>.py`` calls: the verb as a program of its own."""
    try:
        module = _module(verb)
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    run_program(module)


def run_program(module: Any) -> NoReturn:
    """Run a module with ``add_arguments`` and ``run`` as a program: errors as of a verb."""
    if _is_refused_here():
        sys.exit(2)
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_verb(parser, module)
    sys.exit(_run(parser.parse_args(), sys.argv[1:]))


def _is_refused_here() -> bool:
    """Say so where simfrcnn does not run: its locks and process groups are those of POSIX."""
    if _PLATFORM == "win32":
        print(f"error: {_NOT_WINDOWS}", file=sys.stderr)
        return True
    return False


def _module(verb: str) -> Any:
    return importlib.import_module(f"simfrcnn.cli.{verb.replace('-', '_')}")


def _add_verb(parser: argparse.ArgumentParser, module: Any) -> None:
    parser.description = module.__doc__
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name that the terminal or pipe cannot show must not end a run in a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    _show_messages()
    arguments.words = list(words)  # for a manifest; sys.argv may be another program's
    try:
        return int(arguments.run(arguments))
    except SimFrcnnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever reads the output has enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as error:
        return _interrupted(str(error))


def _interrupted(message: str = "") -> int:
    print(message or "interrupted", file=sys.stderr)
    return 130


class _Stdout(logging.Handler):
    """Prints to what is standard output now, not when the handler was made."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def _show_messages() -> None:
    """Show simfrcnn's own log on standard output, once however often a verb is run."""
    logger = logging.getLogger("simfrcnn")
    logger.setLevel(logging.INFO)
    # Detectron2 calls torch in ways that torch warns of; a user can do nothing about it.
    warnings.filterwarnings("ignore", message="`?torch.jit.script")
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        logger.addHandler(_Stdout())


if __name__ == "__main__":
    sys.exit(main())
