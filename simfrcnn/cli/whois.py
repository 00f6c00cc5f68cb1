"""Say which patient, study or file a pseudonym stands for (from the private id map)."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.workflows.whois import lines_of, whois


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The pseudonyms, and where to look."""
    parser.add_argument(
        "ids",
        nargs="+",
        metavar="ID",
        help="patient-..., exam-..., the number of an image, or the name of its picture",
    )
    parser.add_argument(
        "--id-map",
        type=Path,
        metavar="FILE",
        help="the id map to ask (default: all in the private folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Print what each identifier stands for, and the map that says so: of several the newest."""
    for one in args.ids:
        print(*lines_of(whois(one, args.id_map)), sep="\n")
    return 0
