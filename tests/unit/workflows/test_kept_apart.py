"""Operating points and the patients on whom they were chosen: are they judged on others?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import simfrcnn
from simfrcnn.data.coco import write_coco
from simfrcnn.evaluation.operating import ChosenPoints, ValidationSet, choose_operating_points
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import CATEGORIES, detection_file, finding, found, image

BOX = (10, 10, 30, 30)
QUICK = EvaluationSettings(bootstrap_replicates=0)


def write_set(path: Path, *patients: str) -> Path:
    """An image for each patient, every second one with a box."""
    records = [
        dataclasses.replace(
            image(number, patient, *([finding(BOX, number)] if number % 2 else [])),
            path=path.parent / f"{number}.png",
        )
        for number, patient in enumerate(patients, 1)
    ]
    write_coco(path, records, CATEGORIES, {"description": path.stem})
    return path


def judged(path: Path, **given: object) -> simfrcnn.Report:
    found_there = detection_file(*(found(n, (BOX, 0.9 - 0.1 * n)) for n in range(1, 5)))
    return simfrcnn.evaluate(path, found_there, settings=QUICK, pictures=False, **given)


@pytest.fixture
def val(tmp_path: Path) -> Path:
    return write_set(tmp_path / "val.json", "a", "b", "c", "d")


def applied(chosen: ChosenPoints, test: Path) -> list[str]:
    """The notes on the validation set, where points are applied to another one."""
    said = judged(test, operating_points=chosen).notes
    return [note for note in said if "OPTIMISTIC" in note or "do not name the patients" in note]


def notes(val: Path, test: Path, name: str | None = None) -> list[str]:
    """The same, where they were chosen on ``val``."""
    return applied(choose_operating_points({name or val.name: judged(val)}), test)


@pytest.mark.parametrize("name", [None, "clinic/val"])
def test_patients_of_the_validation_set_are_found_in_the_test_set(
    val: Path, tmp_path: Path, name: str | None
) -> None:
    test = write_set(tmp_path / "test.json", "c", "e", "a", "f")
    (note,) = notes(val, test, name)
    said = f"OPTIMISTIC: 2 patients judged here are in {name or 'val.json'} as well, on which"
    assert note.startswith(said)
    assert "must not be quoted as a test result" in note
    (note,) = notes(val, write_set(tmp_path / "other.json", "c", "e", "g", "f"), name)
    assert note.startswith("OPTIMISTIC: 1 patient judged here is in")


def test_of_other_patients_nothing_is_said_but_that_two_are_perhaps_one(
    val: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert notes(val, write_set(tmp_path / "test.json", "e", "f", "g", "h")) == []
    assert not caplog.records
    assert notes(val, write_set(tmp_path / "test.json", "e", "f", "g", "A")) == []
    assert "have 1 patient whose identifiers differ only in capitals" in caplog.text


def test_without_the_file_of_the_validation_set_it_is_taken_on_trust(
    val: Path, tmp_path: Path
) -> None:
    test = write_set(tmp_path / "test.json", "e", "f", "g", "h")
    chosen = choose_operating_points({"val.json": judged(val)})
    write_set(val, "a", "b", "c", "e")  # another file of that name
    (note,) = applied(chosen, test)
    assert "annotation file of val.json, as it was then, is not beside test.json" in note
    assert "taken on trust" in note
    val.unlink()
    nameless = dataclasses.replace(chosen, chosen_on=(ValidationSet("val.json", None),))
    for points in (chosen, nameless):
        assert applied(points, test) == [note]


def test_the_very_set_is_named_once(val: Path) -> None:
    (note,) = notes(val, val)
    assert note.startswith("OPTIMISTIC: the operating points were chosen on val.json, the very set")
