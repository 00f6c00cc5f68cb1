"""Write a data set of synthetic mammograms (DICOM and COCO files).

The data set needs no download and no agreement, and is the same, byte for byte, for the same preset
and seed. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from simfrcnn.phantom.generate import generate
from simfrcnn.phantom.presets import PRESETS


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


def run(args: argparse.Namespace) -> int:
    """Generate the data set with a progress bar and print what was written."""
    preset = PRESETS[args.preset]
    with tqdm(total=4 * preset.n_patients, unit="image", desc=f"phantoms {preset.name}") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        manifest = generate(
            preset,
            args.out,
            seed=args.seed,
            n_workers=args.workers,
            overwrite=args.overwrite,
            progress=show,
        )
    content = json.loads(manifest.read_text(encoding="utf-8"))
    for split, counts in content["counts"].items():
        print(f"{split}: " + ", ".join(f"{key[2:]} {value}" for key, value in counts.items()))
    print(f"wrote {manifest} (sha256 {content['sha256']})")
    return 0
