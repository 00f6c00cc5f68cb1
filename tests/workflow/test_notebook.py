"""The notebooks of the documents run from the first cell to the last."""

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient
from sklearn.metrics import roc_auc_score

from support.commands import ROOT

# The kernel's own messages go through libraries that warn of their future.
pytestmark = [pytest.mark.docs, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def executed(name, folder):
    """All outputs of a notebook, and what it printed."""
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / name, as_version=4)
    client = NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return outputs, "".join(out.get("text", "") for out in outputs)


@pytest.mark.torchvision
def test_the_phantom_study_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("SIMFRCNN_DATASETS")  # it makes its own phantoms
    outputs, printed = executed("phantom_study.ipynb", tmp_path)
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert any("iframe" in out.get("data", {}).get("text/html", "") for out in outputs)
    assert re.search(r"^case/auc [01]\.\d{3} \(", printed, re.MULTILINE)
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "found" / "one_exam" / "exam.png").is_file()


def test_the_study_is_judged_and_compared(tmp_path):
    outputs, printed = executed("study_judged.ipynb", tmp_path)
    assert any("image/png" in out.get("data", {}) for out in outputs)
    # The AUC that it prints, from the files that it drew, by another's function.
    scores = dict.fromkeys((f"E{patient}" for patient in range(120)), 0.0)
    exam_of = {
        image["id"]: image["exam_id"]
        for image in json.loads((tmp_path / "truth.json").read_text())["images"]
    }
    for found in json.loads((tmp_path / "one.json").read_text()):
        exam = exam_of[found["image_id"]]
        scores[exam] = max(scores[exam], found["score"])
    auc = roc_auc_score([int(exam[1:]) < 60 for exam in scores], list(scores.values()))
    assert f"one: {auc:.3f} (" in printed
    assert re.search(rf"^case/auc +{auc:.3f} \(.*delong-logit$", printed, re.MULTILINE)
    assert re.search(r"^one - two: -0\.\d+ \(-0\.\d+ to -0\.\d+\)$", printed, re.MULTILINE)
    assert re.search(r"^DeLong, paired: p = 0\.\d{4}$", printed, re.MULTILINE)
    assert "two against one: superior" in printed
    for page in ("report/report.html", "compared/comparison.html"):
        assert (tmp_path / page).stat().st_size > 10_000
