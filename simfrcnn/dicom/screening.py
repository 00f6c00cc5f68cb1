"""Is a picture one of the views that screening reads, and if not, why?"""

from __future__ import annotations

from simfrcnn.dicom.header import Header

_SCOUTS = {"LOCALIZER", "SCOUT"}


def not_screening_of(header: Header) -> str | None:
    """Why the picture is no screening view, in a few words; None where nothing says so."""
    image_type = (header.code("ImageType") or "").split("\\")
    if _SCOUTS.intersection(image_type):
        return "a scout (Image Type (0008,0008))"
    return None
