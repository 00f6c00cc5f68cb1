"""The Makefile: how many threads each target gives a process."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("given", "workers", "demo", "quick"),
    [
        ({}, 1, "1", "1"),
        ({}, 2, "2", "1"),
        ({}, 64, "4", "1"),
        ({"OMP_NUM_THREADS": "3"}, 2, "3", "3"),
    ],
)
def test_the_demo_has_the_cores_and_tests_one_thread_each(tmp_path, given, workers, demo, quick):
    shows = tmp_path / "shows.mk"
    lines = [f"{name}: ; @echo {name} $$OMP_NUM_THREADS" for name in ("demo", "quick")]
    # In place of what makes the environment; make says that it has been replaced.
    lines.append("$(VENV)/installed-$(EXTRAS): ;")
    shows.write_text("include Makefile\n" + "\n".join(lines) + "\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MAKEFLAGS")}
    words = ["make", "-s", "-f", str(shows), "demo", "quick", f"WORKERS={workers}"]
    shown = subprocess.run(
        [*words, f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == [f"demo {demo}", f"quick {quick}"]
