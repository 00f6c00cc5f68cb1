"""How long does the report of a large set take, how big is its page, and how soon does it open?

The set is random; every image is one uncompressed mammogram of noise, whose pictures compress worse
than those of real ones. The page is opened in a headless Chromium where Playwright and a Chromium
are there.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.evaluation import random_set
from benchmarks.preparation import SHAPE, noise_record
from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.images.hanging import hung_pictures
from simfrcnn.settings import EvaluationSettings

_N_OPENINGS = 5
_TIMEOUT_MS = 60_000


def table(n_images: int) -> list[str]:
    """Lines of Markdown: making, size and opening of the report of ``n_images``."""
    records, detections = random_set(n_images)
    with tempfile.TemporaryDirectory() as name:
        file = noise_record(Path(name))
        height, width = SHAPE
        records = [
            dataclasses.replace(record, path=file.path, height=height, width=width)
            for record in records
        ]
        start = time.perf_counter()
        report = evaluate(records, detections, EvaluationSettings())
        evaluated = time.perf_counter()
        page = write_report(
            Path(name, "report"),
            report,
            records=records,
            detections=detections,
            load_pictures=hung_pictures,
        )
        written = time.perf_counter()
        size = page.stat().st_size
        opened = _seconds_to_open(page)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    rows = [
        ("figures, with 2,000 resamplings", f"{evaluated - start:.1f} s"),
        ("pages and pictures", f"{written - evaluated:.1f} s"),
        ("both", f"{written - start:.1f} s"),
        ("`report.html`", f"{size / 1e6:.1f} MB"),
        (f"opening it in Chromium, median of {_N_OPENINGS}", opened),
    ]
    return [
        "",
        "## Report",
        "",
        f"{n_images:,} images of {height} x {width} px (uncompressed DICOM of noise); one process, "
        f"{os.cpu_count()} cores, load {load:.1f} at the end. Opening is up to the load event.",
        "",
        "| what | measured |",
        "|---|---|",
        *(f"| {what} | {measured} |" for what, measured in rows),
    ]


def _seconds_to_open(page: Path) -> str:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "not measured: Playwright is not installed"
    if program is None:
        return "not measured: there is no Chromium on the PATH"
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(_N_OPENINGS):
            tab = browser.new_page()
            start = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load", timeout=_TIMEOUT_MS)
            times.append(time.perf_counter() - start)
            tab.close()
        browser.close()
    return f"{statistics.median(times):.2f} s"
