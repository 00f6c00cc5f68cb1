"""Does a node lose a study when it is killed, answer everybody, and keep up?

Run as ``PYTHONPATH=tools python -m benchmarks.node WHAT``:

*kills*: `kill -9` at random moments while studies come in, the node being started again each time,
and the sender sending again what was not answered. In the end the archive must hold one result of
each study, and each instance once: it is asked what it has where a kill fell between its answer and
our note of it.
*senders*: tiny studies from two senders at once, all of which must be answered and judged.
*throughput*: phantom studies through a real model to an archive, from the first image to the last
result; studies a minute, on the cores that this process may use.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.node_parts import (
    Archive,
    port_of,
    quick_judge,
    running_node,
    send,
    states_of,
    wait_until,
    write_film,
)
from simfrcnn.cli.main import run_program
from simfrcnn.config import load_config
from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint
from simfrcnn.engines.contract import load_engine
from simfrcnn.phantom.dicom_writer import dicom_bytes
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, draw_exams
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.phantom.render import render_view
from simfrcnn.service.model import judge_of
from simfrcnn.service.node import quiet_libraries
from simfrcnn.service.options import NodeOptions

_ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how often."""
    parser.add_argument("what", choices=("kills", "senders", "throughput"))
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--studies", type=int, help="default: 60 (kills), 1000, 24 (throughput)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument(
        "--weights",
        help="of throughput (default: the network of configs/demo/second_look.yaml, untrained)",
    )
    parser.add_argument("--preset", default="demo", choices=sorted(PRESETS), help="of throughput")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print lines of Markdown; 1 where something was lost or sent twice."""
    quiet_libraries()
    with tempfile.TemporaryDirectory() as name, Archive() as archive:
        measures = {"kills": kills, "senders": senders, "throughput": throughput}
        lines = list(measures[arguments.what](Path(name), archive, arguments))
        print("\n".join(lines), flush=True)
    return int(any(line.startswith("WRONG") for line in lines))


def kills(folder: Path, archive: Archive, arguments: argparse.Namespace) -> Iterator[str]:
    """Studies lost and sent twice by a node that is killed again and again."""
    rng, n_studies = random.Random(arguments.seed), arguments.studies or 60
    left = _films(folder, range(n_studies))
    killed_in: Counter[str] = Counter()
    for n_left in range(arguments.kills, 0, -1):
        process = _started(folder / "node", archive)
        batch = left[: -(-len(left) // n_left)]
        killer = threading.Timer(rng.uniform(0.0, 1.5), process.kill)
        killer.start()
        statuses = send(batch, port_of(folder / "node") or 0, timeout_s=2)
        process.wait()
        killer.join()
        left = [one for one, s in zip(batch, statuses, strict=True) if s != 0] + left[len(batch) :]
        killed_in.update(state for state, n in states_of(folder / "node").items() if n)
    options = _options(folder, archive)
    with running_node(options, quick_judge()) as port:
        assert send(left, port) == [0] * len(left)
        is_over = wait_until(lambda: _is_over(options.folder), 300)
    yield from _verdict(archive, n_studies, is_over)
    yield f"kills: {arguments.kills}; with studies in these states, that many times: " + ", ".join(
        f"{state} {n}" for state, n in killed_in.items()
    )


def senders(folder: Path, archive: Archive, arguments: argparse.Namespace) -> Iterator[str]:
    """Studies answered and judged, and how long that took, with two senders at once."""
    n_studies = arguments.studies or 1000
    options, begun = _options(folder, archive), time.monotonic()
    answers: list[list[int | None]] = [[], []]

    def be_sender(number: int, films: Sequence[Path], port: int) -> None:
        for first in range(0, len(films), 50):  # fifty images an association
            answers[number] += send(films[first : first + 50], port, caller=f"SENDER{number}")

    with running_node(options, quick_judge()) as port:
        threads = [
            threading.Thread(
                target=be_sender, args=(k, _films(folder, range(k, n_studies, 2)), port)
            )
            for k in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        received = time.monotonic() - begun
        is_over = wait_until(lambda: _is_over(options.folder), 1200)
    taken = time.monotonic() - begun
    statuses = Counter(f"{s:04X}" if s is not None else "none" for one in answers for s in one)
    if set(statuses) != {"0000"}:
        yield "WRONG: not every image was answered with success"
    yield f"{sum(statuses.values())} images of {n_studies} studies, statuses {dict(statuses)}"
    yield f"received in {received:.0f} s, judged and sent in {taken:.0f} s"
    yield from _verdict(archive, n_studies, is_over)


def throughput(folder: Path, archive: Archive, arguments: argparse.Namespace) -> Iterator[str]:
    """Studies a minute through a real model."""
    n_studies, preset = arguments.studies or 24, PRESETS[arguments.preset]
    paths = []
    for exam in draw_exams(preset, 0)[:n_studies]:
        for side, view in VIEWS_OF_EXAM:
            path = folder / "films" / exam.file_name(side, view)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = render_view(exam, side, view, preset, 0)
            path.write_bytes(dicom_bytes(picture, exam, side, view, preset, 0))
            paths.append(path)
    weights = arguments.weights or str(_write_demo_model(folder / "model.pth"))
    options = _options(folder, archive, weights=weights)
    judge = judge_of(options)
    with running_node(options, judge) as port:
        begun, cpu_begun = time.monotonic(), time.process_time()
        assert send(paths, port) == [0] * len(paths)
        is_over = wait_until(lambda: _is_over(options.folder), 3600)
        taken, cpu = time.monotonic() - begun, time.process_time() - cpu_begun
    yield from _verdict(archive, n_studies, is_over)
    yield (
        f"{n_studies} studies of four views {preset.rows} x {preset.columns}, model "
        f"{arguments.weights or 'of demo/second_look'}: {taken:.0f} s, "
        f"{60 * n_studies / taken:.1f} studies a minute on {len(os.sched_getaffinity(0))} cores; "
        f"{cpu / n_studies:.1f} s of processor time a study, the sender and the archive included"
    )


def _verdict(archive: Archive, n_studies: int, is_over: bool) -> Iterator[str]:
    studies = Counter(study for study, _ in set(archive.stored))
    repeated = len(archive.stored) - len(set(archive.stored))
    if not is_over or len(studies) != n_studies:
        yield f"WRONG: results of {len(studies)} of {n_studies} studies"
    if repeated:
        yield f"WRONG: {repeated} instances came twice"
    yield (
        f"results of {len(studies)} of {n_studies} studies; {sum(studies.values())} instances, "
        f"{repeated} of them twice"
    )


def _write_demo_model(path: Path) -> Path:
    """The network of the demo with random weights: it costs what a trained one does."""
    engine = load_engine("torchvision")
    cfg = load_config(engine.default_cfg(), _ROOT / "configs/demo/second_look.yaml")
    torch.manual_seed(0)
    identity, described = Identity.of(engine.NAME, cfg), Description.of(cfg, {})
    save_checkpoint(path, engine.build_model(cfg), identity, description=described)
    return path


def _films(folder: Path, studies: range) -> list[Path]:
    return [write_film(folder / "films" / f"{s}-{n}.dcm", s, n) for s in studies for n in (1, 2)]


def _options(folder: Path, archive: Archive, weights: str | None = None) -> NodeOptions:
    return NodeOptions(
        folder=folder / "node",
        weights=weights,
        to=(archive.target,),
        stable_after=2.0,
        min_free_gb=0,
        retry_wait=0.2,
        canary_minutes=0,
    )


def _started(folder: Path, archive: Archive) -> subprocess.Popen[bytes]:
    """A node as a program, once it listens."""
    folder.mkdir(exist_ok=True)
    (folder / "port").unlink(missing_ok=True)
    words = ["--folder", str(folder), "--to", archive.target, "--seconds", "0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.node_parts", *words],
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tools'}"},
        stdout=subprocess.DEVNULL,
    )
    if not wait_until(lambda: port_of(folder) is not None):
        raise TimeoutError("the node does not listen")
    return process


def _is_over(folder: Path) -> bool:
    counts = states_of(folder)
    return counts["done"] > 0 and sum(counts.values()) == counts["done"]


if __name__ == "__main__":
    run_program(sys.modules[__name__])
