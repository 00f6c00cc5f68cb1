"""The Makefile: how many threads each target gives a process."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("given", "workers", "demo", "test"),
    [
        ({}, 1, "1", "1"),
        ({}, 2, "2", "1"),
        ({}, 64, "4", "1"),
        ({"OMP_NUM_THREADS": "3"}, 2, "3", "3"),
    ],
)
def test_the_demo_has_the_cores_and_tests_one_thread_each(tmp_path, given, workers, demo, test):
    shows = tmp_path / "shows.mk"
    lines = "\n".join(f"{name}: ; @echo {name} $(OMP_NUM_THREADS)" for name in ("demo", "test"))
    shows.write_text(f"include Makefile\n{lines}\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MAKEFLAGS")}
    shown = subprocess.run(  # a dry run: nothing is installed
        ["make", "-n", "-f", str(shows), "demo", "test", f"WORKERS={workers}"],
        cwd=ROOT,
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"echo demo {demo}\n" in shown.stdout
    assert f"echo test {test}\n" in shown.stdout
    assert "export OMP_NUM_THREADS" in (ROOT / "Makefile").read_text(encoding="utf-8")
