"""How does the model fare in parts of the test set: by density, view, vendor, lesion size ...?

A *record key* parts the images: the figures of a group are those of an evaluation of its images
alone, with cases built from these and a bootstrap over its patients. A *finding key* parts the
findings: all images stay in, and so do all false positives, so that every group is read at the same
score thresholds and the groups' hits add up to those of the whole set.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from simfrcnn.errors import AnnotationError, ConfigError
from simfrcnn.evaluation.bootstrap import Statistic, figures_of
from simfrcnn.evaluation.case import Units, fixed_point, threshold_statistic, units_of
from simfrcnn.evaluation.delong import FEWEST_CASES
from simfrcnn.evaluation.froc import Events, Targets, events_of, froc_statistic
from simfrcnn.evaluation.interaction import FEWEST_EXPECTED
from simfrcnn.evaluation.matching import hit_criterion
from simfrcnn.evaluation.results import OperatingPoint, Subgroup
from simfrcnn.evaluation.roc import roc_statistic
from simfrcnn.evaluation.subgroup_keys import FINDING_FACTS, Value, require_key, value_of
from simfrcnn.evaluation.truth import Truth, View, located, patient_strata
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings

NOT_KNOWN = "not known"
"""The group of what has no value."""
MAX_VALUES = 20
RECORD_FIGURES = (
    "case/auc",
    "case/sensitivity",
    "case/specificity",
    "image/auc",
    "froc/centre/all/sensitivity_at_1",
)
FINDING_FIGURES = tuple(
    f"froc/{criterion}/all/sensitivity_at_{rate:g}"
    for criterion in ("centre", "iou_0.5")
    for rate in (0.25, 1.0)
)


@dataclass(frozen=True)
class Division:
    """By what the test set is parted: the values of ``key``, or its numbers between ``edges``."""

    key: str
    edges: tuple[float, ...] = ()


def read_division(text: str) -> Division:
    """``density``, or ``age:50,70`` for the groups below 50, from 50 to below 70, and from 70 on.

    Raises:
        ConfigError: No key, or edges that are not rising numbers.
    """
    key, colon, listed = text.rpartition(":") if ":" in text else (text, "", "")
    try:
        edges = tuple(float(edge) for edge in listed.split(",")) if colon else ()
    except ValueError:
        edges = (math.nan,)
    is_rising = all(low < high for low, high in itertools.pairwise(edges))
    if not key.strip() or not is_rising or not all(math.isfinite(edge) for edge in edges):
        raise ConfigError(
            f"subgroup {text!r} (EVAL.SUBGROUPS, --subgroup): KEY or KEY:EDGE,EDGE with rising "
            "numbers is legal, for instance density or age:50,70"
        )
    return Division(key.strip(), edges)


def read_divisions(texts: Sequence[str]) -> tuple[Division, ...]:
    """All divisions that the settings ask for.

    Raises:
        ConfigError: One that cannot be read, or two of one key.
    """
    divisions = tuple(read_division(text) for text in texts)
    keys = [division.key for division in divisions]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ConfigError(
            f"subgroup key {twice[0]!r} (EVAL.SUBGROUPS, --subgroup) is there twice; once is legal"
        )
    return divisions


def subgroups_of(
    views: Sequence[View], settings: EvaluationSettings, point: OperatingPoint | None = None
) -> tuple[Subgroup, ...]:
    """The figures of every group of every division that the settings ask for.

    Args:
        views: All views of the test set.
        settings: The rules; ``subgroups`` says by what the set is parted.
        point: By case: groups of images also have the sensitivity and specificity there. None for
            the fixed threshold alone.

    Raises:
        ConfigError: A key that no image or finding has a value for, or one with more than
            :data:`MAX_VALUES` values.
        AnnotationError: A value that is not a number, of a key with edges.
    """
    divisions = check_subgroups([view.record for view in views], settings)
    by_finding = [division for division in divisions if division.key in FINDING_FACTS]
    events = _events(views, settings) if by_finding else {}
    groups: list[Subgroup] = []
    for division in divisions:
        if division.key in FINDING_FACTS:
            groups += _finding_groups(division, views, events, settings)
        else:
            groups += _record_groups(
                division, views, settings, point or fixed_point("case", settings)
            )
    return tuple(groups)


def record_divisions(settings: EvaluationSettings) -> tuple[Division, ...]:
    """Those that part the images."""
    divisions = read_divisions(settings.subgroups)
    return tuple(division for division in divisions if division.key not in FINDING_FACTS)


def check_subgroups(
    records: Sequence[ImageRecord], settings: EvaluationSettings
) -> tuple[Division, ...]:
    """All divisions that the settings ask for, if these images can be parted so.

    Raises:
        ConfigError: One that cannot be read, two of one key, or a key that no image or finding has
            a value for.
    """
    divisions = read_divisions(settings.subgroups)
    for division in divisions:
        require_key(division.key, records)
    return divisions


def rules_of_subgroups(settings: EvaluationSettings) -> tuple[str, ...]:
    """What a reader of the subgroups must know; nothing without subgroups."""
    keys = [division.key for division in read_divisions(settings.subgroups)]
    by_finding = [key for key in keys if key in FINDING_FACTS]
    rules = []
    if len(by_finding) < len(keys):
        rules.append(
            "Subgroups of images: cases are built from the images of the group alone, by the same "
            "rule of truth, and resampled by the patients of the group."
        )
    if by_finding:
        rules.append(
            "Subgroups of findings: sensitivity at the same score thresholds as for the whole "
            "set, false positives counted over all images; findings of other groups are neither "
            "to be found nor wrong to find."
        )
    if "lesion_size_mm" in by_finding:
        rules.append(
            "lesion_size_mm is the longest side of the box times the pixel spacing, at the "
            "detector: geometric magnification is not taken out."
        )
    if keys:
        rules.append("Intervals of subgroups that overlap, or do not, are no test of a difference.")
    if len(by_finding) < len(keys):
        rules.append(
            "Differences of groups of images are from the largest group of the key; each limit is "
            "made from those of the two figures (MOVER), with the correlation of patients who are "
            "in both. Interaction: all groups of a key are tested at once, the AUCs by Wald's test "
            "on their logits, sensitivity and specificity by Pearson's chi-square or, where a "
            "patient gives several cases, by a score test over patients. Groups with fewer than "
            f"{FEWEST_CASES} patients of a kind take no part, nor do those in which fewer than "
            f"{FEWEST_EXPECTED} right or wrong calls are to be expected. Nothing is corrected for "
            "the number of keys, groups or figures."
        )
    return tuple(rules)


# Who belongs to which group


def _grouped(
    division: Division, values: Sequence[Value], name_of: Callable[[int], str]
) -> dict[str, list[int]]:
    """The places of each group's members, by the group's name, in the order of the report."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        members[_group_name(division, value, partial(name_of, place))].append(place)
    if division.edges:
        names = [_bin_name(division.edges, number) for number in range(len(division.edges) + 1)]
    else:
        names = _sorted_names([name for name in members if name != NOT_KNOWN])
        if len(names) > MAX_VALUES:
            raise ConfigError(
                f"subgroup {division.key!r} has {len(names)} values; up to {MAX_VALUES} are legal. "
                f"For numbers give edges ({division.key}:EDGE,EDGE)"
            )
    return {name: members[name] for name in (*names, NOT_KNOWN) if name in members}


