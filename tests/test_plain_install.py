"""A plain ``pip install simfrcnn``, without any extra: what is missing must be said, not raised.

The extras are installed where tests run, so that a process hides every package which the
requirements of simfrcnn do not bring, by themselves or through one another.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "simfrcnn"

# The modules that are the extra: what loads them says which extra is missing.
EXTRAS_OWN = {
    "simfrcnn.engines.detectron2": "EngineError: the engine detectron2 is not installed",
    "simfrcnn.service.web_app": "ConfigError: simfrcnn serve needs fastapi",
}
# Imports inside of functions that say what to do, or run only where the extra is: in its own job.
LATE = {
    ("simfrcnn/cluster/task.py", "submitit"),
    ("simfrcnn/data/sources/table.py", "openpyxl"),
}
HIDING = """
import importlib, json, sys
from importlib.machinery import PathFinder

HIDDEN = set(json.loads(sys.argv.pop(1)))
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: (
    None if name.partition(".")[0] in HIDDEN else find_spec(name, path, target)
)
"""


def setup_keywords() -> dict[str, object]:
    """What ``setup.py`` says."""
    with patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return dict(setup.call_args.kwargs)


def brought_by(requirements: list[str]) -> set[str]:
    """The distributions that requirements bring, with those that these bring."""
    brought: set[str] = set()
    wanted = [Requirement(text) for text in requirements]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in brought:
            continue
        brought.add(name)
        try:
            texts = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        wanted += [each for each in map(Requirement, texts) if _applies(each, requirement.extras)]
    return brought


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    return requirement.marker is None or any(
        requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}
    )


@pytest.fixture(scope="module")
def hidden() -> list[str]:
    """Top-level names that can be imported here and not after a plain install."""
    plain = brought_by(setup_keywords()["install_requires"]) | {"simfrcnn", "pip", "setuptools"}
    names = {
        name
        for name, distributions in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(one) for one in distributions} & plain
    }
    return sorted(names | {"detectron2"})


def in_plain_install(hidden: list[str], code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIDING + code, json.dumps(hidden), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def test_what_is_hidden_is_what_extras_bring_and_nothing_of_a_plain_install(hidden):
    assert {"openpyxl", "highdicom", "fastapi", "pynetdicom", "submitit"} <= {
        *hidden,
        *(name for name in _extras_missing_here()),
    }
    assert not {"numpy", "scipy", "sklearn", "torch", "torchvision", "timm", "yaml"} & set(hidden)


def _extras_missing_here() -> list[str]:
    packages = importlib.metadata.packages_distributions()
    wanted = ("openpyxl", "highdicom", "fastapi", "pynetdicom", "submitit")
    return [name for name in wanted if name not in packages]


@pytest.mark.slow
def test_every_module_is_imported_by_a_plain_install(hidden):
    names = [name for name, _ in modules() if not name.startswith(tuple(EXTRAS_OWN))]
    assert len(names) > 200
    code = (
        "failed = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        failed[name] = str(error)\n"
        "print(json.dumps(failed))\n"
    )
    done = in_plain_install(hidden, code, *names)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {}


def test_what_needs_an_extra_says_which(hidden):
    code = (
        "from simfrcnn.cluster.extra import import_submitit\n"
        "from simfrcnn.dicom_out.extra import import_highdicom\n"
        "from simfrcnn.engines.contract import load_engine\n"
        "from simfrcnn.errors import SimFrcnnError\n"
        "from simfrcnn.service.extra import import_dicomweb, import_pynetdicom\n"
        "from simfrcnn.service.web import import_uvicorn\n"
        "for call in (lambda: load_engine('detectron2'), import_uvicorn, import_submitit,\n"
        "             import_highdicom, import_pynetdicom, import_dicomweb):\n"
        "    try:\n"
        "        call()\n"
        "    except SimFrcnnError as error:\n"
        "        print(f'{type(error).__name__}: {error}')\n"
    )
    done = in_plain_install(hidden, code)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    for start in EXTRAS_OWN.values():
        assert any(line.startswith(start) for line in lines)
    extras = ("serve", "slurm", "dicom-out", "node", "node")
    for extra, line in zip(extras, lines[1:], strict=True):
        assert f"pip install 'simfrcnn[{extra}]'" in line


def test_no_function_imports_a_package_of_an_extra_without_a_word(hidden):
    """By a plain statement; ``importlib.import_module`` stands where the error is worded."""
    found = set()
    for name, path in modules():
        if name.startswith(tuple(EXTRAS_OWN)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [node.module or ""]
            else:
                continue
            tops = {each.partition(".")[0] for each in imported} & set(hidden)
            found |= {(path.relative_to(ROOT).as_posix(), top) for top in tops}
    assert found == {(file, top) for file, top in LATE if top in hidden}


def test_readers_are_judged_by_a_plain_install(hidden, tmp_path):
    """All but the workbook is written, an earlier one is not left, and the output says why."""
    images = [
        {
            **{"id": n, "file_name": f"{n}.png", "width": 100, "height": 100},
            **{"patient_id": f"P{n}", "exam_id": f"E{n}"},
            "supervision": "boxes" if n < 3 else "normal",
        }
        for n in (1, 2, 3, 4)
    ]
    boxes = [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "bbox": [9, 9, 30, 30],
            "area": 900,
            "iscrowd": 0,
        }
        for n in (1, 2)
    ]
    truth = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "malignant"}],
    }
    (tmp_path / "test.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([{**box, "score": 0.9} for box in boxes]))
    rows = [f"R{reader},E{n},{n % 2}" for reader in (1, 2) for n in (1, 2, 3, 4)]
    (tmp_path / "readers.csv").write_text("\n".join(["reader,case,recall", *rows]))
    output = tmp_path / "report"
    words = [
        *("evaluate", "--annotations", str(tmp_path / "test.json")),
        *("--detections", str(tmp_path / "found.json"), "--output", str(output)),
        *("--readers", str(tmp_path / "readers.csv"), "--no-images"),
        *("--replicates", "0"),
    ]
    code = "from simfrcnn.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    with_all = in_plain_install([], code, *words)
    assert with_all.returncode == 0, with_all.stderr
    assert "left out" not in with_all.stdout
    assert (output / "readers_rjafroc.xlsx").is_file()
    plain = in_plain_install(hidden, code, *words)
    assert plain.returncode == 0, plain.stderr
    note = "readers_rjafroc.xlsx is left out: Excel files need openpyxl"
    assert f"note: {note}" in plain.stdout
    assert "pip install 'simfrcnn[xlsx]'" in plain.stdout
    assert f"readers: {output / 'readers.html'}" in plain.stdout
    assert {path.name for path in output.glob("readers*")} == {
        *("readers.html", "readers.md", "readers.json", "readers.imrmc")
    }
    assert note in (output / "readers.md").read_text()
    assert any(note in rule for rule in json.loads((output / "readers.json").read_text())["rules"])
