"""Which files of a data set share a SOP Instance UID, and are they copies, as they should be?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simfrcnn.images.copies import contradiction_of_files
from simfrcnn.parallel import in_parallel

ONE_UID = "have one SOP Instance UID (0008,0018)"


def contradictions(
    pairs: Sequence[tuple[Path, Path]], n_workers: int | None = None
) -> list[str | None]:
    """What the files of each pair differ in, such as ``"other pixels"``; None for true copies."""
    if not pairs:
        return []
    return list(
        in_parallel(contradiction_of_files, pairs, title="copies", unit="file", n_workers=n_workers)
    )
