"""Every block of the how-to pages runs as it stands there, after the page that leads to a report.

``pytest -m docs`` also checks the site and the notebooks. The pages go on in one folder, which is
made once; each test has one of its own that links to it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from simfrcnn import parallel
from support.commands import ROOT
from support.once import made_once
from support.pages import Block, blocks_of, commands_of, is_run, run_page

MONDAY = "docs/from_folder_to_report.md"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/how_to/*.md"))
RUN = [page for page in PAGES if any(is_run(block) for block in blocks_of(page))]
pytestmark = pytest.mark.docs


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further processes would import everything again for a few small pictures."""
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)


@pytest.fixture(autouse=True)
def _names_are_forgotten() -> Iterator[None]:
    """The data sets that a page's commands registered with Detectron2 in this process."""
    try:
        from detectron2.data import DatasetCatalog, MetadataCatalog
    except ImportError:
        yield
        return
    before = set(DatasetCatalog), set(MetadataCatalog)
    yield
    for catalogue, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalogue) - names:
            catalogue.remove(name)


@pytest.fixture
def monday(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page from a folder to a report leaves."""

    def make(folder: Path) -> None:
        monkeypatch.chdir(folder)
        run_page(MONDAY, folder)

    return made_once(tmp_path_factory, "monday", make)


@pytest.mark.slow
@pytest.mark.torchvision
def test_the_page_from_a_folder_to_a_report_runs(monday: Path) -> None:
    assert (monday / "report" / "report.html").stat().st_size > 10_000
    assert json.loads((monday / "run" / "manifest.json").read_text())["finished"] is True


@pytest.mark.slow
@pytest.mark.torchvision
@pytest.mark.parametrize("page", RUN, ids=lambda page: Path(page).stem)
def test_the_blocks_of_a_page_run(
    page: str, monday: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "clinic"
    folder.mkdir()
    for path in monday.iterdir():  # pages add to the folder, and change nothing in it
        (folder / path.name).symlink_to(path)
    monkeypatch.chdir(folder)
    run_page(page, folder)


def test_blocks_that_are_not_run_are_these() -> None:
    """Named one by one: a block does not leave the tests unnoticed."""
    left_out: dict[str, list[str]] = {}
    for block in _blocks():
        if block.reason is not None:
            left_out.setdefault(Path(block.page).stem, []).append(block.reason.partition(";")[0])
    assert left_out == {
        "from_folder_to_report": ["the phantoms have no table"],
        "docker": ["needs a Docker daemon"] * 3,
        "gpu_memory": ["needs a GPU"],
        "imagenet_weights": ["downloads weights"],
        "offline_install": ["downloads gigabytes", "needs the packages of the step before"],
        "onnx": ["onnx and onnxruntime are no part of simfrcnn"],
        "slurm": ["installs from a package index", "needs a Slurm"],
    }


def test_blocks_that_are_not_run_are_code_all_the_same() -> None:
    """Their Python compiles, and their commands of simfrcnn have options that exist."""
    checked = 0
    for block in _blocks():
        if block.reason is None:
            continue
        if block.language == "python":
            compile(block.text, block.place, "exec")
        for command in commands_of(block.text) if block.language == "sh" else ():
            words = shlex.split(command)
            if words[0] == "simfrcnn":
                parser = argparse.ArgumentParser()
                importlib.import_module(f"simfrcnn.cli.{words[1].replace('-', '_')}").add_arguments(
                    parser
                )
                parser.parse_args(words[2:])
                checked += 1
    assert checked == 3


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in _blocks()} <= {"sh", "python", "yaml", "diff", "bibtex"}
    for block in _blocks():
        assert block.language != "yaml" or block.file, block.place


def _blocks() -> Iterator[Block]:
    for page in (MONDAY, *PAGES):
        yield from blocks_of(page)
