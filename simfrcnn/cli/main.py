"""The console command ``simfrcnn`` and the scripts in ``tools/``: the same verbs, run the same way.

An error that the user can act on is one line on standard error and exit code 2, without a
traceback; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from simfrcnn.errors import SimFrcnnError
from simfrcnn.version import __version__

VERBS = (
    "train_net",
    "pseudo_label",
    "weak",
    "ladder",
    "evaluate",
    "predict",
    "prepare_data",
    "data",
    "whois",
    "make_phantoms",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``simfrcnn VERB ...`` and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="simfrcnn",
        description="Breast cancer detection in mammograms. For research; not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"simfrcnn {__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        module = _module(verb)
        _add_verb(
            subparsers.add_parser(
                verb.replace("_", "-"),
                help=_first_line(module),
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            ),
            module,
        )
    return _run(parser.parse_args(arguments))


def run_tool(verb: str) -> NoReturn:
    """What ``tools/<verb>.py`` calls: the verb as a program of its own."""
    run_program(_module(verb))


def run_program(module: Any) -> NoReturn:
    """Run a module with ``add_arguments`` and ``run`` as a program: errors as of a verb."""
    parser = argparse.ArgumentParser(
        description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_verb(parser, module)
    sys.exit(_run(parser.parse_args()))


def _module(verb: str) -> Any:
    return importlib.import_module(f"simfrcnn.cli.{verb}")


def _first_line(module: Any) -> str:
    return str(module.__doc__).splitlines()[0]


def _add_verb(parser: argparse.ArgumentParser, module: Any) -> None:
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _run(arguments: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name that the terminal or pipe cannot show must not end a run in a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    _show_messages()
    try:
        return int(arguments.run(arguments))
    except SimFrcnnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _Stdout(logging.Handler):
    """Prints to what is standard output now, not when the handler was made."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def _show_messages() -> None:
    """Show simfrcnn's own log on standard output, once however often a verb is run."""
    logger = logging.getLogger("simfrcnn")
    logger.setLevel(logging.INFO)
    # Detectron2 calls torch in two ways that torch warns of; a user can do nothing about it.
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        logger.addHandler(_Stdout())


if __name__ == "__main__":
    sys.exit(main())
