"""How many exams are there, and of which views: what a person counts first in a new data set?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted


def views_per_exam(records: Sequence[ImageRecord]) -> tuple[str, ...]:
    """Lines such as "40 exams: 36 of 4 images, 4 of 2", and what is not stated."""
    sizes = Counter(Counter(record.exam_id for record in records).values())
    counts = ", ".join(
        f"{n_exams} of {counted(size, '[image|images]')}" for size, n_exams in sorted(sizes.items())
    )
    views = Counter(_view(record) for record in records)
    missing = {
        "laterality": sum(record.laterality is None for record in records),
        "view": sum(record.view_position is None for record in records),
    }
    without = [f"no {what} in {counted(n, '[image|images]')}" for what, n in missing.items() if n]
    n_exams = sum(sizes.values())
    return (
        f"{counted(n_exams, '[exam|exams]')}: {counts}",
        f"views: {', '.join(f'{n} {view}' for view, n in sorted(views.items()))}"
        + (f" ({'; '.join(without)})" if without else ""),
    )


def _view(record: ImageRecord) -> str:
    words = [one.value for one in (record.laterality, record.view_position) if one is not None]
    return " ".join(words) or "not stated"
