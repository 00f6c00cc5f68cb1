"""What does ``simfrcnn evaluate`` cost on the files of a large screening set, start to report?

Run as ``PYTHONPATH=tools python -m benchmarks.evaluation_files``: the random set of
:mod:`benchmarks.evaluation` is written as a COCO file and a results list, then judged by the
command with and without resampling; processor time and the highest resident set of its process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.evaluation import N_DETECTIONS, random_set
from simfrcnn.artifacts import write_detections
from simfrcnn.cli.main import run_program
from simfrcnn.data.coco import write_coco

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How large the set is, and the resamplings of each run."""
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--replicates", type=int, nargs="+", default=[0, 2000])


def run(arguments: argparse.Namespace) -> int:
    """Measure and print lines of Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records, detections = random_set(arguments.images)
        write_coco(folder / "test.json", records, {1: "malignant"}, {})
        write_detections(
            folder / "detections.json", detections.images.values(), categories={1: "malignant"}
        )
        del records, detections
        print("\n".join(judged(folder, arguments.images, arguments.replicates)))
    return 0


def judged(folder: Path, n_images: int, replicates: Sequence[int]) -> Iterator[str]:
    """A line for each number of resamplings."""
    sizes = [(folder / f"{name}.json").stat().st_size / 2**20 for name in ("test", "detections")]
    yield (
        f"{n_images:,} images, {N_DETECTIONS * n_images:,} detections; files of {sizes[0]:.0f} and "
        f"{sizes[1]:.0f} MiB; load {os.getloadavg()[0]:.1f}"
    )
    for number in replicates:
        words = [sys.executable, "-m", "simfrcnn", "evaluate", "--no-images"]
        words += ["--annotations", str(folder / "test.json"), "--replicates", str(number)]
        words += ["--detections", str(folder / "detections.json")]
        clock, processor, memory = measured([*words, "--output", str(folder / f"report{number}")])
        yield (
            f"| {number:,} resamplings | {processor:.1f} s of processor | {clock:.1f} s by the "
            f"clock | {memory:.0f} MiB |"
        )


def measured(command: Sequence[str]) -> tuple[float, float, float]:
    """Seconds by the clock, of the processor, and the highest resident set of one process, in MiB.

    Raises:
        CalledProcessError: The command fails.
    """
    start = time.monotonic()
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    run_program(sys.modules[__name__])
