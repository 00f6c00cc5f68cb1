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
    from simfrcnn.exam import ExamResult

__all__ = [
    "Detector",
    "ExamResult",
    "__version__",
    "load",
    "read_coco",
    "read_detections",
    "read_mammogram",
]

_HOMES = {
    "Detector": "simfrcnn.detector",
    "ExamResult": "simfrcnn.exam",
    "load": "simfrcnn.detector",
    "read_coco": "simfrcnn.data.coco",
    "read_detections": "simfrcnn.artifacts",
    "read_mammogram": "simfrcnn.dicom.mammogram",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
