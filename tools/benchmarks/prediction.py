"""How fast is `predict`, how much memory does it take, and does it survive being killed?

Run as ``PYTHONPATH=tools python -m benchmarks.prediction WHAT``:

*throughput*: studies of four JPEG 2000 views of full size, by this version and by the checkout of
another one (``--earlier``), in turn; the model is tiny, so that reading is what is measured.
*memory*: the highest resident set of the process that runs the model, by the number of exams.
*kills*: `kill -9` at random moments, going on each time, until the run ends; its folder must be
that of an undisturbed run. So must that of four shards, merged.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import torch
from pydicom.uid import JPEG2000Lossless

from benchmarks import decoding
from simfrcnn.cli.main import run_program
from simfrcnn.config import load_config
from simfrcnn.engines.common.checkpoints import Identity
from simfrcnn.engines.contract import load_engine
from simfrcnn.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "smoke" / "sim_r18_c4.yaml"
_CHEAP = ("INPUT.MAMMO.SIZE", "[64, 64]", "MODEL.RPN.POST_NMS_TOPK_TEST", "4")
"""Keys of a model that takes next to no time, where only what surrounds it is measured."""
_VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how often."""
    parser.add_argument("what", choices=("throughput", "memory", "kills"))
    parser.add_argument("--exams", type=int, default=8, help="of throughput and kills")
    parser.add_argument("--earlier", type=Path, help="a checkout to compare the throughput with")
    parser.add_argument("--repeats", type=int, default=3, help="of throughput")
    parser.add_argument("--moments", type=int, default=20, help="how often a run is killed")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 2000], help="of memory")
    parser.add_argument("--workers", type=int, default=2, help="decoding processes")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print lines of Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = _write_weights(folder / "model.pth")
        measures = {"throughput": throughput, "memory": memory, "kills": kills}
        print("\n".join(measures[arguments.what](folder, weights, arguments)))
    return 0


