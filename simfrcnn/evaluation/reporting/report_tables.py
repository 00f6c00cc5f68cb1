"""Which tables does a report show, and what is said with them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from simfrcnn.evaluation.froc import RATES
from simfrcnn.evaluation.group_differences import GroupDifference
from simfrcnn.evaluation.interaction import Interaction
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.reporting.charts import POPULATION_LABELS
from simfrcnn.evaluation.reporting.documents import Block, Picture, Table, Tables
from simfrcnn.evaluation.reporting.wording import (
    FIGURE_COLUMNS,
    METHODS,
    RULES_OF_POINTS,
    cell,
    cells_of,
    label_of,
    missing_intervals,
    p_of,
    per_1000,
    short,
)
from simfrcnn.evaluation.results import CalibrationBin, OperatingPoint, Report, Subgroup
from simfrcnn.evaluation.subgroups import rules_of_subgroups

_OF_BOXES = ("froc/", "finding", "localised/")


def unit_blocks(report: Report) -> Iterator[Block]:
    """Cases, breasts and images, and the operating points."""
    rows = [
        (f"{label_of(key)}", *cells_of(figure))
        for key, figure in report.figures.items()
        if key.split("/")[-1] in ("auc", "partial_auc", "brier") and "/recalibrated/" not in key
    ]
    yield Table(FIGURE_COLUMNS, rows)
    yield (
        "Partial AUC: that of the part of the ROC curve with a specificity of at least "
        f"{report.settings.partial_auc_specificity:g}, standardised so that .5 is chance."
    )
    points = report.operating_points or tuple(
        OperatingPoint(level, "fixed", report.settings.score_threshold) for level in report.roc
    )
    yield (
        "Operating points: a unit is called positive if its score is at least the threshold. Those "
        "that were chosen on a data set are applied to this one unchanged."
    )
    yield _point_table(report, points)
    confusions = [
        Table(
            ("truth", "called positive", "called negative"),
            (
                ("positive", f"{c.true_positives}", f"{c.false_negatives}"),
                ("normal", f"{c.false_positives}", f"{c.true_negatives}"),
            ),
            f"Cases, {RULES_OF_POINTS[p.rule]}: score >= {p.score_threshold:.4g}",
        )
        for p in points
        if p.level == "case" and (c := report.confusions.get(p.key)) is not None
    ]
    if confusions:
        yield Tables(confusions)
    if report.settings.prevalence is not None:
        yield (
            f"Predictive values (PPV, NPV), recalls and cancers found among 1,000 cases are those "
            f"at a prevalence of {report.settings.prevalence:.4g}, not at the part of positives in "
            "this test set."
        )
    yield from missing_intervals(
        figure
        for key, figure in report.figures.items()
        if not key.startswith((*_OF_BOXES, "mask/"))
    )


def _point_table(report: Report, points: Sequence[OperatingPoint]) -> Table:
    names = [
        (name, label)
        for name, label in (
            ("sensitivity", "sensitivity"),
            ("specificity", "specificity"),
            ("accuracy", "accuracy"),
            ("ppv", "PPV"),
            ("npv", "NPV"),
            ("recalls_per_1000", "recalls per 1,000"),
            ("cancers_per_1000", "cancers found per 1,000"),
        )
        if any(f"{point.key}/{name}" in report.figures for point in points)
    ]
    rows = []
    for point in points:
        asked = f" {point.target:g}" if point.target is not None else ""
        on_validation = "-"
        if point.sensitivity is not None and point.specificity is not None:
            on_validation = f"{point.sensitivity:.3f}, {point.specificity:.3f}"
        figures = [report.figures.get(f"{point.key}/{name}") for name, _ in names]
        methods = dict.fromkeys(f.method for f in figures if f is not None and f.method)
        rows.append(
            (
                point.level,
                f"{RULES_OF_POINTS[point.rule]}{asked}",
                f"{point.score_threshold:.4g}",
                point.chosen_on or "-",
                on_validation,
                *(
                    short(figure, 1 if "per_1000" in name else 3) if figure else "-"
                    for (name, _), figure in zip(names, figures, strict=True)
                ),
                ", ".join(METHODS[method] for method in methods) or "-",
            )
        )
    columns = ("by", "operating point", "score >=", "chosen on", "there SEN, SPE")
    return Table((*columns, *(label for _, label in names), "intervals by"), rows)


def finding_blocks(report: Report) -> Iterator[Block]:
    """Findings and lesions: AP, CorLoc and FROC."""
    rows = [
        (label_of(key), *cells_of(figure))
        for key, figure in report.figures.items()
        if key.startswith("finding/")
    ]
    yield Table(FIGURE_COLUMNS, rows)
    populations = list(dict.fromkeys(name.split("/", 1)[1] for name in report.froc))
    yield _froc_table(
        report,
        populations,
        "sensitivity_at_",
        "FROC: sensitivity per finding at so many false positives per image",
    )
    gap = _froc_table(
        report,
        ["gap"],
        "sensitivity_at_",
        "Gap: by how much the sensitivity at a rate is lower when normal images join the positive "
        "ones in the test set",
    )
    if gap.rows:
        yield gap
    heading = "FROC: sensitivity per lesion, hit in any view"
    if report.counts["lesions"] > 0:
        yield _froc_table(report, populations, "lesion_sensitivity_at_", heading)
    else:
        reason = report.figures[f"froc/{HIT_CRITERIA[0].name}/all/lesion_sensitivity_at_1"].reason
        yield f"{heading}: undefined, {reason}."
    localised = [
        (label_of(key), *cells_of(figure))
        for key, figure in report.figures.items()
        if key.startswith("localised/")
    ]
    if localised:
        caption = (
            "Found where they are: areas under the AFROC, wAFROC and LROC curves, and the part of "
            "cases with a lesion that a mark from the threshold on hits"
        )
        yield Table(FIGURE_COLUMNS, localised, caption)
    yield from missing_intervals(
        figure for key, figure in report.figures.items() if key.startswith(_OF_BOXES)
    )


def _froc_table(report: Report, populations: Sequence[str], prefix: str, caption: str) -> Table:
    """One row a criterion and population; a cell is the sensitivity with its interval."""
    rows = []
    for criterion in HIT_CRITERIA:
        for population in populations:
            key = f"froc/{criterion.name}/{population}/{prefix}"
            figures = [report.figures.get(f"{key}{rate:g}") for rate in RATES]
            if all(figures):
                label = POPULATION_LABELS.get(population, population)
                cells = (short(figure) for figure in figures if figure)
                rows.append((criterion.label, label, *cells))
    columns = ("hit by", "false positives over", *(f"{rate:g}" for rate in RATES))
    return Table(columns, rows, caption)


def mask_blocks(report: Report) -> Iterator[Block]:
    """What masks cover, and what the boxes would cover if they were filled."""
    figures = {key: figure for key, figure in report.figures.items() if key.startswith("mask/")}
    yield Table(FIGURE_COLUMNS, [(label_of(key), *cells_of(f)) for key, f in figures.items()])
    yield (
        f"Detections of score >= {report.settings.score_threshold:.4g} count, with the pixels of "
        "probability >= .5, in the stored image. Over images: the union of all masks against the "
        "union of all outlines, 0 where nothing is predicted. Over found findings: the highest "
        "detection whose box meets the finding's at IoU .5. Crowd regions, ignored findings and "
        "findings without an outline count on neither side. Filled boxes are what a mask has to "
        "beat: an ellipse in a perfect box has an IoU of .785."
    )
    yield from missing_intervals(figures.values())


def calibration_blocks(report: Report) -> Iterator[Block]:
    """What the scores say against what was so."""
    yield (
        "A detector's scores rank; nothing makes them probabilities of cancer. Points on the "
        "diagonal would mean what they say, on a test set with this part of positives."
    )
    yield Picture("calibration.svg", "Calibration: part that is positive against mean score")
    level, bins = next(iter(report.calibration.items()))
    columns = ("score", "n", "mean score", "part positive", "95% interval")
    yield Table(columns, [_bin_cells(one) for one in bins], f"By {level}")
    rows = [
        (label_of(key), *cells_of(figure))
        for key, figure in report.figures.items()
        if "/recalibrated/" in key or key.split("/")[-1].startswith("calibration_")
    ]
    yield Table(FIGURE_COLUMNS, rows, "Logistic calibration")
    yield (
        "Slope: of a logistic regression of the truth on the log-odds of the scores; 1 is right, "
        "below 1 the scores are too extreme. Intercept: the same with the slope held at 1; 0 is "
        "right, above 0 the scores are too low. Scores are brought into [.001, .999] first."
    )
    lines = [
        f"Probabilities by {level}: log-odds {line.intercept:.3f} + {line.slope:.3f} times the "
        f"log-odds of the score, fitted on {line.chosen_on}, where {line.prevalence:.1%} are "
        "positive."
        for level, line in report.recalibrations.items()
    ]
    if lines:
        yield lines
    yield from missing_intervals(
        figure for key, figure in report.figures.items() if "calibrat" in key
    )


def decision_blocks(report: Report) -> Iterator[Block]:
    """Is acting on the model better than recalling everybody, or nobody?"""
    (level, curve), *_ = report.decisions.items()
    line = report.recalibrations[level]
    source = "as stated" if report.settings.prevalence is not None else "that of this test set"
    yield (
        "A threshold probability p is the chance of cancer from which on a case is recalled: one "
        "found cancer is then worth (1 - p) / p needless recalls. Net benefit per case: "
        "sensitivity x prevalence - (1 - specificity) x (1 - prevalence) x p / (1 - p); shown here "
        "for 1,000 cases, as cancers found less needless recalls at that rate. Recalling nobody "
        "has 0. A model is of use where its curve is above both others, by more than its band "
        "leaves open. Prevalence "
        f"{curve.prevalence:.4g}, {source}; probabilities from the line that was fitted on "
        f"{line.chosen_on}"
        + (
            ", moved to this prevalence."
            if report.settings.prevalence is not None
            else f", where {line.prevalence:.1%} are positive."
        )
    )
    yield Picture("decision.svg", "Net benefit per 1,000 cases against threshold probability")
    everybody = dict(zip(curve.thresholds, curve.recall_all, strict=True))
    start = f"{level}/net_benefit_at_"
    figures = {
        float(key.removeprefix(start)): figure
        for key, figure in report.figures.items()
        if key.startswith(start)
    }
    rows = [
        (f"{p:g}", *cells_of(per_1000(figure), 2), f"{1000 * everybody[p]:.2f}")
        for p, figure in figures.items()
    ]
    columns = ("threshold probability", *FIGURE_COLUMNS[1:], "of recalling everybody")
    yield Table(columns, rows, f"Net benefit per 1,000, by {level}")


def _bin_cells(one: CalibrationBin) -> tuple[str, ...]:
    return (
        f"{one.low:.1f} to {one.high:.1f}",
        str(one.n),
        f"{one.mean_score:.3f}",
        f"{one.observed:.3f}",
        f"{one.observed_low:.3f} to {one.observed_high:.3f}",
    )


def subgroup_blocks(report: Report) -> Iterator[Block]:
    """A table for each key by which the set was divided."""
    for key in dict.fromkeys(group.key for group in report.subgroups):
        groups = [group for group in report.subgroups if group.key == key]
        names = list(dict.fromkeys(name for group in groups for name in group.figures))
        rows = [
            (
                group.value,
                _counted(group),
                *(short(group.figures[n]) if n in group.figures else "-" for n in names),
            )
            for group in groups
        ]
        yield Table((key, "counts", *map(label_of, names)), rows, f"By {key}")
        differences = [each for each in report.group_differences if each.key == key]
        if differences:
            yield _difference_table(key, differences)
    if report.interactions:
        yield _interaction_table(report.interactions)
    figures = [figure for group in report.subgroups for figure in group.figures.values()]
    yield from missing_intervals([*figures, *(e.difference for e in report.group_differences)])
    yield list(rules_of_subgroups(report.settings))


def _difference_table(key: str, differences: Sequence[GroupDifference]) -> Table:
    """A row for each group, a column for each figure."""
    names = list(dict.fromkeys(each.figure for each in differences))
    by_place = {(each.group, each.figure): each.difference for each in differences}
    rows = [
        (group, *(cell(by_place[group, name], signed=True) for name in names))
        for group in dict.fromkeys(each.group for each in differences)
    ]
    return Table(
        (key, *map(label_of, names)),
        rows,
        f"By {key}: each group less {differences[0].reference}, the largest",
    )


def _interaction_table(tests: Sequence[Interaction]) -> Table:
    rows = [
        (
            test.key,
            label_of(test.figure),
            ", ".join(test.groups) or "-",
            ", ".join(test.left_out) or "-",
            test.reason or f"{test.statistic:.2f}, {test.degrees}",
            "-" if test.reason else p_of(test.p_value),
        )
        for test in tests
    ]
    columns = ("key", "figure", "groups", "too small", "chi-square, degrees of freedom", "p")
    return Table(columns, rows, "Interaction: are all groups alike?")


def _counted(group: Subgroup) -> str:
    parts = []
    for name, count in group.counts.items():
        if isinstance(count, Mapping):
            inner = ", ".join(f"{n} {part}" for part, n in count.items() if part != "total" and n)
            parts.append(
                f"{count['total']} {name} ({inner})" if inner else f"{count['total']} {name}"
            )
        else:
            parts.append(f"{count} {name.replace('_', ' ')}")
    return "; ".join(parts)


def count_table(report: Report) -> Table:
    """How many of everything there are."""
    rows: list[tuple[str, str]] = []
    for name, count in report.counts.items():
        label = name.replace("_", " ")
        if isinstance(count, Mapping):
            parts = ", ".join(f"{part.replace('_', ' ')} {n}" for part, n in count.items())
            rows.append((label, parts))
        else:
            rows.append((label, str(count)))
    return Table(("what", "how many"), rows)
