"""What a combination is fitted on, and by what: what is refused, and what is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import simfrcnn
from simfrcnn.combining.facts import encoding_of
from simfrcnn.errors import ConfigError, DataError
from support.combining_examples import MALIGNANT, write_set
from support.evaluation_examples import image


def test_numbers_among_which_is_a_word_are_said_to_count_as_words() -> None:
    ages = [*map(str, range(40, 80)), "unknown"]
    aged = [
        dataclasses.replace(image(n, "p"), attributes={"age": age})
        for n, age in enumerate(ages, start=1)
    ]
    with pytest.raises(DataError, match=r"such as 'unknown'; at most 30.*a number: 40 of them are"):
        encoding_of("age", aged)
    few = encoding_of("age", aged[-3:])
    assert few.columns == ("age=78", "age=79", "age=unknown", "age missing")
    assert "age counts as 3 words, not as a number, since 'unknown' is none" in few.why_words()
    assert encoding_of("age", aged[:3]).why_words() is None
    kinds = [dataclasses.replace(aged[0], attributes={"age": kind}) for kind in ("young", "old")]
    assert encoding_of("age", kinds).why_words() is None


def test_a_fit_says_which_numbers_count_as_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    val, on_val = write_set(tmp_path, "val", 60, 0, "val")
    content = json.loads(val.read_text())
    for number, entry in enumerate(content["images"]):
        entry["attributes"]["age"] = ("50", "60", "n/a")[number % 3]
    val.write_text(json.dumps(content))
    with caplog.at_level("INFO", "simfrcnn"):
        simfrcnn.combine(val, on_val, tmp_path / "x", how="rescore", attributes=("age",))
    assert "note: age counts as 3 words, not as a number, since 'n/a' is none" in caplog.text


def test_images_of_split_train_are_said_to_be_no_fair_ground(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split, is_said in (("train", True), ("val", False)):
        annotations, detections = write_set(tmp_path, split, 40, 1, split)
        caplog.clear()
        simfrcnn.combine(annotations, detections, tmp_path / f"out_{split}", how="rescore")
        assert ("40 images of" in caplog.text and "say split train" in caplog.text) is is_said


def test_images_without_a_split_are_said_unless_a_config_has_them_for_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotations, detections = write_set(tmp_path, "x", 40, 1, "val")
    content = json.loads(annotations.read_text())
    for entry in content["images"][:30]:
        del entry["split"]
    annotations.write_text(json.dumps(content))
    config = tmp_path / "c.yaml"

    def said(lists: str | None) -> str:
        caplog.clear()
        chosen = {}
        if lists is not None:
            config.write_text(f"DATASETS:\n  {lists}\n  FILES: ['x/held={annotations}']\n")
            chosen = {"config_file": str(config)}
        simfrcnn.combine(annotations, detections, tmp_path / "out", how="rescore", **chosen)
        return " ".join(r.getMessage() for r in caplog.records if "no split" in r.getMessage())

    assert f"30 images of {annotations} state no split, and no config was given" in said(None)
    assert "give --config-file with a config that has the set in DATASETS.VAL" in said(None)
    assert f"no split, and {config} does not name it" in said("VAL: [y/other]")
    assert said("VAL: [x/held]") == ""
    with pytest.raises(DataError, match=r"in DATASETS\.TEST as x/held"):
        said("TEST: [x/held]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "rescore", "iou": 0.3}, "--iou goes with --how union"),
        ({"target_classes": ("benign",)}, "--target-classes go with --how rescore"),
        ({"how": "rescore", "attributes": ("age", "age")}, "--attributes names 'age' 2 times"),
        (
            {"how": "rescore", "target_classes": MALIGNANT * 2},
            "--target-classes names 'malignant' 2 times",
        ),
    ],
)
def test_options_that_would_mean_nothing_or_count_twice_are_refused(
    tmp_path: Path, options: dict, message: str
) -> None:
    val, on_val = write_set(tmp_path, "val", 6, 0, "val")
    with pytest.raises(ConfigError, match=message):
        simfrcnn.combine(val, on_val, tmp_path / "x", **options)
