"""Which patients train, which choose the operating point, which test?

A patient is never in two splits: images of one patient are alike, and a leak looks like skill.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from simfrcnn.data.spelling import DIFFERENCES, folded
from simfrcnn.errors import DataError
from simfrcnn.files import as_utf8
from simfrcnn.labels import is_malignant
from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted

logger = logging.getLogger("simfrcnn")


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
    images = _image_by_patient(sets)
    for one, other in itertools.combinations(images, 2):
        shared = sorted(images[one].keys() & images[other].keys())
        if shared:
            example = " and ".join(str(images[name][shared[0]]) for name in (one, other))
            raise DataError(
                f"{one} and {other} share {counted(len(shared), '[patient|patients]')} ({example} "
                "are of one): results would be too good; split the data by patient"
            )


def warn_of_patients_alike(sets: Mapping[str, Sequence[ImageRecord]]) -> None:
    """Say where patients of two data sets are perhaps one, who is spelt in two ways.

    That is no error: where names of files stand for patients, two may differ in capitals alone. No
    patient is named, for the reason of :func:`assert_no_patient_leak`.

    Args:
        sets: Records by data set name.
    """
    spelt = {name: _by_spelling(images) for name, images in _image_by_patient(sets).items()}
    for (one, first), (other, second) in itertools.combinations(spelt.items(), 2):
        both = sorted(first.keys() & second.keys())
        alike = [key for key in both if first[key].keys() != second[key].keys()]
        if alike:
            pairs = itertools.product(first[alike[0]].items(), second[alike[0]].items())
            example = next(f"{a} and {b}" for (p, a), (q, b) in pairs if p != q)
            logger.warning(
                f"{one} and {other} have {counted(len(alike), '[patient|patients]')} whose "
                f"identifiers differ only in {DIFFERENCES} (such as of {example}): if two are one "
                "person, results would be too good; spell each patient in one way. `simfrcnn data "
                "check` lists them"
            )


def _by_spelling(images: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """The patients with their images, by what their spellings have in common."""
    spelt: dict[str, dict[str, Path]] = {}
    for patient, path in images.items():
        spelt.setdefault(folded(patient), {})[patient] = path
    return spelt


def _image_by_patient(sets: Mapping[str, Sequence[ImageRecord]]) -> dict[str, dict[str, Path]]:
    """The first image of each patient, by set."""
    return {
        name: {record.patient_id: record.path for record in reversed(records)}
        for name, records in sets.items()
    }


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
