"""``tools/report_changes.py``: the page of ``simfrcnn.report_changes``, and what is no report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import simfrcnn
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.results import Report
from support.evaluation_examples import random_set
from support.tools import run_tool


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Report]:
    """Two reports by their folders: of the same detections, at another threshold."""
    records, detections = random_set(4)
    made = {}
    for name, threshold in (("earlier", 0.9), ("later", 0.05)):
        folder = tmp_path_factory.mktemp(name)
        settings = simfrcnn.EvaluationSettings(bootstrap_replicates=0, score_threshold=threshold)
        made[folder] = evaluate(records, detections, settings)
        (folder / "report.json").write_text(json.dumps(made[folder].to_json()), encoding="utf-8")
    return made


def test_it_prints_what_python_gives(reports, monkeypatch, capsys):
    earlier, later = reports
    assert run_tool(monkeypatch, "report_changes", earlier, later / "report.json") == 0
    printed = capsys.readouterr().out
    assert printed == simfrcnn.report_changes(earlier, later)
    assert printed == simfrcnn.report_changes(reports[earlier], str(later))
    assert "| score_threshold | 0.9 | 0.05 |" in printed
    rows = [line for line in printed.splitlines() if line.startswith("| sensitivity by case")]
    values = [reports[folder].figures["case/sensitivity"].value for folder in reports]
    assert values[1] > values[0]
    assert f"| {values[1] - values[0]:+.3f} |" in rows[0]
    assert "| AUC by case" not in printed  # it is the same


def test_a_report_and_itself_differ_in_nothing(reports):
    one = next(iter(reports.values()))
    page = simfrcnn.report_changes(one, dataclasses.replace(one))
    assert page.count("The same.") == 4
    assert "| - | - | - | none |" in page


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_report_is_named(reports, place, tmp_path, monkeypatch, capsys):
    """Whichever of the two it is."""
    paths = [*reports]
    paths[place] = tmp_path / "none"
    assert run_tool(monkeypatch, "report_changes", *paths) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {tmp_path / 'none'} cannot be read")
    assert printed.err.count("\n") == 1
    (tmp_path / "report.json").write_text('{"schema_version": 0}')
    paths[place] = tmp_path
    assert run_tool(monkeypatch, "report_changes", *paths) == 2
    assert "report.json has schema version 0; this program reads" in capsys.readouterr().err


def test_a_call_without_two_reports_says_how_it_is_called(reports, monkeypatch, capsys):
    assert run_tool(monkeypatch, "report_changes", next(iter(reports))) == 2
    assert "the following arguments are required: later" in capsys.readouterr().err