def _group_name(division: Division, value: Value, owner: Callable[[], str]) -> str:
    if value is None:
        return NOT_KNOWN
    if not division.edges:
        return f"{value:g}" if isinstance(value, float) else value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(
            f"{owner()}: {division.key!r} is {value!r}, not a number; correct it, or give the "
            f"subgroup as {division.key} without edges"
        )
    return _bin_name(division.edges, int(np.searchsorted(division.edges, number, side="right")))


def _bin_name(edges: Sequence[float], number: int) -> str:
    """The name of the bin before ``edges[number]``: a value at an edge is in the bin above it.

    Written in full, because dates such as 20190103 and 20190107 are alike in six digits.
    """
    if number == 0:
        return f"< {edges[0]:.15g}"
    if number == len(edges):
        return f">= {edges[-1]:.15g}"
    return f"{edges[number - 1]:.15g} to < {edges[number]:.15g}"


def _sorted_names(names: Sequence[str]) -> list[str]:
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


# Their figures


def record_parts(division: Division, views: Sequence[View]) -> dict[str, list[View]]:
    """The views of each group of a key of the records."""
    values = [value_of(view.record, division.key) for view in views]
    named = _grouped(division, values, lambda place: _name_of(views[place].record))
    return {name: [views[place] for place in places] for name, places in named.items()}


