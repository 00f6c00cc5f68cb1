"""The packages as a user gets them: built, installed elsewhere, and run outside any checkout."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import check_packages
from simfrcnn.config.shipped import shipped_configs
from simfrcnn.version import __version__
from simfrcnn.zoo import find_model
from support.commands import ROOT

SOURCES = (
    *("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"),
    *("simfrcnn", "configs"),
)
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
CONFIGS = {
    path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    pytest.importorskip("build")
    checkout = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, symlinks=True, ignore=IGNORED)
        else:
            shutil.copy(source, checkout / name)
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(checkout)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def the(pattern: str, folder: Path) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.slow
def test_both_packages_hold_the_configs_and_the_pages(dist):
    with zipfile.ZipFile(the("*.whl", dist)) as wheel:
        files = set(wheel.namelist())
        metadata = Parser().parsestr(
            wheel.read(f"simfrcnn-{__version__}.dist-info/METADATA").decode("utf-8")
        )
    held = {name.removeprefix("simfrcnn/configs/") for name in files if "/configs/" in name}
    assert held == CONFIGS
    pages = ROOT / "simfrcnn" / "evaluation" / "reporting" / "page_files"
    for path in (path for path in pages.rglob("*") if path.is_file()):
        assert path.relative_to(ROOT).as_posix() in files
    for path in find_model("cbis-mass").parent.glob("*[!y]"):  # the models and their hashes
        assert path.is_dir() or path.relative_to(ROOT).as_posix() in files
    assert {"simfrcnn/py.typed", "simfrcnn/__main__.py"} <= files
    assert not any(name.startswith(("tests/", "tools/", "docs/")) for name in files)
    with tarfile.open(the("*.tar.gz", dist)) as sdist:
        members = {name.partition("/")[2] for name in sdist.getnames()}
    assert {f"configs/{name}" for name in CONFIGS} <= members
    assert not any(name.startswith(("tests/", "tools/")) for name in members)
    classifiers = metadata.get_all("Classifier") or []
    assert "Operating System :: POSIX :: Linux" in classifiers
    assert "Operating System :: MacOS" in classifiers
    assert not any("Windows" in each for each in classifiers)
    assert metadata["Requires-Python"] == ">=3.10"
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert {"detectron2", "jpeg", "gdcm", "libjpeg", "xlsx", "dev"} <= extras


@pytest.mark.slow
def test_nothing_is_missing_or_too_much_and_an_index_takes_them(dist):
    pytest.importorskip("twine")
    both = [the("*.whl", dist), the("*.tar.gz", dist)]
    for package in both:
        assert check_packages.faults_of(package) == []
        assert package.name in check_packages.listing_of(package)
    words = [sys.executable, "-m", "twine", "check", "--strict", *map(str, both)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_every_file_of_the_package_is_needed():
    """Whatever its kind: a new one is not forgotten."""
    words = ["git", "-C", str(ROOT), "ls-files", "simfrcnn", "configs/*.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    kept = {name.replace("configs/", "simfrcnn/configs/", 1) for name in done.stdout.split()}
    kept = {name.replace("simfrcnn/simfrcnn/", "simfrcnn/") for name in kept}
    assert kept - {"simfrcnn/configs"} <= check_packages.needed()
    assert not {n for n in check_packages.needed() if "__pycache__" in n or n.endswith(".pyc")}


@pytest.mark.parametrize(
    "lacking", ["simfrcnn/zoo/trained.json", "simfrcnn/evaluation/report.schema.json"]
)
def test_a_package_that_lacks_a_file_or_has_another_is_named(tmp_path, lacking):
    package = tmp_path / "x.whl"
    with zipfile.ZipFile(package, "w") as wheel:
        for name in {*check_packages.needed(), "tests/test_x.py", "simfrcnn/x.pth"} - {lacking}:
            wheel.writestr(name, "")
    assert check_packages.faults_of(package) == [
        f"{lacking} is missing",
        "simfrcnn/x.pth must not be there",
        "tests/test_x.py must not be there",
    ]
    assert check_packages.main(tmp_path) == 1


@pytest.fixture(scope="module")
def simfrcnn(dist, tmp_path_factory):
    """Run the installed command in an empty folder; returns what it printed.

    The environment holds the wheel alone. What it needs is lent by the environment of the tests,
    appended to the path so that no ``.pth`` of that one, such as that of an editable installation,
    is read.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    wheel = str(the("*.whl", dist))
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )
    packages = the("lib/python*/site-packages", folder)
    lent = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (packages / "lent.pth").write_text("\n".join(dict.fromkeys(lent)), encoding="utf-8")
    place = tmp_path_factory.mktemp("elsewhere")
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SIMFRCNN_DATASETS")}

    def run(*words: object) -> str:
        done = subprocess.run(
            [folder / "bin" / "simfrcnn", *map(str, words)],
            cwd=place,
            env={**kept, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run.place, run.python = place, python  # type: ignore[attr-defined]
    return run


@pytest.mark.slow
def test_the_installed_package_is_not_the_checkout(simfrcnn):
    code = "import simfrcnn; print(simfrcnn.__file__)"
    done = subprocess.run(
        [simfrcnn.python, "-c", code],
        cwd=simfrcnn.place,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(simfrcnn.python.parents[1])
    listed = simfrcnn("configs")
    assert all(f"  {name} " in listed for name in shipped_configs())


@pytest.mark.slow
@pytest.mark.torchvision
def test_the_installed_command_makes_phantoms_trains_and_predicts(simfrcnn):
    """With the demo's config by name, through a config of one's own, on the smallest phantoms."""
    simfrcnn("make-phantoms", "--preset", "tiny", "--out", "phantoms")
    simfrcnn("new-config", "demo/sim", "--output", "my.yaml")
    sets = [
        word
        for part in ("train", "val", "test")
        for word in ("--dataset", f"phantom_demo/{part}=phantoms/{part}.json")
    ]
    simfrcnn(
        *("train-net", "--config-file", "my.yaml", "--engine", "torchvision", *sets),
        *("SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0", "EVAL.BOOTSTRAP_REPLICATES", "20"),
        *("INPUT.MAMMO.SIZE", "(64,64)", "DATASETS.VAL", "[]", "OUTPUT_DIR", "0123"),
    )
    run = simfrcnn.place / "0123"  # a word for a text stays as it is
    report = json.loads((run / "inference" / "phantom_demo" / "test" / "report.json").read_text())
    assert report["counts"]["images"]["total"] == len(images_of(simfrcnn.place, "test"))
    simfrcnn(
        *("predict", "phantoms/dicom", "--weights", run / "model_last.pth"),
        *("--output", "found", "--pictures", "none", "--workers", "0"),
    )
    exams = {
        image["exam_id"]
        for part in ("train", "val", "test")
        for image in images_of(simfrcnn.place, part)
    }
    with open(simfrcnn.place / "found" / "index.csv", encoding="utf-8", newline="") as table:
        assert len(list(csv.DictReader(table))) == len(exams)


def images_of(place: Path, part: str) -> list[dict[str, object]]:
    content = json.loads((place / "phantoms" / f"{part}.json").read_text(encoding="utf-8"))
    return list(content["images"])
