"""Breast cancer detection in mammograms that learns from unannotated normal images.

Importing this package loads neither PyTorch nor a detection library: each name below is imported
from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from simfrcnn.version import __version__

if TYPE_CHECKING:
    from simfrcnn.artifacts import read_detections
    from simfrcnn.data.coco import read_coco
    from simfrcnn.detector import Detector, load
    from simfrcnn.dicom.mammogram import read_mammogram
    from simfrcnn.evaluation.report_file import read_report
    from simfrcnn.evaluation.reporting.changes import report_changes
    from simfrcnn.exam import ExamResult
    from simfrcnn.settings import EvaluationSettings
    from simfrcnn.workflows.combine import combine
    from simfrcnn.workflows.compare import compare
    from simfrcnn.workflows.evaluate import evaluate
    from simfrcnn.workflows.prepare import prepare
    from simfrcnn.workflows.training import train

__all__ = [
    "Detector",
    "EvaluationSettings",
    "ExamResult",
    "__version__",
    "combine",
    "compare",
    "evaluate",
    "load",
    "prepare",
    "read_coco",
    "read_detections",
    "read_mammogram",
    "read_report",
    "report_changes",
    "train",
]

_HOMES = {
    "Detector": "simfrcnn.detector",
    "EvaluationSettings": "simfrcnn.settings",
    "ExamResult": "simfrcnn.exam",
    "combine": "simfrcnn.workflows.combine",
    "compare": "simfrcnn.workflows.compare",
    "evaluate": "simfrcnn.workflows.evaluate",
    "load": "simfrcnn.detector",
    "prepare": "simfrcnn.workflows.prepare",
    "read_coco": "simfrcnn.data.coco",
    "read_detections": "simfrcnn.artifacts",
    "read_mammogram": "simfrcnn.dicom.mammogram",
    "read_report": "simfrcnn.evaluation.report_file",
    "report_changes": "simfrcnn.evaluation.reporting.changes",
    "train": "simfrcnn.workflows.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
