"""The report as files: JSON for programs, Markdown and one self-contained HTML page for people.

``report.json`` holds every number; the two pages hold the same text, the summary first. The HTML
page also shows exams, and a slider that moves the threshold.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.evaluation.average_precision import MAX_DETECTIONS
from simfrcnn.evaluation.froc import RATES
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.reporting.charts import CRITERION_LABELS, MARKS, POPULATION_LABELS
from simfrcnn.evaluation.reporting.documents import (
    DISCLAIMER,
    Block,
    Drawn,
    Picture,
    Section,
    Table,
    Tables,
    markdown_page,
)
from simfrcnn.evaluation.reporting.figures import PICTURES, draw_charts, pictures_of
from simfrcnn.evaluation.reporting.gallery import (
    EXAMS_PER_GROUP,
    Gallery,
    HungPicture,
    LoadPictures,
    choose_exams,
    gallery_data,
    picture_source,
)
from simfrcnn.evaluation.reporting.page import charts_html, html_page, page_data, page_part
from simfrcnn.evaluation.results import CalibrationBin, Figure, OperatingPoint, Report, Subgroup
from simfrcnn.evaluation.subgroups import rules_of_subgroups
from simfrcnn.evaluation.truth import views_of
from simfrcnn.files import as_json, write_files
from simfrcnn.records import ImageRecord

MAIN_RULES = ("youden", "sensitivity", "specificity", "fixed")
"""Whose operating point stands in the summary: the first of these that there is."""
FIGURE_COLUMNS = ("figure", "value", "95% interval", "counted over", "interval by")
_METHODS = {
    "bootstrap": "bootstrap",
    "clopper-pearson": "Clopper-Pearson",
    "delong-logit": "DeLong, logit",
    "obuchowski-logit": "Obuchowski, logit",
    "disjoint-pairs": "disjoint pairs",
    None: "-",
}
_METHODS_IN_WORDS = {
    "bootstrap": "resamplings of patients, stratified by the patient's truth; percentiles 2.5 and "
    "97.5. Replicates in which a figure is undefined are dropped, and more than 5% of them give no "
    "interval.",
    "clopper-pearson": "exact binomial interval, where every patient gives one unit. Predictive "
    "values take the limits of sensitivity and specificity together.",
    "delong-logit": "normal interval on the logit of the AUC, with the variance of DeLong, DeLong "
    "and Clarke-Pearson (1988), where every patient gives one unit.",
    "obuchowski-logit": "normal interval on the logit of the AUC, with the variance of Obuchowski "
    "(1997), where patients give several units.",
    "disjoint-pairs": "an AUC of exactly 1 (or 0) has no variance: the exact limit for as many "
    "pairs of patients as can be made without using one twice, all of them won.",
}
_PICTURE_FILES = {
    "images.png",  # of the first versions
    *(f"{name}.{kind}" for name in PICTURES for kind in ("svg", "png")),
}
_RULES_OF_POINTS = {
    "fixed": "fixed",
    "youden": "Youden",
    "sensitivity": "by sensitivity",
    "specificity": "by specificity",
}


def write_report(
    folder: Path,
    report: Report,
    *,
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    load_pictures: LoadPictures | None,
    title: str = "simfrcnn evaluation",
    n_gallery: int = EXAMS_PER_GROUP,
) -> Path:
    """Write ``report.json``, ``report.md``, ``report.html`` and the pictures into ``folder``.

    An earlier report there is replaced as a whole, or not at all.

    Args:
        folder: Made if missing.
        report: What :func:`simfrcnn.evaluation.evaluate` returned.
        records: The images it was made from; only for the gallery.
        detections: The detections it was made from; only for the gallery.
        load_pictures: Gives a small picture of each record, hung for reading. None: boxes are shown
            in empty frames.
        title: Heading of the page.
        n_gallery: At most so many exams for each reason; 0: no exams.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: ``folder`` is a file, or cannot be written.
        DataError: An image of the gallery cannot be read.
        ConfigError: ``n_gallery`` is negative.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; a folder for the report is needed")
    if n_gallery < 0:
        raise ConfigError(f"--gallery is {n_gallery}; 0 (no exams) or more is legal")
    views, _ = views_of(records, detections.images, report.settings)
    gallery = choose_exams(
        views,
        report.settings,
        score_threshold=main_point(report).score_threshold,
        n_per_group=n_gallery,
    )
    pictures = _pictures_of(gallery, load_pictures)
    sections = list(_sections(report, gallery, has_pictures=load_pictures is not None))
    charts = pictures_of(report)
    drawn = {
        f"{name}.{kind}": draw_charts(some, kind)
        for name, some in charts.items()
        for kind in ("svg", "png")
    }
    page = html_page(
        title,
        sections,
        {
            "headlines": _tiles(report),
            "explorer": page_part("explorer.html"),
            **{f"{name}.svg": charts_html(some) for name, some in charts.items()},
        },
        page_data(
            report,
            [chart for some in charts.values() for chart in some],
            gallery_data(gallery, pictures, report.settings),
            score_threshold=gallery.score_threshold,
        ),
        {str(image_id): picture_source(picture) for image_id, picture in pictures.items()},
    )
    files = {
        **drawn,
        "report.md": markdown_page(title, sections).encode(),
        "report.html": page.encode(),
        "report.json": as_json(report.to_json()).encode(),
    }
    had_report = (folder / "report.json").exists()
    write_files(folder, files)
    if had_report:
        for name in _PICTURE_FILES - files.keys():  # of the earlier report
            (folder / name).unlink(missing_ok=True)
    return folder / "report.html"


