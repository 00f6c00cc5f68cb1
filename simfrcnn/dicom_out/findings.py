"""What do the DICOM objects of an exam say? Plain facts, before any of them is written.

Boxes are XYXY in pixels of the stored file, half open, origin at the top left corner of the top
left pixel: the very coordinates of SCOORD (PS3.3 C.18.6) and of GSPS (C.10.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.records import Box, Laterality, ViewPosition


@dataclass(frozen=True)
class Region:
    """One suspicious region; ``score`` in [0, 1], ``category`` the model's own word for it."""

    box: Box
    score: float
    category: str


@dataclass(frozen=True)
class JudgedFilm:
    """A film that was judged, with the regions that are written, by falling score.

    ``picture`` draws it with its regions, (H, W, 3) BGR, and is only asked where it is written.
    """

    path: Path
    regions: tuple[Region, ...]
    picture: Callable[[], NDArray[np.uint8]]
    laterality: Laterality | None = None
    view_position: ViewPosition | None = None


@dataclass(frozen=True)
class Model:
    """What made the findings: version of simfrcnn, SHA-256 of the weights, engine.

    ``target_classes`` are what it looks for, in its own words.
    """

    version: str
    sha256: str
    engine: str
    target_classes: tuple[str, ...]

    @property
    def version_text(self) -> str:
        """What tells one model from another, for Algorithm Version."""
        return f"{self.version}, model {self.sha256[:16]}, {self.engine}"


@dataclass(frozen=True)
class ExamFindings:
    """An exam as its DICOM objects tell it.

    ``failed`` are the files of films that should have been judged and could not be.
    ``score_threshold`` is the smallest score of a region that is written. ``remarks`` are
    sentences on the exam as a whole. ``refused`` is why nothing must be written, if so.
    """

    films: tuple[JudgedFilm, ...]
    failed: tuple[Path | None, ...]
    model: Model
    score_threshold: float
    remarks: tuple[str, ...] = ()
    refused: str | None = None

    @property
    def parameters(self) -> str:
        """For Algorithm Parameters: what a reader of the findings has to know."""
        return (
            f"regions from score {self.score_threshold:g} on; a score is no calibrated "
            "probability; research use only, not a medical device"
        )


def model_of(provenance: Any) -> Model:
    """The model, from the provenance of a result."""
    return Model(
        str(provenance["simfrcnn"]),
        str(provenance["checkpoint_sha256"]),
        str(provenance["engine"]),
        tuple(map(str, provenance["target_classes"])),
    )
