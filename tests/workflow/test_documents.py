"""What the documents show runs as it stands there."""

import re

import pytest

from support.commands import ROOT
from support.forking import run_program
from support.pages import blocks_of


@pytest.mark.detectron2
def test_the_script_of_the_training_page_runs(tmp_path):
    scripts = [block.text for block in blocks_of("docs/training.md", "python")]
    (script,) = (script for script in scripts if "DefaultTrainer" in script)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "script.py").write_text(script)
    done = run_program(["script.py"], cwd=tmp_path, logs=tmp_path)
    assert done.returncode == 0, done.stderr
    inference = tmp_path / "output" / "smoke" / "sim_r18_c4" / "inference"
    assert list(inference.rglob("report.json"))


def test_every_file_that_the_documents_link_to_exists():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*.md")]
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
