"""Is what was chosen on a validation set judged on other patients?

What was chosen names that set by its annotation file and the file's hash, not by its patients, for
it is handed on. So the file itself is looked for, beside that of the set that is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.data.splits import warn_of_patients_alike
from simfrcnn.evaluation.operating import ChosenPoints
from simfrcnn.files import sha256_of
from simfrcnn.wording import agreeing, counted


def notes_on_patients(chosen: ChosenPoints, judged: AnnotatedSet) -> Iterator[str]:
    """What a reader must know of patients on whom operating points were chosen and are judged.

    That the very set is judged, :func:`simfrcnn.evaluation.operating.notes_on` says.
    """
    for validation in chosen.chosen_on:
        if validation.annotations_sha256 == judged.sha256:
            continue
        n_shared = shared_patients(judged, validation.name, validation.annotations_sha256)
        if n_shared is None:
            yield (
                "The operating points do not name the patients on whom they were chosen, and the "
                f"annotation file of {validation.name}, as it was then, is not beside "
                f"{judged.path.name}: "
                "that none of them is judged here is taken on trust."
            )
        elif n_shared:
            yield (
                f"OPTIMISTIC: {counted(n_shared, '[patient|patients]')} judged here "
                f"{agreeing(n_shared, '[is|are]')} in {validation.name} as well, on which the "
                "operating points were chosen; their sensitivity and specificity, and how good "
                "probabilities and net benefit are, must not be quoted as a test result."
            )


def shared_patients(judged: AnnotatedSet, name: str, sha256: str | None) -> int | None:
    """How many patients of a set are in another one as well; None where that is not known.

    A warning says where one may be spelt in two ways.

    Args:
        judged: The set.
        name: Of the other one: its annotation file, or a data set such as ``clinic/val``, whose
            file is ``val.json``.
        sha256: The hash of that file.
    """
    stem = PurePath(name).name.removesuffix(".json")
    path = judged.path.with_name(f"{stem}.json")
    if sha256 is None or not path.is_file() or sha256_of(path) != sha256:
        return None
    other = catalog.read(path, check_files=False)
    warn_of_patients_alike({str(path): other.records, str(judged.path): judged.records})
    return len({r.patient_id for r in other.records} & {r.patient_id for r in judged.records})
