"""Does a phantom study go through the model, now?"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from simfrcnn.files import write_bytes
from simfrcnn.phantom.dicom_writer import dicom_bytes
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, draw_exam
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.phantom.render import render_view
from simfrcnn.service.audit import now_text
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.judging import Judge

_PRESET, _SEED = PRESETS["tiny"], 0


class Canary:
    """Sends a phantom study through the model path, never to a PACS."""

    def __init__(self, folder: ServiceFolder, judge: Judge, minutes: float) -> None:
        self._folder, self._judge = folder, judge
        self.minutes = minutes
        self.last: dict[str, Any] | None = None
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether it is time for the next one; the first is due at once."""
        return self.minutes > 0 and time.monotonic() >= self._next

    def fly(self) -> bool:
        """Judge the phantom; whether there is a result."""
        begun, place = time.monotonic(), self._folder.unfinished / "canary"
        self._next = begun + 60 * self.minutes
        code = None
        try:
            shutil.rmtree(place, ignore_errors=True)
            write_canary(place / "films")
            judged = self._judge(place / "films", place / "results")
            if not judged.files or not judged.n_images:
                code = "no result"
        except Exception as error:  # whatever it is, health says so
            code = type(error).__name__
        finally:
            shutil.rmtree(place, ignore_errors=True)
        self.last = {
            "time": now_text(),
            "unix": time.time(),
            "ok": code is None,
            "code": code,
            "seconds": round(time.monotonic() - begun, 1),
        }
        return code is None


def write_canary(folder: Path) -> None:
    """Write the films of a phantom exam of our own generator, always the same."""
    exam = draw_exam(_PRESET, _SEED, 1, "test", True)
    for number, (side, view) in enumerate(VIEWS_OF_EXAM, start=1):
        picture = render_view(exam, side, view, _PRESET, _SEED)
        content = dicom_bytes(picture, exam, side, view, _PRESET, _SEED)
        write_bytes(folder / f"{number}.dcm", content)
