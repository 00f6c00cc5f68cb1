"""How is a study in the queue judged? By the function that `simfrcnn predict` is."""

from __future__ import annotations

import json
from pathlib import Path

from simfrcnn.detector import Detector, load
from simfrcnn.dicom_out.saving import kinds_of
from simfrcnn.errors import ConfigError
from simfrcnn.service.judging import Judge, Judged
from simfrcnn.service.options import ServiceOptions
from simfrcnn.workflows.predict import PredictionOptions, predict
from simfrcnn.workflows.prediction_dicom import has_failed


def judge_of(options: ServiceOptions) -> Judge:
    """Load the model of the options.

    Raises:
        SimFrcnnError: See :func:`simfrcnn.detector.load` and :func:`kinds_of`.
    """
    kinds = kinds_of(options.dicom)
    if not kinds:
        raise ConfigError("--dicom names no kind of result; sr, gsps, cad-sr and sc are legal")
    assert options.weights is not None
    detector = load(options.weights, device=options.device, operating_point=options.operating_point)
    return judge_with(detector, kinds, options.score_threshold)


def judge_with(
    detector: Detector, kinds: tuple[str, ...], score_threshold: float | None = None
) -> Judge:
    """A judge that runs the workflow `predict` with this model, without pictures."""
    threshold = detector.cfg.EVAL.SCORE_THRESHOLD if score_threshold is None else score_threshold
    options = PredictionOptions(
        pictures="none", score_threshold=threshold, workers=0, dicom=kinds, shows_progress=False
    )

    def judge(films: Path, output: Path) -> Judged:
        predict(detector, films, output, options)
        return _read(output)

    return judge


def _read(output: Path) -> Judged:
    """What `predict` wrote of the exams of a study: one, or one for each of its patients."""
    paths = sorted(output.glob("exams/*/*.json"))
    exams = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    whys = [why for exam in exams if (why := exam["dicom"].get("why_none"))]
    return Judged(
        files=tuple(file for exam in exams for file in exam["dicom"]["files"]),
        n_images=sum(len(exam["images"]) for exam in exams),
        why_none="; ".join(whys) or None,
        may_succeed=any(map(has_failed, exams)),
    )
