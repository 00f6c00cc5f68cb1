"""How is ``report.json`` read back, and what may stand in it?

The layout is that of :meth:`~simfrcnn.evaluation.results.Report.to_json`, and is described by a
JSON Schema (``report.schema.json`` beside this file). Its version rises when a key goes away or
means something else; new keys leave it as it is, so that a reader must not mind keys it does not
know.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from simfrcnn.errors import ArtifactError, ConfigError
from simfrcnn.evaluation.group_differences import GroupDifference
from simfrcnn.evaluation.interaction import Interaction
from simfrcnn.evaluation.net_benefit import DecisionCurve
from simfrcnn.evaluation.recalibration import Recalibration
from simfrcnn.evaluation.results import (
    NAN,
    REPORT_SCHEMA_VERSION,
    Band,
    CalibrationBin,
    Confusion,
    Curve,
    Figure,
    OperatingPoint,
    Report,
    Subgroup,
    UnitScore,
)
from simfrcnn.settings import EvaluationSettings

SCHEMA = Path(__file__).with_name("report.schema.json")
_Made = TypeVar("_Made")


def read_report(path: str | Path) -> Report:
    """The report of an earlier evaluation, from its ``report.json`` or the folder that holds it.

    Args:
        path: ``report.json``, or the folder of a report.

    Returns:
        The report: figures with their intervals, curves, units, operating points. Writing it again
        gives the same file.

    Raises:
        ArtifactError: The file is missing, is no report, is of another schema version, or damaged.

    Example:
        >>> import tempfile
        >>> import simfrcnn
        >>> from simfrcnn.artifacts import DetectionFile
        >>> from simfrcnn.evaluation.results import Report
        >>> from simfrcnn.files import write_json
        >>> empty = {key: {} for key in ("counts", "figures", "roc", "froc", "precision_recall",
        ...     "bands", "confusions", "calibration", "units", "provenance")}
        >>> folder = Path(tempfile.mkdtemp())
        >>> report = Report(settings=simfrcnn.EvaluationSettings(), operating_points=(),
        ...     subgroups=(), notes=("An example.",), **empty)
        >>> write_json(folder / "report.json", report.to_json())
        >>> simfrcnn.read_report(folder).notes
        ('An example.',)
    """
    path = Path(path)
    if path.is_dir():
        path = path / "report.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}); a report.json of simfrcnn evaluate, or its "
            "folder, was expected"
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(content, Mapping) or "schema_version" not in content:
        raise ArtifactError(f"{path} is no report: it has no schema_version")
    if content["schema_version"] != REPORT_SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {content['schema_version']!r}; this program reads "
            f"{REPORT_SCHEMA_VERSION}: evaluate again with this version"
        )
    try:
        return _report_of(content)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise ArtifactError(
            f"{path} is damaged ({type(error).__name__}: {error}); evaluate again"
        ) from error


def _report_of(content: Mapping[str, Any]) -> Report:
    return Report(
        settings=_settings_of(content["settings"]),
        counts=content["counts"],
        figures=_by_name(content["figures"], _figure_of),
        roc=_by_name(content["roc"], _curve_of("one_minus_specificity", "sensitivity")),
        froc=_by_name(content["froc"], _curve_of("false_positives_per_image", "sensitivity")),
        precision_recall=_by_name(content["precision_recall"], _curve_of("recall", "precision")),
        bands=_by_name(content["bands"], _made(Band)),
        operating_points=tuple(map(_made(OperatingPoint), content["operating_points"])),
        confusions=_by_name(content["confusions"], _made(Confusion)),
        calibration=_by_name(content["calibration"], _all(CalibrationBin)),
        subgroups=tuple(
            Subgroup(
                each["key"], each["value"], each["counts"], _by_name(each["figures"], _figure_of)
            )
            for each in content["subgroups"]
        ),
        units=_by_name(content["units"], _all(UnitScore)),
        notes=tuple(content["notes"]),
        provenance=content["provenance"],
        # Not in the first files of this version.
        recalibrations=_by_name(content.get("recalibrations", {}), _made(Recalibration)),
        decisions=_by_name(content.get("decisions", {}), _made(DecisionCurve)),
        interactions=tuple(map(_interaction_of, content.get("interactions", ()))),
        group_differences=tuple(
            GroupDifference(**{**each, "difference": _figure_of(each["difference"])})
            for each in content.get("group_differences", ())
        ),
    )


def _by_name(content: Mapping[str, Any], make: Callable[[Any], _Made]) -> dict[str, _Made]:
    return {name: make(each) for name, each in content.items()}


def _made(kind: Callable[..., _Made]) -> Callable[[Mapping[str, Any]], _Made]:
    """Lists become tuples, as in what was written."""
    return lambda content: kind(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in content.items()
        }
    )


def _all(kind: Callable[..., _Made]) -> Callable[[Sequence[Mapping[str, Any]]], tuple[_Made, ...]]:
    return lambda content: tuple(map(_made(kind), content))


def _curve_of(x: str, y: str) -> Callable[[Mapping[str, Any]], Curve]:
    return lambda content: Curve(tuple(content["score"]), tuple(content[x]), tuple(content[y]))


def _figure_of(content: Mapping[str, Any]) -> Figure:
    return Figure(**{**content, **{key: _number(content[key]) for key in ("value", "low", "high")}})


def _interaction_of(content: Mapping[str, Any]) -> Interaction:
    numbers = {key: _number(content[key]) for key in ("statistic", "p_value")}
    return _made(Interaction)({**content, **numbers})


def _number(value: float | None) -> float:
    return NAN if value is None else float(value)


def _settings_of(content: Mapping[str, Any]) -> EvaluationSettings:
    known = {field.name for field in dataclasses.fields(EvaluationSettings)}
    unknown = set(content) - known
    if unknown:
        raise ValueError(f"settings of a later version: {', '.join(sorted(unknown))}")
    return _made(EvaluationSettings)(content)
