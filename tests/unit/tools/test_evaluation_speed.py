"""The benchmark of the evaluation: its data, and that its table is complete."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks import report as report_speed
from benchmarks.evaluation import N_DETECTIONS, random_set, table
from simfrcnn.evaluation import evaluate
from simfrcnn.settings import EvaluationSettings
from support.tools import run_tool

FEW = partial(EvaluationSettings, bootstrap_replicates=20)


def test_the_random_set_has_what_the_table_says() -> None:
    records, detections = random_set(400)
    assert len(records) == 400
    assert len({record.patient_id for record in records}) == 100
    assert sum(len(record.findings) for record in records) == 80
    assert all(len(image.scores) == N_DETECTIONS for image in detections.images.values())
    report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=0))
    # Most findings are found, with higher scores, but not all of them.
    assert 0.6 < report.figures["case/auc"].value < 1
    assert 0.5 < report.figures["froc/centre/all/sensitivity_at_1"].value < 1


def test_the_table_has_a_row_for_every_part() -> None:
    lines = table(200, n_replicates=4)
    assert lines[3].startswith("200 images of 50 patients, 2,000 detections, 40 findings")
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == 10
    assert not any("nan" in row for row in rows)
    assert "times" in next(row for row in rows if "over pycocotools alone" in row)


@pytest.mark.parametrize("option", ["--evaluation", "--report"])
def test_too_small_a_set_is_refused(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_tool(monkeypatch, "benchmark", option, "10") != 0
    assert f"{option} is 10; at least 100" in capsys.readouterr().err


def test_the_report_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_speed, "_seconds_to_open", lambda page: f"{page.name} opened")
    monkeypatch.setattr(report_speed, "EvaluationSettings", FEW)
    lines = report_speed.table(100)
    assert "100 images of 3328 x 2560 px" in lines[3]
    assert lines[-1].endswith("| report.html opened |")
    size = float(next(line for line in lines if "`report.html`" in line).split()[3])
    assert 0.1 < size < 30
