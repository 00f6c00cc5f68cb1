"""How does a model compare with readers of the same cases? What ``evaluate --readers`` calls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError
from simfrcnn.registry import illegal

if TYPE_CHECKING:
    from simfrcnn.evaluation.readers.study import ReaderStudy
    from simfrcnn.evaluation.results import Report


@dataclass(frozen=True)
class ReaderOptions(Options):
    """Who read the cases, and what to ask of them.

    Example:
        >>> ReaderOptions(readers="readers.csv", recall_from=3).chosen()
        {'--readers': PosixPath('readers.csv'), '--recall-from': 3}
    """

    readers: Path | None = described(
        None,
        "CSV with the columns reader, case, rating or recall (or both), and perhaps modality: "
        "compare the model with these readers",
        parse=Path,
        metavar="FILE",
    )
    recall_from: float | None = described(
        None,
        "the readers recall from this rating on, where their file has no recalls",
        parse=float,
        metavar="RATING",
    )
    triage_below: tuple[float, ...] = described(
        (),
        "also ask what happens if cases with a lower score of the model are not read (default: its "
        "operating point)",
        parse=float,
        metavar="S",
        many="times",
    )
    reader_covariance: Literal["jackknife", "delong"] = described(
        "jackknife", "how covariances of the readers' figures over cases are estimated"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.readers is None and self.chosen():
            raise ConfigError(
                f"{', '.join(self.chosen())}: there are no readers; give their file by --readers"
            )
        if self.recall_from is not None and not math.isfinite(self.recall_from):
            raise illegal("--recall-from", self.recall_from, "a rating, a finite number")
        for score in self.triage_below:
            if not 0 <= score <= 1:
                raise illegal("--triage-below", score, "a score in [0, 1]")


def judge_readers(
    report: Report,
    options: ReaderOptions,
    *,
    output: str | Path | None = None,
    margin: float | None = None,
) -> ReaderStudy:
    """Compare the model of a report with readers of the same cases.

    Where readers decided, the model recalls from the operating point of the report's summary on:
    one that was chosen on a validation set if there is one, else the fixed score threshold.

    Args:
        report: From :func:`simfrcnn.evaluate`.
        options: The readers' file, and what to ask.
        margin: The largest difference from the readers that does not matter: also say whether the
            model is shown to be non-inferior or equivalent. State it before you look.
        output: A folder for ``readers.html``, ``readers.md``, ``readers.json`` and the same
            readings for iMRMC and RJafroc; None writes nothing. Without openpyxl (extra ``xlsx``)
            the workbook for RJafroc is left out, which the pages say.

    Raises:
        ConfigError: No file of readers.
        DataError: Names file, row and column of what is wrong.
        OutputError: The folder cannot be written.

    Example:
        Two readers of four patients, of which the first two have a cancer that the model finds:

        >>> import json, tempfile
        >>> import simfrcnn
        >>> folder = Path(tempfile.mkdtemp())
        >>> images = [
        ...     {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100,
        ...      "patient_id": f"P{number}", "exam_id": f"E{number}",
        ...      "supervision": "boxes" if number < 3 else "normal"}
        ...     for number in (1, 2, 3, 4)
        ... ]
        >>> boxes = [
        ...     {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 30, 30],
        ...      "area": 900, "iscrowd": 0}
        ...     for number in (1, 2)
        ... ]
        >>> truth = {"images": images, "annotations": boxes,
        ...          "categories": [{"id": 1, "name": "malignant"}]}
        >>> _ = (folder / "test.json").write_text(json.dumps(truth))
        >>> found = [{**box, "score": 0.9} for box in boxes]
        >>> _ = (folder / "detections.json").write_text(json.dumps(found))
        >>> rows = [
        ...     f"{reader},E{case},{recall}"
        ...     for reader, recalls in (("R1", "1010"), ("R2", "1100"))
        ...     for case, recall in enumerate(recalls, 1)
        ... ]
        >>> _ = (folder / "readers.csv").write_text("\\n".join(["reader,case,recall", *rows]))
        >>> report = simfrcnn.evaluate(
        ...     folder / "test.json", folder / "detections.json", pictures=False,
        ...     settings=simfrcnn.EvaluationSettings(bootstrap_replicates=0),
        ... )
        >>> study = judge_readers(report, ReaderOptions(readers=folder / "readers.csv"))
        >>> [(each.figure, each.model.value, each.mean.value) for each in study.against]
        [('sensitivity', 1.0, 0.75), ('specificity', 1.0, 0.75)]
    """
    from simfrcnn.evaluation.margins import require_margin
    from simfrcnn.evaluation.readers.readings import joined, read_readings
    from simfrcnn.evaluation.readers.study import study_of
    from simfrcnn.evaluation.reporting.reader_report import write_reader_study
    from simfrcnn.evaluation.reporting.report import main_point

    require_margin(margin)
    if options.readers is None:
        raise ConfigError("there are no readers; give their file (readers=..., --readers)")
    rows = read_readings(options.readers, options.recall_from)
    readings = joined(options.readers, rows, report.units["case"])
    study = study_of(
        readings,
        score_threshold=main_point(report).score_threshold,
        triage_below=options.triage_below,
        prevalence=report.settings.prevalence,
        covariance=options.reader_covariance,
        margin=margin,
    )
    if output is not None:
        write_reader_study(Path(output), study)
    return study
