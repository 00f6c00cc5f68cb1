"""Facts of phantom patients carry nothing about cancer, and a fit finds nothing in them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import simfrcnn
from simfrcnn.artifacts import write_detections
from simfrcnn.combining.rescoring import fit
from simfrcnn.files import write_json
from simfrcnn.phantom.annotations import annotation_file
from simfrcnn.phantom.exams import draw_exams
from simfrcnn.phantom.presets import PRESETS, SPLITS
from simfrcnn.records import ImageRecord, Supervision
from simfrcnn.workflows.fitted_combination import read_combination
from support.combining_examples import A
from support.evaluation_examples import CATEGORIES, detection_file, found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotation files of the preset ``study``, without pictures."""
    folder = tmp_path_factory.mktemp("study")
    preset = PRESETS["study"]
    exams = draw_exams(preset, 0)
    for split in SPLITS:
        write_json(folder / f"{split}.json", annotation_file(exams, preset, 0, split=split))
    return folder


def one_image_a_patient(study: Path) -> list[ImageRecord]:
    """Of every patient whose truth some view shows: the first such view."""
    chosen: dict[str, ImageRecord] = {}
    for split in SPLITS:
        for record in simfrcnn.read_coco(study / f"{split}.json", check_files=False).records:
            if record.findings or record.supervision is Supervision.NORMAL:
                chosen.setdefault(record.patient_id, record)
    return list(chosen.values())


def simulated(records: list[ImageRecord], seed: int = 0):
    """A detector whose image score has a d' of 1.5, blind to all facts of the patient."""
    draw = np.random.default_rng(seed)
    logits = [1.5 * bool(r.findings) + draw.normal() - 1 for r in records]
    return [
        found(r.image_id, (A, 1 / (1 + np.exp(-x)))) for r, x in zip(records, logits, strict=True)
    ]


def interval_of_age(records: list[ImageRecord]) -> tuple[float, float]:
    """The 95% interval (Wald's) of the weight of age; the patients are independent rows."""
    detections = simulated(records)
    fitted = fit(records, [detection_file(*detections)], attributes=["age"])
    assert fitted.columns == ("age", "age missing")
    assert fitted.own == pytest.approx(1.5, abs=0.25)
    assert fitted.fact_weights[1] == 0
    (age,) = fitted.facts
    scores = np.array([one.scores[0] for one in detections])
    ages = (np.array([float(r.attributes["age"]) for r in records]) - age.mean) / age.deviation
    rows = np.stack([np.ones(len(records)), np.log(scores / (1 - scores)), ages], axis=1)
    weights = np.array([fitted.intercept, fitted.own, fitted.fact_weights[0]])
    chance = 1 / (1 + np.exp(-rows @ weights))
    information = rows.T @ (rows * (chance * (1 - chance))[:, None])
    error = float(np.sqrt(np.linalg.inv(information)[2, 2]))
    return weights[2] - 1.96 * error, weights[2] + 1.96 * error


def test_the_weight_of_age_is_none_within_its_interval(study: Path) -> None:
    records = one_image_a_patient(study)
    assert len(records) == PRESETS["study"].n_patients
    low, high = interval_of_age(records)
    assert low < 0 < high
    assert high - low < 0.3
    older = [
        dataclasses.replace(
            r, attributes={"age": str(int(r.attributes["age"]) + 4 * bool(r.findings))}
        )
        for r in records
    ]
    assert interval_of_age(older)[0] > 0.1  # an age that tells cancers apart has a weight


def test_combine_takes_the_age_of_phantoms_as_they_are_made(study: Path, tmp_path: Path) -> None:
    val = study / "val.json"
    records = simfrcnn.read_coco(val, check_files=False).records
    write_detections(tmp_path / "a.json", simulated(records), categories=CATEGORIES)
    simfrcnn.combine(
        val, [tmp_path / "a.json"], tmp_path / "out", how="rescore", attributes=("age",)
    )
    fitted = read_combination(tmp_path / "out" / "combination.json").fitted
    assert fitted.columns == ("age", "age missing")
    assert fitted.facts[0].words is None
    assert 40 <= fitted.facts[0].mean <= 74
