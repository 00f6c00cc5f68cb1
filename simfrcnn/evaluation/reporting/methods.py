"""What a methods section has to say of an evaluation, and which cases came through to the figures.

Only what the report itself knows; what it does not know is said to be unknown, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simfrcnn.evaluation.reporting.documents import Table
from simfrcnn.evaluation.reporting.wording import METHODS, RULES_OF_POINTS
from simfrcnn.evaluation.results import Report
from simfrcnn.wording import counted

UNKNOWN = "not stated with the detections"
_TRUTHS = ("positive", "normal", "unknown")


def methods_table(report: Report) -> Table:
    """Date, version, model, training set, test set, operating points and intervals."""
    return Table(("", "in this report"), list(_rows(report)), "Model, data and rules")


def facts_of_model(report: Report) -> Mapping[str, Any]:
    """What the detections say of the model that made them; of several models, what each says."""
    return _facts_of(report.provenance.get("prediction", {}))


def _facts_of(facts: Any) -> Mapping[str, Any]:
    if not isinstance(facts, Mapping):
        return {}
    combined = facts.get("combined")
    if not isinstance(combined, Mapping):
        return facts
    models = [_facts_of(each.get("provenance")) for each in combined.get("inputs", ())]
    keys = dict.fromkeys(key for model in models for key in model)
    return {key: _by_model([model.get(key) for model in models]) for key in keys}


def _by_model(values: list[Any]) -> Any:
    """One value where all models share it; else each model's, in their order."""
    if all(value == values[0] for value in values):
        return values[0]
    texts = [UNKNOWN if value in (None, "", []) else _listed(value) for value in values]
    return "; ".join(f"model {i}: {text}" for i, text in enumerate(texts, start=1))


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    facts, settings = facts_of_model(report), report.settings

    def known(key: str) -> str:
        value = facts.get(key)
        return _listed(value) if value not in (None, "", []) else UNKNOWN

    def with_hash(key: str) -> str:
        name, sha256 = known(key), known(f"{key}_sha256")
        if sha256 == UNKNOWN:
            return name
        return f"{'name not stated' if name == UNKNOWN else name}, sha256 {sha256}"

    yield "detections made on", known("date")
    yield "version of simfrcnn", known("simfrcnn")
    yield "engine", known("engine")
    yield "model", known("model")
    if combination := _combination_of(report):
        yield "combination", combination
    yield "config", with_hash("config")
    yield "checkpoint", with_hash("checkpoint")
    yield "trained on", known("trained_on")
    yield "seed", known("seed")
    name = str(report.provenance.get("annotations", "not stated"))
    digest = report.provenance.get("annotations_sha256")
    yield "judged on", f"{name}, sha256 {digest}" if digest else name
    yield "positive class", ", ".join(settings.target_classes)
    yield (
        "a case",
        f"one {settings.case_by}; its score pools those of its images by {settings.pooling}",
    )
    for point in report.operating_points:
        if point.level == "case":
            yield f"operating point, {RULES_OF_POINTS[point.rule]}", _origin_of(point)
    used = dict.fromkeys(f.method for f in report.figures.values() if f.method)
    yield "95% intervals by", "; ".join(METHODS[method] for method in used) or "none"


def _combination_of(report: Report) -> str | None:
    prediction = report.provenance.get("prediction")
    combined = prediction.get("combined") if isinstance(prediction, Mapping) else None
    if not isinstance(combined, Mapping):
        return None
    names = (str(each.get("file", UNKNOWN)) for each in combined.get("inputs", ()))
    return f"{combined.get('how', UNKNOWN)} of {', '.join(names)}"


def _origin_of(point: Any) -> str:
    chosen = f", chosen on {point.chosen_on}" if point.chosen_on else ", as the settings say"
    return f"score >= {point.score_threshold:.4g}{chosen}"


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def flow_table(report: Report) -> Table:
    """From the annotation file to the figures: how many of each level, and what is left out."""
    counts = report.counts
    levels = [name for name, count in counts.items() if isinstance(count, Mapping)]
    levels = [name for name in levels if set(_TRUTHS) <= set(counts[name])]
    steps = {
        "in the annotation file, all run": ("total",),
        "of unknown truth, left out": ("unknown",),
        "judged": ("positive", "normal"),
        "of these positive": ("positive",),
        "of these normal": ("normal",),
    }
    rows = [
        (step, *(f"{sum(counts[level][part] for part in parts):,}" for level in levels))
        for step, parts in steps.items()
    ]
    return Table(("", *levels), rows, "From the annotation file to the figures")


def flow_notes(report: Report) -> list[str]:
    """What the table does not show: images without a place for their findings, ignored boxes."""
    counts = report.counts
    known = counts["images"]["positive"] + counts["images"]["normal"]
    unplaced = known - counts["images_evaluated_for_boxes"]
    parts = [
        f"{counted(counts['findings'], '[finding is|findings are]')} to be found in "
        f"{counted(counts['images_evaluated_for_boxes'], '[image|images]')} that FROC and AP judge"
    ]
    if unplaced > 0:
        parts.append(
            f"{counted(unplaced, '[image|images]')} of known truth without boxes that say where "
            "the findings lie: in no figure of boxes"
        )
    if counts["ignored_findings"] or counts["crowd_regions"]:
        parts.append(
            f"{counted(counts['ignored_findings'], '[finding|findings]')} of ignored classes and "
            f"{counted(counts['crowd_regions'], '[crowd region|crowd regions]')}: neither to be "
            "found nor wrong to find"
        )
    return parts
