"""Which checks are there? A new one is a function, and a line here."""

from __future__ import annotations

from simfrcnn.data.inspect.checks.annotations import check_refused_entries, check_split_names
from simfrcnn.data.inspect.checks.boxes import (
    check_boxes_at_edge,
    check_boxes_on_breast,
    check_large_boxes,
    check_outlines,
    check_repeated_boxes,
    check_small_boxes,
)
from simfrcnn.data.inspect.checks.duplicates import check_duplicates
from simfrcnn.data.inspect.checks.files import check_blank, check_readable, check_size_as_stated
from simfrcnn.data.inspect.checks.greys import (
    check_outliers,
    check_polarity,
    check_range,
    check_saturation,
)
from simfrcnn.data.inspect.checks.intent import check_intent
from simfrcnn.data.inspect.checks.labels import (
    check_class_names,
    check_crowds,
    check_image_labels,
    check_pixels_of_boxes,
    check_stated_normal,
)
from simfrcnn.data.inspect.checks.model import Check, CheckSettings, Collection, Defect, Severity
from simfrcnn.data.inspect.checks.patients import check_exams, check_patients
from simfrcnn.data.inspect.checks.sizes import check_shape, check_spacing
from simfrcnn.data.inspect.checks.supervision import (
    check_composition,
    check_contradictions,
    check_not_known,
)
from simfrcnn.data.inspect.checks.views import check_sides, check_views_stated

CHECKS: tuple[Check, ...] = (
    check_refused_entries,
    check_split_names,
    check_readable,
    check_size_as_stated,
    check_blank,
    check_intent,
    check_patients,
    check_exams,
    check_duplicates,
    check_contradictions,
    check_composition,
    check_not_known,
    check_class_names,
    check_image_labels,
    check_crowds,
    check_stated_normal,
    check_views_stated,
    check_sides,
    check_boxes_on_breast,
    check_pixels_of_boxes,
    check_small_boxes,
    check_large_boxes,
    check_outlines,
    check_repeated_boxes,
    check_boxes_at_edge,
    check_polarity,
    check_saturation,
    check_range,
    check_outliers,
    check_shape,
    check_spacing,
)


def run_checks(collection: Collection, settings: CheckSettings) -> list[Defect]:
    """All defects, the worst first, else in the order of the checks."""
    order = list(Severity)
    defects = [defect for check in CHECKS for defect in check(collection, settings)]
    return sorted(defects, key=lambda defect: order.index(defect.severity))
