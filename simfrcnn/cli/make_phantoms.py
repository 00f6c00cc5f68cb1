"""Write a data set of synthetic mammograms (DICOM and COCO files).

The data set needs no download and no agreement, and is the same, byte for byte, for the same preset
and seed. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.phantom.presets import PRESETS
from simfrcnn.workflows.phantoms import lines_on, make_phantoms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``simfrcnn make-phantoms``."""
    parser.add_argument(
        "--preset",
        required=True,
        choices=sorted(PRESETS),
        help="tiny: tests, seconds; demo: about a minute, 0.4 GB; study: minutes, 3 GB",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace other phantoms in --out; files that are not phantoms stay",
    )
    parser.add_argument(
        "--outlines",
        action="store_true",
        help="also write train_outlines.json ...: the outlines of what is boxed, for masks",
    )


def run(args: argparse.Namespace) -> int:
    """Generate the data set with a progress bar and print what was written."""
    manifest = make_phantoms(
        PRESETS[args.preset],
        args.out,
        seed=args.seed,
        n_workers=args.workers,
        overwrite=args.overwrite,
        outlines=args.outlines,
    )
    print("\n".join(lines_on(manifest)))
    return 0
