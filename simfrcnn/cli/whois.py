"""Say which patient, study or file a pseudonym stands for (from the private id map)."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.wording import counted
from simfrcnn.workflows.whois import whois


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
        maps: dict[str, list[Path]] = {}
        for source in whois(one, args.id_map):
            stands_for = source.path or source.identifier
            line = f"{source.pseudonym}  {source.kind}  {stands_for}"
            maps.setdefault(line, []).append(source.id_map)
        for line, places in maps.items():
            newest = max(places, key=lambda place: place.stat().st_mtime)
            others = counted(len(places) - 1, "other [map|maps]")
            print(f"{line}  ({newest}{f' and {others}' if len(places) > 1 else ''})")
    return 0
