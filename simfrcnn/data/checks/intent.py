"""Are there raw images (FOR PROCESSING), alone or among processed ones?

Reference:
    DICOM PS3.3 C.8.11.7, Presentation Intent Type (0008,0068).
"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.data.checks.model import CheckSettings, Collection, Defect, Severity, example, found


def check_intent(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Raw images, which no display shows and training refuses."""
    images = list(collection.measured())
    raw = [entry for entry, facts in images if facts.is_raw]
    mixed = f", among {len(images) - len(raw)} others" if len(raw) < len(images) else ""
    yield from found(
        "for_processing",
        Severity.ERROR,
        f"images are FOR PROCESSING (raw){mixed}: they look unlike processed ones, and training "
        "refuses them",
        "take the FOR PRESENTATION images of these exams",
        (example(entry) for entry in raw),
    )