def main_point(report: Report) -> OperatingPoint:
    """The operating point of the summary: one chosen on a validation set, else the fixed one."""
    by_rule = {point.rule: point for point in report.operating_points if point.level == "case"}
    fixed = OperatingPoint("case", "fixed", report.settings.score_threshold)
    return next((by_rule[rule] for rule in MAIN_RULES if rule in by_rule), fixed)


def headlines(report: Report) -> dict[str, str]:
    """The keys of the three figures that matter, and what they are called."""
    key = main_point(report).key
    return {
        "case/auc": "AUC by case",
        f"{key}/sensitivity": "Sensitivity by case",
        f"{key}/specificity": "Specificity by case",
    }


def summary_lines(report: Report) -> list[str]:
    """The three figures that matter, one line each, for a terminal."""
    labels = headlines(report)
    width = max(len(label) for label in labels.values())
    return [f"{label:<{width}}  {_text(report.figures[key])}" for key, label in labels.items()]


# What stands where


def _pictures_of(gallery: Gallery, load_pictures: LoadPictures | None) -> dict[int, HungPicture]:
    if load_pictures is None:
        return {}
    records = [seen.view.record for exam in gallery.exams for seen in exam.views]
    ids = [record.image_id for record in records]
    return dict(zip(ids, load_pictures(records), strict=True))


def _sections(report: Report, gallery: Gallery, *, has_pictures: bool) -> Iterator[Section]:
    charts = pictures_of(report)
    yield Section("Summary", list(_summary(report)))
    yield Section(
        "Curves",
        [
            Picture("roc.svg", "ROC"),
            *(
                [Picture("precision_recall.svg", "Precision and recall per finding")]
                if "precision_recall" in charts
                else []
            ),
            _what_marks_mean(report),
            "FROC: which part of the findings is found at how many false positives per image. "
            "False positives are counted over all images, over normal ones or over positive ones.",
            Picture("froc.svg", "FROC per finding"),
        ],
    )
    yield Section("Cases, breasts, images", list(_unit_blocks(report)))
    yield Section("Findings", list(_finding_blocks(report)))
    if report.calibration:
        yield Section("Calibration", list(_calibration_blocks(report)))
    if report.subgroups:
        yield Section("Subgroups", list(_subgroup_blocks(report)))
    yield Section("Exams", list(_gallery_blocks(gallery, has_pictures=has_pictures)))
    yield Section("Counts", [_count_table(report)])
    yield Section("Rules", [_rules(report)])
    yield Section("Provenance", [_provenance_table(report)])


def _what_marks_mean(report: Report) -> str:
    used = {point.rule for point in report.operating_points} | {"fixed"}
    marks = ", ".join(
        f"{shape} {_RULES_OF_POINTS[rule]}" for rule, shape in MARKS.items() if rule in used
    )
    return f"Marks on the ROC curves are the operating points: {marks}."


def _summary(report: Report) -> Iterator[Block]:
    yield _what_was_tested(report)
    rows = [(label, *_cells(report.figures[key])) for key, label in headlines(report).items()]
    yield Drawn("headlines", Table(FIGURE_COLUMNS, rows))
    yield _where_the_threshold_is_from(main_point(report))
    yield DISCLAIMER
    if report.notes:
        yield "To be read with these notes:"
        yield list(report.notes)


def _what_was_tested(report: Report) -> str:
    counts, settings = report.counts, report.settings
    cases = counts["cases"]
    facts = {**report.provenance.get("prediction", {}), **report.provenance}
    model = ", ".join(str(facts[k]) for k in ("model", "engine", "checkpoint") if k in facts)
    of_model = f"Tested: {model}. " if model else ""
    data = report.provenance.get("annotations")
    on = f"On {data}: " if data else "On "
    return (
        f"{of_model}{on}{cases['total']} cases ({cases['positive']} positive, {cases['normal']} "
        f"normal, {cases['unknown']} of unknown truth) of {counts['patients']['total']} patients, "
        f"with {counts['images']['total']} images and {counts['findings']} findings of class "
        f"{', '.join(settings.target_classes)}. Intervals are 95%."
    )


