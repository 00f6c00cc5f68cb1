"""What does a judge do: a folder of films in, DICOM results out?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Judged:
    """What came of a study: DICOM files, as paths below the output.

    ``why_none`` says why there is none, and ``may_succeed`` that another try may do better.
    """

    files: tuple[str, ...]
    n_images: int
    why_none: str | None = None
    may_succeed: bool = False


Judge = Callable[[Path, Path], Judged]
"""Called with a folder of films and a new folder for the results."""
