"""How soon does `simfrcnn serve` paint an exam of four full films, on loopback in a real Chromium?

Run as ``PYTHONPATH=tools python -m benchmarks.serve --weights cbis-mass``. Four uncompressed films
of 3328 x 2560 px are judged by a server of its own process. Then its page is opened at the exam,
some times with the films decoded before and some times not (their files are touched). Times are
from the start of the navigation to four views painted: a quarter of the source's resolution first,
then the source pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pydicom

from benchmarks.preparation import SHAPE, noise_record
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.service.web_pixels import film_pixels

_VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
_TIMEOUT_S = 300
_MARKS = "performance.getEntriesByType('mark').map(m => [m.name, m.startTime])"


def main() -> None:
    """Print the figures as lines of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="cbis-mass")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "folder")
        films = write_exam(folder / "exam")
        for line in forms(films[0]):
            print(line)
        with server(arguments.weights, folder) as url:
            study = judged(url)
            for line in openings(f"{url}/results/{study}", films, arguments.repeats):
                print(line)
    load = os.getloadavg()[0]
    print(f"\n{SHAPE[0]} x {SHAPE[1]} px, {os.cpu_count()} cores, load {load:.1f} at the end")


def write_exam(folder: Path) -> list[Path]:
    """Four films of noise, of one study."""
    folder.mkdir(parents=True)
    made = pydicom.dcmread(noise_record(folder).path)
    (folder / "view.dcm").unlink()
    made.StudyInstanceUID, made.PatientID = pydicom.uid.generate_uid(), "noise"
    paths = []
    for side, view in _VIEWS:
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        made.ImageLaterality, made.ViewPosition = side, view
        paths.append(folder / f"{side}{view}.dcm")
        made.save_as(paths[-1], enforce_file_format=True)
    return paths


def forms(film: Path) -> Iterator[str]:
    """In which form pixels travel: bytes of a film, and the time to make them."""
    pixels = film_pixels(film, STRICT)
    block = pixels.block(1)
    png = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    made: dict[str, Callable[[], bytes]] = {
        "as they are": lambda: block,
        "a quarter of the sides": lambda: pixels.block(4),
        "deflate, level 1": lambda: zlib.compress(block, 1),
        "PNG of 16 bits, level 1": lambda: cv2.imencode(".png", pixels.samples, png)[1].tobytes(),
    }
    yield "| form of one film | MB | s to make |"
    yield "|---|---|---|"
    for name, make in made.items():
        begun = time.perf_counter()
        size = len(make())
        yield f"| {name} | {size / 1e6:.1f} | {time.perf_counter() - begun:.2f} |"


@contextmanager
def server(weights: str, folder: Path) -> Iterator[str]:
    """The address of `simfrcnn serve` in a process of its own."""
    words = ["-m", "simfrcnn", "serve", "--weights", weights, "--folder", str(folder)]
    command = [sys.executable, *words, "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("simfrcnn is at "):
                    yield line.split()[3]
                    return
            raise SystemExit("the server did not start")
        finally:
            process.terminate()


def judged(url: str) -> str:
    """Let the only study be judged; its id."""
    (study,) = _json(f"{url}/studies")["studies"]
    _json(f"{url}/studies/{study['id']}", method="POST")
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        now = _json(f"{url}/studies/{study['id']}")
        if now["state"] in ("done", "failed"):
            return str(study["id"])
        time.sleep(0.5)
    raise SystemExit("the study was not judged in time")


def openings(address: str, films: list[Path], n_repeats: int) -> Iterator[str]:
    """Lines of a table: medians and the slowest of some openings."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    yield "\n| films on the server | four views painted | median s | slowest s |"
    yield "|---|---|---|---|"
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        for is_cold in (True, False):
            times: dict[str, list[float]] = {}
            for _ in range(n_repeats):
                if is_cold:
                    for film in films:
                        os.utime(film)
                for mark, seconds in _opening(browser, address).items():
                    times.setdefault(mark, []).append(seconds)
            where = "not decoded yet" if is_cold else "decoded before"
            for mark, what in (("first", "a quarter of the sides"), ("all", "source pixels")):
                seen = times[f"simfrcnn-painted-{mark}"]
                yield f"| {where} | {what} | {statistics.median(seen):.2f} | {max(seen):.2f} |"
        browser.close()


def _opening(browser: Any, address: str) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(address)
    page.wait_for_selector("#stage[data-painted=all]", timeout=1000 * _TIMEOUT_S)
    marks = {str(name): float(at) / 1000 for name, at in page.evaluate(_MARKS)}
    page.close()
    return marks


def _json(url: str, method: str = "GET") -> dict[str, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
        content: dict[str, Any] = json.load(response)
    return content


if __name__ == "__main__":
    main()