def _where_the_threshold_is_from(point: OperatingPoint) -> str:
    start = f"Sensitivity and specificity are at score >= {point.score_threshold:.4g}, "
    if point.rule == "fixed":
        return start + "a threshold that was fixed beforehand."
    rule = _RULES_OF_POINTS[point.rule]
    on = f" on {point.chosen_on}" if point.chosen_on else ""
    return start + f"an operating point chosen{on} ({rule}) and applied unchanged."


def _tiles(report: Report) -> str:
    """The three figures that matter, large, each with its interval drawn."""
    tiles = []
    for key, label in headlines(report).items():
        figure = report.figures[key]
        value, interval, counted, method = _cells(figure)
        bar = ""
        if not figure.reason and figure.low == figure.low:
            left, width = 100 * figure.low, 100 * (figure.high - figure.low)
            bar = (
                '<svg class="interval" viewBox="0 0 100 8" preserveAspectRatio="none" '
                f'aria-hidden="true"><path d="M0 4H100"/><rect x="{left:.2f}" y="2" '
                f'width="{max(width, 0.5):.2f}" height="4"/>'
                f'<rect class="value" x="{100 * figure.value - 0.4:.2f}" width=".8" height="8"/>'
                "</svg>"
            )
        by = f" · {method}" if method != "-" else ""
        tiles.append(
            f'<div class="tile"><h3>{html.escape(label)}</h3><p class="big">{html.escape(value)}'
            f"</p>{bar}<p>{html.escape(interval)}</p><p class='quiet'>{html.escape(counted + by)}"
            "</p></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _unit_blocks(report: Report) -> Iterator[Block]:
    rows = [
        (f"{_label(key)}", *_cells(figure))
        for key, figure in report.figures.items()
        if key.split("/")[-1] in ("auc", "brier")
    ]
    yield Table(FIGURE_COLUMNS, rows)
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
            f"Cases, {_RULES_OF_POINTS[p.rule]}: score >= {p.score_threshold:.4g}",
        )
        for p in points
        if p.level == "case" and (c := report.confusions.get(p.key)) is not None
    ]
    if confusions:
        yield Tables(confusions)
    if report.settings.prevalence is not None:
        yield (
            f"Predictive values (PPV, NPV) are those at a prevalence of "
            f"{report.settings.prevalence:.4g}, not at the part of positives in this test set."
        )
    yield from _missing_intervals(
        figure for key, figure in report.figures.items() if not key.startswith(("froc/", "finding"))
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
                f"{_RULES_OF_POINTS[point.rule]}{asked}",
                f"{point.score_threshold:.4g}",
                point.chosen_on or "-",
                on_validation,
                *(_short(figure, 3) if figure else "-" for figure in figures),
                ", ".join(_METHODS[method] for method in methods) or "-",
            )
        )
    columns = ("by", "operating point", "score >=", "chosen on", "there SEN, SPE")
    return Table((*columns, *(label for _, label in names), "intervals by"), rows)


