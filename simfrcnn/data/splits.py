"""Which patients train, which choose the operating point, which test?

A patient is never in two splits: images of one patient are alike, and a leak looks like skill.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence

from simfrcnn.errors import DataError
from simfrcnn.files import as_utf8
from simfrcnn.labels import is_malignant
from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted


def split_by_patient(
    records: Sequence[ImageRecord],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, tuple[ImageRecord, ...]]:
    """Divide records by patient; the order of the records does not matter for who goes where.

    Patients with a boxed cancer, with a cancer otherwise known, and all others are a stratum each.
    They are ranked by a hash of (seed, patient id) within it, and the ranking is cut at the
    cumulative fractions: sizes are exact to rounding, and the same on every machine.

    Args:
        records: All records of the data set.
        fractions: Share of the patients by split name; they sum to 1.
        seed: Another seed gives another division.

    Returns:
        Split name -> its records in their given order, with ``split`` set.

    Raises:
        DataError: The fractions are not all above 0, or do not sum to 1.
    """
    if any(f <= 0 for f in fractions.values()) or not math.isclose(sum(fractions.values()), 1):
        given = ", ".join(f"{name}={fraction:g}" for name, fraction in fractions.items())
        raise DataError(f"split fractions must be above 0 and sum to 1: {given}")
    split_of: dict[str, str] = {}
    for patients in _strata(records):
        split_of |= _cut(_ranked(patients, seed), fractions)
    return {
        name: tuple(
            dataclasses.replace(record, split=name)
            for record in records
            if split_of[record.patient_id] == name
        )
        for name in fractions
    }


def assert_no_patient_leak(sets: Mapping[str, Sequence[ImageRecord]]) -> None:
    """Refuse data sets that share a patient.

    Args:
        sets: Records by data set name.

    Raises:
        DataError: Two sets share patients; names the sets and two images of one patient, but not
            the patient: a message can end in a log, and not every set is public.
    """
    images = {
        name: {record.patient_id: record.path for record in reversed(records)}
        for name, records in sets.items()
    }
    for one, other in itertools.combinations(images, 2):
        shared = sorted(images[one].keys() & images[other].keys())
        if shared:
            example = " and ".join(str(images[name][shared[0]]) for name in (one, other))
            raise DataError(
                f"{one} and {other} share {counted(len(shared), '[patient|patients]')} ({example} "
                "are of one): results would be too good; split the data by patient"
            )


def _strata(records: Sequence[ImageRecord]) -> list[set[str]]:
    """Patients with a box of the class `malignant`, other malignant patients, and the rest."""
    patients = {record.patient_id for record in records}
    malignant = {record.patient_id for record in records if is_malignant(record)}
    boxed = {record.patient_id for record in records if record.is_positive(("malignant",))}
    return [boxed, malignant - boxed, patients - malignant]


def _ranked(patients: set[str], seed: int) -> list[str]:
    return sorted(
        patients, key=lambda patient: hashlib.sha256(as_utf8(f"{seed}/{patient}")).digest()
    )


def _cut(ranked: Sequence[str], fractions: Mapping[str, float]) -> dict[str, str]:
    split_of: dict[str, str] = {}
    start, total = 0, 0.0
    for name, fraction in fractions.items():
        total += fraction
        end = round(total * len(ranked))
        split_of |= dict.fromkeys(ranked[start:end], name)
        start = end
    return split_of
