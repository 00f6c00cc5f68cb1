"""By which rules was a report made, and of what?"""

from __future__ import annotations

from collections.abc import Iterator

from simfrcnn.evaluation.average_precision import MAX_DETECTIONS
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.reporting.documents import Table
from simfrcnn.evaluation.reporting.wording import (
    METHODS,
    METHODS_IN_WORDS,
    fact_in_words,
    flat_facts,
)
from simfrcnn.evaluation.results import Report

_RULES_OF_LOCALISED = (
    "AFROC: the part of pairs of a lesion and a normal unit in which the mark on the lesion scores "
    "higher than the highest false positive of the unit; a tie counts half, and so does a lesion "
    "without a mark against a unit without one. wAFROC: the same with the lesions of a unit "
    "weighing 1 together. LROC: the part of pairs of a unit with lesions and a normal unit in "
    "which the highest mark of the first is on a lesion, and above all marks of the second. "
    "Localised SEN: the part of cases with lesions in which a mark with a score of at least the "
    "operating point's threshold is on a lesion; a mark beside it earns nothing. By "
    "image each finding is a lesion; by case those with one lesion id are, in whatever view. "
    "Units of which it is not known in every image where the findings lie are left out.",
)


def rules_of_report(report: Report) -> list[str]:
    """What every figure means, under the settings of this report."""
    settings = report.settings
    repeats = "a false positive" if settings.count_repeats_as_false_positives else "ignored"
    unknown = "left out" if settings.unknown_images == "exclude" else "counted as normal"
    ignored = ", ".join(settings.ignored_classes)
    outside = {
        "refuse": "would have been refused",
        "clip": "were cut at its edges",
    }[settings.boxes_outside]
    return [
        f"Target classes: {', '.join(settings.target_classes)}. Detections of other classes are "
        "dropped.",
        *(
            [f"Boxes of class {ignored} are neither to be found nor wrong to find."]
            if ignored
            else []
        ),
        f"Detections that reach beyond their image by more than a pixel {outside}.",
        "The score of an image is its highest detection, 0 without any. The score of a breast or "
        f"case pools all its images by {settings.pooling}. A case is one {settings.case_by}.",
        "An image is positive if it has a target box, normal if it is known to be. A breast or "
        "case is positive if an image is, or if its record says so; normal if all its images are; "
        "else unknown, and left out.",
        f"Images of unknown truth are {unknown} in FROC and AP.",
        *(f"Hit criterion {c.label}: {c.description}." for c in HIT_CRITERIA),
        "FROC: detections go down by score; each takes the finding, not yet found, that it meets "
        f"best; one that meets only findings already found is {repeats}. Equal scores are one "
        "threshold. The sensitivity at a rate is the highest at no more false positives per image "
        "than that, without interpolation; beyond the last point the last value holds.",
        "AP: matched by pycocotools over all evaluated images, with all target classes as one, at "
        f"most {MAX_DETECTIONS} detections an image; a second box on a finding is a false positive "
        "there.",
        *(_RULES_OF_LOCALISED if any(k.startswith("localised/") for k in report.figures) else ()),
        "CorLoc: the part of positive images whose highest detection has IoU of at least 0.5 with "
        "a finding. By the second rule, which others use, any detection from the score threshold "
        "on will do.",
        *_methods(report),
    ]


def _methods(report: Report) -> Iterator[str]:
    """How the intervals of this report were made: only methods that it uses."""
    subgroup_figures = (f for group in report.subgroups for f in group.figures.values())
    used = {figure.method for figure in (*report.figures.values(), *subgroup_figures)}
    settings = report.settings
    for method, words in METHODS_IN_WORDS.items():
        if method in used:
            size = (
                f"{settings.bootstrap_replicates} (seed {settings.bootstrap_seed}) "
                if method in ("bootstrap", "bootstrap-logit")
                else ""
            )
            yield f"Intervals by {METHODS[method]}: {size}{words}"
    if report.bands:
        yield (
            "Bands round curves: 95% of the resampled curves, at each place by itself; not of all "
            "places at once."
        )


def provenance_table(report: Report) -> Table:
    """The facts that were given with the report."""
    rows = [(key, fact_in_words(value)) for key, value in flat_facts(report.provenance)]
    return Table(("fact", "value"), rows or [("-", "none was given")])
