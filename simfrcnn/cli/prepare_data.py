"""Prepare a data set: its own files -> COCO annotation files, split by patient."""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.data.sources.registry import SOURCES
from simfrcnn.workflows.prepare import LayoutOptions, option_groups, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per data set: its own options, and those that all sets share."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, source in SOURCES.items():
        own = sources.add_parser(name, help=source.help, description=source.help)
        own.add_argument("--root", type=Path, required=True, help=source.root_help)
        own.add_argument(
            "--out",
            type=Path,
            help=f"folder for train.json ... (default: {name} in $SIMFRCNN_DATASETS)",
        )
        for group in option_groups(source):
            choices = ("coco", *source.layouts) if group is LayoutOptions else ()
            add_options(own, group, choices=choices)


def run(args: argparse.Namespace) -> int:
    """Prepare, and print what there is."""
    options = given_options(args, *option_groups(SOURCES[args.source]))
    print(f"reading {args.root} ...", flush=True)
    done = prepare(args.source, args.root, args.out, **options)
    print("\n".join(done.lines()))
    return 0
