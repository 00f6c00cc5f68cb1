"""Were two sets of detections found under the same keys, so that a score means the same in both?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DETECTED_WITH = "detected_with"
"""In the provenance of detections: the keys under which a model found and scored them."""
_BOXES_KEPT = "TEST.DETECTIONS_PER_IMAGE"
_FLIPS = "TEST.FLIPS"
_SECOND_LOOK = "MODEL.SECOND_LOOK."


def keys_stated_by(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The keys of detection that a provenance or a file of points states; None if it does not.

    Raises:
        TypeError: Something else stands in their place.
        ValueError: Likewise.
    """
    keys = content.get(DETECTED_WITH)
    return None if keys is None else dict(keys)


def found_otherwise(
    one: Mapping[str, Any] | None, other: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """Keys of detection with different values, of those that both sides state; with both values."""
    one, other = one or {}, other or {}
    return {k: (one[k], other[k]) for k in one if k in other and one[k] != other[k]}


def changes_no_score(key: str, detected_with: Mapping[str, Any], n_classes: int) -> bool:
    """Whether a key of detection leaves the score of every image, breast and case as it is.

    The score of an image is its highest one. So how many boxes are kept does not matter where there
    is one class, and neither a second look nor flips give boxes another score later.

    Args:
        key: Of two sets of detections it has different values.
        detected_with: The keys of either set; they agree in all others.
        n_classes: How many classes the model tells apart.
    """
    return (
        key == _BOXES_KEPT
        and n_classes == 1
        and detected_with.get(_FLIPS) == "none"
        and not any(other.startswith(_SECOND_LOOK) for other in detected_with)
    )
