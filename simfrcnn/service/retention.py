"""Which studies leave the disk, so that it does not fill? Done ones, the oldest first.

Nothing is ever deleted at a PACS.
"""

from __future__ import annotations

import shutil

from simfrcnn.service.audit import Audit
from simfrcnn.service.folder import ServiceFolder, size_of
from simfrcnn.service.queue import Queue

_DAY_S = 86400.0
_GB = 1e9


def remove_old(
    folder: ServiceFolder,
    queue: Queue,
    audit: Audit,
    *,
    keep_days: float,
    keep_gb: float,
    now: float,
) -> list[str]:
    """Remove films and results of done studies that are too old, or more than may stay.

    Returns:
        The studies, in the order in which they went.
    """
    finished = [(study, when, size_of(folder.studies / study)) for study, when in
                queue.finished_studies()]  # fmt: skip
    n_bytes = sum(size for _, _, size in finished)
    removed = []
    for study, when, size in finished:
        if now - when <= keep_days * _DAY_S and n_bytes <= keep_gb * _GB:
            break
        if _remove(folder, queue, study):
            removed.append(study)
            audit.note("removed here", study=study)
        n_bytes -= size
    return removed


def _remove(folder: ServiceFolder, queue: Queue, study: str) -> bool:
    """Remove a study, unless a film has come meanwhile; a kill in between loses nothing."""
    with folder.changing:
        if not queue.is_finished(study):
            return False
        gone = folder.take_away(study)
        queue.forget_films(study)
    shutil.rmtree(gone, ignore_errors=True)
    return True
