"""The score of every case by every run, as a table from which others can recompute the figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from simfrcnn.evaluation.comparison import Resampled
from simfrcnn.evaluation.truth import Truth
from simfrcnn.files import as_utf8

COLUMNS = ("rung", "seed", "patient", "case", "truth", "score")


def case_scores(models: Mapping[str, Mapping[int, Resampled]]) -> bytes:
    """A CSV file in UTF-8, a line for each case of each run that is done: by rung, then by seed.

    Columns: rung; seed; patient, whom a bootstrap resamples; case; truth (``positive``, ``normal``
    or ``unknown``; of a rung with PERMUTE_LABELS its own, permuted one); score with all its digits,
    so that ties stay ties. Patients and cases are named as in the annotation file.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rung, of_rung in models.items():
        for seed, model in of_rung.items():
            cases = model.cases
            rows = zip(cases.patients, cases.ids, cases.truths, cases.scores, strict=True)
            for patient, case, truth, score in rows:
                label, name = Truth(truth).label, model.patient_ids[patient]
                writer.writerow((rung, seed, name, case, label, repr(float(score))))
    return as_utf8(text.getvalue())
