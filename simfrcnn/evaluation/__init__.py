"""From detections and ground truth to a report: no model, no engine, pixels for pictures only.

:func:`evaluate` is a pure function of records, detections and settings; :func:`write_report` puts
its result on disk.
"""

from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.reporting.report import write_report
from simfrcnn.evaluation.results import Figure, Report

__all__ = ["Figure", "Report", "evaluate", "write_report"]
