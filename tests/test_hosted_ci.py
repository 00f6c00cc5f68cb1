"""The hosted workflow: it runs what `.ci/run` runs, on every Python that is named."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def workflow() -> dict[str, Any]:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["jobs"]["test"])


def test_it_tests_every_python_that_the_package_names():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    named = re.findall(r"Python :: (3\.\d+)", setup) or [
        f"3.{minor}" for minor in re.findall(r"\d+", setup.split("for minor in (")[1].split(")")[0])
    ]
    assert workflow()["strategy"]["matrix"]["python"] == named
    assert named[0] == re.search(r'python_requires=">=([\d.]+)"', setup)[1]


def test_it_runs_the_same_script_with_detectron2_where_that_looks_for_it():
    steps = workflow()["steps"]
    assert steps[-1] == {"run": "bash .ci/run"}
    [checkout] = [step for step in steps if step.get("with", {}).get("repository")]
    [moved] = [step for step in steps if step.get("run", "").startswith("mv ")]
    assert checkout["if"] == moved["if"] == "matrix.detectron2"
    assert moved["run"] == f'mv {checkout["with"]["path"]} "$HOME/detectron2"'
    assert "DETECTRON2_HOME:-$HOME/detectron2" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert {"python": "3.12", "detectron2": False} in workflow()["strategy"]["matrix"]["include"]


def test_what_an_extra_brings_is_tested_wherever_everything_is():
    """A package that does not import would otherwise take its tests with it, unseen."""
    (line,) = re.findall(r"^REQUIRED_PACKAGES := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    wanted = set()
    for path in (ROOT / "tests").rglob("*.py"):
        wanted |= set(re.findall(r"importorskip\(\s*\"(\w+)[.\w]*\"", path.read_text("utf-8")))
    # The engines are required by their own list; RJafroc's data need a checkout, too.
    assert wanted - {"detectron2", "torchvision", "rdata"} == set(line.split(","))


def test_a_required_package_that_is_not_there_ends_the_tests():
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/test_hosted_ci.py"],
        cwd=ROOT,
        env={**os.environ, "SIMFRCNN_REQUIRE_PACKAGES": "json,no_such_package"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 4
    assert "names no_such_package, but it cannot be imported" in ended.stderr