def _finding_blocks(report: Report) -> Iterator[Block]:
    rows = [
        (_label(key), *_cells(figure))
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
    yield from _missing_intervals(
        figure for key, figure in report.figures.items() if key.startswith(("froc/", "finding"))
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
                cells = (_short(figure) for figure in figures if figure)
                rows.append((CRITERION_LABELS[criterion.name], label, *cells))
    columns = ("hit by", "false positives over", *(f"{rate:g}" for rate in RATES))
    return Table(columns, rows, caption)


def _missing_intervals(figures: Iterator[Figure]) -> Iterator[Block]:
    """The reasons, each once, for what has no interval or no value."""
    reasons = list(dict.fromkeys(figure.reason for figure in figures if figure.reason))
    if reasons:
        yield [f"Missing above: {reason}." for reason in reasons]


def _calibration_blocks(report: Report) -> Iterator[Block]:
    yield (
        "A detector's scores rank; nothing makes them probabilities of cancer. Points on the "
        "diagonal would mean what they say, on a test set with this part of positives."
    )
    yield Picture("calibration.svg", "Calibration: part that is positive against mean score")
    level, bins = next(iter(report.calibration.items()))
    columns = ("score", "n", "mean score", "part positive", "95% interval")
    yield Table(columns, [_bin_cells(one) for one in bins], f"By {level}")


def _bin_cells(one: CalibrationBin) -> tuple[str, ...]:
    return (
        f"{one.low:.1f} to {one.high:.1f}",
        str(one.n),
        f"{one.mean_score:.3f}",
        f"{one.observed:.3f}",
        f"{one.observed_low:.3f} to {one.observed_high:.3f}",
    )


def _subgroup_blocks(report: Report) -> Iterator[Block]:
    for key in dict.fromkeys(group.key for group in report.subgroups):
        groups = [group for group in report.subgroups if group.key == key]
        names = list(dict.fromkeys(name for group in groups for name in group.figures))
        rows = [
            (
                group.value,
                _counted(group),
                *(_short(group.figures[n]) if n in group.figures else "-" for n in names),
            )
            for group in groups
        ]
        yield Table((key, "counts", *map(_label, names)), rows, f"By {key}")
    yield from _missing_intervals(
        figure for group in report.subgroups for figure in group.figures.values()
    )
    yield list(rules_of_subgroups(report.settings))


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


def _gallery_blocks(gallery: Gallery, *, has_pictures: bool) -> Iterator[Block]:
    if not has_pictures:
        yield "The pixels were not asked for: boxes are shown in empty frames."
    yield Drawn(
        "explorer",
        "The exams, with a slider that moves the threshold, are in report.html.",
    )
    yield gallery.rules


def _count_table(report: Report) -> Table:
    rows: list[tuple[str, str]] = []
    for name, count in report.counts.items():
        label = name.replace("_", " ")
        if isinstance(count, Mapping):
            parts = ", ".join(f"{part.replace('_', ' ')} {n}" for part, n in count.items())
            rows.append((label, parts))
        else:
            rows.append((label, str(count)))
    return Table(("what", "how many"), rows)


def _rules(report: Report) -> list[str]:
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
        *(f"Hit criterion {CRITERION_LABELS[c.name]}: {c.description}." for c in HIT_CRITERIA),
        "FROC: detections go down by score; each takes the finding, not yet found, that it meets "
        f"best; one that meets only findings already found is {repeats}. Equal scores are one "
        "threshold. The sensitivity at a rate is the highest at no more false positives per image "
        "than that, without interpolation; beyond the last point the last value holds.",
        "AP: matched by pycocotools over all evaluated images, with all target classes as one, at "
        f"most {MAX_DETECTIONS} detections an image; a second box on a finding is a false positive "
        "there.",
        "CorLoc: the part of positive images whose highest detection has IoU of at least 0.5 with "
        "a finding.",
        *_methods(report),
    ]


def _methods(report: Report) -> Iterator[str]:
    """How the intervals of this report were made: only methods that it uses."""
    subgroup_figures = (f for group in report.subgroups for f in group.figures.values())
    used = {figure.method for figure in (*report.figures.values(), *subgroup_figures)}
    settings = report.settings
    for method, words in _METHODS_IN_WORDS.items():
        if method in used:
            size = (
                f"{settings.bootstrap_replicates} (seed {settings.bootstrap_seed}) "
                if method == "bootstrap"
                else ""
            )
            yield f"Intervals by {_METHODS[method]}: {size}{words}"
    if report.bands:
        yield (
            "Bands round curves: 95% of the resampled curves, at each place by itself; not of all "
            "places at once."
        )


def _provenance_table(report: Report) -> Table:
    rows = [
        (str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in report.provenance.items()
    ]
    return Table(("fact", "value"), rows or [("-", "none was given")])


# Figures in words


def _label(key: str) -> str:
    """What a figure is called in a table."""
    start, *_, last = key.split("/")
    if start == "finding":
        if last == "coco_ap":
            return "COCO AP (mean over IoU .50:.05:.95)"
        if last == "corloc":
            return "CorLoc (IoU .5)"
        return f"AP at IoU {float(last.removeprefix('ap')) / 100:g}"
    if start == "froc":
        _, criterion, population, _ = key.split("/")
        over = "" if population == "all" else f", {population}"
        rate = last.rpartition("_")[2]
        return f"SEN at {rate} FP/image ({CRITERION_LABELS[criterion]}{over})"
    names = {"auc": "AUC", "brier": "Brier score"}
    return f"{names.get(last, last)} by {start}"


def _text(figure: Figure) -> str:
    counted = ", ".join(f"{count} {name}" for name, count in figure.n.items())
    reason = f"; {figure.reason}" if figure.reason else ""
    return f"{figure}  [{counted}{reason}]"


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    """Value, interval, what it was counted over, method."""
    counted = ", ".join(f"{count} {name}" for name, count in figure.n.items())
    if figure.reason:
        value = "undefined" if figure.value != figure.value else f"{figure.value:.3f}"
        return value, figure.reason, counted, "-"
    interval = f"{figure.low:.3f} to {figure.high:.3f}"
    return f"{figure.value:.3f}", interval, counted, _METHODS[figure.method]


def _short(figure: Figure, n_digits: int = 2) -> str:
    if figure.value != figure.value:
        return "undefined"
    if figure.reason or figure.low != figure.low:
        return f"{figure.value:.{n_digits}f}"
    ends = f"{figure.low:.{n_digits}f} to {figure.high:.{n_digits}f}"
    return f"{figure.value:.{n_digits}f} ({ends})"
