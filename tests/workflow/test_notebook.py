"""The notebook of the documents runs from the first cell to the last."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from support.commands import ROOT


@pytest.mark.slow
@pytest.mark.torchvision
# The kernel's own messages go through libraries that warn of their future.
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("SIMFRCNN_DATASETS")  # it makes its own phantoms
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "phantom_study.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert any("iframe" in out.get("data", {}).get("text/html", "") for out in outputs)
    printed = "".join(out.get("text", "") for out in outputs)
    assert re.search(r"^case/auc [01]\.\d{3} \(", printed, re.MULTILINE)
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "found" / "one_exam" / "exam.png").is_file()
