"""Splits: by patient, whatever the order, of the sizes asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simfrcnn.data.splits import (
    assert_no_patient_leak,
    split_by_patient,
    warn_of_patients_alike,
)
from simfrcnn.errors import DataError
from simfrcnn.labels import is_malignant
from simfrcnn.records import ImageRecord, Pathology, Supervision
from support.data_examples import make_finding, make_record

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


def make_records(n_malignant: int, n_normal: int) -> list[ImageRecord]:
    """Two images a patient; of a malignant patient one is boxed, the other normal."""
    records: list[ImageRecord] = []
    for number in range(n_malignant + n_normal):
        boxed = [make_finding(finding_id=number)] if number < n_malignant else []
        patient = f"p{number}"
        records.append(make_record(2 * number, *boxed, patient=patient))
        records.append(make_record(2 * number + 1, patient=patient, supervision=Supervision.NORMAL))
    return records


@settings(max_examples=50)
@given(n_malignant=st.integers(0, 30), n_normal=st.integers(0, 30), seed=st.integers(0, 1000))
def test_every_image_once_and_no_patient_twice(n_malignant: int, n_normal: int, seed: int) -> None:
    records = make_records(n_malignant, n_normal)
    splits = split_by_patient(records, FRACTIONS, seed)
    placed = sorted(record.image_id for part in splits.values() for record in part)
    assert placed == [record.image_id for record in records]
    assert_no_patient_leak(splits)
    assert all(record.split == name for name, part in splits.items() for record in part)
    shuffled = records[:]
    random.Random(seed).shuffle(shuffled)
    again = split_by_patient(shuffled, FRACTIONS, seed)
    for name in FRACTIONS:
        assert {r.image_id for r in again[name]} == {r.image_id for r in splits[name]}


def test_sizes_are_exact_in_each_stratum() -> None:
    splits = split_by_patient(make_records(20, 30), FRACTIONS, seed=1)
    malignant = {
        name: sum(is_malignant(record) for record in part) for name, part in splits.items()
    }
    assert malignant == {"train": 12, "val": 4, "test": 4}
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 60,
        "val": 20,
        "test": 20,
    }


def test_the_division_is_pinned() -> None:
    """By hand: the ranking is that of SHA-256 of 'seed/patient', the same on every machine."""
    import hashlib

    splits = split_by_patient(make_records(0, 10), {"a": 0.3, "b": 0.7}, seed=5)
    names = sorted(
        (f"p{n}" for n in range(10)), key=lambda p: hashlib.sha256(f"5/{p}".encode()).hexdigest()
    )
    assert {record.patient_id for record in splits["a"]} == set(names[:3])


def test_another_seed_divides_otherwise() -> None:
    records = make_records(10, 10)
    one, other = (split_by_patient(records, FRACTIONS, seed)["test"] for seed in (0, 1))
    assert {r.patient_id for r in one} != {r.patient_id for r in other}


def test_truth_is_the_patients_in_three_strata() -> None:
    known = [
        make_record(
            100 + n,
            patient=f"k{n}",
            pathology=Pathology.MALIGNANT,
            supervision=Supervision.IMAGE_LABEL,
        )
        for n in range(10)
    ]
    splits = split_by_patient(make_records(10, 10) + known, FRACTIONS, seed=3)
    test = {record.patient_id for record in splits["test"]}
    assert len(test) == 6
    assert len({p for p in test if p.startswith("k")}) == 2
    assert len({p for p in test if p.startswith("p") and int(p[1:]) < 10}) == 2


@pytest.mark.parametrize("fractions", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}])
def test_fractions_that_are_none(fractions: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"must be above 0 and sum to 1: a="):
        split_by_patient(make_records(2, 2), fractions, seed=0)


def test_a_leak_is_named() -> None:
    one, other = [make_record(1, patient="x7")], [make_record(2, patient="x7")]
    with pytest.raises(DataError, match=r"share 1 patient \(\S+ and \S+ are") as caught:
        assert_no_patient_leak({"train": one, "test": other})
    assert "x7" not in str(caught.value), "not every set is public"


def test_patients_who_are_perhaps_one_are_counted_by_pairs_of_sets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def of(*patients: str) -> list[ImageRecord]:
        return [make_record(n, patient=p, path=Path(f"/x/{p}.png")) for n, p in enumerate(patients)]

    train = of("P1", "P2", "0012", "same")
    warn_of_patients_alike({"train": train, "val": of("q1", "P3", "same"), "test": of("P12")})
    assert not caplog.records
    warn_of_patients_alike(
        {"train": train, "val": of("p1", "12.0", "q1", "P1 b"), "test": of("Q1")}
    )
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert (
        "train and val have 2 patients whose identifiers differ only in capitals"
        in (caplog.messages[0])
    )
    assert "(such as of /x/0012.png and /x/12.0.png)" in caplog.messages[0]
    assert "val and test have 1 patient whose" in caplog.messages[1]
    warn_of_patients_alike({"one": of("P1"), "other": of("P1", "p1")})  # whom both have, too
    assert "one and other have 1 patient whose" in caplog.messages[2]
    assert "(such as of /x/P1.png and /x/p1.png)" in caplog.messages[2]
