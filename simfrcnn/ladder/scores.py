"""The score of every case by every run, as a table from which others can recompute the figures."""

from __future__ import annotations

import csv
import io

from simfrcnn.evaluation.truth import Truth
from simfrcnn.files import as_utf8
from simfrcnn.ladder.results import LadderResult

COLUMNS = ("rung", "seed", "patient", "case", "truth", "score")


def case_scores(result: LadderResult) -> bytes:
    """A CSV file in UTF-8, a line for each case of each run that is done.

    Columns: rung; seed; patient, whom a bootstrap resamples; case; truth (``positive``, ``normal``
    or ``unknown``; of a rung with PERMUTE_LABELS its own, permuted one); score with all its digits,
    so that ties stay ties. Patients and cases are named as in the annotation file.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in result.rungs:
        for seed, model in each.models.items():
            cases = model.cases
            rows = zip(cases.patients, cases.ids, cases.truths, cases.scores, strict=True)
            for patient, case, truth, score in rows:
                label, name = Truth(truth).label, model.patient_ids[patient]
                writer.writerow((each.rung.name, seed, name, case, label, repr(float(score))))
    return as_utf8(text.getvalue())
