"""How do the normal films of one data set join another that has none?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from simfrcnn.data.sources.source import SourceData
from simfrcnn.data.splits import assert_no_patient_leak, split_by_patient
from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted


def with_normals(
    data: SourceData, normals: SourceData, name: str, root: Path, seed: int
) -> SourceData:
    """One set of both, patients apart.

    Where the first set publishes a division, its parts get normal patients in the shares of their
    own patients, by the same hash as every other division.

    Args:
        data: The set without normal films.
        normals: Normal films of other patients.
        name: Of the normals' set, such as ``ddsm``.
        root: The folder of the normals.
        seed: Of the division of the normals.

    Raises:
        DataError: The sets share a patient.
    """
    assert_no_patient_leak({"the set": data.records, f"the normals of {name}": normals.records})
    offset = max(record.image_id for record in data.records)
    numbered = [replace(r, image_id=offset + r.image_id) for r in normals.records]
    joined = _divided(numbered, _shares(data.records), seed)
    n_patients = len({record.patient_id for record in joined})
    description = normals.info["description"]
    return SourceData(
        records=(*data.records, *joined),
        categories=data.categories,
        info={
            **data.info,
            "description": f"{data.info['description']} with {description}",
            "normals": {"images": len(joined), "patients": n_patients, **normals.info},
        },
        notes=(
            *data.notes,
            f"{counted(len(joined), 'normal [film|films]')} of "
            f"{counted(n_patients, '[patient|patients]')} [comes|come] from {description}: they "
            "were converted apart from the others, and a detector can learn to tell them by their "
            "grey values alone; compare both with `simfrcnn data show` before you trust a figure",
            *normals.notes,
        ),
        further_roots={**data.further_roots, name: Path(root).absolute()},
    )


def _shares(records: Sequence[ImageRecord]) -> dict[str, float]:
    """Part of a published division -> its share of the patients; empty if none is published."""
    patients: dict[str, set[str]] = {}
    for record in records:
        if record.split is not None:
            patients.setdefault(record.split, set()).add(record.patient_id)
    n_patients = sum(map(len, patients.values()))
    return {split: len(patients[split]) / n_patients for split in sorted(patients)}


def _divided(
    records: Sequence[ImageRecord], shares: dict[str, float], seed: int
) -> tuple[ImageRecord, ...]:
    if not shares:
        return tuple(records)
    divided = split_by_patient(records, shares, seed)
    return tuple(record for split in shares for record in divided[split])