def _record_groups(
    division: Division,
    views: Sequence[View],
    settings: EvaluationSettings,
    point: OperatingPoint,
) -> Iterator[Subgroup]:
    shown = dict.fromkeys((*RECORD_FIGURES, f"{point.key}/sensitivity", f"{point.key}/specificity"))
    for name, part in record_parts(division, views).items():
        own = _renumbered(part)
        cases, images = (units_of(own, level, settings) for level in ("case", "image"))
        n_patients = _n_patients(own)
        figures = figures_of(
            _record_statistics(own, cases, images, n_patients, settings, point),
            patient_strata(own, n_patients, settings),
            n_replicates=settings.bootstrap_replicates,
            seed=settings.bootstrap_seed,
        )
        yield Subgroup(
            key=division.key,
            value=name,
            counts={
                "patients": n_patients,
                "cases": _by_truth(cases),
                "images": _by_truth(images),
                "findings": sum(len(view.findings) for view in own),
            },
            figures={key: figures[key] for key in shown},
        )


def _record_statistics(
    views: Sequence[View],
    cases: Units,
    images: Units,
    n_patients: int,
    settings: EvaluationSettings,
    point: OperatingPoint,
) -> Iterator[Statistic]:
    for units in (cases, images):
        yield roc_statistic(units)
        yield threshold_statistic(units, n_patients, fixed_point(units.level, settings))
    if point.rule != "fixed":
        yield threshold_statistic(cases, n_patients, point)
    events = events_of(located(views), hit_criterion("centre"), n_patients, settings)
    yield froc_statistic(events, populations=("all",))


def _finding_groups(
    division: Division,
    views: Sequence[View],
    events: Mapping[str, Events],
    settings: EvaluationSettings,
) -> Iterator[Subgroup]:
    fact = FINDING_FACTS[division.key]
    found = [(view, finding) for view in located(views) for finding in view.findings]
    values = [fact(view.record, finding) for view, finding in found]
    named = _grouped(division, values, lambda place: _name_of(found[place][0].record))
    strata = patient_strata(views, _n_patients(views), settings)
    for name, places in named.items():
        statistics = (
            froc_statistic(_of_findings(each, places), populations=("all",))
            for each in events.values()
        )
        figures = figures_of(
            statistics,
            strata,
            n_replicates=settings.bootstrap_replicates,
            seed=settings.bootstrap_seed,
        )
        yield Subgroup(
            key=division.key,
            value=name,
            counts={
                "patients": len({found[place][0].patient for place in places}),
                "images": len({found[place][0].record.image_id for place in places}),
                "findings": len(places),
            },
            figures={key: figures[key] for key in FINDING_FIGURES},
        )


def _events(views: Sequence[View], settings: EvaluationSettings) -> dict[str, Events]:
    n_patients = _n_patients(views)
    names = dict.fromkeys(key.split("/")[1] for key in FINDING_FIGURES)
    of_known_place = located(views)
    return {
        name: events_of(of_known_place, hit_criterion(name), n_patients, settings) for name in names
    }


def _of_findings(events: Events, places: Sequence[int]) -> Events:
    """The events with some findings alone to be found; false positives stay as they are."""
    scores, patients = events.findings.hit_scores, events.findings.patients
    return dataclasses.replace(
        events,
        findings=Targets(scores[places], patients[places]),
        lesions=Targets(np.zeros(0), np.zeros(0, dtype=np.intp)),
    )


def _renumbered(views: Sequence[View]) -> list[View]:
    """The same views, their patients numbered from 0 in the same order."""
    numbers = {patient: n for n, patient in enumerate(sorted({view.patient for view in views}))}
    return [dataclasses.replace(view, patient=numbers[view.patient]) for view in views]


def _n_patients(views: Sequence[View]) -> int:
    """Of views whose patients are numbered from 0."""
    return max(view.patient for view in views) + 1


def _by_truth(units: Units) -> dict[str, int]:
    by_truth = {truth.label: units.n_of(truth) for truth in sorted(Truth, reverse=True)}
    return {"total": len(units.ids), **by_truth}


def _name_of(record: ImageRecord) -> str:
    return f"image {record.image_id} ({record.file_name})"
