"""report.json: read back as it was written, and described by its schema."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

import simfrcnn
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.operating import choose_operating_points
from simfrcnn.evaluation.report_file import SCHEMA
from simfrcnn.evaluation.results import Report
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import random_set


@pytest.fixture(scope="module")
def report() -> Report:
    records, detections = random_set(3, n_patients=60)
    records = [
        dataclasses.replace(record, attributes={"density": str(1 + place % 2)})
        for place, record in enumerate(records)
    ]
    settings = EvaluationSettings(
        bootstrap_replicates=20, prevalence=0.01, subgroups=("density",), pooling="mean"
    )
    chosen = choose_operating_points({"val": evaluate(records, detections, settings)})
    return evaluate(
        records,
        detections,
        settings,
        operating_points=chosen.points,
        recalibrations=chosen.recalibrations,
        provenance={"annotations": "test.json"},
    )


@pytest.fixture
def written(report: Report, tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report.to_json()), encoding="utf-8")
    return path


def test_it_comes_back_as_it_was(report: Report, written: Path) -> None:
    for source in (written, str(written.parent)):
        again = simfrcnn.read_report(source)
        assert json.dumps(again.to_json()) == written.read_text("utf-8")
    assert again.settings == report.settings
    assert again.roc == report.roc
    assert again.units == report.units
    assert again.operating_points == report.operating_points
    assert again.recalibrations == report.recalibrations
    assert again.decisions == report.decisions
    assert set(again.decisions) == {"case"}
    assert {each.figure for each in again.interactions} == {
        "case/auc",
        "image/auc",
        "case/youden/sensitivity",
        "case/youden/specificity",
    }
    assert len(again.group_differences) == len(again.interactions) == 4
    assert str(again.group_differences) == str(report.group_differences)
    assert str(again.figures["case/auc"]) == str(report.figures["case/auc"])


def test_the_schema_holds_and_catches_what_is_not_a_report(written: Path) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads(written.read_text("utf-8"))
    validator.validate(document)
    assert set(document) == set(schema["properties"])  # every key is described
    for change in (
        lambda d: d.pop("figures"),
        lambda d: d.update(schema_version=1),
        lambda d: d["figures"]["case/auc"].update(value="high"),
        lambda d: d["units"]["case"][0].update(truth="maybe"),
        lambda d: d["roc"]["case"].pop("sensitivity"),
    ):
        damaged = json.loads(json.dumps(document))
        change(damaged)
        assert not validator.is_valid(damaged)


def test_a_report_without_the_later_keys_is_read(written: Path) -> None:
    document = json.loads(written.read_text("utf-8"))
    for key in ("recalibrations", "decisions", "interactions", "group_differences"):
        del document[key]
    del document["settings"]["partial_auc_specificity"]
    written.write_text(json.dumps(document), encoding="utf-8")
    again = simfrcnn.read_report(written)
    assert again.interactions == ()
    assert again.group_differences == ()
    assert again.settings.partial_auc_specificity == 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.clear(), "is no report: it has no schema_version"),
        (lambda d: d.update(schema_version=9), "schema version 9; this program reads 2"),
        (lambda d: d.pop("roc"), "is damaged .*'roc'"),
        (lambda d: d["settings"].update(colour="red"), "settings of a later version: colour"),
        (lambda d: d["settings"].update(pooling="median"), "EVAL.POOLING"),
    ],
)
def test_what_is_not_a_report_is_refused_by_name(written: Path, change, message: str) -> None:
    document = json.loads(written.read_text("utf-8"))
    change(document)
    written.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtifactError, match=message) as caught:
        simfrcnn.read_report(written)
    assert str(written) in str(caught.value)


def test_a_missing_file_and_one_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"report\.json cannot be read .*was expected"):
        simfrcnn.read_report(tmp_path)
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        simfrcnn.read_report(tmp_path)
