"""Are there raw images (FOR PROCESSING), alone or among processed ones?

Reference:
    DICOM PS3.3 C.8.11.7, Presentation Intent Type (0008,0068).
"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Severity,
    example,
    found,
)
from simfrcnn.records import RAW_ATTRIBUTE
from simfrcnn.wording import counted


def check_intent(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Raw images, which no display shows and training refuses."""
    images = list(collection.measured())
    raw = [entry for entry, measures in images if measures.is_raw]
    mixed = (
        f", among {counted(len(images) - len(raw), '[other|others]')}"
        if len(raw) < len(images)
        else ""
    )
    yield from found(
        "for_processing",
        Severity.ERROR,
        f"images are FOR PROCESSING (raw){mixed}: they look unlike processed ones, and training "
        "refuses them",
        "take the FOR PRESENTATION images of these exams",
        (example(entry) for entry in raw),
    )
    made_of_raw = [
        e for e in collection.images() if e.record.attributes.get(RAW_ATTRIBUTE) == "yes"
    ]
    if len(made_of_raw) < len(tuple(collection.images())):
        yield from found(
            "for_processing_mixed",
            Severity.WARNING,
            "images were made from FOR PROCESSING (raw) ones, and others were not: they look "
            "unlike, and a network learns the difference",
            "prepare the FOR PRESENTATION images of these exams, or raw images alone",
            (example(entry) for entry in made_of_raw),
        )
