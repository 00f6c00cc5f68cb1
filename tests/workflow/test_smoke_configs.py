"""The smoke configs of masks, labels and classifiers by their names, from nothing to the test."""

import json

import pytest

from simfrcnn.cli.main import main
from support.commands import ENGINES

SHOWN = {
    "mask_r18": ("loss_mask", "mask/iou_mean"),
    "labels_r18": ("loss_label", "case/auc"),
    "classifier_r18": ("total_loss", "case/auc"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SHOWN)
def test_a_smoke_config_makes_its_phantoms_trains_and_is_tested(
    name, engine, tmp_path, monkeypatch
):
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path / "datasets"))
    words = ["train-net", "--config-file", f"smoke/{name}", "--engine", engine]
    assert main([*words, "OUTPUT_DIR", str(tmp_path / "run")]) == 0
    loss, figure = SHOWN[name]
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    assert any(loss in step for step in steps)
    (report,) = (tmp_path / "run/inference/phantom_tiny").glob("test*/report.json")
    assert figure in json.loads(report.read_text())["figures"]