def throughput(folder: Path, weights: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Seconds an exam, of this version and of an earlier one, and their ratio."""
    study = folder / "studies"
    _write_large_studies(study, arguments.exams)
    command = _command(study, weights)
    versions = {"this version": (ROOT, [*command, "--workers", str(arguments.workers)])}
    if arguments.earlier is not None:
        workers = ["--set", "DATALOADER.NUM_WORKERS", str(arguments.workers)]
        versions["earlier"] = (arguments.earlier.resolve(), [*command, *workers])
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    processor: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(arguments.repeats):
        for name, (checkout, words) in versions.items():
            wall, used = _timed(checkout, [*words, "--output", str(folder / "out")])
            shutil.rmtree(folder / "out")
            seconds[name].append(wall / arguments.exams)
            processor[name].append(used / arguments.exams)
    load = os.getloadavg()[0]
    yield f"{arguments.exams} exams of 4 views, {os.cpu_count()} cores, load {load:.1f}"
    for name in versions:
        wall, used = statistics.median(seconds[name]), statistics.median(processor[name])
        yield f"| {name} | {wall:.2f} s an exam | {used:.2f} s of processor an exam |"
    if arguments.earlier is not None:
        for title, measured in (("wall clock", seconds), ("processor", processor)):
            pairs = zip(measured["earlier"], measured["this version"], strict=True)
            yield f"| earlier : this, {title} | {statistics.median(a / b for a, b in pairs):.2f} |"


def memory(folder: Path, weights: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """The highest resident set of the main process for each number of exams."""
    for n_exams in arguments.counts:
        study = folder / f"studies{n_exams}"
        _write_small_studies(study, n_exams)
        code = (
            "import sys, resource; from simfrcnn.cli.main import main; code = main(sys.argv[1:]);"
            "print('RSS', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        )
        words = ["predict", str(study), "--weights", str(weights), "--config-file", str(CONFIG)]
        words += ["--output", str(folder / f"out{n_exams}"), "--workers", str(arguments.workers)]
        words += _set(_CHEAP)
        words += ["--key-file", str(folder / "key"), "--id-map", str(folder / f"{n_exams}.json")]
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=_environment(ROOT), capture_output=True, text=True, check=True,
        )  # fmt: skip
        kib = int(done.stdout.rpartition("RSS ")[2])
        yield f"| {n_exams} exams | {kib / 1024:.0f} MiB |"


def kills(folder: Path, weights: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Whether a run that was killed again and again, and four shards, end as an undisturbed one."""
    study, whole, out = folder / "studies", folder / "whole", folder / "out"
    _write_small_studies(study, arguments.exams)
    command = [*_command(study, weights), "--workers", str(arguments.workers), *_set(_CHEAP)]
    start = time.monotonic()
    _timed(ROOT, [*command, "--output", str(whole)])
    lasts = time.monotonic() - start
    chance = random.Random(0)
    n_killed = 0
    while n_killed < arguments.moments:
        child = _start(ROOT, [*command, "--output", str(out)])
        try:
            child.wait(timeout=chance.uniform(0.2, 1.1) * lasts / 2)
            shutil.rmtree(out)  # it has ended: once more from the beginning
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            n_killed += 1
            if out.exists() and not (out / "run.json").exists():
                shutil.rmtree(out)  # it had not begun
    _timed(ROOT, [*command, "--output", str(out)])
    ended = _difference(whole, out) or "the same folder"
    yield f"killed {n_killed} times and gone on with: {ended}"
    parts = [folder / f"part{n}" for n in range(1, 5)]
    for n, part in enumerate(parts, start=1):
        _timed(ROOT, [*command, "--output", str(part), "--shard", f"{n}/4"])
    words = [sys.executable, str(ROOT / "tools/predict.py"), "--merge", *map(str, parts)]
    _timed(ROOT, [*words, "--output", str(folder / "merged")])
    yield f"four shards, merged: {_difference(whole, folder / 'merged') or 'the same folder'}"


def _command(study: Path, weights: Path) -> list[str]:
    words = [sys.executable, "tools/predict.py", str(study), "--weights", str(weights)]
    words += ["--score-threshold", "0.9"]  # few boxes are drawn, as in screening
    return [*words, "--config-file", str(CONFIG), "--keep-identifiers"]


def _set(keys: Sequence[str]) -> list[str]:
    return [word for pair in zip(keys[::2], keys[1::2], strict=True) for word in ("--set", *pair)]


def _environment(checkout: Path) -> dict[str, str]:
    path = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _start(checkout: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        cwd=checkout,
        env=_environment(checkout),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _timed(checkout: Path, words: Sequence[str]) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a command takes with its processes."""
    before, start = _children_seconds(), time.monotonic()
    if _start(checkout, words).wait() != 0:
        raise ConfigError(f"{' '.join(words)} failed in {checkout}")
    return time.monotonic() - start, _children_seconds() - before


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _difference(one: Path, other: Path) -> str:
    """The first files in which two folders differ, byte for byte; empty if none."""
    names, others = (
        {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} for folder in (one, other)
    )
    differing = sorted(map(str, names ^ others))
    differing += sorted(
        str(name)
        for name in names & others
        if not filecmp.cmp(one / name, other / name, shallow=False)
    )
    return ", ".join(differing[:5])


def _write_weights(path: Path) -> Path:
    """An untrained model as a file that every version reads (schema 1; its config is given)."""
    engine = load_engine("torchvision")
    cfg = load_config(engine.default_cfg(), CONFIG)
    torch.manual_seed(0)
    identity = Identity.of(engine.NAME, cfg)
    content = {
        "schema": 1,
        "engine": identity.engine,
        "architecture": dict(identity.architecture),
        "model": engine.build_model(cfg).state_dict(),
        "training": None,
    }
    torch.save(content, path)
    return path


def _write_large_studies(folder: Path, n_exams: int) -> None:
    """JPEG 2000 views of full size; one picture serves for all."""
    folder.mkdir()
    view = decoding._write(folder / "view.dcm", JPEG2000Lossless)
    _write_views(pydicom.dcmread(view), folder, n_exams)
    view.unlink()


def _write_small_studies(folder: Path, n_exams: int) -> None:
    """Views of 96 x 80 px with noise of their own."""
    folder.mkdir()
    shape, decoding.SHAPE = decoding.SHAPE, (96, 80)
    view = decoding._write(folder / "view.dcm", pydicom.uid.ExplicitVRLittleEndian)
    decoding.SHAPE = shape
    _write_views(pydicom.dcmread(view), folder, n_exams, has_noise=True)
    view.unlink()


def _write_views(
    dataset: pydicom.Dataset, folder: Path, n_exams: int, *, has_noise: bool = False
) -> None:
    stored = dataset.pixel_array.copy() if has_noise else None
    for exam in range(1, n_exams + 1):
        (folder / f"{exam}").mkdir()
        for number, (side, view) in enumerate(_VIEWS, start=1):
            dataset.StudyInstanceUID = f"1.2.3.{exam}"
            dataset.SOPInstanceUID = f"1.2.3.{exam}.{number}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID = f"PHANTOM-{exam}"
            dataset.ImageLaterality, dataset.ViewPosition = side, view
            del dataset.PatientOrientation
            dataset.PatientOrientation = ""
            if stored is not None:
                noise = np.random.default_rng([exam, number]).integers(0, 300, stored.shape)
                dataset.PixelData = (stored // 2 + noise).astype("<u2").tobytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset.save_as(folder / f"{exam}" / f"{side}{view}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    run_program(sys.modules[__name__])
