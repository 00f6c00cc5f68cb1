"""What are figures, methods and operating points called in a report?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from simfrcnn.evaluation.average_precision import iou_of_key
from simfrcnn.evaluation.matching import hit_criterion
from simfrcnn.evaluation.multilabel import MEAN
from simfrcnn.evaluation.reporting.documents import Block
from simfrcnn.evaluation.results import Figure
from simfrcnn.files import as_json
from simfrcnn.trees import leaves_of

_ROUNDING = 1e-12
FIGURE_COLUMNS = ("figure", "value", "95% interval", "counted over", "interval by")
METHODS = {
    "bootstrap": "bootstrap",
    "bootstrap-logit": "bootstrap, logit",
    "clopper-pearson": "Clopper-Pearson",
    "delong-logit": "DeLong, logit",
    "obuchowski-logit": "Obuchowski, logit",
    "disjoint-pairs": "disjoint pairs",
    "cluster-robust": "robust variance over patients",
    "mover": "MOVER",
    None: "-",
}
METHODS_IN_WORDS = {
    "bootstrap": "resamplings of patients, stratified by the patient's truth; percentiles 2.5 and "
    "97.5. Replicates in which a figure is undefined are dropped, and more than 5% of them give no "
    "interval.",
    "bootstrap-logit": "resamplings of patients, stratified by the patient's truth; normal "
    "interval on the logit of the figure, with the standard deviation of the resampled ones there.",
    "clopper-pearson": "exact binomial interval, where every patient gives one unit; where all "
    "units are right or none, with one trial a patient. Predictive values take the limits of "
    "sensitivity and specificity together.",
    "delong-logit": "normal interval on the logit of the AUC, with the variance of DeLong, DeLong "
    "and Clarke-Pearson (1988), where every patient gives one unit.",
    "obuchowski-logit": "normal interval on the logit of the AUC, with the variance of Obuchowski "
    "(1997), where patients give several units.",
    "disjoint-pairs": "an AUC of exactly 1 (or 0) has no variance: the exact limit for as many "
    "pairs of patients as can be made without using one twice, all of them won.",
    "cluster-robust": "normal interval with a variance that sums what the units of a patient "
    "contribute before squaring (Liang and Zeger 1986).",
    "mover": "limits of a sum or difference from those of its parts (Zou and Donner 2008): of "
    "recalls and net benefit the exact ones, where every patient gives one unit; of a difference "
    "of two subgroups those of each, with the correlation of patients who are in both.",
}
RULES_OF_POINTS = {
    "fixed": "fixed",
    "youden": "Youden",
    "sensitivity": "by sensitivity",
    "specificity": "by specificity",
}


_LOCALISED = {
    "afroc": "AFROC",
    "wafroc": "wAFROC",
    "lroc": "LROC",
    "sensitivity": "Localised SEN",
}


_OF_UNITS = {
    "auc": "AUC",
    "partial_auc": "Partial AUC",
    "brier": "Brier score",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "ppv": "PPV",
    "npv": "NPV",
    "recalls_per_1000": "recalls per 1,000",
    "cancers_per_1000": "cancers found per 1,000",
}


def label_of(key: str) -> str:
    """What a figure is called in a table."""
    start, *_, last = key.split("/")
    if start == "mask":
        return _label_of_mask(last)
    if start == "label":
        return f"AUC of {key.removeprefix('label/').removesuffix('/auc')}"
    if key == MEAN:
        return "mean AUC over the labels"
    if start == "finding":
        if last == "coco_ap":
            return "COCO AP (mean over IoU .50:.05:.95)"
        if last == "corloc":
            return "CorLoc (IoU .5)"
        if last == "corloc_any":
            return "CorLoc of any box from the score threshold on (IoU .5)"
        return f"AP at IoU {iou_of_key(key):g}"
    if start == "froc":
        _, criterion, population, _ = key.split("/")
        over = "" if population == "all" else f", {population}"
        rate = last.rpartition("_")[2]
        return f"SEN at {rate} FP/image ({hit_criterion(criterion).label}{over})"
    if start == "localised":
        _, criterion, level, *rule, figure = key.split("/")
        shown = _LOCALISED[figure]
        at = f", {RULES_OF_POINTS[rule[0] if rule else 'fixed']}" if figure == "sensitivity" else ""
        return f"{shown} by {level} ({hit_criterion(criterion).label}{at})"
    of_probabilities = " of probabilities" if "/recalibrated/" in key else ""
    if last.startswith("net_benefit_at_"):
        name = f"Net benefit at a threshold probability of {last.removeprefix('net_benefit_at_')}"
    else:
        name = _OF_UNITS.get(last, last)
    between = key.split("/")[1:-1]
    at_rule = f" ({RULES_OF_POINTS[between[0]]})" if set(between) & set(RULES_OF_POINTS) else ""
    return f"{name}{of_probabilities} by {start}{at_rule}"


def _label_of_mask(name: str) -> str:
    if name == "normal_share":
        return "share of images without a finding that have a mask"
    if name == "coco_ap":
        return "COCO AP of masks (mean over IoU .50:.05:.95)"
    if name.startswith("ap"):
        return f"AP of masks at IoU {float(name.removeprefix('ap')) / 100:g}"
    *kinds, measure, average = name.split("_")
    what = "filled boxes" if "box" in kinds else "masks"
    over = "found findings" if "found" in kinds else "images with a finding"
    return f"{ {'iou': 'IoU', 'dice': 'Dice'}[measure] } of {what}, {average} over {over}"


def text_of(figure: Figure) -> str:
    """A figure in one line, for a terminal."""
    counted = ", ".join(f"{count} {name}" for name, count in figure.n.items())
    reason = f"; {figure.reason}" if figure.reason else ""
    return f"{figure}  [{counted}{reason}]"


def cells_of(figure: Figure, n_digits: int = 3) -> tuple[str, str, str, str]:
    """Value, interval, what it was counted over, method."""
    counted = ", ".join(f"{count} {name}" for name, count in figure.n.items())
    if figure.reason:
        value = "undefined" if figure.value != figure.value else f"{figure.value:.{n_digits}f}"
        return value, figure.reason, counted, "-"
    interval = f"{figure.low:.{n_digits}f} to {figure.high:.{n_digits}f}"
    return f"{figure.value:.{n_digits}f}", interval, counted, METHODS[figure.method]


def per_1000(figure: Figure) -> Figure:
    """Of a thousand, what is said of one."""
    return dataclasses.replace(
        figure, value=1000 * figure.value, low=1000 * figure.low, high=1000 * figure.high
    )


def short(figure: Figure, n_digits: int = 2) -> str:
    """A figure in a narrow cell."""
    if figure.value != figure.value:
        return "undefined"
    if figure.reason or figure.low != figure.low:
        return f"{figure.value:.{n_digits}f}"
    ends = f"{figure.low:.{n_digits}f} to {figure.high:.{n_digits}f}"
    return f"{figure.value:.{n_digits}f} ({ends})"


def p_of(p_value: float) -> str:
    """Three decimals, and no zero."""
    return "< .001" if p_value < 0.001 else f"{p_value:.3f}"


def cell(figure: Figure, *, signed: bool = False) -> str:
    """``0.912 (0.853 to 0.957)``, ``undefined``, or a value without its interval."""
    if math.isnan(figure.value):
        return "undefined"
    value = number(figure.value, signed=signed)
    if math.isnan(figure.low):
        return f"{value} (no interval)"
    return f"{value} ({number(figure.low, signed=signed)} to {number(figure.high, signed=signed)})"


def number(value: float, *, signed: bool = False) -> str:
    """Three decimals; with its sign for a difference."""
    if math.isnan(value):
        return "undefined"
    if abs(value) < _ROUNDING:  # nothing has no sign; an end at -.0004 has, as it excludes 0
        value = 0.0
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def flat_facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """``("prediction: engine", "detectron2")`` ...: facts within facts, one a line."""
    return leaves_of(facts, separator=": ")


def fact_in_words(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value, indent=None).strip()


def missing_intervals(figures: Iterable[Figure]) -> Iterator[Block]:
    """The reasons, each once, for what has no interval or no value."""
    reasons = list(dict.fromkeys(figure.reason for figure in figures if figure.reason))
    if reasons:
        yield [f"Missing above: {reason}." for reason in reasons]
