"""Subgroups: records against an evaluation of the filtered files, findings counted by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import AnnotationError, ConfigError
from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.matching import FALSE_POSITIVE, HIT_CRITERIA, match_image
from simfrcnn.evaluation.subgroups import (
    FINDING_FIGURES,
    NOT_KNOWN,
    RECORD_FIGURES,
    Division,
    read_division,
    read_divisions,
    rules_of_subgroups,
    subgroups_of,
)
from simfrcnn.evaluation.truth import Truth, views_of
from simfrcnn.records import Pathology, ViewPosition
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image, random_set

SETTINGS = EvaluationSettings(bootstrap_replicates=40)
BOX = (10, 10, 30, 30)


def settings_of(*subgroups: str, **changes) -> EvaluationSettings:
    return dataclasses.replace(SETTINGS, subgroups=subgroups, **changes)


def subgroups(records, detections, settings):
    """What the evaluator gets."""
    views, _ = views_of(records, detections.images, settings)
    return subgroups_of(views, settings)


def by_value(records, detections, settings):
    return {group.value: group for group in subgroups(records, detections, settings)}


def described_set(seed: int):
    """A random set whose images differ in density, age and spacing; some say nothing."""
    records, detections = random_set(seed, n_patients=30)
    random = np.random.default_rng(seed)
    described = []
    for record in records:
        attributes = {"density": "ABCD"[random.integers(4)], "age": str(random.integers(40, 80))}
        if random.random() < 0.2:
            del attributes[("density", "age")[random.integers(2)]]
        described.append(
            dataclasses.replace(
                record,
                attributes=attributes,
                view_position=[ViewPosition.CC, ViewPosition.MLO, None][random.integers(3)],
                pixel_spacing_mm=(0.1, 0.2) if random.random() < 0.8 else None,
            )
        )
    return described, detections


AGE_BINS = {
    "< 50": lambda age: age is not None and int(age) < 50,
    "50 to < 70": lambda age: age is not None and 50 <= int(age) < 70,
    ">= 70": lambda age: age is not None and int(age) >= 70,
    NOT_KNOWN: lambda age: age is None,
}
PARTS = {
    "density": {
        **{name: lambda r, name=name: r.attributes.get("density") == name for name in "ABCD"},
        NOT_KNOWN: lambda r: "density" not in r.attributes,
    },
    "age:50,70": {
        name: lambda r, test=test: test(r.attributes.get("age")) for name, test in AGE_BINS.items()
    },
    "view_position": {
        "CC": lambda r: r.view_position is ViewPosition.CC,
        "MLO": lambda r: r.view_position is ViewPosition.MLO,
        NOT_KNOWN: lambda r: r.view_position is None,
    },
}


@pytest.mark.parametrize("key", PARTS)
@pytest.mark.parametrize("changes", [{}, {"case_by": "patient", "pooling": "mean"}])
def test_a_part_of_the_images_equals_an_evaluation_of_these_images_alone(key, changes):
    records, detections = described_set(3)
    groups = by_value(records, detections, settings_of(key, **changes))
    assert list(groups) == list(PARTS[key])
    for name, belongs in PARTS[key].items():
        kept = [record for record in records if belongs(record)]
        part = DetectionFile(
            {record.image_id: detections.images[record.image_id] for record in kept},
            detections.categories,
        )
        alone = evaluate(kept, part, settings_of(**changes))
        group = groups[name]
        assert group.key == key.split(":")[0]
        assert set(group.figures) == set(RECORD_FIGURES)
        for figure in RECORD_FIGURES:
            assert str(group.figures[figure].to_json()) == str(alone.figures[figure].to_json())
        assert group.counts == {
            "patients": alone.counts["patients"]["total"],
            "cases": alone.counts["cases"],
            "images": alone.counts["images"],
            "findings": alone.counts["findings"],
        }


def slow_sensitivity(records, detections, criterion_key, rate, belongs):
    """Found at the lowest threshold at which the whole set has ``rate`` FPs an image or fewer."""
    settings = dataclasses.replace(SETTINGS, bootstrap_replicates=0)
    views, _ = views_of(records, detections.images, settings)
    criterion = next(c for c in HIT_CRITERIA if c.name == criterion_key)
    hits, false = [], []
    evaluated = [view for view in views if view.truth is not Truth.UNKNOWN]
    for view in evaluated:
        outcome = match_image(view.boxes, view.finding_boxes, criterion)
        false += [s for s, o in zip(view.scores, outcome, strict=True) if o == FALSE_POSITIVE]
        for index, each in enumerate(view.findings):
            scores = [s for s, o in zip(view.scores, outcome, strict=True) if o == index]
            hits.append((view.record, each, max(scores, default=-1.0)))
    thresholds = sorted({score for _, _, score in hits if score >= 0} | set(false))
    own = [score for record, each, score in hits if belongs(record, each)]
    best = 0.0
    for threshold in thresholds:
        if sum(score >= threshold for score in false) / len(evaluated) <= rate:
            best = max(best, float(np.mean([score >= threshold for score in own])))
    return best, len(own)


def longest_side_mm(record, each):
    x1, y1, x2, y2 = each.box
    return None if record.pixel_spacing_mm is None else max((x2 - x1) * 0.2, (y2 - y1) * 0.1)


def test_a_part_of_the_findings_is_read_at_the_thresholds_of_the_whole_set():
    records, detections = described_set(4)
    parts = {
        "< 2": lambda r, f: r.pixel_spacing_mm and longest_side_mm(r, f) < 2,
        "2 to < 4": lambda r, f: r.pixel_spacing_mm and 2 <= longest_side_mm(r, f) < 4,
        ">= 4": lambda r, f: r.pixel_spacing_mm and longest_side_mm(r, f) >= 4,
        NOT_KNOWN: lambda r, f: r.pixel_spacing_mm is None,
    }
    groups = by_value(records, detections, settings_of("lesion_size_mm:2,4"))
    assert list(groups) == list(parts)
    for name, belongs in parts.items():
        assert set(groups[name].figures) == set(FINDING_FIGURES)
        for key, figure in groups[name].figures.items():
            _, criterion, _, reading = key.split("/")
            rate = float(reading.removeprefix("sensitivity_at_"))
            expected, n = slow_sensitivity(records, detections, criterion, rate, belongs)
            assert figure.value == pytest.approx(expected, abs=1e-12), (name, key)
            assert figure.n["findings"] == groups[name].counts["findings"] == n
            assert figure.low <= figure.value <= figure.high


def test_the_hits_of_all_groups_of_findings_are_those_of_the_whole_set():
    records, detections = described_set(5)
    settings = settings_of("lesion_size_px:15,20,25", "lesion_size_mm:3")
    report = evaluate(records, detections, settings)
    for key in ("lesion_size_px", "lesion_size_mm"):
        groups = [group for group in report.subgroups if group.key == key]
        for name in FINDING_FIGURES:
            n_hits = sum(g.figures[name].value * g.counts["findings"] for g in groups)
            whole = report.figures[name]
            assert n_hits == pytest.approx(whole.value * whole.n["findings"])
    assert sum(g.counts["findings"] for g in groups) == report.counts["findings"]


def test_findings_of_other_groups_are_neither_to_be_found_nor_wrong_to_find():
    """Two findings in one image, the small one hit at .9, the large one at .4; a false box at .6.

    At .25 FP/image (four images: one false box) both are in reach, and each group says so alone.
    """
    records = [
        image(1, "a", finding((10, 10, 20, 20), 1), finding((40, 40, 80, 80), 2)),
        image(2, "b", finding((10, 10, 50, 50), 3)),
        image(3, "c"),
        image(4, "d"),
    ]
    detections = detection_file(
        found(1, ((10, 10, 20, 20), 0.9), ((40, 40, 80, 80), 0.4)),
        found(2),
        found(3, (BOX, 0.6)),
        found(4),
    )
    groups = by_value(records, detections, settings_of("lesion_size_px:20"))
    assert groups["< 20"].figures["froc/centre/all/sensitivity_at_0.25"].value == 1.0
    assert groups[">= 20"].figures["froc/centre/all/sensitivity_at_0.25"].value == 0.5
    assert groups[">= 20"].counts == {"patients": 2, "images": 2, "findings": 2}
    assert groups["< 20"].figures["froc/centre/all/sensitivity_at_0.25"].n == {
        "findings": 1,
        "images": 4,
    }


def test_facts_of_records_and_of_findings_are_keys():
    boxed = dataclasses.replace(finding(BOX, 1), pathology=Pathology.MALIGNANT)
    records = [
        dataclasses.replace(image(1, "a", boxed, pathology=Pathology.MALIGNANT), split="test"),
        dataclasses.replace(image(2, "b"), pixel_spacing_mm=(0.07, 0.085)),
    ]
    detections = detection_file(found(1, (BOX, 0.5)), found(2))
    keys = ("laterality", "pathology", "split", "supervision", "pixel_spacing_mm")
    groups = subgroups(records, detections, settings_of(*keys, "finding_pathology"))
    assert [(group.key, group.value) for group in groups] == [
        ("laterality", "L"),
        ("pathology", "malignant"),
        ("pathology", NOT_KNOWN),
        ("split", "test"),
        ("split", NOT_KNOWN),
        ("supervision", "boxes"),
        ("supervision", "normal"),
        ("pixel_spacing_mm", "0.085"),
        ("pixel_spacing_mm", NOT_KNOWN),
        ("finding_pathology", "malignant"),
    ]
    malignant = groups[1]
    assert math.isnan(malignant.figures["case/auc"].value)
    assert "0 normal" in malignant.figures["case/auc"].reason


@pytest.mark.parametrize(
    ("key", "who"),
    [
        ("pixel_spacing_mm", "image"),
        ("split", "image"),
        ("blank", "image"),
        ("lesion_size_mm", "finding"),
        ("finding_pathology:1", "finding"),
    ],
)
def test_a_key_for_which_nothing_has_a_value_is_refused(key, who):
    records = [
        dataclasses.replace(each, attributes={"blank": " ", "age": "50"})
        for each in (image(1, "a", finding(BOX, 1)), image(2, "b"))
    ]
    detections = detection_file(found(1, (BOX, 0.5)), found(2))
    with pytest.raises(ConfigError, match=f"no {who} states it; legal in this set: age, ") as error:
        subgroups(records, detections, settings_of(key))
    legal = str(error.value).split("legal in this set: ")[1].split(", ")
    assert legal == ["age", "laterality", "lesion_size_px", "supervision", "view_position"]


def test_without_intervals_values_stay():
    records, detections = described_set(6)
    keys = ("density", "lesion_size_px:20")
    quick = subgroups(records, detections, settings_of(*keys, bootstrap_replicates=0))
    slow = subgroups(records, detections, settings_of(*keys))
    for one, other in zip(quick, slow, strict=True):
        for name in one.figures:
            assert one.figures[name].value == pytest.approx(other.figures[name].value, nan_ok=True)
            assert math.isnan(one.figures[name].low)


def test_numbers_sort_as_numbers():
    records = [
        dataclasses.replace(image(n, f"p{n}"), attributes={"age": age})
        for n, age in enumerate(("100", "9", "50"), start=1)
    ]
    detections = detection_file(*(found(n) for n in (1, 2, 3)))
    assert list(by_value(records, detections, settings_of("age"))) == ["9", "50", "100"]


def test_edges_that_are_alike_in_six_digits_part_the_images():
    records = [
        dataclasses.replace(image(n, f"p{n}"), attributes={"date": date})
        for n, date in enumerate(("20190101", "20190105", "20190106", "20190109"), start=1)
    ]
    detections = detection_file(*(found(n) for n in (1, 2, 3, 4)))
    groups = by_value(records, detections, settings_of("date:20190103,20190106,20190107"))
    assert {name: group.counts["images"]["total"] for name, group in groups.items()} == {
        "< 20190103": 1,
        "20190103 to < 20190106": 1,
        "20190106 to < 20190107": 1,
        ">= 20190107": 1,
    }


def test_a_division_is_a_key_with_or_without_edges():
    assert read_division("density") == Division("density")
    assert read_division("age:50,70.5") == Division("age", (50.0, 70.5))


@pytest.mark.parametrize("text", ["", ":5", "age:", "age:old", "age:50,50", "age:70,50", "age:nan"])
def test_bad_divisions_are_refused(text):
    with pytest.raises(ConfigError, match="KEY:EDGE,EDGE"):
        read_division(text)


def test_a_key_that_is_there_twice_is_refused():
    with pytest.raises(ConfigError, match=r"'age' .* twice"):
        read_divisions(("age:50", "density", "age:60"))


def test_an_unknown_key_is_refused_with_the_keys_that_there_are():
    records, detections = described_set(7)
    with pytest.raises(ConfigError, match=r"did you mean 'density'.*age, density, laterality"):
        subgroups(records, detections, settings_of("densty"))


def test_text_among_numbers_is_refused():
    records = [
        dataclasses.replace(image(1, "a"), attributes={"age": "61"}),
        dataclasses.replace(image(2, "b"), attributes={"age": "about 50"}),
    ]
    detections = detection_file(found(1), found(2))
    with pytest.raises(AnnotationError, match=r"image 2 \(2.png\): 'age' is 'about 50'"):
        subgroups(records, detections, settings_of("age:50"))


def test_too_many_values_are_refused():
    records, detections = random_set(1)
    records = [dataclasses.replace(r, attributes={"id": str(r.image_id)}) for r in records]
    with pytest.raises(ConfigError, match="id:EDGE,EDGE"):
        subgroups(records, detections, settings_of("id"))


def test_the_rules_are_said_where_they_hold():
    assert rules_of_subgroups(SETTINGS) == ()
    rules = " ".join(rules_of_subgroups(settings_of("density", "lesion_size_mm:10")))
    assert "images of the group alone" in rules
    assert "magnification" in rules
    assert "no test of a difference" in rules
