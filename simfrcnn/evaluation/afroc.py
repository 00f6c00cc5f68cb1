"""Are lesions found, and where they are: AFROC, wAFROC, LROC, and sensitivity at a threshold?

Each of the first three is an area: the part of pairs of a lesion (or a positive unit) and a normal
unit in which the mark on the lesion scores higher than the highest false positive of the normal
unit; a tie counts half. A case that is recalled for a mark beside its lesion wins nothing; in ROC
it would win.

Shapes: V located views, U units of one level (images or cases) with lesions or without, T findings,
L lesions, R rows of bootstrap weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simfrcnn.errors import DataError
from simfrcnn.evaluation.bootstrap import Statistic, exact_intervals, per_patient, ratio
from simfrcnn.evaluation.case import id_of_units
from simfrcnn.evaluation.delong import auc_interval
from simfrcnn.evaluation.froc import NEVER, Events
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.evaluation.roc import auc_function
from simfrcnn.evaluation.truth import Truth, View, unit_truth
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

LEVELS = ("case", "image")
FIGURES = ("afroc", "wafroc", "lroc")
_NO_MARK = -1.0
"""Of a normal unit without a false positive in LROC: below all scores, above ``NEVER``."""
_NOWHERE = -1


def localised_key(criterion: str, level: str, figure: str) -> str:
    """What a figure is called in a report: ``localised/centre/case/wafroc``."""
    return f"localised/{criterion}/{level}/{figure}"


def level_of(key: str) -> str:
    """The level of such a key."""
    return key.split("/")[2]


@dataclass(frozen=True)
class Lesions:
    """The units of one level that have lesions, or are normal, and where these lesions are.

    ``view_units`` (V,) and ``finding_lesions`` (T,) say which unit and lesion each view and finding
    is of, -1 for none. ``patients`` and ``is_normal`` are (U,); ``lesion_units`` and
    ``lesion_weights`` (L,), the weights of a unit's lesions adding up to 1.
    """

    level: str
    view_units: IntArray
    patients: IntArray
    is_normal: BoolArray
    finding_lesions: IntArray
    lesion_units: IntArray
    lesion_weights: FloatArray

    @property
    def is_defined(self) -> bool:
        """Whether there is a lesion to be found and a normal unit to be left alone."""
        return bool(len(self.lesion_units) and self.is_normal.any())


def lesions_of(
    views: Sequence[View], placed: Sequence[View], level: str, settings: EvaluationSettings
) -> Lesions:
    """Group the findings of located views into the lesions of images or cases.

    By image every finding is a lesion; by case the findings with one ``lesion_id`` are, in whatever
    view. A unit is left out if it is not known of all its images where the findings lie, or if it
    is positive without a finding. Lesions of a unit weigh alike unless the annotations weigh them.

    Args:
        views: All views.
        placed: Those of :func:`~simfrcnn.evaluation.truth.located`, of which the events are.
        level: One of :data:`LEVELS`.
        settings: What a case is.

    Raises:
        DataError: Some lesions of a unit have a weight and others have none, or a lesion has two.
    """
    id_of = id_of_units(level, settings)
    groups: dict[tuple[str, str], list[View]] = {}
    for view in views:
        groups.setdefault((view.record.patient_id, id_of(view.record)), []).append(view)
    units: dict[tuple[str, str], int] = {}
    patients, is_normal = [], []
    for key, group in groups.items():
        has_findings = any(view.findings for view in group)
        unit_is_normal = unit_truth(group, settings) is Truth.NORMAL
        if all(view.is_located for view in group) and (has_findings or unit_is_normal):
            units[key] = len(units)
            patients.append(group[0].patient)
            is_normal.append(not has_findings)
    lesions: dict[tuple[object, ...], int] = {}
    weights: list[float | None] = []
    view_units = np.full(len(placed), _NOWHERE, dtype=np.intp)
    finding_lesions: list[int] = []
    lesion_units: list[int] = []
    for place, view in enumerate(placed):
        record = view.record
        unit = units.get((record.patient_id, id_of(record)), _NOWHERE)
        view_units[place] = unit
        for finding in view.findings:
            if unit == _NOWHERE:
                finding_lesions.append(_NOWHERE)
                continue
            is_alone = level == "image" or finding.lesion_id is None
            own = (record.image_id, finding.finding_id) if is_alone else (finding.lesion_id,)
            lesion = lesions.setdefault((unit, record.exam_id, *own), len(lesions))
            finding_lesions.append(lesion)
            if lesion == len(weights):
                weights.append(finding.weight)
                lesion_units.append(unit)
            elif weights[lesion] != finding.weight:
                raise DataError(
                    f"lesion {finding.lesion_id!r} of exam {record.exam_id} has the weights "
                    f"{weights[lesion]} and {finding.weight}: its findings need the same "
                    "'lesion_weight', or none"
                )
    own_units = np.array(lesion_units, dtype=np.intp)
    return Lesions(
        level=level,
        view_units=view_units,
        patients=np.array(patients, dtype=np.intp),
        is_normal=np.array(is_normal, dtype=np.bool_),
        finding_lesions=np.array(finding_lesions, dtype=np.intp),
        lesion_units=own_units,
        lesion_weights=_shares(weights, own_units, list(units)),
    )


def localised_statistic(lesions: Lesions, events: Events) -> Statistic:
    """AFROC, wAFROC and LROC of one hit criterion; keys are those of :func:`localised_key`.

    The intervals are those of an AUC whose units are lesions and normal units, by Obuchowski's
    variance over patients (see :func:`~simfrcnn.evaluation.delong.auc_interval`).

    Reference:
        Chakraborty and Winter 1990 (AFROC); Chakraborty and Berbaum 2004, Chakraborty and Zhai 2016
        (weights); Swensson 1996 (LROC, here with the highest mark of the unit).
    """
    n_units = len(lesions.patients)
    is_beside = ~events.is_repeat  # a repeat lies on a lesion, so that its place is right
    highest_false = _highest(
        lesions.view_units[events.false_views[is_beside]], events.false_scores[is_beside], n_units
    )
    found = _highest(lesions.finding_lesions, events.findings.hit_scores, len(lesions.lesion_units))
    best = _highest(lesions.lesion_units, found, n_units)
    is_normal = lesions.is_normal
    normal = highest_false[is_normal]
    owners = (lesions.patients[lesions.lesion_units], lesions.patients[is_normal])
    by_lesion = _ranked(owners, found, normal)
    weights = np.concatenate([lesions.lesion_weights, np.ones(len(normal))])
    by_unit = _ranked(
        (lesions.patients[~is_normal], lesions.patients[is_normal]),
        np.where(best > highest_false, best, NEVER)[~is_normal],
        np.where(normal == NEVER, _NO_MARK, normal),
    )
    areas = [
        auc_function(*by_lesion),
        auc_function(*by_lesion, unit_weights=weights),
        auc_function(*by_unit),
    ]
    keys = tuple(localised_key(events.criterion.name, lesions.level, name) for name in FIGURES)
    n = {
        "lesions": len(found),
        "positive": int((~is_normal).sum()),
        "normal": int(is_normal.sum()),
    }
    reason = (
        f"needs a lesion and a normal {lesions.level}; there are {len(found)} and {n['normal']}"
    )
    return Statistic(
        keys=keys,
        compute=lambda rows: np.stack([area(rows) for area in areas], axis=1),
        n=dict.fromkeys(keys, n),
        why_undefined=dict.fromkeys(keys, reason),
        intervals={
            keys[0]: partial(auc_interval, *by_lesion),
            keys[1]: partial(auc_interval, *by_lesion, unit_weights=weights),
            keys[2]: partial(auc_interval, *by_unit),
        },
    )


def found_statistic(
    lesions: Lesions, events: Events, points: Sequence[OperatingPoint], n_patients: int
) -> Statistic:
    """Of the units with lesions, the part in which a mark from the threshold on is on a lesion.

    Sensitivity that gives no credit for a recall by a mark beside the lesion, where a unit is
    recalled for its highest mark (pooling by ``max``). One figure for each operating point of the
    level, keys ``localised/centre/case/sensitivity`` for the fixed one and
    ``localised/centre/case/youden/sensitivity`` and so on. Exact intervals where
    :func:`~simfrcnn.evaluation.bootstrap.exact_intervals` gives them.
    """
    is_positive = ~lesions.is_normal
    found = _highest(lesions.finding_lesions, events.findings.hit_scores, len(lesions.lesion_units))
    best = _highest(lesions.lesion_units, found, len(lesions.patients))[is_positive]
    patients = lesions.patients[is_positive]
    own = [point for point in points if point.level == lesions.level]
    keys = tuple(localised_key(events.criterion.name, point.key, "sensitivity") for point in own)
    is_found = [best >= point.score_threshold for point in own]
    n_all = per_patient(patients, n_patients)
    n_found = np.stack([per_patient(patients[each], n_patients) for each in is_found], axis=1)
    counts = [(int(each.sum()), len(patients)) for each in is_found]
    return Statistic(
        keys=keys,
        compute=lambda rows: ratio(rows @ n_found, (rows @ n_all)[:, None]),
        n={
            key: {"right": right, "positive": total}
            for key, (right, total) in zip(keys, counts, strict=True)
        },
        why_undefined=dict.fromkeys(keys, f"no {lesions.level} has a finding to be found"),
        intervals=exact_intervals(keys, tuple(n_found.T), n_all),
    )


def _ranked(
    owners: tuple[IntArray, IntArray], positive: FloatArray, normal: FloatArray
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Patients, scores and kinds of what is compared, the positive kind first."""
    return (
        np.concatenate(owners),
        np.concatenate([positive, normal]),
        np.arange(len(positive) + len(normal)) < len(positive),
    )


def _highest(places: IntArray, scores: FloatArray, n: int) -> FloatArray:
    """(n,) the highest score at each place, ``NEVER`` without any; place -1 is nowhere."""
    highest = np.full(n, NEVER)
    is_in = places != _NOWHERE
    np.maximum.at(highest, places[is_in], scores[is_in])
    return highest


def _shares(
    weights: Sequence[float | None], units: IntArray, names: Sequence[tuple[str, str]]
) -> FloatArray:
    """(L,) the lesions' weights, made to add up to 1 in each unit."""
    is_given = np.array([weight is not None for weight in weights], dtype=np.bool_)
    n_lesions = np.bincount(units, minlength=len(names))
    n_given = np.bincount(units[is_given], minlength=len(names))
    mixed = np.flatnonzero((n_given > 0) & (n_given < n_lesions))
    if len(mixed):
        patient, unit = names[mixed[0]]
        raise DataError(
            f"{unit} of patient {patient} has {n_lesions[mixed[0]]} lesions, {n_given[mixed[0]]} "
            "of them with a 'lesion_weight'; give all of its lesions one, or none"
        )
    values = np.array([1.0 if weight is None else weight for weight in weights])
    return values / np.bincount(units, values, len(names))[units]
