"""What does an exam cost that a shipped model judges, and what does it cost to merge many?

Run as ``PYTHONPATH=tools python -m benchmarks.scale WHAT``:

*exams*: studies of four JPEG 2000 views of full size, judged by ``cbis-mass`` in one process on one
core: processor time and disk of an exam.
*merge*: the results of one exam, copied under other names into the outputs of many shards, and put
together; seconds, memory and disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.prediction import _timed, _write_large_studies
from simfrcnn.cli.main import run_program
from simfrcnn.files import write_json
from simfrcnn.workflows.prediction_facts import RUN, read_facts
from simfrcnn.workflows.prediction_folder import EXAMS, PICTURES, PredictionFolder
from simfrcnn.workflows.prediction_shards import merge

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how much of it."""
    parser.add_argument("what", choices=("exams", "merge"))
    parser.add_argument("--exams", type=int, default=8)
    parser.add_argument("--shards", type=int, default=10, help="of merge")
    parser.add_argument("--model", default="cbis-mass")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print lines of Markdown."""
    with tempfile.TemporaryDirectory() as name:
        judged = _judge(Path(name), arguments.exams if arguments.what == "exams" else 1, arguments)
        if arguments.what == "exams":
            print("\n".join(exams(Path(name), arguments.exams, *judged)))
        else:
            print("\n".join(merging(Path(name), arguments.exams, arguments.shards)))
    return 0


def exams(folder: Path, n_exams: int, clock: float, processor: float) -> Iterator[str]:
    """Seconds and bytes of an exam, start of the program included."""
    yield f"{n_exams} exams of 4 views, one process, load {os.getloadavg()[0]:.1f}"
    yield f"| an exam, by the clock | {clock / n_exams:.2f} s |"
    yield f"| an exam, processor time | {processor / n_exams:.2f} s |"
    sizes = {kind: _bytes_below(folder / "out" / kind) for kind in (EXAMS, PICTURES)}
    rest = _bytes_below(folder / "out") - sum(sizes.values())
    for what, size in (*sizes.items(), ("lists", rest)):
        yield f"| an exam, {what} | {size / n_exams / 1000:.1f} kB |"


def merging(folder: Path, n_exams: int, n_shards: int) -> Iterator[str]:
    """Seconds of a merge without pictures, and what it leaves."""
    (source,) = (folder / "out" / EXAMS).rglob("*.json")
    content = json.loads(source.read_text())
    facts = json.loads((folder / "out" / RUN).read_text())
    parts = [folder / f"part_{n}" for n in range(1, n_shards + 1)]
    for number, part in enumerate(parts, start=1):
        write_json(part / RUN, {**facts, "shard": f"{number}/{n_shards}"})
    for number in range(n_exams):
        stem = hashlib.sha256(str(number).encode()).hexdigest()[:32]
        content["exam_id"] = content["patient_id"] = f"1.2.3.{number}"
        for index, image in enumerate(content["images"]):
            image["image_id"] = number * len(content["images"]) + index + 1
            image["file"] = f"study{number}/{index}.dcm"
        path = parts[number % n_shards] / EXAMS / stem[-2:] / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
    for part in parts:
        PredictionFolder(part, read_facts(part)).finish()
    clock, processor = time.monotonic(), time.process_time()
    merge(parts, folder / "merged")
    clock, processor = time.monotonic() - clock, time.process_time() - processor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    disk = _bytes_below(folder / "merged") / n_exams / 1000
    yield f"{n_exams} exams in {n_shards} shards, load {os.getloadavg()[0]:.1f}"
    yield f"| merge, by the clock | {clock:.1f} s |"
    yield f"| merge, processor time | {processor:.1f} s |"
    yield f"| peak memory of the process | {memory:.0f} MiB |"
    yield f"| disk, an exam | {disk:.1f} kB |"


def _judge(folder: Path, n_exams: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Judge studies without findings to draw; seconds by the clock and of the processor."""
    _write_large_studies(folder / "studies", n_exams)
    words = ["-m", "simfrcnn", "predict", folder / "studies", "--weights", arguments.model]
    words += ["--output", folder / "out", "--workers", "0", "--device", "cpu"]
    words += ["--keep-identifiers", "--pictures"]
    words.append("all" if arguments.what == "exams" else "none")
    return _timed(ROOT, [sys.executable, *map(str, words)])


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    run_program(sys.modules[__name__])
